//! What one tunnel does is nothing to its neighbours.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use hbone::{Client, IncomingTunnel, TunnelRequest, TunnelResponse};
use mesh_testkit::frames::{Frame, Kind, setting};
use mesh_testkit::payload::Payload;
use mesh_testkit::pipe::{self, Direction};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep};

use crate::pair::{background, echo, piped, request, settle, stall};
use crate::raw::{dialled, served, served_as};

fn to(port: u16) -> TunnelRequest {
    TunnelRequest::new(format!("10.0.0.1:{port}").parse().unwrap())
}

/// Stalls tunnels to port 1 and echoes the others.
async fn stall_or_echo(tunnel: IncomingTunnel) {
    match tunnel.request().authority().port() {
        1 => stall(tunnel).await,
        _ => echo(tunnel).await,
    }
}

/// Bytes, and the end, drain away.
async fn sink(tunnel: IncomingTunnel) {
    let mut stream = tunnel.accept(TunnelResponse::new());
    while let Ok(Some(_)) = stream.read_chunk().await {}
    stream.finish().await.ok();
}

#[tokio::test(start_paused = true)]
async fn tiny_frames_to_a_stalled_tunnel_do_not_reach_its_neighbour() {
    let mut served = served(&crate::engine::config(), stall_or_echo).await;
    let neighbour = served.peer.connect("10.0.0.1:2").await;
    let stalled = served.peer.connect("10.0.0.1:1").await;
    served.peer.expect_headers(neighbour).await;
    // Large frames first, so that later reads bring many tiny ones at once.
    served.peer.send_all(neighbour, vec![7; 60_000]).await;
    let mut echoed = 0;
    while echoed < 60_000 {
        echoed += served.peer.expect_data(neighbour).await.body().len();
    }
    for round in 0..20_u8 {
        let sent = served.peer.flood(10_000, |_| Frame::data(stalled, vec![round])).await;
        assert_eq!(sent, 10_000, "round {round}");
        served.peer.send_data(neighbour, vec![round; 3]).await;
        assert_eq!(served.peer.expect_data(neighbour).await.body(), vec![round; 3]);
    }
    served.peer.ping().await;
}

#[tokio::test(start_paused = true)]
async fn tiny_frames_faster_than_they_are_read_arrive_whole() {
    let mut served = served(&crate::engine::config(), echo).await;
    let tunnel = served.peer.connect("10.0.0.1:2").await;
    served.peer.expect_headers(tunnel).await;
    assert_eq!(
        served.peer.flood(200_000, |n| Frame::data(tunnel, vec![n as u8])).await,
        200_000
    );
    served.peer.end(tunnel).await;
    let got = served.peer.read_to_end(tunnel).await;
    assert!(got.len() == 200_000 && got.iter().enumerate().all(|(n, byte)| *byte == n as u8));
}

#[tokio::test(start_paused = true)]
async fn tiny_writes_travel_in_large_frames_and_none_is_empty() {
    const WRITES: usize = 1_000_000;
    let pipe = pipe::Builder::new().record(64 << 20);
    let (pair, control) = piped(pipe, &crate::engine::config(), sink).await;
    let mut stream = pair.client.open(request()).await.unwrap();
    for n in 0..WRITES {
        stream.write_all(&[n as u8]).await.unwrap();
    }
    stream.finish().await.unwrap();
    assert_eq!(stream.read_chunk().await, Ok(None));
    let frames = Frame::decode_all(&control.recording(Direction::LeftToRight));
    let data: Vec<_> = frames.iter().filter(|frame| frame.kind == Kind::DATA).collect();
    let bytes: usize = data.iter().map(|frame| frame.payload.len()).sum();
    assert_eq!(bytes, WRITES);
    assert!(data.len() <= WRITES / 100, "{} frames", data.len());
    assert!(
        data.iter()
            .all(|frame| !frame.payload.is_empty() || frame.is_end_stream())
    );
    // What a peer that nobody reads would be charged stays within the budget of common ones.
    let charge: usize = data
        .iter()
        .map(|frame| 256_usize.saturating_sub(frame.payload.len()))
        .sum();
    assert!(charge <= 2 * bytes, "{charge}");
}

#[tokio::test(start_paused = true)]
async fn empty_writes_send_nothing() {
    let mut dialled = dialled(&crate::engine::config()).await;
    let client = dialled.client.clone();
    let (stream, tunnel) = tokio::join!(client.open(request()), dialled.accept());
    let mut stream = stream.unwrap();
    for _ in 0..100 {
        stream.write_chunk(Bytes::new()).await.unwrap();
        stream.write_all(b"").await.unwrap();
    }
    dialled.peer.expect_quiet(Duration::from_millis(100)).await;
    stream.write_all(b"x").await.unwrap();
    assert_eq!(dialled.peer.expect_data(tunnel).await.body(), "x");
}

#[tokio::test(start_paused = true)]
async fn the_last_tunnel_runs_at_full_speed_when_all_others_are_stalled() {
    for (tunnels, window) in [(50_u32, 16 * 1024_u32), (10, 512 * 1024)] {
        let mut config = crate::engine::config();
        config
            .set_max_tunnels(tunnels)
            .set_stream_window(window)
            .set_send_buffer(16 * 1024);
        let (pair, _control) = piped(pipe::Builder::new(), &config, stall_or_echo).await;
        let mut stalled = Vec::new();
        for _ in 1..tunnels {
            let mut stream = pair.client.open(to(1)).await.unwrap();
            // Until nothing more goes in: window, buffers and all.
            let chunk = Bytes::from(vec![0; 16 * 1024]);
            let full = async { while stream.write_chunk(chunk.clone()).await.is_ok() {} };
            tokio::time::timeout(Duration::from_secs(1), full).await.unwrap_err();
            stalled.push(stream);
        }
        let start = Instant::now();
        transfer(&pair.client, 8 << 20).await;
        // No rate limits this link, and nothing else does.
        assert!(start.elapsed() < Duration::from_millis(100), "{:?}", start.elapsed());
        assert_eq!(pair.client.status().tunnels, tunnels as usize - 1);
        drop(stalled);
        pair.client.wait_for(|status| status.tunnels == 0).await;
        transfer(&pair.client, 1 << 20).await;
    }
}

async fn transfer(client: &Client, len: usize) {
    let (mut read, mut write) = client.open(to(2)).await.unwrap().into_split();
    let writing = background(async move {
        let mut payload = Payload::new(5);
        for _ in 0..len / 65_536 {
            write.write_chunk(payload.take(65_536)).await.unwrap();
        }
        write.finish().await.unwrap();
    });
    let mut payload = Payload::new(5);
    while let Some(chunk) = read.read_chunk().await.unwrap() {
        payload.verify(&chunk);
    }
    assert_eq!(payload.offset(), len as u64);
    writing.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn windows_of_peers_that_return_no_credit_run_out_one_by_one() {
    // A peer may stall every tunnel but one by its windows alone.
    let settings = [(setting::INITIAL_WINDOW_SIZE, 0)];
    let habits = |peer: mesh_testkit::peer::RawClient<_>| peer.with_settings(&settings).without_window_updates();
    let pour = |tunnel: IncomingTunnel| async move {
        let mut stream = tunnel.accept(TunnelResponse::new());
        while stream.write_chunk(vec![0; 1_000].into()).await.is_ok() {}
    };
    let mut served = served_as(pipe::Builder::new(), habits, &crate::engine::config(), pour).await;
    let mut tunnels = Vec::new();
    for _ in 0..100 {
        let tunnel = served.peer.connect("10.0.0.1:2").await;
        served.peer.expect_headers(tunnel).await;
        tunnels.push(tunnel);
    }
    served.peer.expect_quiet(Duration::from_secs(1)).await;
    let lucky = tunnels[50];
    served.peer.send(Frame::window_update(lucky, 10_000)).await;
    let mut got = 0;
    while got < 10_000 {
        got += served.peer.expect_data(lucky).await.body().len();
    }
    assert_eq!(got, 10_000);
}

/// Writes to a sink until the end of the test, and counts what was taken.
async fn bulk(client: &Client) -> Arc<AtomicU64> {
    let mut stream = client.open(to(3)).await.unwrap();
    let counted = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&counted);
    background(async move {
        let chunk = Bytes::from(vec![7; 65_536]);
        while stream.write_chunk(chunk.clone()).await.is_ok() {
            counter.fetch_add(chunk.len() as u64, Ordering::Relaxed);
        }
    });
    counted
}

async fn sink_or_echo(tunnel: IncomingTunnel) {
    match tunnel.request().authority().port() {
        3 => sink(tunnel).await,
        _ => echo(tunnel).await,
    }
}

#[tokio::test(start_paused = true)]
async fn a_small_message_waits_for_no_more_than_is_on_the_wire_already() {
    const RATE: u64 = 20_000_000;
    let pipe = pipe::Builder::new().rate(RATE).latency(Duration::from_millis(1));
    let (pair, control) = piped(pipe, &crate::engine::config(), sink_or_echo).await;
    for _ in 0..8 {
        bulk(&pair.client).await;
    }
    let mut echo = pair.client.open(to(2)).await.unwrap();
    sleep(Duration::from_secs(1)).await;
    let before = control.stats(Direction::LeftToRight).delivered;
    let start = Instant::now();
    let mut times = Vec::new();
    while start.elapsed() < Duration::from_secs(2) {
        let sent = Instant::now();
        echo.write_all(b"ping").await.unwrap();
        echo.read_exact(&mut [0; 4]).await.unwrap();
        times.push(sent.elapsed());
        sleep(Duration::from_millis(7)).await;
    }
    times.sort();
    let p99 = times[times.len() * 99 / 100];
    // What was gathered, a frame of each neighbour, and what the pipe holds: about 1 MiB.
    assert!(
        p99 <= Duration::from_millis(60),
        "p99 {p99:?}, median {:?}",
        times[times.len() / 2]
    );
    let rate = (control.stats(Direction::LeftToRight).delivered - before) as f64 / start.elapsed().as_secs_f64();
    assert!(rate >= RATE as f64 * 0.9, "{rate} of {RATE} bytes a second");
}

#[tokio::test(start_paused = true)]
async fn bulk_tunnels_share_the_link_fairly() {
    let pipe = pipe::Builder::new().rate(4_000_000).latency(Duration::from_millis(1));
    let (pair, _control) = piped(pipe, &crate::engine::config(), sink_or_echo).await;
    let mut tunnels = Vec::new();
    for n in 0..10 {
        tunnels.push(bulk(&pair.client).await);
        // They begin one after the other: the first has no advantage for long.
        sleep(Duration::from_millis(10 * n)).await;
    }
    sleep(Duration::from_secs(2)).await;
    let before: Vec<_> = tunnels.iter().map(|count| count.load(Ordering::Relaxed)).collect();
    sleep(Duration::from_secs(10)).await;
    let shares: Vec<_> = tunnels
        .iter()
        .zip(before)
        .map(|(count, before)| (count.load(Ordering::Relaxed) - before) as f64)
        .collect();
    let (sum, squares) = shares
        .iter()
        .fold((0.0, 0.0), |(sum, squares), x| (sum + x, squares + x * x));
    let jain = sum * sum / (shares.len() as f64 * squares);
    assert!(jain >= 0.95, "Jain's index {jain}: {shares:?}");
}

#[tokio::test(start_paused = true)]
async fn what_a_user_writes_is_taken_within_the_documented_bound_and_no_further() {
    for (window, reads, bound) in [(0, true, 256 * 1024), (0x7fff_ffff, false, 512 * 1024)] {
        const TUNNELS: usize = 50;
        let taken = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&taken);
        let pour = move |tunnel: IncomingTunnel| {
            let taken = Arc::clone(&counter);
            async move {
                let mut stream = tunnel.accept(TunnelResponse::new());
                while stream.write_all(&[0; 4_096]).await.is_ok() {
                    taken.fetch_add(4_096, Ordering::Relaxed);
                }
            }
        };
        let settings = [(setting::INITIAL_WINDOW_SIZE, window)];
        let habits = |peer: mesh_testkit::peer::RawClient<_>| peer.with_settings(&settings).without_window_updates();
        let pipe = pipe::Builder::new().capacity(1_024);
        let mut served = served_as(pipe, habits, &crate::engine::config(), pour).await;
        served.peer.send(Frame::window_update(0, 0x7fff_ffff - 65_535)).await;
        settle().await;
        if !reads {
            served.peer.stop_reading();
        }
        for _ in 0..TUNNELS {
            served.peer.connect("10.0.0.1:2").await;
        }
        sleep(Duration::from_secs(1)).await;
        let taken = taken.load(Ordering::Relaxed) as usize;
        let allowed = TUNNELS * bound + 512 * 1024;
        assert!(
            taken <= allowed,
            "{taken} bytes of {allowed} were taken, window {window}"
        );
        assert!(
            taken >= TUNNELS * 200 * 1024,
            "{taken} bytes were taken, window {window}"
        );
    }
}

/// Much more than a turn writes becomes sendable at once, by nothing that a tunnel did.
#[tokio::test(start_paused = true)]
async fn a_window_that_opens_late_lets_every_tunnel_through() {
    const TUNNELS: usize = 20;
    const BYTES: usize = 200 * 1024;
    let pour = |tunnel: IncomingTunnel| async move {
        let mut stream = tunnel.accept(TunnelResponse::new());
        stream.write_all(&[7; BYTES]).await.unwrap();
        std::future::pending::<()>().await;
    };
    let closed = [(setting::INITIAL_WINDOW_SIZE, 0)];
    let habits = |peer: mesh_testkit::peer::RawClient<_>| peer.with_settings(&closed).without_window_updates();
    for capacity in [10_000, 16 * 1024 * 1024] {
        let pipe = pipe::Builder::new().capacity(capacity);
        let mut served = served_as(pipe, habits, &crate::engine::config(), pour).await;
        served.peer.send(Frame::window_update(0, 0x7000_0000)).await;
        let mut tunnels = Vec::new();
        for _ in 0..TUNNELS {
            let tunnel = served.peer.connect("10.0.0.1:80").await;
            served.peer.expect_headers(tunnel).await;
            tunnels.push(tunnel);
        }
        settle().await;
        let wide = Frame::settings(&[(setting::INITIAL_WINDOW_SIZE, 1024 * 1024)]);
        served.peer.send(wide).await;
        for tunnel in tunnels {
            let mut got = 0;
            while got < BYTES {
                got += served.peer.expect_data(tunnel).await.body().len();
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_unread_tunnel_is_given_its_window_and_no_more() {
    let mut config = crate::engine::config();
    config.set_stream_window(64 * 1024);
    let mut served = served(&config, stall).await;
    let tunnel = served.peer.connect("10.0.0.1:1").await;
    served.peer.expect_headers(tunnel).await;
    assert_eq!(served.peer.peer_setting(setting::INITIAL_WINDOW_SIZE), Some(64 * 1024));
    served.peer.send_all(tunnel, vec![0; 64 * 1024]).await;
    served.peer.expect_quiet(Duration::from_secs(5)).await;
    served.peer.send_data(tunnel, "beyond").await;
    served
        .peer
        .expect_rst(tunnel, mesh_testkit::frames::Reason::FLOW_CONTROL_ERROR)
        .await;
}

#[test]
fn the_window_of_a_connection_is_that_of_all_its_tunnels() {
    // RFC 9113 §6.9.1 bounds a window; with as many tunnels as can be, each gets less of it.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        for (tunnels, window) in [(8, 16_384), (200, 512 * 1024), (10_000, 512 * 1024), (10_000, 16 << 20)] {
            let mut config = crate::engine::config();
            config.set_max_tunnels(tunnels).set_stream_window(window);
            let mut served = served(&config, stall).await;
            let stream = served.peer.peer_setting(setting::INITIAL_WINDOW_SIZE).unwrap_or(65_535);
            let update = served
                .peer
                .expect_frame("window", |frame| frame.kind == Kind::WINDOW_UPDATE)
                .await;
            let connection = u64::from(65_535 + update.frame.increment());
            assert!(
                connection >= u64::from(stream) * u64::from(tunnels),
                "{connection} for {tunnels} of {stream}"
            );
        }
    });
}
