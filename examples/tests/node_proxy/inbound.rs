//! Tunnels that other nodes ask for.

use std::net::SocketAddr;

use hbone::{Authority, Client, Config, Lost, OpenError, TunnelRequest};
use mesh_identity::{PeerPolicy, SpiffeId};
use mesh_testkit::ca::stranger;
use tokio::task::JoinSet;

use crate::nodes::{Node, World, identity};
use crate::world::{App, soon};

/// A far node, and where it takes tunnels for `till`.
async fn far(world: &World, echo: SocketAddr) -> (Node, SocketAddr) {
    world.write(&world.mesh(echo, ""));
    let node = world
        .start("far", &(world.head("far", &["till"]) + &world.inbound(world.till())))
        .await;
    (node, SocketAddr::new(world.till(), world.hbone_port))
}

async fn dial(
    world: &World,
    addr: SocketAddr,
    as_whom: &SpiffeId,
) -> Result<(Client, JoinSet<Result<(), Lost>>), String> {
    let tls = world.pki.mesh.client_tls(as_whom, PeerPolicy::exact(identity("till")));
    let dialled = soon("connection", hbone::tls::dial(addr, &tls, &Config::default())).await;
    let (client, connection) = dialled.map_err(|error| error.to_string())?;
    let mut task = JoinSet::new();
    task.spawn(connection);
    Ok((client, task))
}

#[tokio::test]
async fn destinations_that_are_not_the_workloads_are_refused() {
    let world = World::new();
    let echo = App::echo_at(world.till()).await;
    let (node, addr) = far(&world, echo.addr).await;
    let (client, _task) = dial(&world, addr, &identity("cart")).await.unwrap();
    for (authority, status) in [
        (format!("{}:{}", world.cart(), echo.addr.port()), 400),
        (format!("127.0.0.1:{}", echo.addr.port()), 400),
        (format!("{}:{}", world.till(), world.hbone_port), 503),
        ("nobody.shop.svc:80".to_owned(), 503),
        ("till.shop.svc:81".to_owned(), 503),
        (format!("{}:1", world.till()), 503),
    ] {
        let target: Authority = authority.parse().unwrap();
        let error = soon("answer", client.open(TunnelRequest::new(target)))
            .await
            .unwrap_err();
        let OpenError::Refused(refusal) = error else {
            panic!("{authority}: {error}")
        };
        assert_eq!(refusal.status().as_u16(), status, "{authority}");
    }
    node.process.says("destination is not served here").await;
    let by_name: Authority = "till.shop.svc:80".parse().unwrap();
    let tunnel = soon("tunnel", client.open(TunnelRequest::new(by_name))).await.unwrap();
    let baggage = tunnel.response().baggage().unwrap().to_string();
    assert!(baggage.contains("k8s.namespace.name=shop"), "{baggage}");
}

#[tokio::test]
async fn another_trust_domain_does_not_get_a_connection() {
    let world = World::new();
    let echo = App::echo_at(world.till()).await;
    let (node, addr) = far(&world, echo.addr).await;
    let refused = dial(&world, addr, &stranger()).await;
    assert!(refused.is_err());
    node.process.says("connection refused").await;
}

#[tokio::test]
async fn addresses_of_nobody_on_the_node_get_no_connection() {
    let world = World::new();
    let echo = App::echo_at(world.till()).await;
    world.write(&world.mesh(echo.addr, ""));
    let node = world
        .start("far", &(world.head("far", &["till"]) + &world.inbound(world.ip(9))))
        .await;
    let refused = dial(
        &world,
        SocketAddr::new(world.ip(9), world.hbone_port),
        &identity("cart"),
    )
    .await;
    assert!(refused.is_err());
    node.process.says("no workload of this node").await;
}
