//! What a peer can make a process hold, measured: the one test of a process of its own.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    unreachable_pub,
    dead_code,
    reason = "test code"
)]
#![cfg(target_os = "linux")]

#[path = "tunnel/events.rs"]
mod events;
#[path = "tunnel/pair.rs"]
mod pair;
#[path = "tunnel/raw.rs"]
mod raw;

use std::time::Duration;

use hbone::{Config, IncomingTunnel};
use mesh_testkit::frames::Frame;
use mesh_testkit::hpack::Block;

use crate::raw::Served;

const KIB: usize = 1024;
const MIB: usize = KIB * KIB;

/// Memory of this process that is in use.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4 * KIB
}

async fn stall_or_echo(tunnel: IncomingTunnel) {
    match tunnel.request().authority().port() {
        1 => pair::stall(tunnel).await,
        _ => pair::echo(tunnel).await,
    }
}

async fn open(served: &mut Served, authority: &str) -> u32 {
    let tunnel = served.peer.connect(authority).await;
    assert_eq!(served.peer.expect_headers(tunnel).await.fields.status(), 200);
    tunnel
}

#[tokio::test(start_paused = true)]
async fn a_peer_makes_a_process_hold_what_was_promised_and_no_more() {
    let mut served = raw::served(&Config::default(), stall_or_echo).await;
    let before = resident();
    tiny_frames(&mut served).await;
    let grown = resident().saturating_sub(before);
    assert!(grown <= 6 * MIB, "tiny frames: {} KiB", grown / KIB);

    let before = resident();
    let tunnels = 20;
    for _ in 0..tunnels {
        pinned_buffers(&mut served).await;
    }
    let grown = resident().saturating_sub(before);
    assert!(
        grown <= tunnels * 512 * KIB * 4 + MIB,
        "slivers of large buffers: {} KiB",
        grown / KIB
    );

    let before = resident();
    let mut bombed = raw::served(&Config::default(), stall_or_echo).await;
    bomb(&mut bombed).await;
    let grown = resident().saturating_sub(before);
    assert!(grown <= 2 * MIB, "header bomb: {} KiB", grown / KIB);
}

/// As many frames of one byte as a window holds.
async fn tiny_frames(served: &mut Served) {
    let stalled = open(served, "10.0.0.1:1").await;
    served.peer.flood(512 * KIB, |_| Frame::data(stalled, &b"x"[..])).await;
    served.peer.ping().await;
}

/// Frames that are just long enough to be kept as they came, each amid much that is not kept.
async fn pinned_buffers(served: &mut Served) {
    let drained = open(served, "10.0.0.1:2").await;
    let stalled = open(served, "10.0.0.1:1").await;
    for _ in 0..128 {
        served.peer.send_all(drained, vec![0; 60 * KIB]).await;
        served.peer.send_data(stalled, vec![0; 4 * KIB]).await;
        let mut echoed = 0;
        while echoed < 60 * KIB {
            echoed += served.peer.expect_data(drained).await.body().len();
        }
    }
}

async fn bomb(served: &mut Served) {
    let stream = served.peer.reserve_stream();
    let block = Block::connect("10.0.0.1:80").bomb(4_000, 12_000);
    for frame in Frame::header_block(stream, block, 16 * KIB) {
        if served.peer.try_send(frame).await.is_err() {
            break;
        }
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
}
