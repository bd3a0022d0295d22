//! A workload's own address, by the proxies of two nodes and a waypoint, all of them told by the control
//! plane.

use std::convert::Infallible;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::process::Command;

use bytes::Bytes;
use http_body_util::{Empty, Full};
use hyper::client::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, server};
use hyper_util::rt::TokioIo;
use tokio::task::JoinSet;

use crate::overlay::{connect, node};
use crate::plane::{FAR, NEAR, Plane, namespace, pod};
use crate::waypoints::{token, waypoint};
use crate::world::{App, Process, eventually, soon};

/// The till is behind the waypoint `one` if it is labelled so.
fn objects(cart: IpAddr, till: IpAddr, one: IpAddr, labels: &str) -> String {
    let gateway = waypoint("shop", "one", &one.to_string());
    let policy = "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: one, namespace: shop}\n\
         spec:\n  targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: one}]\n  action: DENY\n  rules: \
         [{to: [{operation: {paths: [/private]}}]}]\n";
    let of_gateway = "labels: {app: one-1, gateway.networking.k8s.io/gateway-name: one}";
    let pods = pod("cart", &cart.to_string(), "near")
        + &pod("till", &till.to_string(), "far")
            .replace("labels: {app: till}", &format!("labels: {{app: till{labels}}}"))
        + &pod("one-1", &one.to_string(), "far")
            .replace("labels: {app: one-1}", of_gateway)
            .replace("serviceAccountName: one-1", "serviceAccountName: one");
    namespace("istio.io/dataplane-mode: ambient")
        + &gateway.replacen(
            "{name: one, namespace: shop}",
            "{name: one, namespace: shop, labels: {istio.io/waypoint-for: workload}}",
            1,
        )
        + policy
        + &pods
}

async fn start_waypoint(plane: &Plane, ip: IpAddr) -> Process {
    let (addr, token) = (plane.addr, plane.token(&token("shop", "one")));
    let server = format!("{{address = \"{addr}\", token = {token:?}}}");
    let config = plane.dir.path().join("waypoint.toml");
    let text = format!(
        "name = \"one\"\nnamespace = \"shop\"\nservice_account = \"one\"\ntrust_domain = \"cluster.local\"\n\
         mesh.xds = {server}\nidentity.istio_ca = {server}\n[[inbound]]\nbind = \"{ip}:15008\"\n"
    );
    fs::write(&config, text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_waypoint"));
    command
        .arg("--config")
        .arg(&config)
        .arg("--json")
        .env_remove("RUST_LOG");
    let mut waypoint = Process::start(&mut command);
    waypoint.ready().await;
    waypoint
}

/// What a request of the cart for the till is answered.
async fn get(proxy: SocketAddr, cart: IpAddr, till: SocketAddr, path: &str) -> Option<StatusCode> {
    let tcp = connect(proxy, cart, till).await?;
    let (mut send, connection) = http1::handshake(TokioIo::new(tcp)).await.ok()?;
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { connection.await.is_ok() });
    let request = Request::get(path).header("host", "till");
    let request = request.body(Empty::<Bytes>::new()).unwrap();
    Some(soon("answer", send.send_request(request)).await.ok()?.status())
}

#[tokio::test]
async fn a_workloads_label_has_its_traffic_pass_the_waypoint() {
    let ip = |number: u8| IpAddr::from([127, 18, (std::process::id() % 250) as u8, number]);
    let (cart, till, one) = (ip(1), ip(2), ip(9));
    let app = App::start_at(till, |tcp| async {
        let answer = service_fn(async |_| Ok::<_, Infallible>(Response::new(Full::new(Bytes::from("till")))));
        drop(
            server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(tcp), answer)
                .await,
        );
    })
    .await;
    let behind = objects(cart, till, one, ", istio.io/use-waypoint: one");
    let plane = Plane::start(&behind).await;
    let near = node(&plane, "near", NEAR, "[[socks5]]\nbind = \"127.0.0.1:0\"\n").await;
    let far = node(&plane, "far", FAR, &format!("[[inbound]]\nbind = \"{till}:15008\"\n")).await;
    let waypoint = start_waypoint(&plane, one).await;
    let proxy = near.socks5.unwrap();
    let answers = async |path: &'static str, status: u16| {
        eventually("answer", async || {
            let answer = get(proxy, cart, app.addr, path).await;
            (answer? == status).then_some(())
        })
        .await;
    };
    answers("/", 200).await;
    answers("/private", 403).await;

    plane.change(&objects(cart, till, one, "")).await;
    answers("/private", 200).await;
    plane.change(&behind).await;
    answers("/private", 403).await;

    // One for services takes no workloads, and nothing goes around it.
    let for_services = behind.replace("waypoint-for: workload", "waypoint-for: service");
    plane.change(&for_services).await;
    eventually("refusal", async || {
        connect(proxy, cart, app.addr).await.is_none().then_some(())
    })
    .await;
    drop((near.process, far.process, waypoint));
}
