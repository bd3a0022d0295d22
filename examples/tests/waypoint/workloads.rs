//! Workloads that are asked for by their own addresses.

use std::fs;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::cluster::{Caller, Cluster, get, send, told};
use crate::nodes::{World, identity};
use crate::policy::DENY_ADMIN;
use crate::shop::Shop;
use crate::socks;
use crate::withdrawal::{chat, echo};
use crate::world::soon;

const BEHIND: &str = "waypoint: {destination: {namespace: shop, hostname: waypoint.shop.svc}, hboneMtlsPort: 15008}";

/// About everything that passes the waypoint.
const DENY_OF_GATEWAY: &str = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: no-till, namespace: shop}
spec:
  targetRefs: [{kind: Gateway, group: gateway.networking.k8s.io, name: waypoint}]
  action: DENY
  rules: [{to: [{operation: {paths: [/till]}}]}]
";

/// By which nobody can be judged: the key set is none.
const TOKENS_OF_GATEWAY: &str = r#"
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {name: tokens, namespace: shop}
spec:
  targetRefs: [{kind: Gateway, group: gateway.networking.k8s.io, name: waypoint}]
  jwtRules: [{issuer: shop, jwks: '{"keys": []}'}]
"#;

/// With these workloads behind the waypoint.
async fn cluster(objects: &str, behind: &[&str]) -> Cluster {
    let cluster = Cluster::start(objects).await;
    put_behind(&cluster, behind).await;
    cluster
}

async fn put_behind(cluster: &Cluster, behind: &[&str]) {
    let mesh = fs::read_to_string(&cluster.world.mesh_file).unwrap();
    let of = |line: &str| match behind.iter().any(|name| line.contains(&format!("Pod/shop/{name},"))) {
        true => line.replace("node: far", &format!("{BEHIND}, node: far")),
        false => line.to_owned(),
    };
    let mesh: Vec<_> = mesh.lines().map(of).collect();
    cluster.world.write(&mesh.join("\n"));
    cluster.waypoint.says("mesh changed").await;
}

const DENY_SPY: &str = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: no-spy, namespace: shop}
spec:
  targetRefs: [{kind: Gateway, group: gateway.networking.k8s.io, name: waypoint}]
  action: DENY
  rules: [{from: [{source: {principals: [cluster.local/ns/shop/sa/spy]}}]}]
";

fn till(cluster: &Cluster) -> SocketAddr {
    cluster.one.app.addr
}

async fn call(cluster: &Cluster, account: &str, addr: SocketAddr) -> Caller {
    cluster.call_at(account, &addr.to_string()).await
}

#[tokio::test]
async fn a_workload_answers_what_it_is_asked_by_its_address() {
    let cluster = cluster("", &["till", "two"]).await;
    let (one, two) = (cluster.one.app.addr, cluster.two.app.addr);
    // Both are of one service.
    let mesh = fs::read_to_string(&cluster.world.mesh_file).unwrap();
    let both = format!("services: {{shop/till.shop.svc: {{80: {}}}, shop/two", two.port());
    cluster.world.write(&mesh.replace("services: {shop/two", &both));
    cluster.waypoint.says_times("mesh changed", 2).await;
    for (addr, name) in [(one, "one"), (two, "two")] {
        let caller = call(&cluster, "cart", addr).await;
        for _ in 0..10 {
            assert_eq!(told(&caller.get("/").await)["name"], name);
        }
        let (mut http2, _tasks) = caller.http2().await;
        let request = hyper::Request::get("http://till/").body(Default::default()).unwrap();
        let answer = crate::cluster::whole(soon("answer", http2.send_request(request)).await.unwrap()).await;
        let told = told(&answer);
        assert_eq!((&told["name"], &told["version"]), (&name.into(), &"HTTP/2.0".into()));
    }
}

#[tokio::test]
async fn it_is_told_and_counted_without_a_service() {
    let cluster = cluster("", &["till"]).await;
    call(&cluster, "cart", till(&cluster)).await.get("/").await;
    let record = cluster
        .tells("a request", |record| record["message"] == "request complete")
        .await;
    for (field, value) in [
        ("src.identity", "spiffe://cluster.local/ns/shop/sa/cart"),
        ("dst.workload", "till"),
        ("dst.identity", "spiffe://cluster.local/ns/shop/sa/till"),
    ] {
        assert_eq!(record[field], value, "{record}");
    }
    assert_eq!(record.get("dst.service"), None, "{record}");
    let counted = cluster.counters("istio_requests_total{").await;
    for label in [
        "destination_workload=\"till\"",
        "destination_service=\"unknown\"",
        "destination_service_name=\"unknown\"",
    ] {
        assert!(counted[0].contains(label), "{label}: {counted:?}");
    }
    let (_, dump) = crate::nodes::ask(cluster.admin, "GET", "/config_dump").await;
    let dump: serde_json::Value = serde_json::from_str(&dump).unwrap();
    assert_eq!(dump["by_address"]["workloads"], 1, "{dump}");
}

#[tokio::test]
async fn it_is_subject_to_the_policies_of_the_gateway_and_to_no_services() {
    let cluster = cluster(&format!("{DENY_OF_GATEWAY}---{DENY_ADMIN}"), &["till"]).await;
    let pod = call(&cluster, "cart", till(&cluster)).await;
    let service = cluster.call("cart").await;
    for (path, of_pod, of_service) in [("/", 200, 200), ("/till", 403, 403), ("/admin", 200, 403)] {
        assert_eq!(pod.get(path).await.status().as_u16(), of_pod, "{path}");
        assert_eq!(service.get(path).await.status().as_u16(), of_service, "{path}");
    }
    let record = cluster
        .tells("a denied request", |record| {
            record["http.status"] == 403 && record.get("dst.service").is_none()
        })
        .await;
    assert!(record["error"].to_string().contains("no-till"), "{record}");
    assert_eq!(record["dst.workload"], "till", "{record}");
}

#[tokio::test]
async fn who_does_not_name_the_waypoint_is_not_reached_by_it() {
    let cluster = cluster("", &["two"]).await;
    let caller = call(&cluster, "cart", till(&cluster)).await;
    assert!(caller.open().await.is_err());
    cluster.waypoint.says("does not name this waypoint").await;
    // By its service it is.
    assert_eq!(cluster.call("cart").await.get("/").await.status(), 200);
    assert_eq!(cluster.one.asked(), 1);
}

/// It would ask itself without end.
#[tokio::test]
async fn a_waypoint_does_not_ask_itself() {
    let cluster = Cluster::start("").await;
    let mesh = fs::read_to_string(&cluster.world.mesh_file).unwrap();
    let own = cluster.world.workload("waypoint", 103, "far", BEHIND);
    let mesh = mesh.replacen("workloads:\n", &format!("workloads:\n{own}"), 1);
    cluster.world.write(&mesh.replace(
        &format!("vips: [/{}], ports: {{15008", cluster.world.ip(103)),
        "vips: [], ports: {15008",
    ));
    cluster.waypoint.says("mesh changed").await;
    let caller = call(&cluster, "cart", cluster.addr).await;
    assert!(caller.open().await.is_err());
}

#[tokio::test]
async fn what_goes_on_for_long_ends_when_the_workload_is_not_behind_the_waypoint_any_more() {
    let cluster = cluster("", &["till"]).await;
    let caller = call(&cluster, "cart", till(&cluster)).await;
    let (mut bytes, mut websocket) = (caller.open().await.unwrap(), chat(&caller).await);
    bytes.write_all(b"\0").await.unwrap();
    echo(&mut websocket).await;
    let (mut http2, _tasks) = caller.http2().await;
    let mesh = fs::read_to_string(&cluster.world.mesh_file).unwrap();
    let behind = format!("{BEHIND}, node");
    assert!(mesh.contains(&behind));
    cluster.world.write(&mesh.replace(&behind, "node"));
    cluster.waypoint.says_times("mesh changed", 2).await;
    for mut tunnel in [bytes, websocket] {
        drop(soon("end", tunnel.read_to_end(&mut Vec::new())).await);
    }
    for subject in ["connection complete", "request complete"] {
        cluster
            .tells(subject, |record| {
                record["message"] == subject && record["error"].to_string().contains("gone from here")
            })
            .await;
    }
    let request = hyper::Request::get("http://till/").body(Default::default()).unwrap();
    let answer = soon("answer", http2.send_request(request)).await.unwrap();
    assert_eq!(answer.status(), 404);
    assert!(caller.open().await.is_err());
}

/// Nobody takes tunnels for it.
#[tokio::test]
async fn a_workload_without_tunnels_is_asked_as_it_is() {
    let world = World::new();
    let one = Shop::open(world.till(), "one").await;
    let cluster = Cluster::start_without_node(world, one, "", "").await;
    let mesh = fs::read_to_string(&cluster.world.mesh_file).unwrap();
    cluster.world.write(&mesh.replace("protocol: HBONE", "protocol: TCP"));
    cluster.waypoint.says("mesh changed").await;
    put_behind(&cluster, &["till"]).await;
    cluster.waypoint.says_times("mesh changed", 2).await;
    let caller = call(&cluster, "cart", till(&cluster)).await;
    assert_eq!(told(&caller.get("/").await)["name"], "one");
}

#[tokio::test]
async fn bytes_are_carried_to_it() {
    let cluster = cluster(DENY_SPY, &["till"]).await;
    let caller = call(&cluster, "spy", till(&cluster)).await;
    assert_eq!(caller.raw(b"hello, no HTTP\r\n\r\n").await, "");
    let record = cluster
        .tells("a refusal", |record| record["error"].to_string().contains("no-spy"))
        .await;
    assert_eq!(record["dst.workload"], "till", "{record}");
    let caller = call(&cluster, "cart", till(&cluster)).await;
    // The application takes that for an end.
    assert!(caller.raw(b"hello, no HTTP\r\n\r\n").await.starts_with("HTTP/1.1 400"));
    let record = cluster
        .tells("a connection", |record| {
            record["message"] == "connection complete" && record["error"].is_null()
        })
        .await;
    assert_eq!(
        (&record["dst.workload"], record.get("dst.service")),
        (&"till".into(), None),
        "{record}"
    );
    // Where nobody can be judged nothing passes.
    cluster.change(TOKENS_OF_GATEWAY, 1).await;
    assert_eq!(caller.raw(b"hello, no HTTP\r\n\r\n").await, "");
    assert_eq!(caller.get("/").await.status(), 403);
}

/// By the proxies of both nodes, as a workload does.
#[tokio::test]
async fn a_connection_to_a_workload_passes_its_waypoint() {
    let cluster = cluster("", &["till"]).await;
    let world = &cluster.world;
    let mesh = fs::read_to_string(&world.mesh_file).unwrap();
    let member = format!(
        "services: {{shop/waypoint.shop.svc: {{15008: {}}}}}",
        cluster.addr.port()
    );
    let waypoint = world.workload("waypoint", 103, "far", &member);
    // The address is its own and not the service's.
    let mesh = mesh
        .replacen("workloads:\n", &format!("workloads:\n{waypoint}"), 1)
        .replace(
            &format!("vips: [/{}], ports: {{15008", world.ip(103)),
            "vips: [], ports: {15008",
        );
    world.write(&mesh);
    cluster.waypoint.says_times("mesh changed", 2).await;
    let head = world.head("near", &["cart"]) + "[[socks5]]\nbind = \"127.0.0.1:0\"\n";
    let near = world.start("near", &head).await;

    let (host, port) = (till(&cluster).ip().to_string(), till(&cluster).port());
    let tcp = socks::connect(near.socks5.unwrap(), world.cart(), (&host, port))
        .await
        .unwrap();
    assert_eq!(told(&send(tcp, get("/", &[])).await)["name"], "one");
    let asked = till(&cluster).to_string();
    let record = near
        .tells("way", |record| record["dst.hbone_addr"] == asked.as_str())
        .await;
    assert_eq!(record["dst.workload"], "waypoint", "{record}");
    let record = cluster.tells("way", |record| record["dst.workload"] == "till").await;
    assert_eq!(record["src.identity"], identity("cart").to_string(), "{record}");
    let far = cluster.node.as_ref().unwrap();
    drop(cluster.waypoint);
    let record = far.tells("arrival", |record| record["direction"] == "inbound").await;
    assert_eq!(record["src.identity"], identity("waypoint").to_string(), "{record}");
    assert_eq!(record["dst.hbone_addr"], asked.as_str(), "{record}");
}
