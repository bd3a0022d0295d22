//! Endpoints in other networks.

use std::fs;
use std::net::SocketAddr;

use crate::cluster::Cluster;
use crate::nodes::{World, identity};
use crate::shop::Shop;
use crate::world::{Process, hbone_cat};

#[tokio::test]
async fn an_endpoint_of_another_network_is_asked_by_a_tunnel_within_a_tunnel() {
    let world = World::new();
    let one = Shop::open(world.till(), "one").await;
    let cluster = Cluster::start_without_node(world, one, "", "").await;
    let world = &cluster.world;

    // As those of the other network see it.
    let there = fs::read_to_string(&world.mesh_file).unwrap();
    fs::write(world.pki.path().join("there.yaml"), &there).unwrap();
    let head = world.head("far", &["till"]).replace("mesh.yaml", "there.yaml");
    let far = world.start("far", &(head + &world.inbound(world.till()))).await;
    let mut gateway = hbone_cat("serve", &world.pki.issue(&identity("gateway")));
    let bind = SocketAddr::new(world.ip(6), world.hbone_port).to_string();
    let forward = SocketAddr::new(world.till(), world.hbone_port).to_string();
    gateway.args([
        "--bind",
        &bind,
        "--forward",
        &forward,
        "--allow",
        "spiffe://cluster.local/*",
    ]);
    let mut gateway = Process::start(gateway.env("RUST_LOG", "info"));
    gateway.ready().await;

    let way = format!(
        "network: remote, networkGateway: {{destination: {{address: {}}}, hboneMtlsPort: {}}}, node: far",
        world.ip(6),
        world.hbone_port
    );
    let more = world.workload("gateway", 6, "edge", "") + &world.workload("waypoint", 103, "near", "");
    let here = there.replacen("node: far", &way, 1);
    world.write(&here.replace("services:\n-", &format!("{more}services:\n-")));
    cluster.waypoint.says("mesh changed").await;

    let caller = cluster.call("cart").await;
    let answer = caller.get("/").await;
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["x-shop"]),
        (200, &"one".parse().unwrap())
    );
    // Tunnels are told of when they have ended.
    drop(cluster.waypoint);
    let line = gateway.says("till.shop.svc:80").await;
    assert!(line.contains(&identity("waypoint").to_string()), "{line}");
    let record = far.tells("arrival", |record| record["direction"] == "inbound").await;
    assert_eq!(record["dst.hbone_addr"], "till.shop.svc:80", "{record}");
    assert_eq!(record["src.identity"], identity("waypoint").to_string(), "{record}");
}
