//! What is no HTTP: bytes both ways, as far as policies let connections pass.

use std::sync::Arc;

use hbone::TunnelStream;
use mesh_policy::authz::{Permit, PolicySet};
use mesh_policy::traffic::Timeouts;
use mesh_xds::store::{AppProtocol, Workload};

use super::client::Client;
use super::prefixed::Prefixed;
use super::snapshot::{Destination, Protection, Served, Snapshot};
use super::upstream::Order;
use super::withdrawal::{Refused, withdrawn};
use crate::admission::admit;
use crate::proxy::labels::Reporter;
use crate::proxy::party::Party;
use crate::proxy::plain::{self, PlainProgress};
use crate::proxy::traffic::{Ends, Failure};

/// Carries a tunnel to an endpoint until its end, or for as long as policies let it pass and something
/// moves. Who is not let pass, or where nobody can be reached, is reset.
pub(super) async fn carry(client: &Client, stream: Prefixed<TunnelStream>) {
    let gateway = &client.worker.gateway;
    let snapshot = gateway.snapshot();
    let progress = Arc::new(PlainProgress::default());
    let traffic = |endpoint: Option<&Workload>| {
        let ends = ends(client, endpoint);
        gateway.telemetry.begin(ends, Arc::clone(&progress))
    };
    let Some(served) = client.served(&snapshot) else {
        return traffic(None).end(Some(Refused::Gone.into()));
    };
    let permit = match admitted(client, &snapshot, &served) {
        Ok(permit) => permit,
        Err(refused) => return traffic(None).end(Some(refused.into())),
    };
    let Destination {
        to,
        port,
        subset,
        rule,
        policy,
    } = snapshot.itself(&served, client.port);
    let order = Order {
        to,
        port,
        subset,
        rule,
        policy,
        timeouts: Timeouts::default(),
        retries: None,
        is_http2: false,
        source_addr: client.addr,
        shadows: Vec::new(),
    };
    drop(served);
    drop(snapshot);
    // Boxed, so that a connection that is open does not keep the room for its opening.
    let passage = match Box::pin(client.worker.upstream.connect(&order)).await {
        Ok(passage) => passage,
        Err(error) => {
            return traffic(error.endpoint.as_deref()).end(Some(Failure::of_connection(&error)));
        }
    };
    let traffic = traffic(Some(&passage.endpoint));
    let renew = |snapshot: &Snapshot, served: &Served, permit| {
        let set = policies(client, snapshot, served)?;
        Ok(admit(set, set.renew(permit, &client.caller.facts()))?)
    };
    let failure = tokio::select! {
        biased;
        refused = withdrawn(client, permit, renew) => Some(refused.into()),
        over = passage.lifetime.over(&progress) => Some(over),
        copied = plain::copy(stream, passage.io, &progress) => copied.err().map(|error| Failure::of_connection(&error)),
    };
    traffic.end(failure);
}

fn admitted(client: &Client, snapshot: &Snapshot, served: &Served) -> Result<Permit, Refused> {
    let set = policies(client, snapshot, served)?;
    Ok(admit(set, set.decide(&client.caller.facts()).admission())?)
}

/// The policies that decide about bytes, where these are all that there is to be held to.
fn policies<'s>(client: &Client, snapshot: &Snapshot, served: &'s Served) -> Result<&'s PolicySet, Refused> {
    let closed = |reason: &Arc<str>| Refused::Closed(Arc::clone(reason));
    let authenticator = served.guard.authenticator.as_ref().map_err(closed)?;
    let has_rules = !authenticator.is_empty()
        || snapshot.limits(served, None).next().is_some()
        || client.worker.external.limits_requests(served.to.key())
        || served.routes(client.port).is_some();
    // Where it is declared that there are no requests, nothing about requests is evaded.
    let protocol = served.to.protocol(&snapshot.mesh, client.port);
    let may_be_requests = !matches!(protocol, AppProtocol::Tcp | AppProtocol::Tls);
    if may_be_requests && (has_rules || client.worker.gateway.shows_clients) {
        return Err(Refused::Requests);
    }
    match &served.guard.protection {
        Protection::Policies(set) => Ok(set),
        Protection::Closed(reason) => Err(closed(reason)),
    }
}

fn ends(client: &Client, endpoint: Option<&Workload>) -> Ends {
    let id = endpoint.and_then(|endpoint| endpoint.identity.spiffe_id().parse().ok());
    let party = endpoint.map(Party::from);
    let party = party.unwrap_or_else(|| client.parties.destination.clone());
    let unknown = ([0, 0, 0, 0], 0).into();
    Ends {
        reporter: Reporter::Waypoint,
        source: client.parties.source.clone(),
        is_claimed: client.parties.is_claimed,
        source_addr: client.addr.unwrap_or(unknown),
        destination_addr: endpoint
            .and_then(|endpoint| endpoint.addresses.first())
            .map(ToString::to_string)
            .unwrap_or_default(),
        destination: party.authenticated(id.as_ref()),
        authority: Some(client.authority.clone()),
        service: client.parties.service.clone(),
        is_mutual_tls: true,
    }
}
