//! What all of a node's connections share.

use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hbone::Authority;
use mesh_xds::store::Workload;
use tokio::sync::watch;

use super::credentials::Credentials;
use super::demand::Demand;
use super::mesh::{Mesh, Resident};
use super::party::Party;
use super::traffic::Telemetry;

/// A node of the mesh.
pub(super) struct Node {
    pub(super) mesh: watch::Receiver<Arc<Mesh>>,
    pub(super) credentials: Arc<Credentials>,
    pub(super) telemetry: Arc<Telemetry>,
    pub(super) tunnels: hbone::Config,
    /// Where other nodes take tunnels.
    pub(super) hbone_port: u16,
    /// Where this one listens.
    pub(super) listens: Vec<SocketAddr>,
    pub(super) chance: Chance,
    /// Where what is not known is asked for.
    pub(super) demand: Option<Demand>,
    /// Whether the mesh is known as far as it was told at once.
    pub(super) is_synced: watch::Receiver<bool>,
    /// How long open connections may take to end when this process is to.
    pub(super) drain: Duration,
}

impl Node {
    pub(super) fn mesh(&self) -> Arc<Mesh> {
        Arc::clone(&self.mesh.borrow())
    }

    /// The workload of this node at an address.
    pub(super) async fn resident_at(&self, ip: IpAddr) -> Option<Arc<Resident>> {
        if let Some(demand) = &self.demand {
            demand.address(&self.mesh(), ip).await;
        }
        self.mesh().resident_at(ip).cloned()
    }

    /// The mesh, with a destination of `source` in it if there is such a one.
    pub(super) async fn mesh_with(&self, source: &Resident, target: &Authority) -> Arc<Mesh> {
        if let Some(demand) = &self.demand {
            let namespace = &source.workload.identity.namespace;
            demand.destination(&self.mesh(), namespace, target).await;
        }
        self.mesh()
    }

    /// Whoever has an address, as telemetry names it.
    pub(super) fn party_at(&self, ip: IpAddr) -> Option<Party> {
        self.mesh().workload_at(ip).map(|workload| Party::from(&**workload))
    }

    /// Whether a connection for a workload of this node would come back to this process.
    pub(super) fn is_own(&self, addr: SocketAddr) -> bool {
        let leads_to = |own: &SocketAddr| own.ip() == addr.ip() || own.ip().is_unspecified();
        self.listens
            .iter()
            .any(|own| own.port() == addr.port() && leads_to(own))
    }
}

/// Whether an address is one of a workload's.
pub(super) fn has(workload: &Workload, ip: IpAddr) -> bool {
    workload.addresses.contains(&ip.to_canonical())
}

/// Numbers that nobody can foretell.
pub(super) struct Chance {
    state: RandomState,
    drawn: AtomicU64,
}

impl Chance {
    pub(super) fn new() -> Self {
        Self {
            state: RandomState::new(),
            drawn: AtomicU64::new(0),
        }
    }

    pub(super) fn draw(&self) -> u64 {
        self.state.hash_one(self.drawn.fetch_add(1, Ordering::Relaxed))
    }
}
