//! What holds of the engine for tunnels holds of the one that it is measured by.
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

#[path = "tunnel/close.rs"]
mod close;
#[path = "tunnel/drain.rs"]
mod drain;
#[path = "tunnel/events.rs"]
mod events;
#[path = "tunnel/flood.rs"]
mod flood;
#[path = "tunnel/isolation.rs"]
mod isolation;
#[path = "tunnel/keepalive.rs"]
mod keepalive;
#[path = "tunnel/limits.rs"]
mod limits;
#[path = "tunnel/malformed.rs"]
mod malformed;
#[path = "tunnel/observe.rs"]
mod observe;
#[path = "tunnel/pair.rs"]
mod pair;
#[path = "tunnel/raw.rs"]
mod raw;
#[path = "tunnel/simulation.rs"]
mod simulation;
#[path = "tunnel/stream.rs"]
mod stream;

/// The engine under test.
mod engine {
    /// The configuration that every test begins with.
    pub fn config() -> hbone::Config {
        hbone::fuzzing::with_h2(hbone::Config::default())
    }
}
