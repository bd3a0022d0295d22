//! A dead peer is found out in time; a slow one is left alone.

use std::time::Duration;

use hbone::{Dead, Lost, TunnelError};
use mesh_testkit::frames::Frame;
use mesh_testkit::hpack::Block;
use mesh_testkit::payload::Payload;
use mesh_testkit::pipe::{self, Direction};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep};

use crate::pair::{background, echo, piped, request, settle};
use crate::raw::{served, served_as, unspoken};

const INTERVAL: Duration = Duration::from_secs(10);
const SOON: Duration = Duration::from_millis(100);

#[tokio::test(start_paused = true)]
async fn a_black_hole_is_noticed_within_two_intervals() {
    for directions in [&Direction::BOTH[..], &Direction::BOTH[..1], &Direction::BOTH[1..]] {
        let (pair, control) = piped(pipe::Builder::new(), &crate::engine::config(), echo).await;
        let mut stream = pair.client.open(request()).await.unwrap();
        stream.write_all(b"x").await.unwrap();
        stream.read_u8().await.unwrap();
        for direction in directions {
            control.blackhole(*direction);
        }
        let start = Instant::now();
        let error = stream.read_chunk().await.unwrap_err();
        assert!(matches!(error, TunnelError::ConnectionLost(_)), "{error:?}");
        pair.client_end.await.unwrap().unwrap_err();
        // A side whose bytes still arrive is told; the other finds out by itself.
        pair.server_end.await.unwrap().unwrap_err();
        assert!(
            start.elapsed() <= 2 * INTERVAL + SOON,
            "{directions:?}: {:?}",
            start.elapsed()
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_black_hole_under_load_is_noticed_within_two_intervals() {
    for chunk in [1, 65_536] {
        let (pair, control) = piped(pipe::Builder::new(), &crate::engine::config(), echo).await;
        let stream = pair.client.open(request()).await.unwrap();
        let (mut read, mut write) = stream.into_split();
        let writing = background(async move {
            while write.write_chunk(vec![0; chunk].into()).await.is_ok() {
                sleep(Duration::from_millis(100)).await;
            }
        });
        let reading = background(async move { while let Ok(Some(_)) = read.read_chunk().await {} });
        sleep(Duration::from_secs(3)).await;
        for direction in Direction::BOTH {
            control.blackhole(direction);
        }
        let start = Instant::now();
        assert_eq!(pair.client_end.await.unwrap(), Err(Lost::Dead(Dead::Silent)));
        assert!(start.elapsed() <= 2 * INTERVAL + SOON, "{chunk}: {:?}", start.elapsed());
        writing.await.unwrap();
        reading.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_lives_as_long_as_its_peer_answers() {
    let (pair, control) = piped(pipe::Builder::new(), &crate::engine::config(), echo).await;
    sleep(Duration::from_secs(3_600)).await;
    assert!(pair.client.status().accepting);
    assert!(!pair.client_end.is_finished() && !pair.server_end.is_finished());
    let sent: u64 = Direction::BOTH
        .iter()
        .map(|direction| control.stats(*direction).written)
        .sum();
    assert!(sent < 40_000, "{sent} bytes in an hour of nothing");
}

/// Sends for that many seconds over a link of that rate.
async fn saturate(rate: u64, streams: usize, secs: usize) {
    let pipe = pipe::Builder::new().rate(rate).latency(Duration::from_millis(20));
    let (pair, _control) = piped(
        pipe,
        &crate::engine::config(),
        |tunnel: hbone::IncomingTunnel| async move {
            let mut stream = tunnel.accept(hbone::TunnelResponse::new());
            let mut payload = Payload::new(7);
            while let Some(chunk) = stream.read_chunk().await.unwrap() {
                payload.verify(&chunk);
            }
            stream.finish().await.unwrap();
        },
    )
    .await;
    let len = usize::try_from(rate).unwrap() * secs / streams;
    let mut senders = Vec::new();
    for _ in 0..streams {
        let mut stream = pair.client.open(request()).await.unwrap();
        senders.push(background(async move {
            let mut payload = Payload::new(7);
            let mut left = len;
            while left > 0 {
                let n = left.min(32_768);
                stream.write_chunk(payload.take(n)).await.unwrap();
                left -= n;
            }
            stream.finish().await.unwrap();
            assert_eq!(stream.read_chunk().await, Ok(None));
        }));
    }
    for sender in senders {
        sender.await.unwrap();
    }
    assert!(pair.client.status().accepting);
}

#[tokio::test(start_paused = true)]
async fn a_saturated_link_is_no_dead_peer() {
    saturate(1_000_000, 16, 30).await;
}

#[tokio::test(start_paused = true)]
async fn a_link_on_which_what_waits_takes_longer_than_the_timeout_is_no_dead_peer() {
    saturate(10_000, 1, 100).await;
    saturate(10_000, 8, 100).await;
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_takes_no_byte_is_closed_by_the_stall_deadline() {
    let mut config = crate::engine::config();
    config.set_stall_timeout(Duration::from_secs(5));
    let (pair, control) = piped(pipe::Builder::new(), &config, echo).await;
    let mut stream = pair.client.open(request()).await.unwrap();
    control.stall(Direction::LeftToRight);
    let start = Instant::now();
    let sending = async { while stream.write_chunk(vec![0; 65_536].into()).await.is_ok() {} };
    let (ended, ()) = tokio::join!(pair.client_end, sending);
    assert_eq!(ended.unwrap(), Err(Lost::Dead(Dead::Stalled)));
    assert!(
        start.elapsed() <= Duration::from_secs(5) + SOON,
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn half_a_header_block_is_closed_within_two_intervals() {
    let mut served = served(&crate::engine::config(), echo).await;
    let stream = served.peer.reserve_stream();
    served
        .peer
        .send(Frame::headers(stream, Block::connect("10.0.0.1:80")))
        .await;
    let start = Instant::now();
    assert!(served.end.await.unwrap().is_err());
    assert!(start.elapsed() <= 2 * INTERVAL + SOON, "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_header_block_in_drops_is_closed_within_two_intervals() {
    let mut served = served_as(pipe::Builder::new(), |peer| peer, &crate::engine::config(), echo).await;
    let stream = served.peer.reserve_stream();
    let frame = Frame::headers(stream, Block::connect("10.0.0.1:80")).end_headers();
    let start = Instant::now();
    served.peer.send(frame.claiming_len(10_000)).await;
    while !served.end.is_finished() && start.elapsed() < 10 * INTERVAL {
        served.peer.send_bytes(b"\0").await;
        sleep(Duration::from_secs(1)).await;
    }
    assert!(
        start.elapsed() <= 2 * INTERVAL + Duration::from_secs(1),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_client_that_says_nothing_or_half_a_preface_is_closed_at_the_deadline() {
    for said in [0, 1, 10, 23] {
        let mut config = crate::engine::config();
        config.set_handshake_timeout(Duration::from_secs(4));
        let start = Instant::now();
        let mut served = unspoken(pipe::Builder::new(), |peer| peer, &config, echo);
        served.peer.send_bytes(&mesh_testkit::frames::PREFACE[..said]).await;
        let end = served.end.await.unwrap();
        assert_eq!(
            end,
            Err(hbone::server::ServeError::Handshake(
                hbone::server::HandshakeError::Timeout
            ))
        );
        assert!(
            start.elapsed() <= Duration::from_secs(4) + SOON,
            "{:?}",
            start.elapsed()
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_preface_in_drops_is_closed_at_the_deadline() {
    let mut served = unspoken(pipe::Builder::new(), |peer| peer, &crate::engine::config(), echo);
    let start = Instant::now();
    for byte in mesh_testkit::frames::PREFACE {
        if served.end.is_finished() {
            break;
        }
        served.peer.send_bytes(&[*byte]).await;
        sleep(Duration::from_secs(1)).await;
    }
    assert!(served.end.await.unwrap().is_err());
    assert!(start.elapsed() <= Duration::from_secs(11), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn what_is_no_preface_is_refused_at_once() {
    for said in [&b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..], &[0; 64], &[0xff; 64]] {
        let mut served = unspoken(pipe::Builder::new(), |peer| peer, &crate::engine::config(), echo);
        served.peer.send_bytes(said).await;
        settle().await;
        let end = served.end.await.unwrap();
        assert!(matches!(end, Err(hbone::server::ServeError::Handshake(_))), "{end:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_says_nothing_is_given_up_at_the_deadline() {
    let (near, far) = pipe::pair();
    let start = Instant::now();
    let made = hbone::client::handshake(near, hbone::Peer::unknown(), &crate::engine::config()).await;
    assert_eq!(made.err(), Some(hbone::client::HandshakeError::Timeout));
    assert!(start.elapsed() <= INTERVAL + SOON, "{:?}", start.elapsed());
    drop(far);
}
