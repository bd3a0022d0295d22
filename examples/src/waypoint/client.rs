//! Who speaks in a tunnel, and to whom.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;

use hbone::{IncomingTunnel, Rejection};
use mesh_identity::SpiffeId;
use mesh_xds::store::AppProtocol;

use super::account::Parties;
use super::addressee::Addressee;
use super::inbound::Worker;
use super::room::Share;
use super::snapshot::{Served, Snapshot};
use crate::admission::Caller;
use crate::proxy::labels::ServiceName;
use crate::proxy::party::Party;

/// A client in its tunnel.
pub(super) struct Client {
    pub(super) worker: Worker,
    /// Whom the tunnel is for, as that was when it was opened.
    to: Addressee,
    pub(super) port: u16,
    /// What is declared to be spoken there.
    pub(super) protocol: AppProtocol,
    pub(super) id: SpiffeId,
    pub(super) addr: Option<SocketAddr>,
    /// What the tunnel is for.
    pub(super) authority: String,
    /// The same, where it is an address.
    pub(super) destination: Option<SocketAddr>,
    /// What policies can know of the connection.
    pub(super) caller: Caller,
    pub(super) parties: Parties,
    /// What it has of the room for requests.
    pub(super) share: Arc<Share>,
}

impl Client {
    pub(super) fn new(worker: &Worker, snapshot: &Snapshot, tunnel: &IncomingTunnel) -> Result<Self, Rejection> {
        let authority = tunnel.request().authority();
        let (served, port) = snapshot.find(authority).map_err(|reason| {
            tracing::warn!(%authority, %reason, "tunnel refused");
            Rejection::UnknownDestination
        })?;
        let peer = tunnel.peer();
        let id = peer.identity().map(|peer| peer.id().clone());
        let id = id.ok_or(Rejection::Denied(hbone::DeniedStatus::Unauthorized))?;
        let addr = peer.addr();
        let known = addr.and_then(|addr| snapshot.workload_at(addr.ip()));
        let known = known.filter(|workload| workload.identity.spiffe_id() == id.to_string());
        let claimed = || tunnel.request().metadata().baggage().map(Party::of_baggage);
        let source = known.map(|workload| Party::from(&**workload)).or_else(claimed);
        let destination = authority.socket_addr().map(|addr| addr.ip().to_canonical());
        Ok(Self {
            worker: worker.clone(),
            port,
            protocol: served.to.protocol(&snapshot.mesh, port),
            caller: Caller::new(Some(&id), addr.map(|addr| addr.ip().to_canonical()), destination, port),
            parties: Parties {
                source: source.unwrap_or_default().authenticated(Some(&id)),
                is_claimed: known.is_none(),
                source_addr: addr.map(|addr| addr.to_string()).unwrap_or_default(),
                service: served.to.service().map(|service| ServiceName::from(&**service)),
                destination: match &served.to {
                    Addressee::Service(_) => Party::default(),
                    Addressee::Workload { workload, .. } => Party::from(&**workload),
                },
            },
            share: worker.gateway.room.share(&id),
            id,
            addr,
            authority: authority.to_string(),
            destination: authority.socket_addr(),
            to: served.to.clone(),
        })
    }

    /// Whom the tunnel is for, as a snapshot has it.
    pub(super) fn served<'s>(&self, snapshot: &'s Snapshot) -> Option<Cow<'s, Served>> {
        snapshot.find_again(&self.to)
    }
}
