//! The incremental discovery protocol (xDS, "incremental ADS"), as two state machines.
//!
//! [`Client`] and [`Server`] know neither sockets nor clocks. Messages and moments go in, messages
//! come out, and a driver carries them; with the feature `grpc` this crate has one for tonic.
//!
//! A stream is expected to deliver in order or to break, as gRPC's do. What breaks is healed by the
//! next stream, where the client says what it has. A message that gets lost without the stream
//! breaking is missed by whoever waits for the answer: both sides then ask for the stream to be
//! closed.

mod backoff;
mod catalog;
mod client;
mod held;
mod limits;
mod offer;
mod order;
mod server;
mod subscription;
mod waiters;
mod watch;

pub use catalog::Published;
pub use client::{Answer, Client, ClientConfig, DemandError, Outcome, Push, Refusal};
pub use limits::MAX_NAME_LENGTH;
pub use server::{ClientId, ConnectError, Heard, Server, ServerConfig, Standing, Violation};
pub use waiters::WaiterId;
