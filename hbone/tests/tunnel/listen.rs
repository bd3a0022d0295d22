//! A listener: as many connections as it may have, each with a deadline, and an end to all.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hbone::{Config, Event, Listener};
use mesh_testkit::ca::Mesh;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::events::Events;
use crate::pair::{background, echo, request, send_all};

struct Listening {
    addr: SocketAddr,
    mesh: Mesh,
    client_tls: mesh_identity::tls::ClientTls,
    events: Arc<Events>,
    shutdown: oneshot::Sender<()>,
    end: JoinHandle<()>,
}

async fn listening(config: &Config, change: impl FnOnce(&mut Listener)) -> Listening {
    let mesh = Mesh::new();
    let (client_tls, server_tls) = mesh.tls_pair();
    let (events, config) = Events::of(config);
    let mut listener = Listener::new(server_tls, config);
    change(&mut listener);
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = socket.local_addr().unwrap();
    let (shutdown, stopped) = oneshot::channel::<()>();
    let end = background(async move {
        listener
            .serve(socket, echo, async {
                stopped.await.ok();
            })
            .await;
    });
    Listening {
        addr,
        mesh,
        client_tls,
        events,
        shutdown,
        end,
    }
}

async fn exchange(listening: &Listening) {
    let config = crate::engine::config();
    let (client, connection) = hbone::tls::dial(listening.addr, &listening.client_tls, &config)
        .await
        .unwrap();
    let driven = background(connection);
    let mut stream = client.open(request()).await.unwrap();
    send_all(&mut stream, b"hello").await;
    let mut got = Vec::new();
    stream.read_to_end(&mut got).await.unwrap();
    assert_eq!(got, b"hello");
    drop((stream, client));
    driven.await.unwrap().unwrap();
}

#[tokio::test]
async fn sockets_that_say_nothing_are_closed_at_the_deadline() {
    let mut config = crate::engine::config();
    config.set_handshake_timeout(Duration::from_millis(300));
    let listening = listening(&config, |_| {}).await;
    let start = Instant::now();
    let mut idle = Vec::new();
    for _ in 0..200 {
        idle.push(TcpStream::connect(listening.addr).await.unwrap());
    }
    let connected = start.elapsed();
    for mut socket in idle {
        assert!(matches!(socket.read(&mut [0; 1]).await, Ok(0) | Err(_)));
    }
    assert!(
        start.elapsed() <= connected + Duration::from_secs(2),
        "{:?}",
        start.elapsed()
    );
    let failed = |event: &Event| {
        matches!(
            event,
            Event::TlsFailed {
                error: None,
                addr: Some(_)
            }
        )
    };
    assert_eq!(listening.events.count(failed), 200);
}

#[tokio::test]
async fn a_connection_beyond_the_limit_waits_for_its_turn() {
    let listening = listening(&crate::engine::config(), |listener| {
        listener.set_max_connections(1);
    })
    .await;
    let config = crate::engine::config();
    let dial = || hbone::tls::dial(listening.addr, &listening.client_tls, &config);
    let (first, connection) = dial().await.unwrap();
    let first_end = background(connection);
    let stream = first.open(request()).await.unwrap();
    let mut second = Box::pin(dial());
    tokio::time::timeout(Duration::from_millis(200), &mut second)
        .await
        .unwrap_err();
    drop((stream, first));
    let (second, connection) = second.await.unwrap();
    background(async { connection.await.ok() });
    second.open(request()).await.unwrap();
    first_end.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_shutdown_waits_for_tunnels_and_for_nothing_else() {
    let listening = listening(&crate::engine::config(), |_| {}).await;
    let idle = TcpStream::connect(listening.addr).await.unwrap();
    let config = crate::engine::config();
    let (client, connection) = hbone::tls::dial(listening.addr, &listening.client_tls, &config)
        .await
        .unwrap();
    let driven = background(connection);
    let mut stream = client.open(request()).await.unwrap();
    let start = Instant::now();
    listening.shutdown.send(()).unwrap();
    client.wait_for(|status| !status.accepting).await;
    TcpStream::connect(listening.addr)
        .await
        .expect_err("nobody listens any more");
    send_all(&mut stream, b"last words").await;
    let mut got = Vec::new();
    stream.read_to_end(&mut got).await.unwrap();
    assert_eq!(got, b"last words");
    listening.end.await.unwrap();
    driven.await.unwrap().unwrap();
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    drop(idle);
}

#[tokio::test]
async fn a_peer_that_is_refused_does_not_disturb_the_others() {
    let listening = listening(&crate::engine::config(), |_| {}).await;
    let strange = listening.mesh.client_tls(
        &mesh_testkit::ca::stranger(),
        mesh_identity::PeerPolicy::any_authenticated(),
    );
    for _ in 0..5 {
        hbone::tls::dial(listening.addr, &strange, &crate::engine::config())
            .await
            .unwrap_err();
        exchange(&listening).await;
    }
    let failed = |event: &Event| matches!(event, Event::TlsFailed { error: Some(_), .. });
    assert_eq!(listening.events.count(failed), 5);
}
