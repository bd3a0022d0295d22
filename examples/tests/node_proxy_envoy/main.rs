//! `node-proxy` with Envoy 1.40 as its neighbour, which `install-peers.sh` installs: Envoy's client
//! at the node's inbound, and the node's outbound at Envoy's server.
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

#[allow(unused, reason = "shared with another suite")]
#[path = "../envoy/envoy.rs"]
mod envoy;
mod inbound;
#[allow(unused, reason = "shared with another suite")]
#[path = "../node_proxy/nodes.rs"]
mod nodes;
mod outbound;
#[allow(unused, reason = "shared with another suite")]
#[path = "../node_proxy/socks.rs"]
mod socks;
#[allow(unused, reason = "each test needs another part of it")]
#[path = "../world/mod.rs"]
mod world;
