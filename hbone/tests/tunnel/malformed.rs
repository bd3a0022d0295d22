//! A request that is no tunnel's is refused before any handler sees it, and disturbs no tunnel.

use hbone::server::ServeError;
use hbone::{ErrorCode, IncomingTunnel, Lost};
use mesh_testkit::frames::{Frame, Kind, Reason};
use mesh_testkit::hpack::Block;
use mesh_testkit::peer::End;

use crate::events::Tally;
use crate::pair::{echo, request};
use crate::raw::{Served, dialled, served};

/// Heads of requests, each with something that a tunnel's has not.
const MALFORMED: &[(&str, &[(&str, &str)])] = &[
    ("no authority", &[(":method", "CONNECT")]),
    ("empty authority", &[(":method", "CONNECT"), (":authority", "")]),
    ("no port", &[(":method", "CONNECT"), (":authority", "10.0.0.1")]),
    ("empty port", &[(":method", "CONNECT"), (":authority", "10.0.0.1:")]),
    ("port 0", &[(":method", "CONNECT"), (":authority", "10.0.0.1:0")]),
    (
        "port 65536",
        &[(":method", "CONNECT"), (":authority", "10.0.0.1:65536")],
    ),
    ("no host", &[(":method", "CONNECT"), (":authority", ":80")]),
    (
        "user information",
        &[(":method", "CONNECT"), (":authority", "user@10.0.0.1:80")],
    ),
    (
        "IPv6 without brackets",
        &[(":method", "CONNECT"), (":authority", "::1:80")],
    ),
    (
        "two authorities",
        &[(":method", "CONNECT"), (":authority", "a:80"), (":authority", "b:80")],
    ),
    (
        "scheme",
        &[(":method", "CONNECT"), (":authority", "a:80"), (":scheme", "https")],
    ),
    (
        "path",
        &[(":method", "CONNECT"), (":authority", "a:80"), (":path", "/")],
    ),
    (
        "scheme and path",
        &[
            (":method", "CONNECT"),
            (":authority", "a:80"),
            (":scheme", "https"),
            (":path", "/"),
        ],
    ),
    (
        "extended CONNECT",
        &[
            (":method", "CONNECT"),
            (":protocol", "websocket"),
            (":scheme", "https"),
            (":path", "/"),
            (":authority", "a:80"),
        ],
    ),
    (
        "protocol",
        &[(":method", "CONNECT"), (":protocol", "x"), (":authority", "a:80")],
    ),
    (
        "GET",
        &[
            (":method", "GET"),
            (":scheme", "https"),
            (":path", "/"),
            (":authority", "a:80"),
        ],
    ),
    ("no method", &[(":authority", "a:80")]),
    (
        "two methods",
        &[(":method", "CONNECT"), (":method", "CONNECT"), (":authority", "a:80")],
    ),
    (
        "status",
        &[(":method", "CONNECT"), (":authority", "a:80"), (":status", "200")],
    ),
    (
        "late pseudo-header",
        &[(":method", "CONNECT"), ("x", "y"), (":authority", "a:80")],
    ),
    (
        "content-length 0",
        &[(":method", "CONNECT"), (":authority", "a:80"), ("content-length", "0")],
    ),
    (
        "content-length 5",
        &[(":method", "CONNECT"), (":authority", "a:80"), ("content-length", "5")],
    ),
    (
        "content-length x",
        &[(":method", "CONNECT"), (":authority", "a:80"), ("content-length", "x")],
    ),
    (
        "connection",
        &[(":method", "CONNECT"), (":authority", "a:80"), ("connection", "close")],
    ),
    (
        "transfer-encoding",
        &[
            (":method", "CONNECT"),
            (":authority", "a:80"),
            ("transfer-encoding", "chunked"),
        ],
    ),
    (
        "upgrade",
        &[(":method", "CONNECT"), (":authority", "a:80"), ("upgrade", "h2c")],
    ),
    ("te", &[(":method", "CONNECT"), (":authority", "a:80"), ("te", "gzip")]),
    (
        "other host",
        &[(":method", "CONNECT"), (":authority", "a:80"), ("host", "b:80")],
    ),
];

/// Heads that an engine may take for no head at all, and give up the connection where RFC 9113 §8.1.1
/// asks for the stream alone.
const UNREADABLE: &[(&str, &[(&str, &str)])] = &[
    (
        "unknown pseudo-header",
        &[(":method", "CONNECT"), (":authority", "a:80"), (":x", "y")],
    ),
    (
        "upper case",
        &[(":method", "CONNECT"), (":authority", "a:80"), ("X-Y", "z")],
    ),
    (
        "line break",
        &[(":method", "CONNECT"), (":authority", "a:80"), ("x", "y\r\nz")],
    ),
    (
        "zero byte",
        &[(":method", "CONNECT"), (":authority", "a:80"), ("x", "\0")],
    ),
];

/// Serves echoes and counts them.
async fn counted(tally: &Tally) -> Served {
    let tally = tally.clone();
    served(&crate::engine::config(), move |tunnel: IncomingTunnel| {
        let alive = tally.begin();
        async move {
            echo(tunnel).await;
            drop(alive);
        }
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn no_malformed_request_reaches_a_handler_or_disturbs_a_tunnel() {
    let tally = Tally::default();
    let mut served = counted(&tally).await;
    let tunnel = served.peer.connect("10.0.0.1:80").await;
    served.peer.expect_headers(tunnel).await;
    for (name, fields) in MALFORMED {
        let stream = served.peer.request(fields).await;
        let refusal = served
            .peer
            .expect_frame(name, |frame| {
                frame.stream == stream && matches!(frame.kind, Kind::HEADERS | Kind::RST_STREAM)
            })
            .await;
        if let Some(fields) = refusal.fields {
            assert_eq!(fields.status(), 400, "{name}");
            assert!(refusal.frame.is_end_stream(), "{name}");
        }
        served.peer.send_data(tunnel, *name).await;
        assert_eq!(served.peer.expect_data(tunnel).await.body(), *name);
    }
    assert_eq!(tally.started(), 1);
}

#[tokio::test(start_paused = true)]
async fn no_unreadable_request_reaches_a_handler() {
    for (name, fields) in UNREADABLE {
        let tally = Tally::default();
        let mut served = counted(&tally).await;
        let stream = served.peer.request(fields).await;
        let told = [(Kind::RST_STREAM, stream), (Kind::GOAWAY, 0)];
        let answer = served
            .peer
            .expect_frame(name, |frame| told.contains(&(frame.kind, frame.stream)))
            .await;
        if answer.frame.kind == Kind::GOAWAY {
            assert_eq!(served.peer.closed().await, End::Eof, "{name}");
        }
        assert_eq!(tally.started(), 0, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_whose_sender_has_ended_already_is_a_tunnel_the_other_way() {
    let tally = Tally::default();
    let mut served = counted(&tally).await;
    let stream = served.peer.reserve_stream();
    let block = Block::connect("10.0.0.1:80");
    served
        .peer
        .send(Frame::headers(stream, block).end_headers().end_stream())
        .await;
    assert_eq!(served.peer.expect_headers(stream).await.fields.status(), 200);
    assert_eq!(served.peer.read_to_end(stream).await, "");
    assert_eq!(tally.started(), 1);
}

/// A client may not push at all, and a server not here: the client's SETTINGS forbid it.
#[tokio::test(start_paused = true)]
async fn a_push_ends_the_connection_even_on_a_stream_that_was_reset() {
    let block = bytes::Bytes::from(Block::connect("10.0.0.1:80"));
    let promise = |stream| Frame::push_promise(stream, 2, &block);
    let lost = Lost::Violation(ErrorCode::PROTOCOL_ERROR);

    let mut served = served(&crate::engine::config(), |tunnel: IncomingTunnel| async {
        drop(tunnel);
    })
    .await;
    let stream = served.peer.connect("10.0.0.1:80").await;
    served.peer.expect_rst(stream, Reason::INTERNAL_ERROR).await;
    served.peer.send(promise(stream).end_headers()).await;
    served.peer.expect_goaway(Reason::PROTOCOL_ERROR).await;
    assert_eq!(served.end.await.unwrap(), Err(ServeError::Lost(lost)));

    let mut dialled = dialled(&crate::engine::config()).await;
    let client = dialled.client.clone();
    let (tunnel, stream) = tokio::join!(client.open(request()), dialled.accept());
    drop(tunnel.unwrap());
    dialled.peer.expect_rst(stream, Reason::CANCEL).await;
    dialled.peer.send(promise(stream).end_headers()).await;
    dialled.peer.closed().await;
    assert_eq!(dialled.end.await.unwrap(), Err(lost));
}
