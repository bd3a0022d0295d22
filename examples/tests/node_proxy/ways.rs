//! Ways that a mesh wants connections to take: by a waypoint, through another network's gateway.

use std::net::SocketAddr;

use crate::nodes::{Node, World, identity};
use crate::socks::{self, HOST_UNREACHABLE};
use crate::world::{App, Process, exchange, hbone_cat};

/// Who takes tunnels in the name of `account`, and connects them to `forward`.
async fn terminator(world: &World, account: &str, number: u8, forward: SocketAddr) -> Process {
    let mut command = hbone_cat("serve", &world.pki.issue(&identity(account)));
    let bind = SocketAddr::new(world.ip(number), world.hbone_port);
    command.args(["--bind", &bind.to_string(), "--forward", &forward.to_string()]);
    command
        .args(["--allow", "spiffe://cluster.local/*"])
        .env("RUST_LOG", "info");
    let mut process = Process::start(&mut command);
    process.ready().await;
    process
}

async fn near(world: &World) -> Node {
    let head = world.head("near", &["cart"]) + "[[socks5]]\nbind = \"127.0.0.1:0\"\n";
    world.start("near", &head).await
}

#[tokio::test]
async fn traffic_of_a_service_passes_its_waypoint() {
    let world = World::new();
    let echo = App::echo().await;
    let waypoint = terminator(&world, "waypoint", 5, echo.addr).await;
    let gateway = format!(
        "waypoint: {{destination: {{address: {}}}, hboneMtlsPort: {}}}",
        world.ip(5),
        world.hbone_port
    );
    let mesh = world
        .mesh(echo.addr, "")
        .replace(
            "hostname: till.shop.svc,",
            &format!("hostname: till.shop.svc, {gateway},"),
        )
        .replace(
            "services:\n-",
            &(world.workload("waypoint", 5, "far", "") + "services:\n-"),
        );
    world.write(&mesh);
    let node = near(&world).await;
    let vip = world.vip().to_string();
    for (host, authority) in [
        (vip.as_str(), format!("{vip}:80")),
        ("till.shop.svc", "till.shop.svc:80".to_owned()),
    ] {
        let tcp = socks::connect(node.socks5.unwrap(), world.cart(), (host, 80))
            .await
            .unwrap();
        exchange(tcp, 1, 10_000).await;
        let line = waypoint.says(&authority).await;
        assert!(line.contains(&identity("cart").to_string()), "{line}");
        let record = node
            .tells("way", |record| record["dst.hbone_addr"] == authority.as_str())
            .await;
        assert_eq!(record["dst.workload"], "waypoint", "{record}");
        assert_eq!(record["dst.service"], "till.shop.svc", "{record}");
    }
    world.write(
        &mesh
            .lines()
            .filter(|line| !line.contains("shop/waypoint"))
            .collect::<Vec<_>>()
            .join("\n"),
    );
    node.process.says("mesh changed").await;
    let refused = socks::connect(node.socks5.unwrap(), world.cart(), (&vip, 80))
        .await
        .unwrap_err();
    assert_eq!(refused, HOST_UNREACHABLE);
}

#[tokio::test]
async fn another_network_is_reached_by_a_tunnel_within_a_tunnel() {
    let world = World::new();
    let echo = App::echo_at(world.till()).await;
    let inbound = SocketAddr::new(world.till(), world.hbone_port);
    let gateway = terminator(&world, "gateway", 6, inbound).await;
    let here = world.mesh(echo.addr, "");
    world.write(&here);
    let far = world
        .start("far", &(world.head("far", &["till"]) + &world.inbound(world.till())))
        .await;

    let way = format!(
        "network: remote, networkGateway: {{destination: {{address: {}}}, hboneMtlsPort: {}}}, node: far",
        world.ip(6),
        world.hbone_port
    );
    let there = here.replace("node: far", &way).replace(
        "services:\n-",
        &(world.workload("gateway", 6, "edge", "") + "services:\n-"),
    );
    let there_file = world.pki.path().join("there.yaml");
    std::fs::write(&there_file, there).unwrap();
    let head = world.head("near", &["cart"]).replace("mesh.yaml", "there.yaml");
    let node = world
        .start("near", &(head + "[[socks5]]\nbind = \"127.0.0.1:0\"\n"))
        .await;
    let target = ("till.shop.svc", 80);
    let tcp = socks::connect(node.socks5.unwrap(), world.cart(), target)
        .await
        .unwrap();
    exchange(tcp, 1, 100_000).await;
    gateway.says("till.shop.svc:80").await;
    let record = far.tells("arrival", |record| record["direction"] == "inbound").await;
    assert_eq!(record["dst.hbone_addr"], "till.shop.svc:80", "{record}");
    assert_eq!(record["src.identity"], identity("cart").to_string(), "{record}");
    assert_eq!(
        (&record["level"], &record["bytes_recv"]),
        (&"info".into(), &100_000.into()),
        "{record}"
    );
}

/// Whoever has an address of a workload's is not the workload.
#[tokio::test]
async fn a_peer_with_another_identity_is_not_believed() {
    let world = World::new();
    let echo = App::echo_at(world.till()).await;
    let impostor = terminator(&world, "impostor", 2, echo.addr).await;
    world.write(&world.mesh(echo.addr, ""));
    let node = near(&world).await;
    let target = (&*world.till().to_string(), echo.addr.port());
    let refused = socks::connect(node.socks5.unwrap(), world.cart(), target)
        .await
        .unwrap_err();
    assert_eq!(refused, HOST_UNREACHABLE);
    let record = node.tells("failure", |record| record["level"] == "error").await;
    assert!(record["error"].as_str().unwrap().contains("impostor"), "{record}");
    drop(impostor);
}
