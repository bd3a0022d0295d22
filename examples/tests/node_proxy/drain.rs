//! SIGTERM.

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::nodes::Nodes;
use crate::world::{eventually, exchange, soon};

#[tokio::test]
async fn open_connections_have_time_to_end() {
    let mut nodes = Nodes::start("").await;
    let open = nodes.till(nodes.world.cart()).await.unwrap();
    nodes.near.process.terminate();
    let socks5 = nodes.near.socks5.unwrap();
    eventually("closed listener", async || TcpStream::connect(socks5).await.err()).await;
    exchange(open, 1, 1000).await;
    assert_eq!(nodes.near.process.end().await.0, Some(0));
    nodes.near.tells("connection", |record| record["level"] == "info").await;
}

#[tokio::test]
async fn connections_that_outlive_the_drain_are_reset() {
    let mut nodes = Nodes::start("").await;
    let mut open = nodes.till(nodes.world.cart()).await.unwrap();
    nodes.far.process.terminate();
    soon("reset", open.read_u8()).await.unwrap_err();
    assert_eq!(nodes.far.process.end().await.0, Some(0));
    nodes.far.tells("connection", |record| record["level"] == "error").await;
    nodes.near.process.terminate();
    assert_eq!(nodes.near.process.end().await.0, Some(0));
}
