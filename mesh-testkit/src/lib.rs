#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "a test kit fails by panicking"
)]

pub mod ca;
pub mod clock;
pub mod frames;
pub mod hpack;
pub mod payload;
pub mod peer;
pub mod pipe;
pub mod poll;
pub mod xds;

mod random;
