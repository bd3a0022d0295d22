//! Peers that are refused: each with one line, and none with an effect on others' tunnels.

use std::process::Command;
use std::sync::Arc;

use hbone::Config;
use mesh_identity::PeerPolicy;
use mesh_identity::tls::ClientTls;
use mesh_testkit::ca::{client, server, stranger, waypoint};
use mesh_testkit::peer::RawClient;
use rustls::ClientConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::pair::Served;
use crate::world::{App, NoCertificate, Pki, Process, free_addr, hbone_cat, soon};

/// A server, an echo, and a tunnel to it that stays open all the time.
struct Bystander {
    served: Served,
    echo: App,
    tunnel: TcpStream,
    _client: Process,
}

impl Bystander {
    async fn start() -> Self {
        let (served, echo) = (Served::start().await, App::echo().await);
        let client = served.listen(echo.addr).await;
        let mut bystander = Self {
            tunnel: client.connect().await,
            _client: client.process,
            served,
            echo,
        };
        bystander.is_unharmed().await;
        bystander
    }

    async fn is_unharmed(&mut self) {
        self.tunnel.write_all(b"still there?").await.unwrap();
        let mut answer = [0; 12];
        soon("echo", self.tunnel.read_exact(&mut answer)).await.unwrap();
        assert_eq!(&answer, b"still there?");
    }

    /// Runs a client that has to fail with one line that contains `text`.
    async fn client_fails(&mut self, command: &mut Command, text: &str) {
        let (code, lines) = Process::start(command).end().await;
        assert_eq!((code, lines.len()), (Some(1), 1), "{lines:?}");
        assert!(
            lines[0].starts_with("hbone-cat: ") && lines[0].contains(text),
            "{lines:?}"
        );
        self.is_unharmed().await;
    }

    async fn server_says(&mut self, text: &str) {
        let line = self.served.server.says(text).await;
        assert!(line.contains("refused"), "{line}");
        self.is_unharmed().await;
    }

    async fn tcp(&self) -> TcpStream {
        TcpStream::connect(self.served.addr).await.unwrap()
    }

    fn tls(&self) -> ClientTls {
        let mesh = &self.served.pki.mesh;
        mesh.client_tls(&client(), PeerPolicy::exact(server()))
    }
}

#[tokio::test]
async fn a_client_of_another_trust_domain() {
    let mut bystander = Bystander::start().await;
    // It has the roots of the server's trust domain, but not the other way round.
    let files = bystander.served.pki.issue(&stranger());
    let mut command = bystander.served.dial_as(&files, bystander.echo.addr);
    let home = bystander.served.client_files.roots.display();
    command.args(["--roots", &format!("cluster.local={home}")]);
    bystander.client_fails(&mut command, "refused with TLS alert").await;
    bystander.server_says("other.example").await;
}

#[tokio::test]
async fn a_client_that_is_not_allowed() {
    let mut bystander = Bystander::start().await;
    let files = bystander.served.pki.issue(&waypoint());
    let mut command = bystander.served.dial_as(&files, bystander.echo.addr);
    bystander.client_fails(&mut command, "refused with TLS alert").await;
    let reason = format!(
        "peer `{}` is not permitted: it is none of the expected peers",
        waypoint()
    );
    bystander.server_says(&reason).await;
}

#[tokio::test]
async fn a_server_that_is_not_the_expected_one() {
    let mut bystander = Bystander::start().await;
    let mut command = hbone_cat("dial", &bystander.served.client_files);
    command.args(["--peer", &bystander.served.addr.to_string()]);
    command.args([
        "--target",
        &bystander.echo.addr.to_string(),
        "--expect",
        &waypoint().to_string(),
    ]);
    let reason = format!("peer `{}` is not permitted: it is none of the expected peers", server());
    bystander.client_fails(&mut command, &reason).await;
    bystander.server_says("TLS alert").await;
}

#[tokio::test]
async fn a_client_without_a_certificate() {
    let mut bystander = Bystander::start().await;
    let mut config = ClientConfig::clone(&bystander.tls().config());
    config.client_auth_cert_resolver = Arc::new(NoCertificate);
    // A client learns only afterwards that its certificate was missed.
    let mut stream = shake_hands(&bystander, config).await.unwrap();
    let error = soon("alert", stream.read_u8()).await.unwrap_err();
    assert!(error.to_string().contains("CertificateRequired"), "{error}");
    bystander.server_says("the peer presented no certificate").await;
}

#[tokio::test]
async fn a_client_with_another_protocol() {
    for protocols in [vec![b"http/1.1".to_vec()], vec![]] {
        let mut bystander = Bystander::start().await;
        let mut config = ClientConfig::clone(&bystander.tls().config());
        config.alpn_protocols = protocols;
        // Without a list there is nothing to disagree with until the server looks.
        if let Ok(mut stream) = shake_hands(&bystander, config).await {
            assert!(soon("close", stream.read_u8()).await.is_err());
        }
        bystander
            .server_says("the peer did not agree to application protocol `h2`")
            .await;
    }
}

#[tokio::test]
async fn a_client_in_the_clear() {
    let mut bystander = Bystander::start().await;
    let mut tcp = bystander.tcp().await;
    tcp.write_all(b"GET / HTTP/1.1\r\nHost: server\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    // An alert, if anything.
    drop(soon("close", tcp.read_to_end(&mut answer)).await);
    assert!(!answer.starts_with(b"HTTP"));
    bystander.server_says("the peer does not speak TLS").await;
}

#[tokio::test]
async fn malformed_connects() {
    let connect = (":method", "CONNECT");
    for fields in [
        &[
            (":method", "GET"),
            (":scheme", "https"),
            (":path", "/"),
            (":authority", "127.0.0.1:80"),
        ][..],
        &[connect, (":authority", "127.0.0.1")],
        &[connect, (":authority", "user@127.0.0.1:80")],
        &[connect, (":authority", "127.0.0.1:0")],
        &[connect, (":authority", "127.0.0.1:80"), ("content-length", "5")],
    ] {
        let mut bystander = Bystander::start().await;
        let (stream, _) = hbone::tls::connect(bystander.tcp().await, &bystander.tls(), &Config::default())
            .await
            .unwrap();
        let mut peer = RawClient::new(stream);
        peer.handshake().await;
        let stream = peer.request(fields).await;
        assert_eq!(peer.expect_headers(stream).await.fields.status(), 400, "{fields:?}");
        bystander.server_says("tunnel refused").await;
    }
}

#[tokio::test]
async fn connections_without_a_tunnel_are_reset() {
    let bystander = Bystander::start().await;
    let client = bystander.served.listen(free_addr()).await;
    client.is_reset().await;
    let line = client.process.says("no tunnel").await;
    assert!(line.contains("peer refused the tunnel with status 503"), "{line}");
}

#[tokio::test]
async fn other_trust_domains_may_be_admitted() {
    let pki = Pki::new();
    let files = pki.issue(&stranger());
    let roots = format!("other.example={}", files.roots.display());
    let mut served = Served::start_in(pki, |server| {
        server.args(["--roots", &roots, "--allow", "spiffe://other.example/*"]);
    })
    .await;
    let echo = App::echo().await;
    let home = format!("cluster.local={}", served.client_files.roots.display());
    served.client_files = files;
    let client = served
        .listen_with(echo.addr, |client| {
            client.args(["--roots", &home]);
        })
        .await;
    client.exchange(1000).await;
}

#[tokio::test]
async fn an_unreachable_server() {
    let mut bystander = Bystander::start().await;
    let mut command = hbone_cat("dial", &bystander.served.client_files);
    command.args(["--peer", &free_addr().to_string()]);
    command.args(["--target", "app:80", "--expect", &server().to_string()]);
    bystander
        .client_fails(&mut command, "TCP connect failed: Connection refused")
        .await;
}

async fn shake_hands(
    bystander: &Bystander,
    config: ClientConfig,
) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let connector = TlsConnector::from(Arc::new(config));
    let tcp = bystander.tcp().await;
    soon("handshake", connector.connect(bystander.tls().server_name(), tcp)).await
}
