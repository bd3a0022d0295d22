//! What all of a waypoint's connections share.

use std::sync::Arc;
use std::time::Duration;

use mesh_identity::SpiffeId;
use mesh_policy::PathNormalization;
use tokio::sync::{Semaphore, watch};

use super::config::Underscores;
use super::snapshot::Snapshot;
use super::upstream::Endpoints;
use crate::proxy::chance::Chance;
use crate::proxy::credentials::Credentials;
use crate::proxy::traffic::Telemetry;

/// A waypoint.
pub(super) struct Gateway {
    pub(super) snapshots: watch::Receiver<Arc<Snapshot>>,
    /// Who it is.
    pub(super) id: SpiffeId,
    pub(super) credentials: Arc<Credentials>,
    pub(super) telemetry: Arc<Telemetry>,
    pub(super) tunnels: hbone::Config,
    pub(super) timers: hbone::Timers,
    /// What is known about endpoints.
    pub(super) endpoints: Arc<Endpoints>,
    pub(super) chance: Chance,
    pub(super) normalization: PathNormalization,
    pub(super) underscores: Underscores,
    /// Whether endpoints are told who asks.
    pub(super) shows_clients: bool,
    /// How long a client's HTTP connection may be idle.
    pub(super) idle: Duration,
    /// Room for requests.
    pub(super) room: Arc<Semaphore>,
    /// Whether the mesh is known as far as it was told at once.
    pub(super) is_synced: watch::Receiver<bool>,
    /// How long what is open may take to end when this process is to.
    pub(super) drain: Duration,
}

impl Gateway {
    pub(super) fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshots.borrow())
    }
}
