//! `waypoint` with Envoy 1.40 as its neighbours, which `install-peers.sh` installs: an Envoy that is
//! wired as Istio wires a sidecar that asks for tunnels, and an Envoy that takes them for an endpoint.
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

#[path = "../waypoint/calls.rs"]
mod calls;
#[allow(unused, reason = "shared with another suite")]
#[path = "../waypoint/chat.rs"]
mod chat;
#[allow(unused, reason = "shared with another suite")]
#[path = "../waypoint/cluster.rs"]
mod cluster;
mod endpoint;
#[allow(unused, reason = "shared with another suite")]
#[path = "../envoy/envoy.rs"]
mod envoy;
#[allow(unused, reason = "shared with another suite")]
#[path = "../node_proxy/nodes.rs"]
mod nodes;
#[path = "../waypoint/shop.rs"]
mod shop;
mod sidecar;
#[allow(unused, reason = "shared with another suite")]
#[path = "../node_proxy/socks.rs"]
mod socks;
#[allow(unused, reason = "each test needs another part of it")]
#[path = "../world/mod.rs"]
mod world;
