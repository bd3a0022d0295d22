//! Ways that a mesh wants connections to take.

use std::net::SocketAddr;

use mesh_testkit::proxy_protocol;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};

use crate::cluster::Cluster;
use crate::mesh::{echo, identity, named, vip};
use crate::world::{App, Process, exchange};

/// A cluster with a waypoint that sends everything to the inn.
async fn with_waypoint() -> (Cluster, Process) {
    let cluster = Cluster::start("").await;
    let waypoint = cluster.terminator("waypoint", echo("inn")).await;
    (cluster, waypoint)
}

/// A connection passes the waypoint, which is asked for `authority`.
async fn passes(cluster: &Cluster, waypoint: &Process, to: SocketAddr) {
    exchange(cluster.connect("cart", to), 1, 10_000).await;
    let line = waypoint.says(&format!("authority={to}")).await;
    assert!(line.contains(&identity("cart").to_string()), "{line}");
    let asked = to.to_string();
    let departed = |record: &Value| record["dst.hbone_addr"] == asked.as_str();
    let record = cluster.near.tells("departure", departed).await;
    assert_eq!(record["dst.workload"], "waypoint", "{record}");
    assert_eq!(record["dst.identity"], identity("waypoint").to_string(), "{record}");
}

#[tokio::test]
async fn workload_waypoint() {
    let (cluster, waypoint) = with_waypoint().await;
    passes(&cluster, &waypoint, echo("inn")).await;
}

#[tokio::test]
async fn service_waypoint() {
    let (cluster, waypoint) = with_waypoint().await;
    passes(&cluster, &waypoint, vip("inn")).await;
}

#[tokio::test]
async fn service_waypoint_hostname() {
    let (cluster, waypoint) = with_waypoint().await;
    passes(&cluster, &waypoint, vip("inn-by-service")).await;
}

#[tokio::test]
async fn service_waypoint_workload_hostname() {
    let (cluster, waypoint) = with_waypoint().await;
    passes(&cluster, &waypoint, vip("inn-by-workload")).await;
}

/// Nothing goes around a waypoint that takes no connections.
#[tokio::test]
async fn waypoint_that_is_down() {
    let cluster = Cluster::start("").await;
    for to in [echo("inn"), vip("inn"), vip("inn-by-service"), vip("inn-by-workload")] {
        cluster.refuses("cart", to).await;
    }
    exchange(cluster.connect("cart", echo("till")), 1, 1000).await;
}

/// A connection goes to another network by a tunnel within a tunnel.
async fn crosses(service: &str) {
    let cluster = Cluster::start("").await;
    let inbound = SocketAddr::new(named(service).ip(), 15008);
    let gateway = cluster.terminator("gateway", inbound).await;
    exchange(cluster.connect("cart", vip(service)), 1, 100_000).await;
    let authority = format!("{service}.shop.svc:80");
    gateway.says(&format!("authority={authority}")).await;
    let arrived = |record: &Value| record["direction"] == "inbound";
    let record = cluster.far.tells("arrival", arrived).await;
    assert_eq!(record["dst.hbone_addr"], authority.as_str(), "{record}");
    assert_eq!(record["src.identity"], identity("cart").to_string(), "{record}");
    assert_eq!(record["bytes_recv"], 100_000, "{record}");
}

#[tokio::test]
async fn double_hbone_by_address() {
    crosses("isle").await;
}

#[tokio::test]
async fn double_hbone_by_hostname() {
    crosses("reef").await;
}

#[tokio::test]
async fn sandwich_waypoint_plain() {
    let cluster = Cluster::start("").await;
    let ferry = SocketAddr::new(named("ferry").ip(), 80);
    let _app = App::echo_on(cluster.net.listen("ferry", ferry));
    exchange(cluster.connect("cart", vip("sand")), 1, 10_000).await;
    let record = cluster
        .far
        .tells("arrival", |record| record["direction"] == "inbound")
        .await;
    assert_eq!(record["dst.hbone_addr"], vip("sand").to_string(), "{record}");
    assert_eq!(
        (&record["dst.addr"], &record["dst.workload"]),
        (&ferry.to_string().into(), &"ferry".into()),
        "{record}"
    );
}

#[tokio::test]
async fn sandwich_waypoint_proxy_protocol() {
    let cluster = Cluster::start("").await;
    let listener = cluster.net.listen("pier", SocketAddr::new(named("pier").ip(), 15088));
    // Says what it was told, and then what it hears.
    let _app = App::start_on(listener, |mut tcp| async move {
        let header = proxy_protocol::read(&mut tcp).await.unwrap();
        let identity = header.identity.unwrap_or_default();
        let told = format!("{} {} {identity}\n", header.source.ip(), header.destination);
        tcp.write_all(told.as_bytes()).await.unwrap();
        let (mut read, mut write) = tcp.split();
        copy(&mut read, &mut write).await.unwrap();
        write.shutdown().await.unwrap();
    });
    let mut tcp = cluster.connect("cart", vip("dock"));
    tcp.write_all(b"and then?").await.unwrap();
    tcp.shutdown().await.unwrap();
    let mut heard = String::new();
    tcp.read_to_string(&mut heard).await.unwrap();
    let told = format!("10.9.0.1 {} {}\nand then?", vip("dock"), identity("cart"));
    assert_eq!(heard, told);
}
