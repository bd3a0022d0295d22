//! What all of a node's connections share.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hbone::Authority;
use mesh_xds::store::Workload;
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::demand::{Demand, DemandError};
use super::mesh::{Mesh, Resident};
use crate::proxy::chance::Chance;
use crate::proxy::connect::{self, ConnectError};
use crate::proxy::credentials::Credentials;
use crate::proxy::party::Party;
use crate::proxy::traffic::Telemetry;

/// A node of the mesh.
pub(super) struct Node {
    pub(super) mesh: watch::Receiver<Arc<Mesh>>,
    pub(super) credentials: Arc<Credentials>,
    pub(super) telemetry: Arc<Telemetry>,
    pub(super) tunnels: hbone::Config,
    pub(super) timers: hbone::Timers,
    /// Where other nodes take tunnels.
    pub(super) hbone_port: u16,
    /// Where this one listens.
    pub(super) listens: Vec<SocketAddr>,
    /// Where operators are answered.
    pub(super) admin: Option<SocketAddr>,
    pub(super) chance: Chance,
    /// Whether destinations see who connects, and not this node.
    pub(super) shows_sources: bool,
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

    /// The workload of this node at an address. Who is not known in time is nobody.
    pub(super) async fn resident_at(&self, ip: IpAddr) -> Option<Arc<Resident>> {
        self.known_at(ip).await.ok().flatten()
    }

    /// As [`resident_at`](Self::resident_at), where nobody has to be known to be nobody.
    pub(super) async fn known_at(&self, ip: IpAddr) -> Result<Option<Arc<Resident>>, DemandError> {
        if let Some(demand) = &self.demand {
            demand.address(&self.mesh(), ip).await?;
        }
        Ok(self.mesh().resident_at(ip).cloned())
    }

    /// The mesh, with a destination of `source` in it if there is such a one. Where that is not known,
    /// it is an error: what the mesh does not have is gone to without a tunnel.
    pub(super) async fn mesh_with(&self, source: &Resident, target: &Authority) -> Result<Arc<Mesh>, DemandError> {
        if let Some(demand) = &self.demand {
            let namespace = &source.workload.identity.namespace;
            demand.destination(&self.mesh(), namespace, target).await?;
        }
        Ok(self.mesh())
    }

    /// Connects to an address, for whoever is at `source`.
    pub(super) async fn connect(&self, addr: SocketAddr, source: Option<IpAddr>) -> Result<TcpStream, ConnectError> {
        connect::connect(addr, source.filter(|_| self.shows_sources)).await
    }

    /// Whoever has an address, as telemetry names it.
    pub(super) fn party_at(&self, ip: IpAddr) -> Option<Party> {
        self.mesh().workload_at(ip).map(|workload| Party::from(&**workload))
    }

    /// Whether a connection for a workload of this node would come back to this process.
    pub(super) fn is_own(&self, addr: SocketAddr) -> bool {
        let leads_to = |own: &SocketAddr| {
            let any = own.ip().is_unspecified() || addr.ip().is_unspecified();
            any || own.ip().to_canonical() == addr.ip().to_canonical()
        };
        self.listens
            .iter()
            .chain(&self.admin)
            .any(|own| own.port() == addr.port() && leads_to(own))
    }
}

/// Whether an address is one of a workload's.
pub(super) fn has(workload: &Workload, ip: IpAddr) -> bool {
    workload.addresses.contains(&ip.to_canonical())
}
