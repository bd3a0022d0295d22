//! Envoy's client at our server.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use hbone::{Config, DeniedStatus, Event, IncomingTunnel, Listener, Observer, Rejection, TunnelResponse};
use mesh_identity::tls::HandshakeError;
use mesh_identity::{PeerPolicy, VerifyError};
use mesh_testkit::ca::{client, server, stranger};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::envoy::Envoy;
use crate::world::{
    App, Files, Pki, Process, eventually, exchange, free_addr, half_close_first, half_close_last, hbone_cat, soon,
};

/// `hbone-cat` as the server, and Envoy in front of it.
struct Served {
    server: Process,
    envoy: Envoy,
    _pki: Pki,
}

impl Served {
    async fn start(target: SocketAddr) -> Self {
        let pki = Pki::new();
        let mut command = hbone_cat("serve", &pki.issue(&server()));
        command.args(["--bind", "127.0.0.1:0", "--allow", &client().to_string()]);
        command.env("RUST_LOG", "debug");
        let mut process = Process::start(&mut command);
        let addr = process.ready_at("bind").await;
        let files = pki.issue(&client());
        let envoy = Envoy::client(Some(&files), &files.roots, addr, &target.to_string()).await;
        Self {
            server: process,
            envoy,
            _pki: pki,
        }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.envoy.addr).await.unwrap()
    }
}

#[tokio::test]
async fn five_megabytes_cross_each_way() {
    let echo = App::echo().await;
    let served = Served::start(echo.addr).await;
    exchange(served.connect().await, 1, 5_000_000).await;
    let line = served.envoy.says("CONNECTION").await;
    assert!(line.contains("flags=- "), "{line}");
    assert!(
        line.contains(&format!("peer={} received=5000000 sent=5000000", server())),
        "{line}"
    );
    let line = served.server.says("tunnel ended").await;
    assert!(line.contains("received=5000000 sent=5000000"), "{line}");
}

#[tokio::test]
async fn fifty_connections_share_one() {
    let echo = App::echo().await;
    let served = Served::start(echo.addr).await;
    let mut connections = JoinSet::new();
    for seed in 0..50 {
        connections.spawn(exchange(served.connect().await, seed, 100_000));
    }
    soon("fifty exchanges", connections.join_all()).await;
    let count = |event| {
        served
            .server
            .stderr()
            .iter()
            .filter(|line| line.contains(event))
            .count()
    };
    eventually("fifty ends", async || (count("tunnel ended") == 50).then_some(())).await;
    assert_eq!((count("ConnectionOpened"), count("TunnelOpened")), (1, 50));
    assert_eq!(served.envoy.stat("cluster.hbone.ssl.handshake").await, 1);
    assert_eq!(served.envoy.stat("cluster.hbone.upstream_cx_total").await, 1);
    assert_eq!(served.envoy.stat("cluster.hbone.upstream_rq_total").await, 50);
}

#[tokio::test]
async fn the_application_may_speak_after_the_clients_end() {
    let app = App::listener_first().await;
    let served = Served::start(app.addr).await;
    half_close_first(served.connect().await).await;
    served.server.says("tunnel ended").await;
}

#[tokio::test]
async fn the_client_may_speak_after_the_applications_end() {
    let (app, told) = App::speechless().await;
    let served = Served::start(app.addr).await;
    half_close_last(served.connect().await, told).await;
    served.server.says("tunnel ended").await;
}

#[tokio::test]
async fn a_closed_port_is_503() {
    let served = Served::start(free_addr()).await;
    assert_reset(served.connect().await).await;
    let line = served.envoy.says("CONNECTION").await;
    assert!(
        line.contains("flags=UF,URX") && line.contains("tunnel_response:503"),
        "{line}"
    );
}

#[tokio::test]
async fn a_denied_identity_is_401() {
    let pki = Pki::new();
    let ours = Ours::start(&pki, |tunnel| async move {
        tunnel.reject(Rejection::Denied(DeniedStatus::Unauthorized));
    })
    .await;
    let envoy = ours.envoy(&pki, Some(&pki.issue(&client()))).await;
    assert_reset(TcpStream::connect(envoy.addr).await.unwrap()).await;
    let line = envoy.says("CONNECTION").await;
    assert!(line.contains("tunnel_response:401"), "{line}");
}

#[tokio::test]
async fn the_server_sees_identity_authority_and_baggage() {
    let pki = Pki::new();
    let (tell, mut told) = mpsc::channel(1);
    let ours = Ours::start(&pki, move |tunnel: IncomingTunnel| {
        let tell = tell.clone();
        async move {
            let seen = (
                tunnel.peer().identity().unwrap().id().clone(),
                tunnel.request().authority().to_string(),
                tunnel.request().metadata().baggage().unwrap().to_string(),
            );
            tell.send(seen).await.unwrap();
        }
    })
    .await;
    let envoy = ours.envoy(&pki, Some(&pki.issue(&client()))).await;
    let _tcp = TcpStream::connect(envoy.addr).await.unwrap();
    let (peer, authority, baggage) = soon("tunnel", told.recv()).await.unwrap();
    assert_eq!((peer, authority.as_str()), (client(), "app.default:80"));
    for label in [
        "k8s.cluster.name=Kubernetes",
        "k8s.namespace.name=default",
        "k8s.deployment.name=client",
    ] {
        assert!(baggage.contains(label), "{baggage}");
    }
}

#[tokio::test]
async fn a_client_of_another_trust_domain_is_refused() {
    let pki = Pki::new();
    let ours = Ours::start(&pki, refuse_nobody).await;
    let envoy = ours.envoy(&pki, Some(&pki.issue(&stranger()))).await;
    assert_reset(TcpStream::connect(envoy.addr).await.unwrap()).await;
    let failure = ours.failure().await;
    assert!(
        matches!(failure, HandshakeError::Verify(VerifyError::UnknownTrustDomain { .. })),
        "{failure:?}"
    );
    let line = envoy.says("CONNECTION").await;
    assert!(line.contains("flags=UF,URX"), "{line}");
}

#[tokio::test]
async fn a_client_without_a_certificate_is_refused() {
    let pki = Pki::new();
    let ours = Ours::start(&pki, refuse_nobody).await;
    let envoy = ours.envoy(&pki, None).await;
    assert_reset(TcpStream::connect(envoy.addr).await.unwrap()).await;
    assert_eq!(ours.failure().await, HandshakeError::NoPeerCertificate);
    let line = envoy.says("CONNECTION").await;
    assert!(line.contains("flags=UF,URX"), "{line}");
}

/// The connection of an application that has said something fails, without an orderly end.
async fn assert_reset(mut tcp: TcpStream) {
    tcp.write_all(b"is anybody there?").await.unwrap();
    let end = soon("reset", tcp.read(&mut [0])).await;
    assert_eq!(end.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
}

async fn refuse_nobody(tunnel: IncomingTunnel) {
    drop(tunnel.accept(TunnelResponse::new()));
}

/// Our server in this process.
struct Ours {
    addr: SocketAddr,
    failures: Arc<Failures>,
    _task: JoinSet<()>,
}

impl Ours {
    async fn start<F, Fut>(pki: &Pki, handler: F) -> Self
    where
        F: Fn(IncomingTunnel) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let mesh = &pki.mesh;
        let tls = mesh_identity::tls::ServerTls::builder(mesh.provider())
            .identity(mesh.svid(&server()))
            .trust(mesh.home_trust())
            .authorize(PeerPolicy::any_authenticated())
            .build()
            .unwrap();
        let failures = Arc::new(Failures::default());
        let mut config = Config::default();
        config.set_observer(Arc::clone(&failures) as Arc<dyn Observer>);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let mut task = JoinSet::new();
        task.spawn(async move {
            Listener::new(tls, config)
                .serve(listener, handler, std::future::pending())
                .await;
        });
        Self {
            addr,
            failures,
            _task: task,
        }
    }

    async fn envoy(&self, pki: &Pki, identity: Option<&Files>) -> Envoy {
        let roots = pki.issue(&server()).roots;
        Envoy::client(identity, &roots, self.addr, "app.default:80").await
    }

    /// Waits for a handshake to fail.
    async fn failure(&self) -> HandshakeError {
        eventually("failed handshake", async || self.failures.0.lock().unwrap().pop()).await
    }
}

#[derive(Default)]
struct Failures(Mutex<Vec<HandshakeError>>);

impl Observer for Failures {
    fn event(&self, event: &Event) {
        if let Event::TlsFailed { error: Some(error), .. } = event {
            self.0.lock().unwrap().push(error.clone());
        }
    }
}
