//! `hbone-cat` as a user runs it: the built program, real sockets, real certificates.
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

mod drain;
mod files;
mod pair;
mod pipe;
mod policy;
mod refusals;
mod usage;
mod workload_api;
#[allow(unused, reason = "each test needs another part of it")]
#[path = "../world/mod.rs"]
mod world;
