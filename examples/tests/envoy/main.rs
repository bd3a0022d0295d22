//! Interoperation with Envoy 1.40, which `install-peers.sh` installs: Envoy's client at our server,
//! and our client at Envoy's server.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    unreachable_pub,
    missing_docs,
    reason = "test code"
)]

mod client;
mod envoy;
mod server;
#[allow(unused, reason = "each test needs another part of it")]
#[path = "../world/mod.rs"]
mod world;
