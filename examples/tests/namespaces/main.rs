//! Nodes whose workloads' connections are captured by the kernel, in network namespaces.
//!
//! Needs root, `ip`, `nft` and a kernel that has network namespaces to give.
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
mod certificates;
mod cluster;
mod mesh;
mod net;
mod requests;
mod source;
mod ways;
#[allow(unused, reason = "each test needs another part of it")]
#[path = "../world/mod.rs"]
mod world;
