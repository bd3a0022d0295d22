#![doc = include_str!("../README.md")]
#![allow(
    clippy::indexing_slicing,
    clippy::missing_errors_doc,
    reason = "a benchmark ends with its first failure"
)]

pub mod command;
pub mod envoy;
pub mod fleet;
pub mod hop_pair;
pub mod http;
pub mod load;
pub mod mesh;
pub mod pki;
pub mod plot;
pub mod process;
pub mod report;
pub mod waypoint;
