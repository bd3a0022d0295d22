//! Our client at Envoy's server.

use std::net::SocketAddr;
use std::sync::Arc;

use hbone::tls::{DialError, dial};
use hbone::{Config, OpenError, RefusalKind, TunnelRequest, TunnelStream};
use mesh_identity::tls::HandshakeError;
use mesh_identity::{PeerPolicy, SpiffeId};
use mesh_testkit::ca::{client, server, stranger, waypoint};
use rustls::{AlertDescription, ClientConfig};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use crate::envoy::Envoy;
use crate::world::{
    App, NoCertificate, Pki, Process, exchange, free_addr, half_close_first, hbone_cat, receive_last_words, soon,
};

/// Envoy, and the address in front of it where `hbone-cat` takes connections to the application.
struct Peer {
    pki: Pki,
    envoy: Envoy,
    app: SocketAddr,
    closed: SocketAddr,
}

impl Peer {
    async fn start(app: SocketAddr) -> Self {
        let (pki, closed) = (Pki::new(), free_addr());
        let envoy = Envoy::server(&pki.issue(&server()), app, closed).await;
        Self {
            pki,
            envoy,
            app,
            closed,
        }
    }

    /// Where `hbone-cat` takes connections for tunnels to the application.
    async fn captured(&self) -> (Process, SocketAddr) {
        let mut command = hbone_cat("dial", &self.pki.issue(&client()));
        command.args([
            "--peer",
            &self.envoy.addr.to_string(),
            "--target",
            &self.app.to_string(),
        ]);
        command.args(["--expect", &server().to_string(), "--listen", "127.0.0.1:0"]);
        let mut process = Process::start(&mut command);
        let addr = process.ready_at("listen").await;
        (process, addr)
    }

    async fn open(&self, identity: &SpiffeId, target: &str) -> Result<TunnelStream, OpenError> {
        let tls = self.pki.mesh.client_tls(identity, PeerPolicy::exact(server()));
        let (client, connection) = dial(self.envoy.addr, &tls, &Config::default()).await.unwrap();
        let mut driver = JoinSet::new();
        driver.spawn(connection);
        client.open(TunnelRequest::new(target.parse().unwrap())).await
    }

    async fn refusal(&self, identity: &SpiffeId, target: &str) -> (u16, RefusalKind) {
        match self.open(identity, target).await {
            Err(OpenError::Refused(refusal)) => (refusal.status().as_u16(), refusal.kind()),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn five_megabytes_cross_each_way() {
    let echo = App::echo().await;
    let peer = Peer::start(echo.addr).await;
    let (_client, addr) = peer.captured().await;
    exchange(TcpStream::connect(addr).await.unwrap(), 1, 5_000_000).await;
    let line = peer.envoy.says("TUNNEL").await;
    for part in [
        &format!("authority={}", echo.addr),
        "status=200 flags=- ",
        &format!("peer={}", client()),
        "received=5000000 sent=5000000 tls=TLSv1.3",
    ] {
        assert!(line.contains(part), "{part} is not in {line}");
    }
}

#[tokio::test]
async fn fifty_connections_share_one() {
    let echo = App::echo().await;
    let peer = Peer::start(echo.addr).await;
    let (_client, addr) = peer.captured().await;
    let mut connections = JoinSet::new();
    for seed in 0..50 {
        connections.spawn(exchange(TcpStream::connect(addr).await.unwrap(), seed, 100_000));
    }
    soon("fifty exchanges", connections.join_all()).await;
    assert_eq!(peer.envoy.stat("listener.tunnels.ssl.handshake").await, 1);
    assert_eq!(peer.envoy.stat("http.tunnels.downstream_cx_http2_total").await, 1);
    assert_eq!(peer.envoy.stat("http.tunnels.downstream_rq_total").await, 50);
    assert_eq!(peer.envoy.stat("http.tunnels.downstream_rq_2xx").await, 50);
    assert_eq!(peer.envoy.stat("http.tunnels.downstream_rq_rx_reset").await, 0);
}

#[tokio::test]
async fn the_application_may_speak_after_our_end() {
    let app = App::listener_first().await;
    let peer = Peer::start(app.addr).await;
    let (_client, addr) = peer.captured().await;
    half_close_first(TcpStream::connect(addr).await.unwrap()).await;
    let line = peer.envoy.says("TUNNEL").await;
    assert!(line.contains("status=200 flags=- "), "{line}");
}

/// Envoy's server gives a tunnel up once the application has ended its side: after END_STREAM comes
/// RST_STREAM with NO_ERROR, which takes nothing away from what was sent.
#[tokio::test]
async fn the_applications_end_comes_after_all_its_bytes() {
    let app = App::talkative().await;
    let peer = Peer::start(app.addr).await;
    let (mut client, addr) = peer.captured().await;
    receive_last_words(TcpStream::connect(addr).await.unwrap()).await;
    peer.envoy.says("TUNNEL").await;
    client.terminate();
    let (code, stderr) = client.end().await;
    assert_eq!((code, stderr.len()), (Some(0), 1), "{stderr:?}");
}

#[tokio::test]
async fn a_denied_identity_is_403() {
    let echo = App::echo().await;
    let peer = Peer::start(echo.addr).await;
    let refusal = peer.refusal(&waypoint(), &echo.addr.to_string()).await;
    assert_eq!(refusal, (403, RefusalKind::Denied));
    let line = peer.envoy.says("TUNNEL").await;
    assert!(line.contains("rbac_access_denied_matched_policy[denied]"), "{line}");
}

#[tokio::test]
async fn a_closed_port_is_503() {
    let peer = Peer::start(free_addr()).await;
    let refusal = peer.refusal(&client(), &peer.closed.to_string()).await;
    assert_eq!(refusal, (503, RefusalKind::Unavailable));
    let line = peer.envoy.says("TUNNEL").await;
    assert!(line.contains("flags=UF "), "{line}");
}

#[tokio::test]
async fn an_unknown_authority_is_404() {
    let peer = Peer::start(free_addr()).await;
    for target in ["10.9.9.9:80", "nobody.example:80"] {
        assert_eq!(
            peer.refusal(&client(), target).await,
            (404, RefusalKind::UnknownDestination)
        );
    }
    let line = peer.envoy.says("TUNNEL").await;
    assert!(line.contains("flags=NR "), "{line}");
}

#[tokio::test]
async fn a_certificate_of_another_trust_domain_is_refused() {
    let peer = Peer::start(free_addr()).await;
    let tls = peer.pki.mesh.client_tls(&stranger(), PeerPolicy::exact(server()));
    let error = dial(peer.envoy.addr, &tls, &Config::default()).await.unwrap_err();
    assert!(
        matches!(
            handshake(&error),
            Some(HandshakeError::Alert(AlertDescription::UnknownCA))
        ),
        "{error:?}"
    );
}

#[tokio::test]
async fn no_certificate_is_refused() {
    let peer = Peer::start(free_addr()).await;
    let tls = peer.pki.mesh.client_tls(&client(), PeerPolicy::exact(server()));
    let mut config = ClientConfig::clone(&tls.config());
    config.client_auth_cert_resolver = Arc::new(NoCertificate);
    let tcp = TcpStream::connect(peer.envoy.addr).await.unwrap();
    let connector = TlsConnector::from(Arc::new(config));
    // A client learns only afterwards that its certificate was missed.
    let mut stream = connector.connect(tls.server_name(), tcp).await.unwrap();
    let error = soon("alert", stream.read_u8()).await.unwrap_err();
    assert!(error.to_string().contains("CertificateRequired"), "{error}");
}

#[tokio::test]
async fn a_server_that_is_not_expected_gets_no_tunnel() {
    let peer = Peer::start(free_addr()).await;
    let tls = peer.pki.mesh.client_tls(&client(), PeerPolicy::exact(waypoint()));
    let error = dial(peer.envoy.addr, &tls, &Config::default()).await.unwrap_err();
    assert!(
        matches!(handshake(&error), Some(HandshakeError::Denied(denied)) if *denied.peer() == server()),
        "{error:?}"
    );
    assert_eq!(peer.envoy.stat("http.tunnels.downstream_rq_total").await, 0);
}

fn handshake(error: &DialError) -> Option<&HandshakeError> {
    match error {
        DialError::Tls(error) => error.handshake(),
        _ => None,
    }
}
