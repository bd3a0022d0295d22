//! Benchmarks of the workspace: criterion benches in `benches/`, and [`hop_pair`], which compares
//! whole relay processes.

#![allow(
    clippy::indexing_slicing,
    clippy::missing_errors_doc,
    reason = "a benchmark ends with its first failure"
)]

pub mod hop_pair;
