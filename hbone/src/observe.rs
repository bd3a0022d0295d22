//! What happens, told as typed events.

use std::time::Duration;

use crate::handshake::HandshakeError;
use crate::lost::Lost;
use crate::tunnel::TunnelError;
use crate::wire::Rejection;

/// Which side of a connection this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Opens tunnels.
    Client,
    /// Accepts tunnels.
    Server,
}

/// Receives the events of the connections whose [`Config`](crate::Config) names it, and of the
/// pools whose [`PoolConfig`](crate::PoolConfig) does.
///
/// Called from the task that drives the connection or uses the pool: an observer counts or queues, and never waits.
pub trait Observer: Send + Sync {
    /// Something happened.
    fn event(&self, event: &Event);
}

/// Something that happened to a connection or a tunnel.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// The HTTP/2 preface and SETTINGS have been exchanged.
    ConnectionOpened {
        /// This side's role.
        role: Role,
    },
    /// The HTTP/2 preface and SETTINGS were not exchanged.
    ConnectionFailed {
        /// This side's role.
        role: Role,
        /// Why.
        error: HandshakeError,
    },
    /// A connection ended.
    ConnectionClosed {
        /// This side's role.
        role: Role,
        /// Why it was lost; `None` if it ended in order.
        lost: Option<Lost>,
    },
    /// A connection takes no new tunnels, by order of this side.
    DrainStarted {
        /// This side's role.
        role: Role,
        /// Tunnels that are open.
        tunnels: usize,
    },
    /// A tunnel was requested and its head was well formed.
    TunnelOpened {
        /// This side's role.
        role: Role,
        /// HTTP/2 stream identifier.
        stream: u32,
    },
    /// A tunnel was answered with a status other than 2xx.
    TunnelRejected {
        /// This side's role.
        role: Role,
        /// HTTP/2 stream identifier.
        stream: u32,
        /// The status.
        status: http::StatusCode,
        /// Why, which the peer of a server is not told; `None` for a client.
        reason: Option<Rejection>,
    },
    /// A tunnel ended.
    TunnelClosed {
        /// This side's role.
        role: Role,
        /// HTTP/2 stream identifier.
        stream: u32,
        /// Bytes received on it.
        received: u64,
        /// Bytes sent on it.
        sent: u64,
        /// Why it was aborted; `None` if both directions ended in order.
        error: Option<TunnelError>,
    },
    /// An accept loop waits because the process has no file descriptor or memory to spare.
    AcceptBackoff {
        /// The operating system's answer.
        kind: std::io::ErrorKind,
    },
    /// A TLS handshake failed, or its peer was not authorized.
    #[cfg(feature = "tls")]
    TlsFailed {
        /// Where the connection came from.
        addr: Option<std::net::SocketAddr>,
        /// Why; `None` if it took too long.
        error: Option<mesh_identity::tls::HandshakeError>,
    },
    /// The peer of an open connection is not trusted any more; the connection is drained or ended.
    #[cfg(feature = "tls")]
    TrustLost {
        /// This side's role.
        role: Role,
        /// Why, and how soon the connection ends.
        closing: mesh_identity::live::Closing,
    },
    /// There is no identity to present to a peer that connected; the connection was closed.
    #[cfg(feature = "tls")]
    IdentityUnavailable {
        /// Where the connection came from.
        addr: Option<std::net::SocketAddr>,
        /// Why.
        error: mesh_identity::tls::IdentityUnavailable,
    },
    /// A peer that was verified is not trusted by now; the connection was closed before it was
    /// used.
    #[cfg(feature = "tls")]
    PeerDistrusted {
        /// Where the connection came from.
        addr: Option<std::net::SocketAddr>,
        /// Why.
        reason: mesh_identity::live::CloseReason,
    },
    /// A handler panicked; its tunnel was reset.
    HandlerPanicked,
    /// A pool's dial failed, or led to a connection that was good for nothing.
    PoolDialFailed {
        /// Failures of the same key in a row.
        failures: u32,
        /// Time until the key may be dialled again.
        retry_in: Duration,
    },
    /// A pool took a connection out of use.
    PoolEvicted {
        /// Why.
        reason: Eviction,
        /// Tunnels that it carries to their ends.
        tunnels: usize,
    },
}

impl Event {
    /// How the exchange of prefaces went.
    pub(crate) fn handshake(role: Role, error: Option<&HandshakeError>) -> Self {
        match error.cloned() {
            None => Self::ConnectionOpened { role },
            Some(error) => Self::ConnectionFailed { role, error },
        }
    }
}

/// Why a pool takes a connection out of use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Eviction {
    /// It carried no tunnel for the configured time.
    Idle,
    /// It is as old as connections may get.
    Age,
    /// It carries no tunnel, and another key needs the room.
    Room,
}
