//! Pools of mutual-TLS connections, on sockets.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hbone::pool::{Behind, DialFailure, Dialer, DialerError, GatewayDialer, IdentityError, PoolKey};
use hbone::{Config, IncomingTunnel, Pool, PoolConfig, PoolError, TunnelRequest, TunnelResponse, server, tls};
use mesh_identity::PeerPolicy;
use mesh_identity::tls::{ClientTls, ServerTls};
use mesh_testkit::ca::{self, Mesh};
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::net::{request, use_up};

/// A pool whose dialer knows the mesh's client alone, for whatever peers a key accepts.
fn identities(mesh: &Arc<Mesh>) -> impl Fn(&PoolKey) -> Option<ClientTls> + use<> {
    let mesh = Arc::clone(mesh);
    move |key| (*key.source() == ca::client()).then(|| mesh.client_tls(key.source(), key.destinations().clone()))
}

/// Serves one tunnel after the other, with an echo or as a gateway to the authority.
async fn listen(tasks: &mut JoinSet<()>, tls: ServerTls, gateway: bool) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((tcp, _)) = listener.accept().await {
            let tls = tls.clone();
            connections.spawn(async move {
                let config = Config::default();
                let (stream, peer) = tls::accept(tcp, &tls, &config).await.unwrap();
                let serve = server::serve(stream, peer, &config, Arc::new(handle(gateway)), std::future::pending());
                serve.await.ok();
            });
        }
    });
    addr
}

fn handle(
    gateway: bool,
) -> impl Fn(IncomingTunnel) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync {
    move |tunnel| {
        Box::pin(async move {
            let authority = tunnel.request().authority().to_string();
            let mut stream = tunnel.accept(TunnelResponse::new());
            if gateway {
                let mut tcp = TcpStream::connect(authority).await.unwrap();
                tokio::io::copy_bidirectional(&mut tcp, &mut stream).await.ok();
            } else {
                let (mut read, mut write) = tokio::io::split(stream);
                tokio::io::copy(&mut read, &mut write).await.ok();
                tokio::io::AsyncWriteExt::shutdown(&mut write).await.ok();
            }
        })
    }
}

#[tokio::test]
async fn equal_keys_share_a_connection_and_others_do_not() {
    let mesh = Arc::new(Mesh::new());
    let mut tasks = JoinSet::new();
    let tls = mesh.server_tls(&ca::server(), PeerPolicy::exact(ca::client()));
    let addr = listen(&mut tasks, tls, false).await;
    let pool = Pool::new(PoolConfig::default(), Dialer::new(identities(&mesh), Config::default()));
    let key = |peers: &[mesh_identity::SpiffeId]| PoolKey::new(ca::client(), PeerPolicy::one_of(peers.to_vec()), addr);

    for (key, connections) in [
        (key(&[ca::server(), ca::waypoint()]), 1),
        (key(&[ca::waypoint(), ca::server(), ca::waypoint()]), 1),
        (key(&[ca::server()]), 2),
        (key(&[ca::server()]).with_partition("bulk"), 3),
        (key(&[ca::server()]).with_partition("bulk"), 3),
    ] {
        let tunnel = pool.open(&key, request()).await.unwrap();
        assert_eq!(tunnel.peer().identity().unwrap().id(), &ca::server());
        use_up(tunnel).await;
        assert_eq!(pool.stats().connections, connections, "{key:?}");
    }
}

#[tokio::test]
async fn a_key_is_never_dialled_with_another_ones_identity() {
    let mesh = Arc::new(Mesh::new());
    let addr = "127.0.0.1:1".parse().unwrap();
    let client = PeerPolicy::exact(ca::server());
    for (source, peers, fault) in [
        (ca::stranger(), client.clone(), IdentityError::Unknown),
        (ca::waypoint(), client, IdentityError::Mismatch),
        (ca::client(), PeerPolicy::exact(ca::waypoint()), IdentityError::Mismatch),
    ] {
        let (tls, _) = mesh.tls_pair();
        let identity = move |key: &PoolKey| (*key.source() != ca::stranger()).then(|| tls.clone());
        let pool = Pool::new(PoolConfig::default(), Dialer::new(identity, Config::default()));
        let error = pool
            .open(&PoolKey::new(source, peers, addr), request())
            .await
            .unwrap_err();
        let PoolError::Dial(failure) = error else {
            panic!("{error:?}")
        };
        assert!(
            matches!(&*failure, DialFailure::Connect(DialerError::Identity(is)) if *is == fault),
            "{failure}"
        );
    }
}

#[tokio::test]
async fn connections_behind_a_gateway_are_pooled() {
    let mesh = Arc::new(Mesh::new());
    let mut tasks = JoinSet::new();
    let clients = PeerPolicy::exact(ca::client());
    let inner = listen(&mut tasks, mesh.server_tls(&ca::server(), clients.clone()), false).await;
    let gateway = listen(&mut tasks, mesh.server_tls(&ca::waypoint(), clients), true).await;

    let gateways = Pool::new(PoolConfig::default(), Dialer::new(identities(&mesh), Config::default()));
    let inner_mesh = Arc::clone(&mesh);
    let inner_tls = move |key: &PoolKey<Behind>| Some(inner_mesh.client_tls(key.source(), key.destinations().clone()));
    let pool = Pool::new(
        PoolConfig::default(),
        GatewayDialer::new(gateways.clone(), inner_tls, Config::default()),
    );
    let behind = Behind {
        gateway: PoolKey::new(ca::client(), PeerPolicy::exact(ca::waypoint()), gateway),
        authority: inner.try_into().unwrap(),
    };
    let key = PoolKey::new(ca::client(), PeerPolicy::exact(ca::server()), behind.clone());
    for _ in 0..5 {
        let tunnel = pool
            .open(&key, TunnelRequest::new("app.example:80".parse().unwrap()))
            .await
            .unwrap();
        assert_eq!(tunnel.peer().identity().unwrap().id(), &ca::server());
        use_up(tunnel).await;
    }
    assert_eq!((pool.stats().connections, gateways.stats().connections), (1, 1));
    assert_eq!(gateways.stats().tunnels, 1, "one tunnel carries the inner connection");

    // Another inner peer has an inner connection of its own, over the same outer one.
    let wrong = PoolKey::new(ca::client(), PeerPolicy::exact(ca::waypoint()), behind);
    let error = pool.open(&wrong, request()).await.unwrap_err();
    assert!(matches!(error, PoolError::Dial(_)), "{error:?}");
    assert_eq!(gateways.stats().dials, 1);
}

#[tokio::test]
async fn an_unexpected_peer_fails_the_dial() {
    let mesh = Arc::new(Mesh::new());
    let mut tasks = JoinSet::new();
    let tls = mesh.server_tls(&ca::waypoint(), PeerPolicy::exact(ca::client()));
    let addr = listen(&mut tasks, tls, false).await;
    let pool = Pool::new(PoolConfig::default(), Dialer::new(identities(&mesh), Config::default()));
    let key = PoolKey::new(ca::client(), PeerPolicy::exact(ca::server()), addr);
    let error = pool.open(&key, request()).await.unwrap_err();
    assert!(
        matches!(error, PoolError::Dial(_)) && error.is_unprocessed(),
        "{error:?}"
    );
    assert_eq!(pool.stats().connections, 0);
}

/// An address that answers no SYN: its backlog is full, and nobody accepts.
fn black_hole() -> (SocketAddr, Vec<Socket>) {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    listener
        .bind(&SockAddr::from(SocketAddr::from(([127, 0, 0, 1], 0))))
        .unwrap();
    listener.listen(0).unwrap();
    let addr = listener.local_addr().unwrap();
    let mut held = vec![listener];
    for _ in 0..2 {
        let filler = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        filler.set_nonblocking(true).unwrap();
        // In progress, which is all that it is to be.
        drop(filler.connect(&addr));
        held.push(filler);
    }
    (addr.as_socket().unwrap(), held)
}

#[tokio::test]
async fn a_dial_into_a_black_hole_fails_in_time_and_delays_no_other() {
    const LIMIT: Duration = Duration::from_secs(1);
    let mesh = Arc::new(Mesh::new());
    let mut tasks = JoinSet::new();
    let tls = mesh.server_tls(&ca::server(), PeerPolicy::exact(ca::client()));
    let addr = listen(&mut tasks, tls, false).await;
    let (hole, _held) = black_hole();
    let mut config = Config::default();
    config.set_handshake_timeout(LIMIT);
    let pool = Pool::new(PoolConfig::default(), Dialer::new(identities(&mesh), config));
    let key = |addr| PoolKey::new(ca::client(), PeerPolicy::exact(ca::server()), addr);
    use_up(pool.open(&key(addr), request()).await.unwrap()).await;

    let start = Instant::now();
    let mut lost = pin!(async {
        let error = pool.open(&key(hole), request()).await.map(drop).unwrap_err();
        (error, start.elapsed())
    });
    let (mut served, mut slowest) = (0_u32, Duration::ZERO);
    let (error, took) = loop {
        let sibling = Instant::now();
        tokio::select! {
            lost = &mut lost => break lost,
            () = async { use_up(pool.open(&key(addr), request()).await.unwrap()).await } => {
                served += 1;
                slowest = slowest.max(sibling.elapsed());
            }
        }
    };
    let PoolError::Dial(failure) = error else {
        panic!("{error}");
    };
    assert!(
        matches!(
            &*failure,
            DialFailure::Connect(DialerError::Dial(tls::DialError::Timeout))
        ),
        "{failure}"
    );
    assert!((LIMIT..LIMIT + Duration::from_millis(200)).contains(&took), "{took:?}");
    assert!(
        served > 10 && slowest < LIMIT / 2,
        "{served} tunnels meanwhile, the slowest in {slowest:?}"
    );
}
