//! A client and a server, back to back.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    unreachable_pub,
    reason = "test code"
)]

mod cancel;
mod close;
#[cfg(feature = "tls")]
mod double;
mod drain;
mod engines;
mod events;
mod farewell;
mod flood;
mod isolation;
mod keepalive;
mod limits;
#[cfg(feature = "tls")]
mod listen;
mod malformed;
mod observe;
mod pair;
mod raw;
mod runtime;
mod scripts;
mod simulation;
mod stream;
#[cfg(feature = "tls")]
mod tls;
#[cfg(feature = "tls")]
mod trust;

/// The engine under test.
mod engine {
    /// Whether faults of one stream end the connection, as they may (RFC 9113 §5.4.1).
    pub const ENDS_CONNECTIONS: bool = false;

    /// The configuration that every test begins with.
    pub fn config() -> hbone::Config {
        hbone::Config::default()
    }
}
