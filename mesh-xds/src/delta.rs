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
pub(crate) mod client;
pub(crate) mod server;
mod subscription;
mod waiters;
mod watch;

pub use catalog::Published;
pub use client::{Answer, Client, ClientConfig, DemandError, Outcome, Push, Refusal};
pub use server::{ClientId, ConnectError, Heard, Server, ServerConfig, Violation};
pub use waiters::WaiterId;

/// The name that stands for all resources of a type.
const WILDCARD: &str = "*";

/// Bytes in the name or version of a resource. Names hold a hostname (253 bytes) or a workload's
/// path through a cluster, an API group, a kind, a namespace and two names.
pub const MAX_NAME_LENGTH: usize = 2048;
