//! What is no HTTP: bytes both ways, as far as policies let connections pass.

use std::sync::Arc;

use hbone::TunnelStream;
use mesh_policy::authz::Permit;
use mesh_policy::traffic::Timeouts;
use mesh_xds::store::Workload;

use super::client::Client;
use super::prefixed::Prefixed;
use super::snapshot::{Protection, Served};
use super::upstream::Order;
use crate::admission::{Refusal, admit};
use crate::proxy::labels::Reporter;
use crate::proxy::party::Party;
use crate::proxy::plain::{self, PlainProgress};
use crate::proxy::traffic::{Ends, Failure};

/// Carries a tunnel to an endpoint until its end, or until policies do not let it pass any more. Who
/// is not let pass, or where nobody can be reached, is reset.
pub(super) async fn carry(client: &Client, stream: Prefixed<TunnelStream>) {
    let gateway = &client.worker.gateway;
    let snapshot = gateway.snapshot();
    let progress = Arc::new(PlainProgress::default());
    let traffic = |endpoint: Option<&Workload>| {
        let ends = ends(client, endpoint);
        gateway.telemetry.begin(ends, Arc::clone(&progress))
    };
    let Some(served) = client.served(&snapshot) else {
        return traffic(None).end(Some(denied(&Refused::Gone)));
    };
    let permit = match admitted(client, served) {
        Ok(permit) => permit,
        Err(refused) => return traffic(None).end(Some(denied(&refused))),
    };
    let order = Order {
        service: Arc::clone(&served.service),
        port: client.port,
        subset: None,
        rule: snapshot.rule(&served.service.key).cloned(),
        policy: snapshot.backend_policy(&served.service.key).cloned(),
        timeouts: Timeouts::default(),
        retries: None,
        is_http2: false,
        source_addr: client.addr,
        shadows: Vec::new(),
    };
    drop(snapshot);
    // Boxed, so that a connection that is open does not keep the room for its opening.
    let passage = match Box::pin(client.worker.upstream.connect(&order)).await {
        Ok(passage) => passage,
        Err(error) => {
            return traffic(error.endpoint.as_deref()).end(Some(Failure::of_connection(&error)));
        }
    };
    let traffic = traffic(Some(&passage.endpoint));
    let failure = tokio::select! {
        biased;
        refused = withdrawn(client, permit) => Some(denied(&refused)),
        copied = plain::copy(stream, passage.io, &progress) => copied.err().map(|error| Failure::of_connection(&error)),
    };
    traffic.end(failure);
}

fn admitted(client: &Client, served: &Served) -> Result<Permit, Refused> {
    match &served.protection {
        Protection::Policies(set) => Ok(admit(set, set.decide(&client.caller.facts()).admission())?),
        Protection::Closed(reason) => Err(Refused::Closed(Arc::clone(reason))),
    }
}

/// Waits until the connection is not admitted any more, and tells why.
async fn withdrawn(client: &Client, mut permit: Permit) -> Refused {
    let mut snapshots = client.worker.gateway.snapshots.clone();
    snapshots.mark_changed();
    loop {
        if snapshots.changed().await.is_err() {
            return Refused::Gone;
        }
        let snapshot = Arc::clone(&snapshots.borrow_and_update());
        let Some(served) = client.served(&snapshot) else {
            return Refused::Gone;
        };
        let renewed = match &served.protection {
            Protection::Policies(set) => admit(set, set.renew(permit, &client.caller.facts())),
            Protection::Closed(reason) => return Refused::Closed(Arc::clone(reason)),
        };
        permit = match renewed {
            Ok(permit) => permit,
            Err(refusal) => return refusal.into(),
        };
    }
}

/// Why a connection is not admitted, or not any more.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error(transparent)]
    Policy(#[from] Refusal),
    #[error("{0}")]
    Closed(Arc<str>),
    #[error("the service is gone from here")]
    Gone,
}

fn denied(refused: &Refused) -> Failure {
    Failure {
        flags: "DENY",
        reason: format!("policy: {refused}"),
    }
}

fn ends(client: &Client, endpoint: Option<&Workload>) -> Ends {
    let id = endpoint.and_then(|endpoint| endpoint.identity.spiffe_id().parse().ok());
    let party = endpoint.map(Party::from).unwrap_or_default();
    let unknown = ([0, 0, 0, 0], 0).into();
    Ends {
        reporter: Reporter::Waypoint,
        source: client.parties.source.clone(),
        is_claimed: client.is_claimed,
        source_addr: client.addr.unwrap_or(unknown),
        destination_addr: endpoint
            .and_then(|endpoint| endpoint.addresses.first())
            .map(ToString::to_string)
            .unwrap_or_default(),
        destination: party.authenticated(id.as_ref()),
        authority: Some(client.authority.clone()),
        service: Some(client.parties.service.clone()),
        is_mutual_tls: true,
    }
}
