//! Interoperation with SPIRE 1.15, which `install-peers.sh` installs: real servers and agents give
//! `hbone-cat`, and this process, their identities.
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

mod federation;
mod rotation;
mod spire;
mod tokens;
#[allow(unused, reason = "each test needs another part of it")]
#[path = "../world/mod.rs"]
mod world;
