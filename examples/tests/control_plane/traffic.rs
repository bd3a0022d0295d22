//! A waypoint that the control plane tells what to do.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;

use bytes::Bytes;
use hbone::{Config, TunnelRequest};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use mesh_identity::source::files::load_bundle;
use mesh_identity::source::istio_ca::{CaAddress, CaConfig, IstioCa, Priority};
use mesh_identity::tls::ClientTls;
use mesh_identity::{PeerPolicy, SpiffeId, Svid, TrustBundles, provider};
use tokio::task::JoinSet;

use crate::plane::{Plane, namespace, pod, service};
use crate::waypoints::{token, waypoint};
use crate::world::{Process, eventually, soon};

const VIP: &str = "10.96.0.1";

/// A service behind a waypoint, which answers by itself where it is told to, and does not let
/// somebody do everything.
fn objects(status: u16, denied: &str) -> String {
    let labelled = "namespace: shop, labels: {istio.io/use-waypoint: one}";
    let client = pod("cart", "10.0.0.7", "near")
        + "---\napiVersion: v1\nkind: Secret\ntype: kubernetes.io/service-account-token\n\
           metadata: {name: cart, namespace: shop, annotations: {kubernetes.io/service-account.name: cart}}\n\
           stringData: {token: token-of-the-cart}\n";
    let route = format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: till, namespace: shop}}\n\
         spec:\n  parentRefs: [{{group: \"\", kind: Service, name: till}}]\n  rules:\n  - filters: \
         [{{type: RequestRedirect, requestRedirect: {{hostname: elsewhere.example, statusCode: {status}}}}}]\n"
    );
    let policy = format!(
        "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: till, namespace: shop}}\n\
         spec:\n  targetRefs: [{{group: \"\", kind: Service, name: till}}]\n  action: DENY\n  rules: \
         [{{to: [{{operation: {{paths: [{denied}]}}}}]}}]\n"
    );
    let own = "---\napiVersion: v1\nkind: Service\nmetadata: {name: one, namespace: shop}\n\
               spec: {clusterIP: 10.96.0.9, ports: [{port: 15008}]}\n";
    namespace("a: b")
        + &waypoint("shop", "one", "10.0.0.1")
        + own
        + &service("till", VIP, 8080).replace("namespace: shop", labelled)
        + &client
        + &route
        + &policy
}

struct World {
    plane: Plane,
    waypoint: Process,
    addr: SocketAddr,
}

impl World {
    async fn start(objects: &str) -> Self {
        let plane = Plane::start_with(objects, |dir| {
            vec!["--roots".into(), dir.path().join("roots.pem").display().to_string()]
        })
        .await;
        let server = format!(
            "{{address = \"{}\", token = {:?}}}",
            plane.addr,
            plane.token(&token("shop", "one"))
        );
        let config = plane.dir.path().join("waypoint.toml");
        let text = format!(
            "name = \"one\"\nnamespace = \"shop\"\nservice_account = \"one\"\ntrust_domain = \"cluster.local\"\n\
             mesh.xds = {server}\nidentity.istio_ca = {server}\n[[inbound]]\nbind = \"127.0.0.1:0\"\n"
        );
        fs::write(&config, text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_waypoint"));
        command
            .arg("--config")
            .arg(&config)
            .arg("--json")
            .env_remove("RUST_LOG");
        let mut waypoint = Process::start(&mut command);
        let ready = waypoint.ready().await;
        let addr = ready["inbound"][0].as_str().unwrap().parse().unwrap();
        Self { plane, waypoint, addr }
    }

    /// A certificate of the client.
    async fn certificate(&self) -> Arc<Svid> {
        let id: SpiffeId = "spiffe://cluster.local/ns/shop/sa/cart".parse().unwrap();
        let address = CaAddress::dangerous_plaintext("127.0.0.1", self.plane.addr.port()).unwrap();
        let config = CaConfig::workload(address, self.plane.token("token-of-the-cart"), id.clone());
        let (ca, driver) = IstioCa::new(config, provider::aws_lc_rs());
        let mut task = JoinSet::new();
        task.spawn(driver.run());
        let mut lease = ca.request(&id, Priority::RealTime).unwrap();
        soon("certificate", lease.svid()).await.unwrap()
    }

    /// What the waypoint answers to a request for the service, if it takes one.
    async fn get(&self, svid: &Arc<Svid>, path: &str) -> Option<StatusCode> {
        let roots = load_bundle(
            "cluster.local".parse().unwrap(),
            &self.plane.dir.path().join("roots.pem"),
        );
        let waypoint: SpiffeId = "spiffe://cluster.local/ns/shop/sa/one".parse().unwrap();
        let tls = ClientTls::builder(provider::aws_lc_rs())
            .identity(Arc::clone(svid))
            .trust(Arc::new(TrustBundles::new([roots.unwrap()]).unwrap()))
            .authorize(PeerPolicy::exact(waypoint))
            .build()
            .unwrap();
        let (client, connection) = hbone::tls::dial(self.addr, &tls, &Config::default()).await.ok()?;
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { connection.await.is_ok() });
        let request = TunnelRequest::new(format!("{VIP}:80").parse().unwrap());
        let tunnel = client.open(request).await.ok()?;
        let (mut send, connection) = http1::handshake(TokioIo::new(tunnel)).await.ok()?;
        tasks.spawn(async move { connection.await.is_ok() });
        let request = Request::get(path)
            .header("host", "till.shop")
            .body(Empty::<Bytes>::new());
        let response = send.send_request(request.unwrap()).await.ok()?;
        Some(response.status())
    }

    async fn answers(&self, svid: &Arc<Svid>, path: &str, status: u16) {
        eventually("answer", async || {
            let answer = soon("answer", self.get(svid, path)).await;
            (answer? == status).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_route_and_a_policy_that_change_change_what_the_waypoint_does() {
    let mut world = World::start(&objects(302, "/private")).await;
    let svid = world.certificate().await;
    world.answers(&svid, "/", 302).await;
    world.answers(&svid, "/private", 403).await;
    // Policies for nodes are nothing that it would have to wait for.
    let dump = world.plane.dump().await;
    let types = dump["nodes"][0]["types"].as_array().unwrap();
    let types: BTreeSet<_> = types.iter().map(|known| known["type"].as_str().unwrap()).collect();
    assert!(
        types
            .into_iter()
            .eq(["istio.workload.Address", "mesh.traffic.v1.Manifest"])
    );

    world.plane.change(&objects(301, "/secret")).await;
    world.answers(&svid, "/", 301).await;
    world.answers(&svid, "/private", 301).await;
    world.answers(&svid, "/secret", 403).await;

    // What is wrong stays as it was, here as there.
    let wrong = objects(302, "/secret").replace("filters:", "matches:");
    world.plane.change(&wrong).await;
    let rejected = &world.plane.dump().await["rejected"][0];
    assert_eq!(rejected["kind"], "HTTPRoute");
    assert_eq!(soon("answer", world.get(&svid, "/")).await.unwrap(), 301);

    // So does what has lost its name, and everything beside it.
    let nameless =
        objects(302, "/private").replace("{name: till, namespace: shop}\nspec:\n  parent", "{}\nspec:\n  parent");
    world.plane.write(&nameless);
    world.plane.process.says("the mesh stays as it is").await;
    assert_eq!(soon("answer", world.get(&svid, "/")).await.unwrap(), 301);

    // The control plane is gone, and policies are not.
    world.plane.process.kill();
    world.plane.process.end().await;
    assert_eq!(soon("answer", world.get(&svid, "/")).await.unwrap(), 301);
    assert_eq!(soon("answer", world.get(&svid, "/secret")).await.unwrap(), 403);
    world.waypoint.terminate();
    assert_eq!(world.waypoint.end().await.0, Some(0));
}
