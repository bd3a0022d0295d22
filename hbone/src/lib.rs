// The README's example takes this feature; without it this line stands in for it.
#![cfg_attr(feature = "tls", doc = include_str!("../README.md"))]
#![cfg_attr(not(feature = "tls"), doc = "HBONE tunnels for Istio ambient mesh.")]

mod authority;
mod bell;
mod byte_queue;
pub mod client;
mod config;
mod conn;
mod copy;
#[cfg(feature = "tls")]
mod double;
mod doze;
mod engine;
mod entry;
mod flood;
#[doc(hidden)]
pub mod fuzzing;
mod handshake;
mod keepalive;
#[cfg(feature = "tls")]
mod listen;
mod lost;
mod mailbox;
pub mod metadata;
mod observe;
mod peer;
pub mod pool;
#[cfg(feature = "tls")]
mod read_ahead;
mod request;
pub mod server;
mod service;
mod slot;
mod status;
mod stream;
mod timers;
#[cfg(feature = "tls")]
pub mod tls;
mod transport;
mod tunnel;
mod wire;

pub use authority::{Authority, AuthorityError, Host};
pub use client::{Client, OpenError};
pub use config::Config;
pub use conn::Connection;
pub use copy::{CopyAbort, CopyOutcome, CopyProgress, copy_bidirectional, copy_with_progress};
#[cfg(feature = "tls")]
pub use double::{DoubleError, connect_through, connect_within};
pub use flood::Flood;
pub use keepalive::Dead;
#[cfg(feature = "tls")]
pub use listen::{ConnectionError, Listener};
pub use lost::Lost;
pub use metadata::Metadata;
pub use observe::{Event, Eviction, Observer, Role};
pub use peer::Peer;
pub use pool::{Pool, PoolConfig, PoolError, PoolStats};
pub use request::{ResponseError, TunnelRequest, TunnelResponse};
pub use server::{Handler, Incoming, IncomingTunnel};
pub use status::Status;
pub use stream::{ReadHalf, TunnelStream, WriteHalf};
pub use timers::Timers;
pub use tunnel::TunnelError;
pub use wire::{Blame, DeniedStatus, ErrorCode, HeadFault, Refusal, RefusalKind, Rejection, Reset, ResetReason};
