//! Tunnels that somebody asks for by himself.

use hbone::{Authority, OpenError, TunnelRequest};
use mesh_testkit::ca::stranger;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::cluster::Cluster;
use crate::mesh::{ADMIN_PORT, PORT, echo, identity, node};
use crate::net::FAR;
use crate::world::soon;

fn request(authority: &str) -> TunnelRequest {
    TunnelRequest::new(authority.parse::<Authority>().unwrap())
}

#[tokio::test]
async fn hbone_ip_mismatch() {
    let cluster = Cluster::start("").await;
    let (client, _task) = cluster.dial("old", &identity("cart"), "till").await.unwrap();
    for (authority, status) in [
        (echo("bank").to_string(), 400),
        (format!("127.0.0.1:{PORT}"), 400),
        (format!("10.2.0.1:{}", 15008), 503),
    ] {
        let error = soon("answer", client.open(request(&authority))).await.unwrap_err();
        let OpenError::Refused(refusal) = error else {
            panic!("{authority}: {error}")
        };
        assert_eq!(refusal.status().as_u16(), status, "{authority}");
    }
}

/// A service of the pod leads to the pod's own port for it, and otherwise to the service's.
async fn reaches(authority: &str) {
    let cluster = Cluster::start("").await;
    let (client, _task) = cluster.dial("old", &identity("cart"), "till").await.unwrap();
    let mut tunnel = soon("tunnel", client.open(request(authority))).await.unwrap();
    tunnel.write_all(b"12345").await.unwrap();
    soon("echo", tunnel.read_exact(&mut [0; 5])).await.unwrap();
    drop(tunnel);
    let record = cluster
        .far
        .tells("arrival", |record| record["direction"] == "inbound")
        .await;
    assert_eq!(record["dst.addr"], echo("till").to_string(), "{record}");
}

#[tokio::test]
async fn svc_hostname_port() {
    reaches("counter.shop.svc:81").await;
}

#[tokio::test]
async fn svc_hostname_named_port() {
    reaches("named.shop.svc:80").await;
}

#[tokio::test]
async fn trust_domain_mismatch_rejected() {
    let cluster = Cluster::start("").await;
    assert!(cluster.dial("old", &stranger(), "till").await.is_err());
    cluster.far.process.says("connection refused").await;
    assert!(cluster.dial("old", &identity("cart"), "till").await.is_ok());
}

/// A node's counters are read through a tunnel by whom the node's policies let in.
#[tokio::test]
async fn hbone_metrics_access() {
    let cluster = Cluster::start("").await;
    let admin = std::net::SocketAddr::new(FAR.ip.into(), ADMIN_PORT);
    let mut tcp = cluster.connect("cart", admin);
    let request = "GET /metrics HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n";
    tcp.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    soon("metrics", tcp.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    drop(tcp);
    let own = format!("destination_principal=\"{}\"", identity(&node(FAR)));
    assert!(answer.contains(&own), "{answer}");
    let record = cluster
        .far
        .tells("arrival", |record| record["direction"] == "inbound")
        .await;
    assert_eq!(record["src.identity"], identity("cart").to_string(), "{record}");
    let closed = "- {name: closed, namespace: shop, scope: Namespace, action: Allow, dryRun: false, rules: []}\n";
    cluster.change(closed).await;
    cluster.refuses("cart", admin).await;
}
