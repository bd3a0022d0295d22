//! Connections of workloads to others.

use crate::nodes::{Nodes, identity};
use crate::socks::{HOST_UNREACHABLE, NOT_ALLOWED, REFUSED};
use crate::world::{free_addr, half_close_first};

#[tokio::test]
async fn a_connection_goes_by_a_tunnel_between_the_workloads_identities() {
    let nodes = Nodes::start("").await;
    let (cart, till) = (nodes.world.cart(), nodes.world.till().to_string());
    nodes.exchange(cart, &till, nodes.echo.addr.port(), 1_000_000).await;
    for (node, direction) in [(&nodes.near, "outbound"), (&nodes.far, "inbound")] {
        let record = node.tells(direction, |record| record["direction"] == direction).await;
        assert_eq!(record["level"], "info", "{record}");
        assert_eq!(record["src.identity"], identity("cart").to_string(), "{record}");
        assert_eq!(record["dst.identity"], identity("till").to_string(), "{record}");
        assert_eq!(record["src.workload"].as_str().unwrap_or("cart"), "cart", "{record}");
        assert_eq!(record["dst.workload"], "till", "{record}");
        assert_eq!(
            (&record["bytes_sent"], &record["bytes_recv"]),
            (&1_000_000.into(), &1_000_000.into())
        );
        assert_eq!(record["dst.hbone_addr"], nodes.echo.addr.to_string(), "{record}");
    }
}

#[tokio::test]
async fn services_are_reached_by_address_and_by_name() {
    let nodes = Nodes::start("").await;
    let cart = nodes.world.cart();
    let vip = nodes.world.vip().to_string();
    for host in ["till.shop.svc", &vip] {
        nodes.exchange(cart, host, 80, 1000).await;
    }
    let is_of_service = |record: &serde_json::Value| record["dst.service"] == "till.shop.svc";
    for node in [&nodes.near, &nodes.far] {
        let record = node.tells("service", is_of_service).await;
        assert_eq!(record["dst.hbone_addr"], nodes.echo.addr.to_string(), "{record}");
    }
}

#[tokio::test]
async fn what_the_mesh_does_not_know_is_reached_as_it_is() {
    let nodes = Nodes::start("").await;
    let outside = crate::world::App::echo().await;
    nodes
        .exchange(nodes.world.cart(), "127.0.0.1", outside.addr.port(), 1000)
        .await;
    let record = nodes
        .near
        .tells("outbound", |record| record["direction"] == "outbound")
        .await;
    assert_eq!(record["dst.addr"], outside.addr.to_string(), "{record}");
    assert!(
        record["src.identity"].is_null() && record["dst.hbone_addr"].is_null(),
        "{record}"
    );
}

#[tokio::test]
async fn connections_that_cannot_be_made_are_answered_with_the_reason() {
    let nodes = Nodes::start("").await;
    let (cart, till) = (nodes.world.cart(), nodes.world.till().to_string());
    let closed = free_addr().port();
    for (from, host, port, reply) in [
        (nodes.world.ip(77), till.as_str(), nodes.echo.addr.port(), NOT_ALLOWED),
        (cart, "nobody.shop.svc", 80, HOST_UNREACHABLE),
        (cart, "till.shop.svc", 81, HOST_UNREACHABLE),
        (cart, &till, closed, REFUSED),
        (cart, "127.0.0.1", closed, REFUSED),
        // The proxy itself, which would take the caller for somebody of this node.
        (cart, "127.0.0.1", nodes.near.socks5.unwrap().port(), HOST_UNREACHABLE),
        (cart, "0.0.0.0", nodes.near.admin.port(), HOST_UNREACHABLE),
    ] {
        let refused = nodes.connect(from, host, port).await.unwrap_err();
        assert_eq!(refused, reply, "{from} to {host}:{port}");
    }
}

#[tokio::test]
async fn an_end_of_one_side_leaves_the_other_open() {
    let nodes = Nodes::start("").await;
    let app = crate::world::App::listener_first_at(nodes.world.till()).await;
    let till = nodes.world.till().to_string();
    let tcp = nodes.connect(nodes.world.cart(), &till, app.addr.port()).await.unwrap();
    half_close_first(tcp).await;
}
