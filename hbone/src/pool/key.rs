//! What says that two tunnels may share a mutual-TLS connection.

use std::net::SocketAddr;
use std::sync::Arc;

use mesh_identity::tls::ClientTls;
use mesh_identity::{PeerPolicy, SpiffeId};

use crate::authority::Authority;

/// What makes two tunnels alike enough to share a connection: who asks, who may answer, and where
/// the connection leads, which is an address, or [`Behind`] a gateway.
///
/// A connection speaks for one identity, and was checked to reach one that is acceptable. So a
/// tunnel of another identity never travels on it, nor one that accepts other peers. The order in
/// which acceptable peers were listed makes no difference.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PoolKey<P = SocketAddr> {
    source: SpiffeId,
    destinations: PeerPolicy,
    place: P,
    partition: Option<Arc<str>>,
}

/// A place that is reached by a tunnel through a gateway (double HBONE).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Behind {
    /// The gateway.
    pub gateway: PoolKey,
    /// What the gateway is asked to open a tunnel to.
    pub authority: Authority,
}

impl<P> PoolKey<P> {
    /// Connections from `source` to `place`, where one of `destinations` answers.
    pub fn new(source: SpiffeId, destinations: PeerPolicy, place: P) -> Self {
        Self {
            source,
            destinations,
            place,
            partition: None,
        }
    }

    /// Sets what keeps tunnels apart that could otherwise share a connection, such as a tenant, or
    /// a class of traffic that is not to wait for another's. Default: nothing.
    #[must_use]
    pub fn with_partition(mut self, partition: impl Into<Arc<str>>) -> Self {
        self.partition = Some(partition.into());
        self
    }

    /// Who asks.
    pub fn source(&self) -> &SpiffeId {
        &self.source
    }

    /// Who may answer.
    pub fn destinations(&self) -> &PeerPolicy {
        &self.destinations
    }

    /// Where the connection leads.
    pub fn place(&self) -> &P {
        &self.place
    }

    /// What keeps its tunnels apart.
    pub fn partition(&self) -> Option<&str> {
        self.partition.as_deref()
    }

    /// Whether connections of this key may be made with `tls`.
    pub(super) fn suits(&self, tls: &ClientTls) -> bool {
        *tls.identity().id() == self.source && *tls.policy() == self.destinations
    }
}
