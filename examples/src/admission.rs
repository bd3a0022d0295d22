//! A server's part before the destination: policies say which tunnels pass, and for how long.

use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;

use hbone::{CopyOutcome, DeniedStatus, Handler, Host, IncomingTunnel, Rejection};
use mesh_identity::SpiffeId;
use mesh_policy::authz::{Admission as Answer, DenyReason, Permit, PolicySet};
use mesh_policy::{ConnectionFacts, Known, Peer};
use tokio::sync::watch;

use crate::forward::Forward;

/// Forwards the tunnels that the policies of the moment admit, and ends those that later ones do
/// not.
#[derive(Clone, Debug)]
pub(crate) struct Admission {
    pub(crate) policies: watch::Receiver<Arc<PolicySet>>,
    pub(crate) forward: Forward,
}

impl Handler for Admission {
    async fn handle(&self, tunnel: IncomingTunnel) {
        if let Err(stopped) = self.carry(tunnel).await {
            tracing::trace!(%stopped, "ended");
        }
    }
}

impl Admission {
    /// Connects a tunnel to its destination and copies until it ends or is not admitted any more;
    /// or rejects it.
    pub(crate) async fn carry(&self, tunnel: IncomingTunnel) -> Result<CopyOutcome, Stopped> {
        let mut policies = self.policies.clone();
        let caller = Caller::of(&tunnel);
        let peer = tunnel.peer().clone();
        let peer = peer.identity().map(|peer| tracing::field::display(peer.id()));
        let authority = tunnel.request().authority().clone();
        let set = Arc::clone(&policies.borrow_and_update());
        let mut permit = match admit(&set, set.decide(&caller.facts()).admission()) {
            Ok(permit) => permit,
            Err(reason) => {
                let rejection = Rejection::Denied(DeniedStatus::Unauthorized);
                let status = rejection.status().as_u16();
                tracing::warn!(peer, %authority, status, %reason, "tunnel refused");
                tunnel.reject(rejection.clone());
                return Err(Stopped::Rejected(rejection));
            }
        };
        let mut carried = pin!(self.forward.carry(tunnel));
        loop {
            tokio::select! {
                biased;
                changed = policies.changed() => match changed {
                    Ok(()) => {
                        let set = Arc::clone(&policies.borrow_and_update());
                        permit = admit(&set, set.renew(permit, &caller.facts())).map_err(|reason| {
                            tracing::warn!(peer, %authority, %reason, "tunnel closed");
                            Stopped::Withdrawn
                        })?;
                    }
                    // The policies are final.
                    Err(_) => return Ok(carried.await?),
                },
                outcome = &mut carried => return Ok(outcome?),
            }
        }
    }
}

/// What policies can know of a connection.
#[derive(Debug)]
pub(crate) struct Caller {
    peer: Option<Peer>,
    source: Option<IpAddr>,
    destination: Option<IpAddr>,
    port: u16,
}

impl Caller {
    pub(crate) fn new(peer: Option<&SpiffeId>, source: Option<IpAddr>, destination: Option<IpAddr>, port: u16) -> Self {
        Self {
            peer: peer.map(Peer::from),
            source,
            destination,
            port,
        }
    }

    fn of(tunnel: &IncomingTunnel) -> Self {
        let (peer, authority) = (tunnel.peer(), tunnel.request().authority());
        let id = peer.identity().map(|identity| identity.id());
        let destination = match authority.host() {
            Host::Ip(ip) => Some(ip),
            Host::Name(_) => None,
        };
        Self::new(id, peer.addr().map(|addr| addr.ip()), destination, authority.port())
    }

    /// What stays unknown here closes doors and opens none: addresses of names, for one.
    pub(crate) fn facts(&self) -> ConnectionFacts<'_> {
        let peer = self.peer.as_ref().map_or(Known::Absent, Known::Present);
        let mut facts = ConnectionFacts::new().peer(peer).destination_port(self.port);
        if let Some(source) = self.source {
            facts = facts.source_ip(source).remote_ip(source);
        }
        match self.destination {
            Some(destination) => facts.destination_ip(destination),
            None => facts,
        }
    }
}

pub(crate) fn admit(set: &PolicySet, answer: Answer) -> Result<Permit, Refusal> {
    let named = |rule| set.rule(rule).map(|rule| rule.to_string()).unwrap_or_default();
    match answer {
        Answer::Granted(permit) => Ok(permit),
        Answer::Ask(consultation) => Err(Refusal::Providers(
            consultation.providers(set).collect::<Vec<_>>().join(", "),
        )),
        Answer::Refused(denial) => Err(match denial.reason() {
            DenyReason::Matched(rule) => Refusal::Matched(named(rule)),
            DenyReason::Unavailable(rule) => Refusal::Unavailable(named(rule)),
            DenyReason::NoAllowMatched => Refusal::NoAllowMatched,
        }),
    }
}

/// Why policies do not admit a tunnel.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("denied by `{0}`")]
    Matched(String),
    #[error("denied by `{0}`, which turns on what a tunnel does not show")]
    Unavailable(String),
    #[error("no policy allows it")]
    NoAllowMatched,
    #[error("external authorization by {0} is not to be had here")]
    Providers(String),
}

/// Why a tunnel was not carried to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Stopped {
    /// It was refused.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// It was open when the policies changed.
    #[error("policies admit the tunnel no longer")]
    Withdrawn,
}
