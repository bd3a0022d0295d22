//! Connections without a tunnel.

use std::net::SocketAddr;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::nodes::{Node, World};
use crate::world::{App, exchange, soon};

/// What istiod makes of a strict PeerAuthentication.
const STRICT: &str = "- {name: strict, namespace: shop, scope: Namespace, action: Deny, dryRun: false, \
                      rules: [[[{notPrincipals: [Presence]}]]]}\n";

async fn start(world: &World, echo: SocketAddr, policies: &str) -> Node {
    world.write(&world.mesh(echo, policies));
    let plaintext = format!("[[plaintext]]\nbind = \"127.0.0.1:0\"\ndestination = \"{echo}\"\n");
    world.start("far", &(world.head("far", &["till"]) + &plaintext)).await
}

/// Finds a connection reset, as soon as it is made or before.
async fn refuses(addr: SocketAddr) {
    if let Ok(mut tcp) = TcpStream::connect(addr).await {
        soon("reset", tcp.read(&mut [0])).await.unwrap_err();
    }
}

#[tokio::test]
async fn permissive_lets_pass_and_strict_does_not() {
    let world = World::new();
    let echo = App::echo_at(world.till()).await;
    let node = start(&world, echo.addr, "").await;
    let plaintext = node.plaintext.unwrap();
    exchange(TcpStream::connect(plaintext).await.unwrap(), 1, 100_000).await;
    let record = node.tells("connection", |record| record["level"] == "info").await;
    assert_eq!(record["bytes_recv"], 100_000, "{record}");
    assert!(record["src.identity"].is_null(), "{record}");

    let mut open = TcpStream::connect(plaintext).await.unwrap();
    world.write(&world.mesh(echo.addr, STRICT));
    node.process.says("mesh changed").await;
    let error = soon("reset", open.read(&mut [0])).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    refuses(plaintext).await;
    let record = node.tells("refusal", |record| record["level"] == "error").await;
    assert!(
        record["error"].as_str().unwrap().contains("ns[shop]-policy[strict]"),
        "{record}"
    );
}

#[tokio::test]
async fn connections_for_nobody_of_the_node_are_refused() {
    let world = World::new();
    let (echo, elsewhere) = (App::echo_at(world.till()).await, App::echo().await);
    let plaintext = format!(
        "[[plaintext]]\nbind = \"127.0.0.1:0\"\ndestination = \"{}\"\n",
        elsewhere.addr
    );
    world.write(&world.mesh(echo.addr, ""));
    let node = world.start("far", &(world.head("far", &["till"]) + &plaintext)).await;
    refuses(node.plaintext.unwrap()).await;
    node.process.says("no workload of this node").await;
}
