//! Nodes whose workloads' connections are captured by the kernel, in network namespaces.
//!
//! Needs root, `ip` and `nft`. Where the kernel has no network namespaces to give, each test says
//! so and ends.
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

mod capture;
mod cluster;
mod net;
#[allow(unused, reason = "each test needs another part of it")]
#[path = "../world/mod.rs"]
mod world;
