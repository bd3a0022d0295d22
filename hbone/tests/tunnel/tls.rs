//! Who may speak to whom, and what each side learns when it may not.

use hbone::Connection;
use hbone::client::Client;
use hbone::tls::{DialError, TlsError};
use mesh_identity::tls::{ClientTls, HandshakeError, ServerTls};
use mesh_identity::{PeerPolicy, SpiffeId};
use mesh_testkit::ca::{Mesh, client, server, stranger, waypoint};
use mesh_testkit::pipe::{self, Pipe};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use crate::pair::{background, echo, over, request, send_all};

/// What both sides of a handshake say: whom they saw, or why not.
type Seen = Result<SpiffeId, TlsError>;

async fn handshake(client: &ClientTls, server: &ServerTls) -> (Seen, Seen) {
    let (near, far) = pipe::pair();
    let config = crate::engine::config();
    let accepted = background({
        let (server, config) = (server.clone(), config.clone());
        async move {
            let (stream, peer) = hbone::tls::accept(far, &server, &config).await?;
            let id = peer.identity().unwrap().id().clone();
            // Held, so that the client's first read finds the server's last word.
            hbone::server::handshake(stream, peer, &config).await.ok();
            Ok(id)
        }
    });
    let connected = async {
        let (stream, peer) = hbone::tls::connect(near, client, &config).await?;
        let id = peer.identity().unwrap().id().clone();
        hear(stream).await?;
        Ok(id)
    };
    let seen = connected.await;
    (seen, accepted.await.unwrap())
}

/// TLS 1.3 tells a client that it was refused only after its own handshake: with the first read.
async fn hear(mut stream: hbone::tls::TlsStream<Pipe>) -> Result<(), TlsError> {
    stream.write_all(mesh_testkit::frames::PREFACE).await.ok();
    stream.flush().await.ok();
    match stream.read_u8().await {
        Ok(_) => Ok(()),
        Err(error) => Err(TlsError::Handshake(HandshakeError::from_io(&error))),
    }
}

#[tokio::test]
async fn identities_are_checked_on_both_sides_before_any_request() {
    let mesh = Mesh::new();
    let any = PeerPolicy::any_authenticated;
    let id = |id: &SpiffeId| PeerPolicy::exact(id.clone());
    let matrix = [
        // Who, meaning to reach whom; who, admitting whom; whether they meet.
        (client(), id(&server()), server(), id(&client()), (true, true)),
        (client(), any(), server(), any(), (true, true)),
        (client(), id(&waypoint()), server(), id(&client()), (false, false)),
        (client(), id(&server()), server(), id(&waypoint()), (false, false)),
        (stranger(), id(&server()), server(), id(&client()), (false, false)),
        (stranger(), id(&server()), server(), id(&stranger()), (true, true)),
        (client(), id(&server()), stranger(), id(&client()), (false, false)),
    ];
    for (who, reaches, whom, admits, (client_sees, server_sees)) in matrix {
        let case = format!("{who} to {whom}");
        let client_tls = mesh.client_tls(&who, reaches);
        let server_tls = mesh.server_tls(&whom, admits);
        let (near, far) = handshake(&client_tls, &server_tls).await;
        assert_eq!(near.as_ref().ok(), client_sees.then_some(&whom), "{case}: {near:?}");
        assert_eq!(far.as_ref().ok(), server_sees.then_some(&who), "{case}: {far:?}");
        for error in [near.err(), far.err()].into_iter().flatten() {
            assert!(matches!(error, TlsError::Handshake(_)), "{case}: {error:?}");
            assert!(!error.to_string().contains('\n'), "{case}: {error}");
        }
    }
}

#[tokio::test]
async fn a_trust_domain_that_is_not_believed_is_refused_by_whoever_does_not() {
    let mesh = Mesh::new();
    let strange = mesh.client_tls(&stranger(), PeerPolicy::any_authenticated());
    let narrow = ServerTls::builder(mesh.provider())
        .identity(mesh.svid(&server()))
        .trust(mesh.home_trust())
        .authorize(PeerPolicy::any_authenticated())
        .build()
        .unwrap();
    let (near, far) = handshake(&strange, &narrow).await;
    assert!(near.is_err() && far.is_err(), "{near:?} {far:?}");
    let other = Mesh::new().server_tls(&server(), PeerPolicy::any_authenticated());
    let (near, far) = handshake(&mesh.client_tls(&client(), PeerPolicy::any_authenticated()), &other).await;
    assert!(near.is_err() && far.is_err(), "{near:?} {far:?}");
}

/// Dials with a TLS configuration that the library would not make; answers what the server says.
async fn odd_client(change: impl FnOnce(&mut rustls::ClientConfig)) -> TlsError {
    let (client_tls, server_tls) = Mesh::new().tls_pair();
    let mut odd = rustls::ClientConfig::clone(&client_tls.config());
    change(&mut odd);
    let (near, far) = pipe::pair();
    let connecting = background(async move {
        let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(odd));
        let mut stream = connector.connect(client_tls.server_name(), near).await?;
        stream.read_u8().await
    });
    let refused = hbone::tls::accept(far, &server_tls, &crate::engine::config())
        .await
        .unwrap_err();
    connecting.await.unwrap().expect_err("the client is told");
    refused
}

/// A client that has no identity to show.
#[derive(Debug)]
struct Nobody;

impl rustls::client::ResolvesClientCert for Nobody {
    fn resolve(
        &self,
        _: &[&[u8]],
        _: &[rustls::SignatureScheme],
    ) -> Option<std::sync::Arc<rustls::sign::CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

#[tokio::test]
async fn a_client_without_certificate_is_refused() {
    let error = odd_client(|odd| {
        odd.client_auth_cert_resolver = std::sync::Arc::new(Nobody);
    });
    let error = error.await;
    assert_eq!(error.handshake(), Some(&HandshakeError::NoPeerCertificate));
    assert_eq!(error.blame(), hbone::Blame::Peer);
}

#[tokio::test]
async fn a_client_that_does_not_speak_http2_is_refused() {
    for protocols in [
        vec![b"http/1.1".to_vec()],
        vec![b"h2c".to_vec(), b"http/1.1".to_vec()],
        vec![],
    ] {
        let error = odd_client(|odd| odd.alpn_protocols = protocols).await;
        assert_eq!(error.handshake(), Some(&HandshakeError::NoApplicationProtocol));
        assert_eq!(error.blame(), hbone::Blame::Peer, "{error:?}");
    }
}

/// A TLS 1.2 ClientHello, as short as can be: with signature algorithms and no other extension.
fn hello_of_tls_1_2() -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend_from_slice(&[7; 32]);
    body.push(0);
    body.extend_from_slice(&[0, 2, 0xc0, 0x2b, 1, 0]);
    body.extend_from_slice(&[0, 8, 0, 13, 0, 4, 0, 2, 4, 3]);
    let mut hello = vec![1, 0, 0, body.len() as u8];
    hello.extend_from_slice(&body);
    let mut record = vec![22, 3, 1, 0, hello.len() as u8];
    record.extend_from_slice(&hello);
    record
}

#[tokio::test]
async fn what_is_no_tls_1_3_is_refused() {
    let (_, server_tls) = Mesh::new().tls_pair();
    let hello = hello_of_tls_1_2();
    let unsupported: fn(&HandshakeError) -> bool = |error| matches!(error, HandshakeError::Unsupported(_));
    let no_tls: fn(&HandshakeError) -> bool = |error| matches!(error, HandshakeError::NotTls);
    for (said, expected) in [
        (&hello[..], unsupported),
        (b"GET / HTTP/1.1\r\n\r\n", no_tls),
        (mesh_testkit::frames::PREFACE, no_tls),
        (&[0; 64], no_tls),
    ] {
        let (mut near, far) = pipe::pair();
        near.write_all(said).await.unwrap();
        let error = hbone::tls::accept(far, &server_tls, &crate::engine::config())
            .await
            .unwrap_err();
        assert!(expected(error.handshake().unwrap()), "{error:?}");
        assert_eq!(error.blame(), hbone::Blame::Peer, "{error:?}");
    }
}

#[tokio::test]
async fn a_client_refuses_a_server_that_speaks_plaintext() {
    let (client_tls, _) = Mesh::new().tls_pair();
    let (near, mut far) = pipe::pair();
    far.write_all(b"\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let error = hbone::tls::connect(near, &client_tls, &crate::engine::config())
        .await
        .unwrap_err();
    assert_eq!(error.handshake(), Some(&HandshakeError::NotTls));
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_drags_on_ends_at_its_deadline() {
    let (client_tls, server_tls) = Mesh::new().tls_pair();
    let mut config = crate::engine::config();
    config.set_handshake_timeout(Duration::from_secs(4));
    let start = Instant::now();
    let (mut near, far) = pipe::pair();
    let dripping = background(async move {
        while near.write_all(&[22]).await.is_ok() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });
    // The first byte is right, and the next ones are what a record that never ends looks like.
    let error = hbone::tls::accept(far, &server_tls, &config).await.unwrap_err();
    assert!(start.elapsed() <= Duration::from_millis(4_100), "{error:?}");
    dripping.abort();

    let start = Instant::now();
    let (near, _far) = pipe::pair();
    let error = hbone::tls::connect(near, &client_tls, &config).await.unwrap_err();
    assert!(matches!(error, TlsError::Timeout), "{error:?}");
    assert!(start.elapsed() <= Duration::from_millis(4_100));
}

async fn dialled(
    listener: &TcpListener,
    tls: &ClientTls,
) -> Result<(Client, Connection<hbone::tls::TlsStream<TcpStream>>), DialError> {
    hbone::tls::dial(listener.local_addr().unwrap(), tls, &crate::engine::config()).await
}

#[tokio::test]
async fn a_dial_says_which_step_failed_and_who_is_to_blame() {
    let mesh = Mesh::new();
    let (client_tls, _) = mesh.tls_pair();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();

    // A certificate that the server refuses is known before the first tunnel.
    let choosy = mesh.server_tls(&server(), PeerPolicy::exact(waypoint()));
    let refusing = async {
        let (tcp, _) = listener.accept().await.unwrap();
        hbone::tls::accept(tcp, &choosy, &crate::engine::config())
            .await
            .unwrap_err()
    };
    let (made, refused) = tokio::join!(dialled(&listener, &client_tls), refusing);
    let Err(DialError::Tls(error)) = made else {
        panic!("{made:?}")
    };
    assert!(
        matches!(refused.handshake(), Some(HandshakeError::Denied(_))),
        "{refused:?}"
    );
    assert!(matches!(error.handshake(), Some(HandshakeError::Alert(_))), "{error:?}");

    drop(listener);
    let made = hbone::tls::dial(addr, &client_tls, &crate::engine::config()).await;
    assert!(matches!(made, Err(DialError::Tcp(_))), "{made:?}");
}

#[tokio::test]
async fn a_tunnel_over_tls_knows_both_identities() {
    let (client_tls, server_tls) = Mesh::new().tls_pair();
    let config = crate::engine::config();
    let (near, far) = pipe::pair();
    let (near, far) = tokio::join!(
        hbone::tls::connect(near, &client_tls, &config),
        hbone::tls::accept(far, &server_tls, &config)
    );
    let ((near, server_peer), (far, client_peer)) = (near.unwrap(), far.unwrap());
    assert_eq!(server_peer.identity().unwrap().id(), &server());
    assert_eq!(client_peer.identity().unwrap().id(), &client());
    let pair = over(near, far, &config, echo).await;
    let mut stream = pair.client.open(request()).await.unwrap();
    send_all(&mut stream, b"secret").await;
    let mut got = Vec::new();
    stream.read_to_end(&mut got).await.unwrap();
    assert_eq!(got, b"secret");
    // An end with close_notify is an orderly one.
    drop(pair.client);
    assert_eq!(pair.client_end.await.unwrap(), Ok(()));
    assert_eq!(pair.server_end.await.unwrap(), Ok(()));
}
