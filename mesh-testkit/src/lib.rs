#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::string_slice,
    clippy::missing_panics_doc,
    reason = "a test kit fails by panicking"
)]

pub mod ca;
pub mod clock;
pub mod frames;
pub mod hpack;
#[cfg(feature = "istio-ca")]
pub mod istio_ca;
pub mod payload;
pub mod peer;
pub mod pipe;
pub mod policy;
pub mod poll;
pub mod proxy_protocol;
pub mod routes;
pub mod workload_api;
pub mod xds;

mod random;
