//! Connections of pods that know nothing of a proxy.

use std::net::SocketAddr;

use tokio::io::AsyncReadExt;

use crate::cluster::{Cluster, is_reset};
use crate::mesh::{PORT, echo, identity, vip};
use crate::world::{exchange, soon};

/// What istiod makes of a strict PeerAuthentication.
const STRICT: &str = "- {name: strict, namespace: shop, scope: Namespace, action: Deny, dryRun: false, \
                      rules: [[[{notPrincipals: [Presence]}]]]}\n";

const ONLY_CART: &str = "- {name: allow, namespace: shop, scope: Namespace, action: Allow, dryRun: false, \
                         rules: [[[{serviceAccounts: [{namespace: shop, serviceAccount: cart}]}]]]}\n";

#[tokio::test]
async fn cross_node_captured() {
    let cluster = Cluster::start("").await;
    exchange(cluster.connect("cart", echo("till")), 1, 1_000_000).await;
    let record = cluster
        .far
        .tells("arrival", |record| record["direction"] == "inbound")
        .await;
    assert_eq!(record["src.identity"], identity("cart").to_string(), "{record}");
    assert_eq!(record["dst.identity"], identity("till").to_string(), "{record}");
    assert_eq!(record["dst.hbone_addr"], echo("till").to_string(), "{record}");
    assert_eq!(record["bytes_recv"], 1_000_000, "{record}");
    let record = cluster
        .near
        .tells("departure", |record| record["direction"] == "outbound")
        .await;
    assert!(
        record["src.addr"].as_str().unwrap().starts_with("10.1.0.1:"),
        "{record}"
    );
    assert_eq!(record["src.workload"], "cart", "{record}");
}

#[tokio::test]
async fn local_captured() {
    let cluster = Cluster::start("").await;
    exchange(cluster.connect("cart", echo("spy")), 1, 1000).await;
    let record = cluster
        .near
        .tells("arrival", |record| record["direction"] == "inbound")
        .await;
    assert_eq!(
        (&record["src.workload"], &record["dst.workload"]),
        (&"cart".into(), &"spy".into()),
        "{record}"
    );
}

#[tokio::test]
async fn server_uncaptured() {
    let cluster = Cluster::start("").await;
    exchange(cluster.connect("cart", echo("old")), 1, 1000).await;
    let record = cluster
        .near
        .tells("departure", |record| record["direction"] == "outbound")
        .await;
    assert_eq!(record["dst.workload"], "old", "{record}");
    assert!(
        record["dst.hbone_addr"].is_null() && record["src.identity"].is_null(),
        "{record}"
    );
}

#[tokio::test]
async fn client_uncaptured() {
    let cluster = Cluster::start("").await;
    exchange(cluster.connect("old", echo("till")), 1, 1000).await;
    let record = cluster
        .far
        .tells("arrival", |record| record["direction"] == "inbound")
        .await;
    assert_eq!(record["src.workload"], "old", "{record}");
    assert!(record["src.identity"].is_null(), "{record}");
    let open = cluster.connect("old", echo("till"));
    cluster.change(STRICT).await;
    is_reset(open).await;
    cluster.refuses("old", echo("till")).await;
    exchange(cluster.connect("cart", echo("till")), 1, 1000).await;
}

#[tokio::test]
async fn service_loadbalancing() {
    let cluster = Cluster::start("").await;
    for _ in 0..20 {
        exchange(cluster.connect("cart", vip("counter")), 1, 100).await;
    }
    for pod in ["till", "bank"] {
        let record = cluster.far.tells(pod, |record| record["dst.workload"] == pod).await;
        assert_eq!(record["dst.service"], "counter.shop.svc", "{record}");
    }
}

#[tokio::test]
async fn policy() {
    let cluster = Cluster::start(ONLY_CART).await;
    exchange(cluster.connect("cart", echo("till")), 1, 1000).await;
    cluster.refuses("spy", echo("till")).await;
    cluster.refuses("old", echo("till")).await;
    let by_spy = |record: &serde_json::Value| record["src.identity"] == identity("spy").to_string();
    let record = cluster.far.tells("refusal", by_spy).await;
    assert_eq!(record["error"], "policy: no policy allows it", "{record}");
}

/// A pod that speaks to a port of the proxy's own does not send it round in circles.
#[tokio::test]
async fn malicious_calls() {
    let cluster = Cluster::start("").await;
    for port in [15001, 15006] {
        for pod in ["spy", "till"] {
            cluster.refuses("cart", SocketAddr::new(echo(pod).ip(), port)).await;
        }
    }
    cluster.refuses("old", SocketAddr::new(echo("till").ip(), 15006)).await;
    exchange(
        cluster.connect("cart", SocketAddr::new(echo("till").ip(), PORT)),
        1,
        1000,
    )
    .await;
}

#[tokio::test]
async fn shutdown() {
    let mut cluster = Cluster::start("").await;
    let open = cluster.connect("cart", echo("till"));
    cluster.near.process.terminate();
    exchange(open, 1, 1000).await;
    assert_eq!(cluster.near.process.end().await.0, Some(0));
}

/// What becomes of a server reaches its clients.
#[tokio::test]
async fn server_shutdown() {
    let mut cluster = Cluster::start("").await;
    let mut open = cluster.open("cart", "till").await;
    cluster.end_echo("till");
    let end = soon("end", open.read(&mut [0])).await;
    assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
    cluster.refuses("cart", echo("till")).await;
    exchange(cluster.connect("cart", echo("bank")), 1, 1000).await;
}
