//! What is counted.

use std::net::SocketAddr;

use crate::nodes::{Nodes, allow, ask};
use crate::socks::NOT_ALLOWED;
use crate::world::eventually;

/// Waits until a series with all of these in its line has a value.
async fn counts(admin: SocketAddr, name: &str, labels: &[&str], value: &str) -> String {
    eventually(name, async || {
        let (status, text) = ask(admin, "GET", "/metrics").await;
        assert_eq!(status, 200);
        let found = text.lines().find(|line| {
            line.starts_with(&format!("{name}{{"))
                && labels.iter().all(|label| line.contains(label))
                && line.ends_with(&format!(" {value}"))
        });
        found.map(str::to_owned)
    })
    .await
}

#[tokio::test]
async fn both_ends_count_a_connection_under_istios_names() {
    let nodes = Nodes::start("").await;
    let cart = nodes.world.cart();
    nodes.exchange(cart, "till.shop.svc", 80, 10_000).await;
    let ends = [
        "source_workload=\"cart\"",
        "source_workload_namespace=\"shop\"",
        "source_canonical_service=\"cart\"",
        "source_canonical_revision=\"v1\"",
        "source_principal=\"spiffe://cluster.local/ns/shop/sa/cart\"",
        "source_cluster=\"c1\"",
        "destination_workload=\"till\"",
        "destination_service=\"till.shop.svc\"",
        "destination_service_name=\"till\"",
        "destination_service_namespace=\"shop\"",
        "destination_principal=\"spiffe://cluster.local/ns/shop/sa/till\"",
        "request_protocol=\"tcp\"",
        "response_flags=\"-\"",
        "connection_security_policy=\"mutual_tls\"",
    ];
    for (node, reporter) in [
        (&nodes.near, "reporter=\"source\""),
        (&nodes.far, "reporter=\"destination\""),
    ] {
        let labels = [&ends[..], &[reporter]].concat();
        for (name, value) in [
            ("istio_tcp_connections_opened_total", "1"),
            ("istio_tcp_connections_closed_total", "1"),
            ("istio_tcp_sent_bytes_total", "10000"),
            ("istio_tcp_received_bytes_total", "10000"),
        ] {
            counts(node.admin, name, &labels, value).await;
        }
    }
}

#[tokio::test]
async fn bytes_are_counted_while_a_connection_is_open() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let nodes = Nodes::start("").await;
    let mut open = nodes.till(nodes.world.cart()).await.unwrap();
    open.write_all(b"12345").await.unwrap();
    open.read_exact(&mut [0; 5]).await.unwrap();
    for node in [&nodes.near, &nodes.far] {
        counts(node.admin, "istio_tcp_sent_bytes_total", &[], "5").await;
        counts(node.admin, "istio_tcp_sockets_open", &[], "1").await;
    }
}

#[tokio::test]
async fn a_denial_is_counted_as_one() {
    let nodes = Nodes::start(&allow(&["cart"])).await;
    assert_eq!(nodes.till(nodes.world.spy()).await.unwrap_err(), NOT_ALLOWED);
    let labels = ["source_workload=\"spy\"", "response_flags=\"DENY\""];
    for name in [
        "istio_tcp_connections_closed_total",
        "istio_tcp_connections_failed_total",
    ] {
        counts(nodes.far.admin, name, &labels, "1").await;
    }
}
