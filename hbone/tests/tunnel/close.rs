//! How tunnels end, with real sockets behind them: RFC 9113 §8.5.
//!
//! These tests run in real time, because sockets do; none waits for time to pass.

use std::io::ErrorKind;
use std::time::Duration;

use hbone::{
    Client, CopyAbort, CopyOutcome, ErrorCode, IncomingTunnel, ResetReason, TunnelError, TunnelResponse,
    copy_bidirectional,
};
use mesh_testkit::frames::{Frame, Kind, Reason};
use mesh_testkit::hpack::Block;
use mesh_testkit::payload::Payload;
use mesh_testkit::peer::{RawClient, RawServer};
use mesh_testkit::pipe::{self, Cut, Direction, PipeControl};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};

use crate::pair::{Pair, background, pair, piped, request};
use crate::raw::{Dialled, dialled, dialled_as, served};

const MIB: usize = 1 << 20;

/// An application's socket, and the one that it is connected to.
async fn sockets() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (app, accepted) = tokio::join!(TcpStream::connect(addr), listener.accept());
    (app.unwrap(), accepted.unwrap().0)
}

fn reset(app: TcpStream) {
    SockRef::from(&app).set_linger(Some(Duration::ZERO)).unwrap();
    drop(app);
}

/// Reads until the end: `Err` is a reset.
async fn read_all(app: &mut TcpStream) -> Result<Vec<u8>, (Vec<u8>, ErrorKind)> {
    let mut got = Vec::new();
    match app.read_to_end(&mut got).await {
        Ok(_) => Ok(got),
        Err(error) => Err((got, error.kind())),
    }
}

async fn is_reset(app: &mut TcpStream) {
    let (_, kind) = read_all(app).await.expect_err("an abort must not look like an end");
    assert_eq!(kind, ErrorKind::ConnectionReset);
}

/// A TCP connection on each side of a tunnel, as two proxies make it.
struct Relay {
    client_app: TcpStream,
    server_app: TcpStream,
    client_copy: oneshot::Receiver<CopyOutcome>,
    server_copy: mpsc::Receiver<CopyOutcome>,
    pair: Pair,
}

/// A handler that copies to the sockets it is given, one for each tunnel.
fn copying(sockets: mpsc::Receiver<TcpStream>, outcomes: mpsc::Sender<CopyOutcome>) -> impl hbone::Handler {
    let sockets = std::sync::Arc::new(tokio::sync::Mutex::new(sockets));
    move |tunnel: IncomingTunnel| {
        let (sockets, outcomes) = (sockets.clone(), outcomes.clone());
        async move {
            let socket = sockets.lock().await.recv().await.unwrap();
            let outcome = copy_bidirectional(socket, tunnel.accept(TunnelResponse::new())).await;
            outcomes.send(outcome).await.ok();
        }
    }
}

async fn copied(client: &Client) -> (TcpStream, oneshot::Receiver<CopyOutcome>) {
    let (app, inner) = sockets().await;
    let stream = client.open(request()).await.unwrap();
    let (done, outcome) = oneshot::channel();
    background(async move { done.send(copy_bidirectional(inner, stream).await).ok() });
    (app, outcome)
}

async fn relay() -> (Relay, PipeControl) {
    let (socket, sockets_of_handler) = mpsc::channel(1);
    let (outcome, server_copy) = mpsc::channel(1);
    let pipe = pipe::Builder::new().record(32 * MIB);
    let (pair, control) = piped(pipe, &crate::engine::config(), copying(sockets_of_handler, outcome)).await;
    let (server_app, inner) = sockets().await;
    socket.send(inner).await.unwrap();
    let (client_app, client_copy) = copied(&pair.client).await;
    let relay = Relay {
        client_app,
        server_app,
        client_copy,
        server_copy,
        pair,
    };
    (relay, control)
}

/// A copied tunnel to a scripted server, and its stream.
async fn dialled_copy(dialled: &mut Dialled) -> ((TcpStream, oneshot::Receiver<CopyOutcome>), u32) {
    let client = dialled.client.clone();
    tokio::join!(copied(&client), dialled.accept())
}

/// Resets on the wire in a direction.
fn resets(control: &PipeControl, direction: Direction) -> Vec<Reason> {
    let frames = Frame::decode_all(&control.recording(direction));
    let resets = frames.iter().filter(|frame| frame.kind == Kind::RST_STREAM);
    resets.map(Frame::reason).collect()
}

/// Sends and ends, then sends a mebibyte the other way.
async fn half_close(first: &mut TcpStream, second: &mut TcpStream) {
    first.write_all(b"that is all").await.unwrap();
    first.shutdown().await.unwrap();
    assert_eq!(read_all(second).await.unwrap(), b"that is all");
    let sent = Payload::new(1).take(MIB);
    let write = async {
        second.write_all(&sent).await.unwrap();
        second.shutdown().await.unwrap();
    };
    let (got, ()) = tokio::join!(read_all(first), write);
    assert!(got.unwrap() == sent);
}

async fn ended_in_order(relay: Relay, control: &PipeControl, (up, down): (u64, u64)) {
    let Relay {
        client_copy,
        mut server_copy,
        ..
    } = relay;
    let (client, server) = (client_copy.await.unwrap(), server_copy.recv().await.unwrap());
    assert!(client.abort.is_none() && server.abort.is_none());
    assert_eq!((client.to_tunnel, client.to_tcp), (up, down));
    assert_eq!((server.to_tcp, server.to_tunnel), (up, down));
    for direction in Direction::BOTH {
        assert_eq!(resets(control, direction), []);
    }
}

#[tokio::test]
async fn a_mebibyte_after_the_clients_end_arrives_whole() {
    let (mut relay, control) = relay().await;
    half_close(&mut relay.client_app, &mut relay.server_app).await;
    ended_in_order(relay, &control, (11, MIB as u64)).await;
}

#[tokio::test]
async fn a_mebibyte_after_the_servers_end_arrives_whole() {
    let (mut relay, control) = relay().await;
    half_close(&mut relay.server_app, &mut relay.client_app).await;
    ended_in_order(relay, &control, (MIB as u64, 11)).await;
}

#[tokio::test]
async fn a_reset_of_the_clients_application_reaches_the_servers() {
    let (mut relay, control) = relay().await;
    relay.client_app.write_all(b"x").await.unwrap();
    assert_eq!(relay.server_app.read_u8().await.unwrap(), b'x');
    reset(relay.client_app);
    is_reset(&mut relay.server_app).await;
    assert_eq!(resets(&control, Direction::LeftToRight), [Reason::CONNECT_ERROR]);
    let client = relay.client_copy.await.unwrap();
    assert!(matches!(client.abort, Some(CopyAbort::Tcp(_))), "{client:?}");
    let server = relay.server_copy.recv().await.unwrap();
    let Some(CopyAbort::Tunnel(TunnelError::Reset(reset))) = server.abort else {
        panic!("{server:?}")
    };
    assert_eq!(reset.reason(), ResetReason::Aborted);
}

#[tokio::test]
async fn a_reset_of_the_servers_application_reaches_the_clients() {
    let (mut relay, control) = relay().await;
    relay.server_app.write_all(b"x").await.unwrap();
    assert_eq!(relay.client_app.read_u8().await.unwrap(), b'x');
    reset(relay.server_app);
    is_reset(&mut relay.client_app).await;
    assert_eq!(resets(&control, Direction::RightToLeft), [Reason::CONNECT_ERROR]);
}

#[tokio::test]
async fn a_reset_after_one_sides_end_still_reaches_the_other() {
    let (mut relay, control) = relay().await;
    relay.server_app.shutdown().await.unwrap();
    assert_eq!(read_all(&mut relay.client_app).await.unwrap(), b"");
    reset(relay.client_app);
    // Its own end was sent in order; what comes is the reset of the other direction.
    let outcome = relay.server_copy.recv().await.unwrap();
    assert!(matches!(outcome.abort, Some(CopyAbort::Tunnel(_))), "{outcome:?}");
    is_reset(&mut relay.server_app).await;
    assert_eq!(resets(&control, Direction::LeftToRight), [Reason::CONNECT_ERROR]);
}

#[tokio::test]
async fn a_reset_is_noticed_while_the_tunnel_takes_nothing() {
    let habits = |peer: RawServer<_>| peer.without_window_updates();
    let mut dialled = dialled_as(pipe::Builder::new(), habits, &crate::engine::config()).await;
    let ((mut app, outcome), request) = dialled_copy(&mut dialled).await;
    // More than window and queues hold, so that the copy stops reading while these are filled.
    let filled = async {
        while dialled.control.stats(Direction::LeftToRight).written < 65_535 {
            dialled.peer.ping().await;
        }
        for _ in 0..100 {
            dialled.peer.ping().await;
        }
    };
    let flood = vec![0; 64 * MIB];
    tokio::select! {
        _ = app.write_all(&flood) => panic!("nothing takes so much"),
        () = filled => {}
    }
    reset(app);
    let told = dialled
        .peer
        .expect_frame("RST_STREAM behind the data", |frame| frame.kind == Kind::RST_STREAM);
    let (outcome, told) = tokio::join!(outcome, told);
    assert_eq!(told.frame.reason(), Reason::CONNECT_ERROR);
    assert_eq!(told.frame.stream, request);
    assert!(matches!(outcome.unwrap().abort, Some(CopyAbort::Tcp(_))));
}

#[tokio::test]
async fn a_reset_after_the_applications_end_is_noticed_before_it_is_sent_to() {
    let mut dialled = dialled(&crate::engine::config()).await;
    let ((mut app, outcome), request) = dialled_copy(&mut dialled).await;
    app.shutdown().await.unwrap();
    dialled.peer.read_to_end(request).await;
    reset(app);
    let (outcome, ()) = tokio::join!(outcome, dialled.peer.expect_rst(request, Reason::CONNECT_ERROR));
    assert!(matches!(outcome.unwrap().abort, Some(CopyAbort::Tcp(_))));
}

#[tokio::test]
async fn an_application_that_closes_while_it_is_sent_to_resets_its_sender() {
    let (mut relay, control) = relay().await;
    drop(relay.server_app);
    let chunk = vec![0; 65_536];
    while relay.client_app.write_all(&chunk).await.is_ok() {}
    relay.server_copy.recv().await.unwrap();
    assert_eq!(resets(&control, Direction::RightToLeft), [Reason::CONNECT_ERROR]);
}

#[tokio::test]
async fn a_lost_connection_resets_both_applications() {
    for cut in [Cut::Reset, Cut::Eof] {
        let (mut relay, control) = relay().await;
        relay.client_app.write_all(b"x").await.unwrap();
        assert_eq!(relay.server_app.read_u8().await.unwrap(), b'x');
        control.cut(cut);
        is_reset(&mut relay.client_app).await;
        is_reset(&mut relay.server_app).await;
        assert!(relay.pair.client_end.await.unwrap().is_err(), "{cut:?}");
        assert!(relay.pair.server_end.await.unwrap().is_err(), "{cut:?}");
    }
}

#[cfg(feature = "tls")]
#[tokio::test]
async fn a_connection_cut_without_close_notify_resets_both_applications() {
    let (client_tls, server_tls) = mesh_testkit::ca::Mesh::new().tls_pair();
    for cut in [Cut::Reset, Cut::Eof] {
        let config = crate::engine::config();
        let (near, far) = pipe::pair();
        let control = near.control();
        let (near, far) = tokio::join!(
            hbone::tls::connect(near, &client_tls, &config),
            hbone::tls::accept(far, &server_tls, &config)
        );
        let (socket, sockets_of_handler) = mpsc::channel(1);
        let (outcome, _outcomes) = mpsc::channel(1);
        let handler = copying(sockets_of_handler, outcome);
        let pair = crate::pair::over(near.unwrap().0, far.unwrap().0, &config, handler).await;
        let (mut server_app, inner) = sockets().await;
        socket.send(inner).await.unwrap();
        let (mut client_app, _outcome) = copied(&pair.client).await;
        client_app.write_all(b"x").await.unwrap();
        assert_eq!(server_app.read_u8().await.unwrap(), b'x');
        control.cut(cut);
        is_reset(&mut client_app).await;
        is_reset(&mut server_app).await;
    }
}

#[tokio::test]
async fn a_reset_after_complete_delivery_is_no_abort() {
    let mut dialled = dialled(&crate::engine::config()).await;
    let (app, request) = dialled_copy(&mut dialled).await;
    let (mut app, outcome) = app;
    let sent = Payload::new(2).take(MIB);
    let peer = async {
        dialled.peer.send_all(request, sent.clone()).await;
        dialled.peer.end(request).await;
        dialled.peer.reset(request, Reason::NO_ERROR).await;
        dialled.peer.ping().await;
    };
    let (got, ()) = tokio::join!(read_all(&mut app), peer);
    assert!(got.unwrap() == sent);
    // The application is not disturbed in what it still says, for a while at least.
    app.write_all(b"nobody reads this").await.unwrap();
    app.shutdown().await.unwrap();
    let outcome = outcome.await.unwrap();
    assert!(outcome.abort.is_none(), "{outcome:?}");
}

#[tokio::test]
async fn an_application_that_is_still_sending_gets_the_whole_answer_and_a_clean_end() {
    let habits = |peer: RawServer<_>| peer.without_window_updates();
    let mut dialled = dialled_as(pipe::Builder::new(), habits, &crate::engine::config()).await;
    let ((app, outcome), request) = dialled_copy(&mut dialled).await;
    let (mut read, mut write) = app.into_split();
    // Far more than the window takes, so that much of it stays in the socket unread.
    let sending = background(async move {
        let mut sent = 0;
        while sent < 64 * MIB {
            match write.write(&[0; 65_536]).await {
                Ok(n) => sent += n,
                Err(_) => break,
            }
        }
        write
    });
    while dialled.control.stats(Direction::LeftToRight).written < 65_535 {
        dialled.peer.ping().await;
    }
    let answer = Payload::new(3).take(60_000);
    dialled.peer.send_all(request, answer.clone()).await;
    dialled.peer.end(request).await;
    dialled.peer.reset(request, Reason::NO_ERROR).await;
    dialled.peer.ping().await;
    let mut got = Vec::new();
    read.read_to_end(&mut got)
        .await
        .expect("an end must not look like an abort");
    assert!(got == answer);
    let outcome = outcome.await.unwrap();
    assert!(outcome.abort.is_none(), "{outcome:?}");
    sending.abort();
}

#[tokio::test]
async fn any_other_reset_after_the_end_is_an_abort_of_what_was_not_sent() {
    let mut dialled = dialled(&crate::engine::config()).await;
    let (app, request) = dialled_copy(&mut dialled).await;
    let (mut app, outcome) = app;
    let peer = async {
        dialled.peer.send_data(request, "all of it").await;
        dialled.peer.end(request).await;
        dialled.peer.reset(request, Reason::CONNECT_ERROR).await;
        dialled.peer.ping().await;
    };
    let (got, ()) = tokio::join!(read_all(&mut app), peer);
    assert_eq!(got.unwrap(), b"all of it");
    app.shutdown().await.unwrap();
    let outcome = outcome.await.unwrap();
    assert!(matches!(outcome.abort, Some(CopyAbort::Tunnel(_))), "{outcome:?}");
}

/// Header blocks that a tunnel cannot carry.
fn blocks(stream: u32) -> [(&'static str, Frame); 3] {
    let block = |name: &str| Frame::headers(stream, Block::new().field(name, "200")).end_headers();
    [
        ("trailers", block("x-trailer").end_stream()),
        ("headers", block("x-header")),
        ("trailers with a pseudo-header", block(":status").end_stream()),
    ]
}

#[tokio::test]
async fn trailers_from_the_server_reset_the_tunnel_and_the_application() {
    for n in 0..3 {
        let mut dialled = dialled(&crate::engine::config()).await;
        let (app, request) = dialled_copy(&mut dialled).await;
        let (mut app, _outcome) = app;
        let (name, frame) = blocks(request)[n].clone();
        dialled.peer.send_data(request, "some").await;
        dialled.peer.send(frame).await;
        dialled.peer.expect_rst(request, Reason::PROTOCOL_ERROR).await;
        assert!(read_all(&mut app).await.is_err(), "{name}");
    }
}

#[tokio::test]
async fn trailers_from_the_client_reset_the_tunnel_and_the_application() {
    for n in 0..3 {
        let (socket, sockets_of_handler) = mpsc::channel(1);
        let (outcome, _outcomes) = mpsc::channel(1);
        let mut served = served(&crate::engine::config(), copying(sockets_of_handler, outcome)).await;
        let (mut app, inner) = sockets().await;
        socket.send(inner).await.unwrap();
        let tunnel = served.peer.connect("10.0.0.1:80").await;
        served.peer.expect_headers(tunnel).await;
        let (name, frame) = blocks(tunnel)[n].clone();
        served.peer.send_data(tunnel, "some").await;
        served.peer.send(frame).await;
        served.peer.expect_rst(tunnel, Reason::PROTOCOL_ERROR).await;
        assert!(read_all(&mut app).await.is_err(), "{name}");
    }
}

#[tokio::test]
async fn a_dropped_copy_resets_both_sides() {
    let pair = pair(&crate::engine::config(), crate::pair::stall).await;
    let (mut app, inner) = sockets().await;
    let stream = pair.client.open(request()).await.unwrap();
    let copy = background(copy_bidirectional(inner, stream));
    app.write_all(b"x").await.unwrap();
    pair.client.wait_for(|status| status.tunnels == 1).await;
    copy.abort();
    is_reset(&mut app).await;
    pair.client.wait_for(|status| status.tunnels == 0).await;
}

#[tokio::test(start_paused = true)]
async fn a_tunnel_dropped_without_its_end_is_an_abort() {
    let (seen, mut errors) = mpsc::channel(1);
    let pair = pair(&crate::engine::config(), move |tunnel: IncomingTunnel| {
        let seen = seen.clone();
        async move {
            let mut stream = tunnel.accept(TunnelResponse::new());
            let read = loop {
                match stream.read_chunk().await {
                    Ok(Some(_)) => {}
                    ended => break ended,
                }
            };
            seen.send(read).await.unwrap();
        }
    })
    .await;
    let mut stream = pair.client.open(request()).await.unwrap();
    stream.write_all(b"some").await.unwrap();
    drop(stream);
    let Some(Err(TunnelError::Reset(reset))) = errors.recv().await else {
        panic!("an abort must not look like an end")
    };
    assert_eq!(reset.code(), ErrorCode::CANCEL);
}

#[tokio::test(start_paused = true)]
async fn a_write_after_the_end_fails_and_changes_nothing() {
    let pair = pair(&crate::engine::config(), crate::pair::echo).await;
    let mut stream = pair.client.open(request()).await.unwrap();
    stream.write_all(b"all").await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(stream.write_chunk("more".into()).await, Err(TunnelError::SendClosed));
    let error = stream.write_all(b"more").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    let mut got = Vec::new();
    stream.read_to_end(&mut got).await.unwrap();
    assert_eq!(got, b"all");
}

#[tokio::test]
async fn an_application_that_reads_nothing_does_not_keep_a_failed_tunnel() {
    let (mut relay, control) = relay().await;
    // More than the sockets hold, and less than the tunnel's window beyond that.
    let chunk = vec![0; 65_536];
    let stuffed = tokio::time::timeout(Duration::from_secs(1), async {
        loop {
            relay.client_app.write_all(&chunk).await.unwrap();
        }
    });
    stuffed.await.unwrap_err();
    let stuffed = tokio::time::timeout(Duration::from_secs(1), async {
        loop {
            relay.server_app.write_all(&chunk).await.unwrap();
        }
    });
    stuffed.await.unwrap_err();
    control.cut(Cut::Reset);
    let outcome = relay.server_copy.recv().await;
    assert!(outcome.is_none_or(|outcome| outcome.abort.is_some()));
    assert!(relay.client_copy.await.unwrap().abort.is_some());
    relay.pair.server_end.await.unwrap().unwrap_err();
    is_reset(&mut relay.server_app).await;
}

/// What the peer sent is forgotten with the connection, its end as well.
#[tokio::test]
async fn a_tunnel_answered_after_its_connection_was_lost_does_not_end_in_order() {
    let (near, far) = pipe::pair();
    let (ready, incoming) = oneshot::channel();
    let connection = background(async move {
        let made = hbone::server::handshake(far, hbone::Peer::unknown(), &crate::engine::config()).await;
        let (incoming, connection) = made.unwrap();
        ready.send(incoming).ok();
        connection.await
    });
    let mut peer = RawClient::new(near);
    peer.handshake().await;
    let tunnel = peer.connect("10.0.0.1:80").await;
    peer.send_data(tunnel, "all of it").await;
    peer.end(tunnel).await;
    peer.ping().await;
    connection.abort();
    assert!(connection.await.is_err());
    let tunnel = incoming.await.unwrap().accept().await.unwrap();
    let mut stream = tunnel.accept(TunnelResponse::new());
    let error = stream.read_to_end(&mut Vec::new()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}
