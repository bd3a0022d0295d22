//! Connections that go on by WebSocket.

use crate::chat::chat;
use crate::cluster::{Cluster, get};

#[tokio::test]
async fn a_websocket_is_joined_both_ways() {
    let cluster = Cluster::start("").await;
    let caller = cluster.call("cart").await;
    chat(caller.open().await.unwrap()).await;
    let record = cluster.tells("the end", |record| record["http.status"] == 101).await;
    assert_eq!((&record["bytes_recv"], &record["bytes_sent"]), (&6.into(), &6.into()));
}

#[tokio::test]
async fn other_protocols_are_not_gone_on_by() {
    let cluster = Cluster::start("").await;
    let lines = [
        ("connection", "upgrade, http2-settings"),
        ("upgrade", "h2c"),
        ("http2-settings", "AA"),
    ];
    let answer = cluster.call("cart").await.send(get("/", &lines)).await;
    assert_eq!(answer.status(), 200);
    let told = crate::cluster::told(&answer);
    assert!(told["headers"].get("upgrade").is_none(), "{told}");
}
