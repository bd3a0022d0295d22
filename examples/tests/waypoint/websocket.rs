//! Connections that go on by WebSocket.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::cluster::{Cluster, get};
use crate::world::soon;

const UPGRADE: &str = "GET /chat HTTP/1.1\r\nhost: till.shop.svc\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n";

#[tokio::test]
async fn a_websocket_is_joined_both_ways() {
    let cluster = Cluster::start("").await;
    let caller = cluster.call("cart").await;
    let mut tunnel = caller.open().await.unwrap();
    tunnel.write_all(UPGRADE.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(soon("answer", tunnel.read_u8()).await.unwrap());
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    assert!(
        head.starts_with("http/1.1 101") && head.contains("upgrade: websocket"),
        "{head}"
    );
    for word in ["one", "two"] {
        tunnel.write_all(word.as_bytes()).await.unwrap();
        let mut echo = [0; 3];
        soon("echo", tunnel.read_exact(&mut echo)).await.unwrap();
        assert_eq!(&echo, word.as_bytes());
    }
    tunnel.shutdown().await.unwrap();
    drop(soon("end", tunnel.read_to_end(&mut Vec::new())).await);
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
