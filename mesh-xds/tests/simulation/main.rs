//! A control plane and its nodes in virtual time: it stops and starts, links are slow and break,
//! responses come twice, the authority is slow, and the mesh goes on changing.
//!
//! All that happens follows from a seed. `SIMULATION_SEED=7` runs one of them.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    unreachable_pub,
    reason = "test code"
)]

mod chance;
mod desk;
mod link;
mod model;
mod node;
mod truth;
mod world;

use std::panic;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use world::World;

const SEEDS: u64 = 1_000;

#[test]
fn whatever_happens_nodes_end_with_what_is_true_and_are_safe_on_the_way() {
    let one = std::env::var("SIMULATION_SEED")
        .ok()
        .map(|seed| seed.parse::<u64>().unwrap());
    let next = AtomicU64::new(one.unwrap_or(0));
    let end = one.map_or(SEEDS, |seed| seed + 1);
    let opened = AtomicU64::new(0);
    let run = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= end {
                return;
            }
            match panic::catch_unwind(|| World::new(seed).run()) {
                Ok(count) => opened.fetch_add(count, Ordering::Relaxed),
                Err(_) => {
                    next.store(end, Ordering::Relaxed);
                    panic!("seed {seed}");
                }
            };
        }
    };
    thread::scope(|scope| {
        let others = thread::available_parallelism().map_or(1, usize::from);
        for _ in 0..others {
            scope.spawn(run);
        }
    });
    assert!(opened.into_inner() > 0, "some connections were opened");
}
