//! Decisions of `mesh-policy` against those of Envoy 1.40, which `install-peers.sh` installs: the
//! same policies, the same connections and requests, the same answer and the same deciding rule.
//!
//! Policies, connections and requests are drawn from generators with a seed. `POLICY_ENVOY_HTTP`
//! and `POLICY_ENVOY_TCP` ask for other numbers of decisions, `POLICY_ENVOY_SEED` for others
//! (default 1).
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

mod answer;
mod batch;
mod config;
#[allow(unused, reason = "the other suite needs the rest")]
#[path = "../envoy/envoy.rs"]
mod envoy;
mod http;
mod jwt;
mod pki;
mod proxy;
mod tcp;
mod token;
#[allow(unused, reason = "each test needs another part of it")]
#[path = "../world/mod.rs"]
mod world;

use batch::{Layer, compare};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn envoy_decides_about_requests_alike() {
    compare(Layer::Http, wanted("POLICY_ENVOY_HTTP", 20_000)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn envoy_decides_about_connections_alike() {
    compare(Layer::Tcp, wanted("POLICY_ENVOY_TCP", 4_000)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn envoy_believes_tokens_alike() {
    jwt::compare().await;
}

/// A number that the environment may ask for.
fn wanted(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |number| {
        number.parse().unwrap_or_else(|_| panic!("{name} is no number"))
    })
}
