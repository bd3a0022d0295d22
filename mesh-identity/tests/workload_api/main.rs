//! The Workload API source against a server that does as it is told, in virtual time.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    unreachable_pub,
    missing_docs,
    reason = "test code"
)]

mod endpoint;
mod failures;
mod jwt;
mod messages;
mod world;
