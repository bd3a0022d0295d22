//! What is no HTTP.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::cluster::Cluster;
use crate::policy::DENY_ADMIN;
use crate::world::soon;

const DENY_SPY: &str = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: no-spy, namespace: shop}
spec:
  targetRefs: [{kind: Service, group: '', name: till}]
  action: DENY
  rules: [{from: [{source: {principals: [cluster.local/ns/shop/sa/spy]}}]}]
";

/// An application that takes what is no HTTP for an end.
async fn is_carried(cluster: &Cluster, account: &str) -> bool {
    let caller = cluster.call(account).await;
    let mut tunnel = caller.open().await.unwrap();
    tunnel.write_all(b"hello, no HTTP\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    drop(soon("end", tunnel.read_to_end(&mut answer)).await);
    String::from_utf8_lossy(&answer).starts_with("HTTP/1.1 400")
}

#[tokio::test]
async fn bytes_pass_as_far_as_policies_let_connections_pass() {
    let cluster = Cluster::start(DENY_SPY).await;
    assert!(is_carried(&cluster, "cart").await);
    assert!(!is_carried(&cluster, "spy").await);
    let record = cluster
        .tells("a connection", |record| record["message"] == "connection complete")
        .await;
    assert_eq!(record["dst.service"], "till.shop.svc");
    cluster
        .tells("a refusal", |record| record["error"].to_string().contains("no-spy"))
        .await;
}

#[tokio::test]
async fn a_policy_about_requests_lets_no_bytes_pass() {
    let cluster = Cluster::start(DENY_ADMIN).await;
    assert!(!is_carried(&cluster, "cart").await);
}
