//! `control-plane` as it is run: the built program, real files, real sockets.
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
mod certificates;
mod discovery;
mod golden;
mod overlay;
mod plane;
mod traffic;
mod waypoints;
mod workloads;
#[allow(unused, reason = "each test needs another part of it")]
#[path = "../world/mod.rs"]
mod world;
