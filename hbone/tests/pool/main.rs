//! The pool, against servers in memory.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    unreachable_pub,
    reason = "test code"
)]

mod dials;
mod ends;
#[cfg(feature = "tls")]
mod identity;
mod net;
mod places;
mod retries;
