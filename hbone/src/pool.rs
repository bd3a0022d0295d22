//! Tunnels by key, over connections that are shared, reused and replaced.
//!
//! A [`Pool`] is asked for a tunnel by a key that says which tunnels may share a connection. It
//! finds a connection of that key with room, or has its [`Connect`] make one, and opens the tunnel
//! there; should the peer provably not have processed the request, it tries another connection.
//!
//! # What it promises
//!
//! - **One dial at a time for each key**, for all that wait, and no key waits for another's. A
//!   failed dial fails all that waited for it. Further calls fail at once until a back-off has
//!   passed, and then one dial probes.
//! - **The peer's limit on tunnels holds**, also when it changes: a place is taken before a request
//!   is made, and given back when its stream is over, however the call or the tunnel ended.
//! - **Connections are used again** as soon as a place is free, closed when idle, and replaced when
//!   old. A connection that is taken out of use carries its tunnels to their ends.
//! - **Everything is bounded**: connections of a key and of all keys, waiting calls, each wait, the
//!   tries of a tunnel. A key that has no connection and no waiting call is forgotten, once its
//!   failures are.
//! - **Nothing outlives the pool**: its tasks end when its last clone is dropped.

mod action;
mod backoff;
mod config;
mod connect;
mod conns;
#[cfg(feature = "tls")]
mod dialer;
mod group;
mod handle;
#[cfg(feature = "tls")]
mod key;
pub(crate) mod script;
mod shared;
mod state;
mod stats;
mod worker;

pub use self::config::PoolConfig;
pub use self::connect::{Connect, DialFailure, Key};
#[cfg(feature = "tls")]
pub use self::dialer::{Dialer, DialerError, GatewayDialer, GatewayError, IdentityError};
pub use self::handle::{Pool, PoolError};
#[cfg(feature = "tls")]
pub use self::key::{Behind, PoolKey};
pub use self::stats::PoolStats;
