//! A waypoint between HBONE clients and an HBONE endpoint: requests, and what they cost.
//!
//! Clients and endpoint are tasks of the benchmark itself; only the waypoint's process counts.

pub mod design;
pub mod endpoint;
pub mod envoy;
pub mod load;
pub mod measure;
pub mod ours;
pub mod world;
