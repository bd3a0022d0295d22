//! `node-proxy` as a node runs it: the built program, real sockets, real certificates.
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

mod admin;
mod configuration;
mod discovery;
mod drain;
mod identities;
mod inbound;
mod nodes;
mod outbound;
mod plaintext;
mod policy;
mod socks;
mod telemetry;
mod ways;
#[allow(unused, reason = "each test needs another part of it")]
#[path = "../world/mod.rs"]
mod world;
