//! Connections that outlive the trust they were made with.

use std::net::SocketAddr;
use std::sync::Arc;

use hbone::pool::{Dialer, PoolKey};
use hbone::{Event, Listener, Lost, Pool, PoolConfig, Role, TunnelError, TunnelStream};
use mesh_identity::live::{CloseReason, Live, Scope};
use mesh_identity::source::dev_ca::DevCa;
use mesh_identity::source::{Publisher, Snapshot, SourceEnded};
use mesh_identity::tls::Identities;
use mesh_identity::{PeerPolicy, SpiffeId, Svid, TrustBundle, TrustBundles, provider};
use mesh_testkit::ca;
use rustls::pki_types::UnixTime;
use tokio::net::TcpListener;

use crate::events::Events;
use crate::pair::{background, echo, request, send_all};

/// One side's material, which its test publishes anew.
struct Side {
    publisher: Publisher,
    identities: Arc<Identities>,
    live: Live,
}

impl Side {
    fn new() -> Self {
        let publisher = Publisher::new();
        let (live, driver) = Live::builder(publisher.follow(), provider::aws_lc_rs()).build();
        background(driver);
        Self {
            identities: Arc::new(Identities::new(publisher.follow(), provider::aws_lc_rs())),
            publisher,
            live,
        }
    }

    fn publish(&self, svid: &Arc<Svid>, roots: &[&DevCa]) {
        let anchors = roots.iter().map(|root| root.root_certificate().clone());
        let bundle = TrustBundle::new(ca::server().trust_domain().clone(), anchors).unwrap();
        let trust = Arc::new(TrustBundles::new([bundle]).unwrap());
        self.publisher.publish(Snapshot::new([Arc::clone(svid)], trust));
    }

    /// Carries tunnels from this side, which is the mesh's client, to its server.
    fn pool(&self) -> impl AsyncFn(SocketAddr) -> TunnelStream + use<> {
        let identities = Arc::clone(&self.identities);
        let identity = move |key: &PoolKey| identities.client(Some(key.source()), key.destinations()).ok();
        let dialer = Dialer::new(identity, crate::engine::config()).with_live(self.live.clone());
        let pool = Pool::new(PoolConfig::default(), dialer);
        async move |addr| {
            let key = PoolKey::new(ca::client(), PeerPolicy::exact(ca::server()), addr);
            pool.open(&key, request()).await.unwrap()
        }
    }

    /// Serves on this side, which is the mesh's server, whoever `policy` permits.
    async fn listen(&self, policy: PeerPolicy) -> (SocketAddr, Arc<Events>, Arc<Scope>) {
        let (events, config) = Events::of(&crate::engine::config());
        let scope = Arc::new(self.live.scope(policy.clone()));
        let identities = Arc::clone(&self.identities);
        let mut listener = Listener::with_identity(move || identities.server(None, &policy), config);
        listener.set_scope(Arc::clone(&scope));
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = socket.local_addr().unwrap();
        background(async move { listener.serve(socket, echo, std::future::pending()).await });
        (addr, events, scope)
    }
}

fn authority() -> DevCa {
    DevCa::new(ca::server().trust_domain().clone(), UnixTime::now()).unwrap()
}

fn issue(authority: &DevCa, id: &SpiffeId) -> Arc<Svid> {
    let now = UnixTime::now();
    let issued = authority.issue(id, now).unwrap();
    Arc::new(issued.svid(&provider::aws_lc_rs(), now).unwrap())
}

async fn echoes(tunnel: &mut TunnelStream) {
    send_all(tunnel, b"hello").await;
    let mut got = [0; 5];
    tokio::io::AsyncReadExt::read_exact(tunnel, &mut got).await.unwrap();
    assert_eq!(&got, b"hello");
}

async fn failure(tunnel: TunnelStream) -> TunnelError {
    let (mut read, _write) = tunnel.into_split();
    read.read_chunk()
        .await
        .expect_err("a distrusted peer's tunnel is no clean end")
}

#[tokio::test]
async fn a_renewed_certificate_is_for_new_connections_and_ends_no_tunnel() {
    let root = authority();
    let (server, client) = (Side::new(), Side::new());
    server.publish(&issue(&root, &ca::server()), &[&root]);
    client.publish(&issue(&root, &ca::client()), &[&root]);
    let (addr, ..) = server.listen(PeerPolicy::exact(ca::client())).await;
    let (early, late) = (client.pool(), client.pool());
    let mut before = early(addr).await;

    server.publish(&issue(&root, &ca::server()), &[&root]);
    let mut after = late(addr).await;
    let chain = |tunnel: &TunnelStream| tunnel.peer().identity().unwrap().chain().to_vec();
    assert_ne!(chain(&before), chain(&after));
    echoes(&mut before).await;
    echoes(&mut after).await;
}

#[tokio::test]
async fn a_removed_root_ends_the_servers_connections_under_it_and_no_others() {
    let (old, new) = (authority(), authority());
    let server = Side::new();
    server.publish(&issue(&old, &ca::server()), &[&old, &new]);
    let (addr, events, _scope) = server.listen(PeerPolicy::exact(ca::client())).await;
    let (stale, fresh) = (Side::new(), Side::new());
    stale.publish(&issue(&old, &ca::client()), &[&old]);
    fresh.publish(&issue(&new, &ca::client()), &[&old]);
    let (open_stale, open_fresh) = (stale.pool(), fresh.pool());
    let (doomed, mut kept) = (open_stale(addr).await, open_fresh(addr).await);

    server.publish(&issue(&old, &ca::server()), &[&new]);
    assert!(matches!(
        failure(doomed).await,
        TunnelError::ConnectionLost(_) | TunnelError::Reset(_)
    ));
    echoes(&mut kept).await;
    let lost = events.count(|event| match event {
        Event::TrustLost { role, closing } => *role == Role::Server && closing.reason() == CloseReason::AnchorRemoved,
        _ => false,
    });
    assert_eq!(lost, 1);
    let told = Some(Lost::Distrusted(CloseReason::AnchorRemoved));
    let ended = events.count(|event| matches!(event, Event::ConnectionClosed { lost, .. } if *lost == told));
    assert_eq!(ended, 1);
    assert_eq!(server.live.connections(), 1);
}

#[tokio::test]
async fn a_removed_root_ends_the_clients_connections_with_the_reason() {
    let (old, new) = (authority(), authority());
    let (server, client) = (Side::new(), Side::new());
    server.publish(&issue(&old, &ca::server()), &[&old]);
    client.publish(&issue(&old, &ca::client()), &[&old]);
    let (addr, ..) = server.listen(PeerPolicy::exact(ca::client())).await;
    let open = client.pool();
    let tunnel = open(addr).await;
    client.publish(&issue(&old, &ca::client()), &[&new]);
    let reason = Lost::Distrusted(CloseReason::AnchorRemoved);
    assert_eq!(failure(tunnel).await, TunnelError::ConnectionLost(reason));
    assert_eq!(client.live.connections(), 0);
}

#[tokio::test]
async fn a_peer_that_is_not_permitted_any_more_may_finish_what_it_began() {
    let root = authority();
    let (server, client) = (Side::new(), Side::new());
    server.publish(&issue(&root, &ca::server()), &[&root]);
    client.publish(&issue(&root, &ca::client()), &[&root]);
    let (addr, events, scope) = server.listen(PeerPolicy::exact(ca::client())).await;
    let open = client.pool();
    let mut tunnel = open(addr).await;
    scope.set_policy(PeerPolicy::exact(ca::waypoint()));
    while events.count(|event| matches!(event, Event::DrainStarted { .. })) == 0 {
        tokio::task::yield_now().await;
    }
    echoes(&mut tunnel).await;
    assert_eq!(tunnel.read_chunk().await, Ok(None));
    // Nothing else is open, so that the drain is over.
    while events.count(|event| matches!(event, Event::ConnectionClosed { lost: None, .. })) == 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_listener_without_an_identity_closes_what_comes_until_it_has_one() {
    let root = authority();
    let (server, client) = (Side::new(), Side::new());
    client.publish(&issue(&root, &ca::client()), &[&root]);
    let (addr, events, _scope) = server.listen(PeerPolicy::exact(ca::client())).await;
    let tls = client
        .identities
        .client(None, &PeerPolicy::exact(ca::server()))
        .unwrap();
    let refused = async || hbone::tls::dial(addr, &tls, &crate::engine::config()).await.is_err();
    assert!(refused().await);
    server.publish(&issue(&root, &ca::server()), &[&root]);
    assert!(!refused().await);
    server.publisher.withdraw(SourceEnded);
    assert!(refused().await);
    let without = events.count(|event| matches!(event, Event::IdentityUnavailable { .. }));
    assert_eq!(without, 2);
}
