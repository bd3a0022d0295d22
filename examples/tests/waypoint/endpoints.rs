//! Endpoints that cannot be reached.

use std::fs;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;

use crate::cluster::{Cluster, get, whole};
use crate::nodes::World;
use crate::shop::Shop;
use crate::world::soon;

const IN_TURN: &str = "apiVersion: networking.istio.io/v1\nkind: DestinationRule\n\
    metadata: {name: till, namespace: shop}\n\
    spec: {host: till.shop.svc, trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}}\n";

fn post(number: usize) -> Request<Full<Bytes>> {
    let uri = format!("http://till.shop.svc/{number}");
    Request::post(uri).body(Full::from("text")).unwrap()
}

/// Of three endpoints one has no node, and one no application.
async fn cluster() -> Cluster {
    let cluster = Cluster::start(IN_TURN).await;
    let mesh = fs::read_to_string(&cluster.world.mesh_file).unwrap();
    let gone = cluster
        .world
        .workload("gone", 5, "far", "services: {shop/till.shop.svc: {80: 80}}");
    let mesh = mesh
        .replacen("workloads:\n", &format!("workloads:\n{gone}"), 1)
        .replace(
            "services: {shop/two.shop.svc",
            "services: {shop/till.shop.svc: {80: 1}, shop/two.shop.svc",
        );
    cluster.world.write(&mesh);
    cluster.waypoint.says("mesh changed").await;
    cluster
}

#[tokio::test]
async fn no_request_is_lost_to_endpoints_that_are_not_there_or_done_twice() {
    let cluster = cluster().await;
    let caller = cluster.call("cart").await;
    let (mut http2, _tasks) = caller.http2().await;
    for number in 0..50 {
        let sent = soon("answer", http2.send_request(post(number))).await.unwrap();
        let sent = whole(sent).await;
        assert_eq!(
            (sent.status(), &sent.headers()["x-shop"]),
            (200.try_into().unwrap(), &"one".parse().unwrap())
        );
    }
    for _ in 0..10 {
        assert_eq!(caller.send(get("/", &[])).await.status(), 200);
    }
    assert_eq!(cluster.one.asked(), 60);
    // They were really asked.
    cluster.tells("attempts", |record| record["attempts"] == 3).await;
}

#[tokio::test]
async fn an_application_without_anybody_who_takes_its_tunnels_is_unavailable() {
    let world = World::new();
    let one = Shop::open(world.till(), "one").await;
    let cluster = Cluster::start_without_node(world, one, "", "").await;
    let caller = cluster.call("cart").await;
    assert_eq!(caller.get("/").await.status(), 503);
    let record = cluster.tells("a failure", |record| record["http.status"] == 503).await;
    assert!(record["flags"].as_str().unwrap().contains("UF"), "{record}");
    assert_eq!(cluster.one.asked(), 0);
}
