//! Who is at the other end of a connection.

use std::net::SocketAddr;
#[cfg(feature = "tls")]
use std::sync::Arc;

#[cfg(feature = "tls")]
use mesh_identity::VerifiedPeer;

/// Who is at the other end of a connection.
#[derive(Clone, Debug, Default)]
pub struct Peer {
    addr: Option<SocketAddr>,
    #[cfg(feature = "tls")]
    identity: Option<Arc<VerifiedPeer>>,
}

impl Peer {
    /// A peer of which nothing is known, as on a stream without TLS.
    #[must_use]
    pub fn unknown() -> Self {
        Self::default()
    }

    /// A peer whose identity was verified.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn verified(identity: VerifiedPeer) -> Self {
        Self {
            addr: None,
            identity: Some(Arc::new(identity)),
        }
    }

    /// Adds the address that the connection comes from or goes to.
    #[must_use]
    pub fn with_addr(mut self, addr: SocketAddr) -> Self {
        self.addr = Some(addr);
        self
    }

    /// The address that the connection comes from or goes to.
    #[must_use]
    pub fn addr(&self) -> Option<SocketAddr> {
        self.addr
    }

    /// The verified identity. Present on every connection that was made through
    /// [`tls`](crate::tls); absent only where the embedder supplied a stream of its own.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn identity(&self) -> Option<&VerifiedPeer> {
        self.identity.as_deref()
    }
}
