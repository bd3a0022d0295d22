//! SIGTERM.

use std::net::SocketAddr;

use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};

use crate::nodes::{Nodes, World};
use crate::socks;
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

/// A client that was told nothing yet does not take the end for an answer.
#[tokio::test]
async fn connections_that_are_being_opened_when_the_drain_ends_are_reset() {
    let world = World::new();
    let silent = TcpListener::bind((world.till(), world.hbone_port)).await.unwrap();
    world.write(&world.mesh(SocketAddr::new(world.till(), 80), ""));
    let head = world.head("near", &["cart"]) + "[[socks5]]\nbind = \"127.0.0.1:0\"\n";
    let mut near = world.start("near", &head).await;
    let mut opening = socks::request(near.socks5.unwrap(), world.cart(), (&world.till().to_string(), 80)).await;
    let (_kept, _) = soon("connection", silent.accept()).await.unwrap();
    near.process.terminate();
    let mut method = [0; 2];
    opening.read_exact(&mut method).await.unwrap();
    let error = soon("reset", opening.read(&mut [0])).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    assert_eq!(near.process.end().await.0, Some(0));
}
