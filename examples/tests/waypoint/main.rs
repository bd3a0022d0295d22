//! `waypoint` as a mesh runs it: the built programs, real sockets, real certificates.
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

mod aborts;
mod answers;
mod attacks;
mod bytes;
mod calls;
mod chat;
mod cluster;
mod configuration;
mod counted;
mod custom;
mod drain;
mod endpoints;
mod framing;
mod grpc;
mod http;
mod idle;
mod issuer;
mod limits;
mod networks;
#[allow(unused, reason = "the nodes' own tests need more of it")]
#[path = "../node_proxy/nodes.rs"]
mod nodes;
mod policy;
mod protocols;
mod routes;
mod scripted;
mod shop;
#[allow(unused, reason = "the nodes' own tests need more of it")]
#[path = "../node_proxy/socks.rs"]
mod socks;
mod stalled;
mod subsets;
mod telemetry;
mod tokens;
mod websocket;
mod withdrawal;
mod workloads;
#[allow(unused, reason = "each test needs another part of it")]
#[path = "../world/mod.rs"]
mod world;
