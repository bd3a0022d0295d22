//! Benchmarks of the workspace: criterion benches in `benches/`; [`hop_pair`], which compares whole
//! relay processes; `node-memory`, which gives a node proxy a large [`mesh`]; `sidecar-cost`, which
//! runs a [`fleet`] of workloads behind node proxies and behind sidecars; and `waypoint-pair`, which
//! sends requests through a [`waypoint`].

#![allow(
    clippy::indexing_slicing,
    clippy::missing_errors_doc,
    reason = "a benchmark ends with its first failure"
)]

pub mod envoy;
pub mod fleet;
pub mod hop_pair;
pub mod mesh;
pub mod pki;
pub mod plot;
pub mod process;
pub mod report;
pub mod waypoint;
