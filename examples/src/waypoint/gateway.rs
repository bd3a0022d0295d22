//! What all of a waypoint's connections share.

use std::sync::Arc;
use std::time::Duration;

use mesh_identity::SpiffeId;
use mesh_policy::PathNormalization;
use rustls::pki_types::SignatureVerificationAlgorithm;
use tokio::sync::watch;
use tokio::time::Instant;

use super::config::Underscores;
use super::external::{Keys, Services, Spans};
use super::requests::Requests;
use super::room::Room;
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
    /// Who else has a say in requests.
    pub(super) services: Services,
    pub(super) requests: Requests,
    /// What begins spans of requests.
    pub(super) spans: Spans,
    /// The keys of tokens.
    pub(super) keys: Keys,
    /// What implements their signatures.
    pub(super) algorithms: &'static [&'static dyn SignatureVerificationAlgorithm],
    /// What services outside call this proxy's cluster.
    pub(super) cluster: String,
    /// When this program began: limits count from then.
    pub(super) began: Instant,
    pub(super) chance: Chance,
    pub(super) normalization: PathNormalization,
    pub(super) underscores: Underscores,
    /// Whether endpoints are told who asks.
    pub(super) shows_clients: bool,
    /// Room for requests.
    pub(super) room: Arc<Room>,
    /// For how long nothing of a request and its answer may move.
    pub(super) idle: Option<Duration>,
    /// Whether the mesh is known as far as it was told at once.
    pub(super) is_ready: watch::Receiver<bool>,
    /// How long what is open may take to end when this process is to.
    pub(super) drain: Duration,
}

impl Gateway {
    pub(super) fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshots.borrow())
    }
}
