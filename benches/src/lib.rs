//! Benchmarks of the workspace: criterion benches in `benches/`; [`hop_pair`], which compares whole
//! relay processes; and `node-memory`, which gives a node proxy a large [`mesh`].

#![allow(
    clippy::indexing_slicing,
    clippy::missing_errors_doc,
    reason = "a benchmark ends with its first failure"
)]

pub mod hop_pair;
pub mod mesh;
