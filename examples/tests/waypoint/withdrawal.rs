//! WebSockets, and policies that come later.

use hbone::TunnelStream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::cluster::{Caller, Cluster};
use crate::world::soon;

const DENY: &str = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: no-WHO, namespace: shop}
spec:
  targetRefs: [{kind: Service, group: '', name: till}]
  action: DENY
  rules: [{from: [{source: {principals: [cluster.local/ns/shop/sa/WHO]}}], to: [{operation: {paths: [/chat]}}]}]
";

pub async fn chat(caller: &Caller) -> TunnelStream {
    let mut tunnel = caller.open().await.unwrap();
    let upgrade = "GET /chat HTTP/1.1\r\nhost: till.shop.svc\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n";
    tunnel.write_all(upgrade.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(soon("answer", tunnel.read_u8()).await.unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 101"));
    tunnel
}

pub async fn echo(tunnel: &mut TunnelStream) {
    tunnel.write_all(b"one").await.unwrap();
    let mut echo = [0; 3];
    soon("echo", tunnel.read_exact(&mut echo)).await.unwrap();
    assert_eq!(&echo, b"one");
}

#[tokio::test]
async fn a_websocket_goes_on_for_as_long_as_policies_let_it() {
    let cluster = Cluster::start("").await;
    let caller = cluster.call("cart").await;
    let mut tunnel = chat(&caller).await;
    echo(&mut tunnel).await;
    cluster.change(&DENY.replace("WHO", "spy"), 1).await;
    echo(&mut tunnel).await;
    cluster.change(&DENY.replace("WHO", "cart"), 2).await;
    drop(soon("end", tunnel.read_to_end(&mut Vec::new())).await);
    let record = cluster.tells("the end", |record| record["http.status"] == 101).await;
    assert!(record["error"].to_string().contains("no-cart"), "{record}");
    // What was carried is told, however it ended.
    assert_eq!((&record["bytes_recv"], &record["bytes_sent"]), (&6.into(), &6.into()));
}
