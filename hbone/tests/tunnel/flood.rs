//! Floods of cheap frames end the connection that they come on, and cost its handlers nothing.

use std::future::pending;
use std::time::Duration;

use hbone::{Handler, IncomingTunnel, Lost, TunnelResponse, server::ServeError};
use mesh_testkit::frames::{Frame, Kind, Reason};
use mesh_testkit::hpack::Block;
use mesh_testkit::peer::End;
use mesh_testkit::pipe::{self, Direction};
use tokio::time::Instant;

use crate::events::Tally;
use crate::pair::{echo, settle, stall};
use crate::raw::{Served, served, served_as};

fn connect(stream: u32) -> Frame {
    Frame::headers(stream, Block::connect("10.0.0.1:80")).end_headers()
}

/// Waits for its dial, which never ends.
fn dialling(tally: &Tally) -> impl Handler + use<> {
    let tally = tally.clone();
    move |tunnel: IncomingTunnel| {
        let alive = tally.begin();
        async move {
            let _held = (alive, tunnel);
            pending::<()>().await;
        }
    }
}

async fn ends_for_flood(mut served: Served) {
    served.peer.expect_goaway(Reason::ENHANCE_YOUR_CALM).await;
    served.peer.closed().await;
    assert!(served.end.await.unwrap().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_burst_of_rapid_resets_ends_the_connection_after_few_handlers() {
    let tally = Tally::default();
    let mut served = served(&crate::engine::config(), dialling(&tally)).await;
    let pairs = |n: usize| {
        let stream = n as u32 / 2 * 2 + 1;
        match n % 2 {
            0 => connect(stream),
            _ => Frame::rst_stream(stream, Reason::CANCEL),
        }
    };
    let sent = served.peer.flood(40_000, pairs).await;
    assert!(sent < 10_000, "{sent} frames were taken");
    ends_for_flood(served).await;
    assert!(tally.started() <= 30, "{} handlers were started", tally.started());
    assert_eq!(tally.alive(), 0);
}

async fn paced_resets(open: impl Fn(u32) -> Frame) -> (usize, usize) {
    let tally = Tally::default();
    let mut served = served(&crate::engine::config(), dialling(&tally)).await;
    let mut pairs = 0;
    for _ in 0..10_000 {
        let stream = served.peer.reserve_stream();
        if served.peer.try_send(open(stream)).await.is_err() {
            break;
        }
        settle().await;
        if served
            .peer
            .try_send(Frame::rst_stream(stream, Reason::CANCEL))
            .await
            .is_err()
        {
            break;
        }
        pairs += 1;
    }
    ends_for_flood(served).await;
    settle().await;
    assert_eq!(tally.alive(), 0);
    (pairs, tally.started())
}

#[tokio::test(start_paused = true)]
async fn paced_rapid_resets_end_the_connection_and_every_dial() {
    let (pairs, started) = paced_resets(connect).await;
    assert!(pairs <= 200 && started <= 200, "{pairs} pairs, {started} handlers");
}

#[tokio::test(start_paused = true)]
async fn rapid_resets_of_half_closed_streams_count_too() {
    let (pairs, started) = paced_resets(|stream| connect(stream).end_stream()).await;
    assert!(pairs <= 200 && started <= 200, "{pairs} pairs, {started} handlers");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_gives_up_now_and_then_is_no_attacker() {
    let served_echo = |tunnel: IncomingTunnel| async move {
        if tunnel.request().authority().port() == 1 {
            pending::<()>().await;
        }
        echo(tunnel).await;
    };
    let mut served = served(&crate::engine::config(), served_echo).await;
    for _ in 0..500 {
        let stream = served.peer.connect("10.0.0.1:1").await;
        settle().await;
        served.peer.reset(stream, Reason::CANCEL).await;
        for _ in 0..2 {
            let stream = served.peer.connect("10.0.0.1:80").await;
            assert_eq!(served.peer.expect_headers(stream).await.fields.status(), 200);
            served.peer.end(stream).await;
            served.peer.read_to_end(stream).await;
        }
    }
}

type Trigger = fn(u32) -> Vec<Frame>;

/// Frames with which a client makes a server reset a stream.
const TRIGGERS: [(&str, Trigger); 7] = [
    ("window overflow", |stream| {
        vec![Frame::window_update(stream, 0x7fff_ffff); 2]
    }),
    ("self-dependency", |stream| vec![Frame::priority(stream, stream, 1)]),
    ("headers amid the tunnel", |stream| {
        vec![Frame::headers(stream, Block::new().field("x", "y")).end_headers()]
    }),
    ("trailers with a pseudo-header", |stream| {
        vec![
            Frame::headers(stream, Block::new().field(":status", "200"))
                .end_headers()
                .end_stream(),
        ]
    }),
    ("data after the end", |stream| {
        vec![
            Frame::data(stream, &b""[..]).end_stream(),
            Frame::data(stream, &b"x"[..]),
        ]
    }),
    ("data beyond the window", |stream| {
        vec![Frame::data(stream, vec![0; 16_384]); 33]
    }),
    ("window update of nothing", |stream| {
        vec![Frame::window_update(stream, 0)]
    }),
];

#[tokio::test(start_paused = true)]
async fn a_peer_that_makes_the_server_reset_is_as_bad_as_one_that_resets() {
    for (name, frames) in TRIGGERS {
        let tally = Tally::default();
        let mut served = served_as(
            pipe::Builder::new(),
            |peer| peer.without_window_updates(),
            &crate::engine::config(),
            dialling(&tally),
        )
        .await;
        'attack: for _ in 0..1_000 {
            let stream = served.peer.reserve_stream();
            for frame in std::iter::once(connect(stream)).chain(frames(stream)) {
                if served.peer.try_send(frame).await.is_err() {
                    break 'attack;
                }
            }
            settle().await;
        }
        served.peer.closed().await;
        assert!(served.end.await.unwrap().is_err(), "{name}");
        settle().await;
        assert!(tally.started() <= 300, "{name}: {} handlers", tally.started());
        assert_eq!(tally.alive(), 0, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_continuations_ends_the_connection() {
    for len in [0, 1, 1_000] {
        let tally = Tally::default();
        let mut served = served(&crate::engine::config(), dialling(&tally)).await;
        let stream = served.peer.reserve_stream();
        served
            .peer
            .send(Frame::headers(stream, Block::connect("10.0.0.1:80")))
            .await;
        let before = served.control.stats(Direction::LeftToRight).delivered;
        let sent = served
            .peer
            .flood(100_000, |_| Frame::continuation(stream, vec![0x82; len]))
            .await;
        // What is no block at all may be found out before there is too much of it.
        served
            .peer
            .expect_frame("GOAWAY", |frame| frame.kind == Kind::GOAWAY)
            .await;
        served.peer.closed().await;
        let taken = served.control.stats(Direction::LeftToRight).delivered - before;
        assert!(
            sent < 100_000 && taken <= 64 * 1024,
            "{sent} frames, {taken} bytes were taken"
        );
        assert_eq!(tally.started(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn header_lists_beyond_the_limit_are_refused() {
    let blocks = [
        ("bomb", Block::connect("10.0.0.1:80").bomb(4_000, 12_000)),
        (
            "20 KiB",
            Block::connect("10.0.0.1:80").field("x", vec![b'x'; 20 * 1024]),
        ),
        (
            "300 KiB",
            Block::connect("10.0.0.1:80").field("x", vec![b'x'; 300 * 1024]),
        ),
        (
            "empty names",
            (0..4_000).fold(Block::connect("10.0.0.1:80"), |block, _| block.field("", "")),
        ),
        (
            "many fields",
            (0..600).fold(Block::connect("10.0.0.1:80"), |block, n| {
                block.field(format!("x{n}"), "")
            }),
        ),
    ];
    for (name, block) in blocks {
        let tally = Tally::default();
        let mut served = served(&crate::engine::config(), dialling(&tally)).await;
        let stream = served.peer.reserve_stream();
        for frame in Frame::header_block(stream, block, 16_384) {
            if served.peer.try_send(frame).await.is_err() {
                break;
            }
        }
        let answers = [Kind::HEADERS, Kind::RST_STREAM, Kind::GOAWAY];
        let answer = served
            .peer
            .expect_frame("refusal", |frame| answers.contains(&frame.kind))
            .await;
        if let Some(fields) = answer.fields {
            assert!(matches!(fields.status(), 431 | 400), "{name}: {fields:?}");
        }
        assert_eq!(tally.started(), 0, "{name}");
    }
}

type Cheap = fn(usize) -> Frame;

/// Cheap frames, each with more than the most of them that a connection takes.
const CHEAP: [(&str, usize, Cheap); 8] = [
    ("PING", 1_000, |n| Frame::ping((n as u64).to_be_bytes())),
    ("PING acknowledgement", 1_000, |n| {
        Frame::ping_ack((n as u64).to_be_bytes())
    }),
    ("SETTINGS", 100, |_| Frame::settings(&[])),
    ("PRIORITY", 300, |_| Frame::priority(1, 0, 16)),
    ("WINDOW_UPDATE", 1_100, |_| Frame::window_update(1, 1)),
    ("unknown", 1_000, |_| Frame::new(Kind(0x2a), 0, 0, vec![])),
    ("RST_STREAM", 20_000, |_| Frame::rst_stream(1, Reason::CANCEL)),
    ("GOAWAY", 100, |_| Frame::goaway(0, Reason::NO_ERROR, b"")),
];

#[tokio::test(start_paused = true)]
async fn a_flood_of_each_cheap_frame_ends_the_connection() {
    for (name, allowed, frame) in CHEAP {
        let mut served = served(&crate::engine::config(), stall).await;
        let tunnel = served.peer.connect("10.0.0.1:80").await;
        served.peer.expect_headers(tunnel).await;
        let before = served.control.stats(Direction::LeftToRight).delivered;
        let sent = served.peer.flood(1_000_000, frame).await;
        assert!(sent > allowed / 2 && sent < 30_000, "{name}: {sent} frames were taken");
        served.peer.closed().await;
        let taken = served.control.stats(Direction::LeftToRight).delivered - before;
        assert!(taken < 512 * 1024, "{name}: {taken} bytes were taken");
        let end = served.end.await.unwrap();
        assert!(matches!(end, Err(ServeError::Lost(Lost::Flood(_)))), "{name}: {end:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_flooder_that_does_not_read_is_closed_by_the_stall_deadline() {
    for (name, frame) in [
        ("PING", (|_| Frame::ping([7; 8])) as fn(usize) -> Frame),
        ("SETTINGS", |_| Frame::settings(&[])),
    ] {
        let mut config = crate::engine::config();
        config.set_stall_timeout(Duration::from_secs(3));
        let pipe = pipe::Builder::new().capacity(1_024);
        let mut served = served_as(pipe, |peer| peer, &config, echo).await;
        let start = Instant::now();
        served.peer.stop_reading();
        served.peer.flood(1_000_000, frame).await;
        assert!(served.end.await.unwrap().is_err(), "{name}");
        assert!(
            start.elapsed() <= Duration::from_millis(4_100),
            "{name}: {:?}",
            start.elapsed()
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_read_what_it_asked_for_is_closed_by_the_stall_deadline() {
    let mut config = crate::engine::config();
    config.set_stall_timeout(Duration::from_secs(3));
    let pour = |tunnel: IncomingTunnel| async move {
        let mut stream = tunnel.accept(TunnelResponse::new());
        while stream.write_chunk(vec![0; 65_536].into()).await.is_ok() {}
    };
    let mut served = served(&config, pour).await;
    served.peer.send(Frame::window_update(0, 0x7000_0000)).await;
    let tunnel = served.peer.connect("10.0.0.1:80").await;
    served.peer.send(Frame::window_update(tunnel, 0x7000_0000)).await;
    served.peer.stop_reading();
    let start = Instant::now();
    assert!(served.end.await.unwrap().is_err());
    assert!(start.elapsed() <= Duration::from_millis(3_100), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn empty_data_that_ends_nothing_ends_the_connection() {
    let mut served = served(&crate::engine::config(), stall).await;
    let tunnel = served.peer.connect("10.0.0.1:80").await;
    served.peer.flood(200, |_| Frame::data(tunnel, vec![])).await;
    served.peer.expect_goaway(Reason::ENHANCE_YOUR_CALM).await;
    assert_eq!(served.peer.closed().await, End::Eof);
}

#[tokio::test(start_paused = true)]
async fn a_reset_of_an_idle_stream_is_an_error_of_the_connection() {
    let mut served = served(&crate::engine::config(), stall).await;
    served.peer.reset(99, Reason::CANCEL).await;
    served.peer.expect_goaway(Reason::PROTOCOL_ERROR).await;
}

#[tokio::test(start_paused = true)]
async fn data_after_the_end_is_an_error() {
    let mut served = served(&crate::engine::config(), stall).await;
    let tunnel = served.peer.connect("10.0.0.1:80").await;
    served.peer.expect_headers(tunnel).await;
    served.peer.end(tunnel).await;
    served.peer.send_data(tunnel, "late").await;
    // A stream error may be treated as one of the connection (RFC 9113 §5.4.1).
    let told = [(Kind::RST_STREAM, tunnel), (Kind::GOAWAY, 0)];
    let answer = |frame: &Frame| told.contains(&(frame.kind, frame.stream));
    served.peer.expect_frame("refusal", answer).await;
}
