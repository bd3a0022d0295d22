//! A process without file descriptors: the one test of a process of its own.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    unreachable_pub,
    dead_code,
    reason = "test code"
)]
#![cfg(all(target_os = "linux", feature = "tls"))]

#[path = "tunnel/events.rs"]
mod events;
#[path = "tunnel/pair.rs"]
mod pair;

use std::time::Duration;

use hbone::{Config, Event, Listener, Peer};
use mesh_testkit::ca::Mesh;
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep};

use crate::events::Events;
use crate::pair::{background, echo, request};

#[tokio::test]
async fn a_listener_without_file_descriptors_waits_and_recovers() {
    let (client_tls, server_tls) = Mesh::new().tls_pair();
    let (events, config) = Events::of(&Config::default());
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = socket.local_addr().unwrap();
    // They wait in the backlog, with no descriptor on the listener's side yet.
    let mut waiting = Vec::new();
    for _ in 0..10 {
        waiting.push(TcpStream::connect(addr).await.unwrap());
    }
    let full = getrlimit(Resource::Nofile);
    let mut none = full;
    none.current = Some(std::fs::read_dir("/proc/self/fd").unwrap().count() as u64 - 1);
    setrlimit(Resource::Nofile, none).unwrap();
    let listener = Listener::new(server_tls, config);
    background(async move { listener.serve(socket, echo, std::future::pending()).await });

    let backoffs = || events.count(|event| matches!(event, Event::AcceptBackoff { .. }));
    sleep(Duration::from_secs(1)).await;
    assert!((2..=10).contains(&backoffs()), "{} attempts in a second", backoffs());

    setrlimit(Resource::Nofile, full).unwrap();
    let start = Instant::now();
    for tcp in waiting {
        let (stream, peer) = hbone::tls::connect(tcp, &client_tls, &Config::default()).await.unwrap();
        assert!(peer.identity().is_some());
        let made = hbone::client::handshake(stream, Peer::unknown(), &Config::default()).await;
        let (client, connection) = made.unwrap();
        background(async { connection.await.ok() });
        client.open(request()).await.unwrap();
    }
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
}
