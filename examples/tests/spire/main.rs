//! Interoperation with SPIRE 1.15, which `install-peers.sh` installs: real servers and agents give
//! `hbone-cat`, `node-proxy`, and this process, their identities.
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
mod node;
#[allow(unused, reason = "shared with another suite")]
#[path = "../node_proxy/nodes.rs"]
mod nodes;
mod rotation;
#[allow(unused, reason = "shared with another suite")]
#[path = "../node_proxy/socks.rs"]
mod socks;
mod spire;
mod tokens;
#[allow(unused, reason = "each test needs another part of it")]
#[path = "../world/mod.rs"]
mod world;
