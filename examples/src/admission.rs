//! A server's part before the destination: policies say which tunnels pass, and for how long.

use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;

use hbone::{CopyOutcome, DeniedStatus, Handler, IncomingTunnel, Rejection};
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
    /// or rejects it. Without anybody to send policies, none is admitted.
    pub(crate) async fn carry(&self, tunnel: IncomingTunnel) -> Result<CopyOutcome, Stopped> {
        let mut policies = self.policies.clone();
        let caller = Caller::of(&tunnel, self.forward);
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
                    // Whoever would take the tunnel's permit away is gone.
                    Err(_) => {
                        tracing::warn!(peer, %authority, reason = "nobody keeps up with the policies", "tunnel closed");
                        return Err(Stopped::Withdrawn);
                    }
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

    /// Policies are about where a tunnel goes, whatever the peer asks for.
    fn of(tunnel: &IncomingTunnel, forward: Forward) -> Self {
        let peer = tunnel.peer();
        let (destination, port) = forward.destination(tunnel.request().authority());
        let id = peer.identity().map(|identity| identity.id());
        Self::new(id, peer.addr().map(|addr| addr.ip()), destination, port)
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hbone::{Config, TunnelRequest, client, server};
    use mesh_policy::authz::{AuthorizationPolicy, Compiler, Dialect};
    use tokio::net::TcpListener;
    use tokio::task::JoinSet;
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn tunnels_end_with_whoever_sends_policies() {
        let none: [AuthorizationPolicy; 0] = [];
        let set = Compiler::new(Dialect::Strict).compile(none).unwrap();
        let (publish, policies) = watch::channel(Arc::new(set));
        let app = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let forward = Forward::Fixed(app.local_addr().unwrap());
        let (near, far) = tokio::io::duplex(64 * 1024);
        let config = Config::default();
        let made = tokio::join!(
            client::handshake(near, hbone::Peer::unknown(), &config),
            server::handshake(far, hbone::Peer::unknown(), &config)
        );
        let ((client, calling), (mut incoming, serving)) = (made.0.unwrap(), made.1.unwrap());
        let mut connections = JoinSet::new();
        connections.spawn(calling);
        connections.spawn(serving);
        let admission = Admission { policies, forward };
        let carrying = async {
            let tunnel = incoming.accept().await.unwrap();
            timeout(Duration::from_secs(30), admission.carry(tunnel)).await.unwrap()
        };
        let using = async {
            let request = TunnelRequest::new("10.0.0.1:80".parse().unwrap());
            let mut stream = client.open(request).await.unwrap();
            drop(publish);
            stream.read_chunk().await.unwrap_err()
        };
        let (carried, _) = tokio::join!(carrying, using);
        assert!(matches!(carried, Err(Stopped::Withdrawn)));
    }
}
