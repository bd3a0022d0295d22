//! Tokens of requests: those that are believed, and those that break one rule each.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    unreachable_pub,
    missing_docs,
    reason = "test code"
)]

mod attacks;
mod configuration;
mod decisions;
mod outputs;
mod places;
mod rules;
mod world;
