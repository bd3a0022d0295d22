//! Tunnels for the workloads of this node.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use hbone::{
    Authority, CopyProgress, DeniedStatus, Handler, Host, IncomingTunnel, Listener, Rejection, TunnelResponse,
    copy_with_progress,
};
use tokio::net::TcpStream;

use super::guard::{Admitted, Refused};
use super::labels::{Reporter, ServiceName};
use super::mesh::{Mesh, Resident};
use super::node::{Node, has};
use super::party::{Party, baggage};
use super::traffic::{Ends, Failure, Inbound, Traffic};
use super::upstream;
use crate::admission::Caller;
use crate::workers::Stop;

/// Serves one connection, under the identity of the workload that it was made to, until it ends.
pub(super) async fn serve(node: Arc<Node>, tcp: TcpStream, (from, destination): (SocketAddr, SocketAddr), stop: Stop) {
    let Some(resident) = node.resident_at(destination.ip()).await else {
        return tracing::warn!(%from, %destination, reason = "no workload of this node", "connection refused");
    };
    node.credentials.wait_for(&resident.id).await;
    let (credentials, id) = (Arc::clone(&node.credentials), resident.id.clone());
    let mut listener = Listener::with_identity(move || credentials.server(&id), node.tunnels.clone());
    listener.set_scope(node.credentials.scope());
    let mut protection = resident.protection.clone();
    let tunnels = Arc::new(Tunnels {
        node,
        resident,
        ip: destination.ip().to_canonical(),
    });
    let gone = async { while protection.changed().await.is_ok() {} };
    let drain = async {
        tokio::select! {
            () = stop.draining() => {}
            () = gone => {}
        }
    };
    if let Err(reason) = listener.serve_connection(tcp, from, tunnels, drain).await {
        tracing::debug!(%from, %reason, "connection ended");
    }
}

/// The tunnels of one connection, all for one workload.
struct Tunnels {
    node: Arc<Node>,
    /// As it was when the connection was made.
    resident: Arc<Resident>,
    /// The address that the connection was made to.
    ip: IpAddr,
}

impl Handler for Tunnels {
    async fn handle(&self, tunnel: IncomingTunnel) {
        let mesh = self.node.mesh();
        let target = match self.target(&mesh, tunnel.request().authority()) {
            Ok(target) => target,
            Err(rejection) => {
                let peer = tunnel.peer().addr().map(tracing::field::display);
                let (authority, status) = (tunnel.request().authority(), rejection.status().as_u16());
                tracing::warn!(peer, %authority, status, reason = %rejection, "tunnel refused");
                return tunnel.reject(rejection);
            }
        };
        let progress = Arc::new(CopyProgress::default());
        let ends = self.ends(&mesh, &tunnel, target);
        let traffic = self.node.telemetry.begin(ends, Inbound(Arc::clone(&progress)));
        let id = tunnel.peer().identity().map(|peer| peer.id());
        let source = tunnel.peer().addr().map(|addr| addr.ip().to_canonical());
        let caller = Caller::new(id, source, Some(target.ip()), target.port());
        let resident = mesh
            .resident(&self.resident.workload.uid)
            .filter(|now| now.id == self.resident.id);
        let admitted = match resident {
            Some(resident) => Admitted::new(resident, caller),
            None => Err(Refused::Gone),
        };
        match admitted {
            Ok(admitted) => self.carry(tunnel, target, admitted, traffic, progress).await,
            Err(refused) => {
                tunnel.reject(Rejection::Denied(DeniedStatus::Unauthorized));
                traffic.end(Some(denied(&refused)));
            }
        }
    }
}

impl Tunnels {
    /// Where a tunnel leads: to an address of the workload, or to a service that it belongs to.
    fn target(&self, mesh: &Mesh, authority: &Authority) -> Result<SocketAddr, Rejection> {
        let workload = &self.resident.workload;
        let target = match authority.host() {
            Host::Ip(ip) if ip.to_canonical() == self.ip => SocketAddr::new(self.ip, authority.port()),
            Host::Ip(ip) if has(workload, ip) => SocketAddr::new(ip.to_canonical(), authority.port()),
            Host::Ip(_) => return Err(Rejection::DestinationMismatch),
            Host::Name(name) => {
                let port = port_of(mesh, &self.resident, name, authority.port());
                SocketAddr::new(self.ip, port.ok_or(Rejection::UnknownDestination)?)
            }
        };
        // A tunnel to this process would go round in circles.
        if self.node.is_own(target) {
            return Err(Rejection::UnknownDestination);
        }
        // Such workloads count on a PROXY protocol header for who speaks, which is not sent here.
        if workload
            .application_tunnel
            .is_some_and(|tunnel| tunnel.is_proxy_protocol)
        {
            return Err(Rejection::UnknownDestination);
        }
        Ok(target)
    }

    fn ends(&self, mesh: &Mesh, tunnel: &IncomingTunnel, target: SocketAddr) -> Ends {
        let metadata = tunnel.request().metadata();
        let source_addr = tunnel.peer().addr().unwrap_or(target);
        // The peer is another node's proxy, or the workload itself: only then its address says who.
        let id = tunnel.peer().identity().map(|peer| peer.id());
        let known = mesh.workload_at(source_addr.ip());
        let source = known
            .filter(|workload| id.is_some_and(|id| id.to_string() == workload.identity.spiffe_id()))
            .map(|workload| Party::from(&**workload))
            .or_else(|| metadata.baggage().map(Party::of_baggage))
            .unwrap_or_default();
        let host = metadata.forwarded().and_then(|forwarded| forwarded.host());
        Ends {
            reporter: Reporter::Destination,
            source: source.authenticated(id),
            source_addr,
            destination: Party::from(&*self.resident.workload).authenticated(Some(&self.resident.id)),
            destination_addr: target.to_string(),
            authority: Some(tunnel.request().authority().to_string()),
            service: host.and_then(|host| service_of(mesh, &self.resident, host)),
            is_mutual_tls: true,
        }
    }

    async fn carry(
        &self,
        tunnel: IncomingTunnel,
        target: SocketAddr,
        admitted: Admitted,
        traffic: Traffic,
        progress: Arc<CopyProgress>,
    ) {
        // Boxed, so that a tunnel that is open does not keep the room for its dial.
        let tcp = match Box::pin(upstream::connect(target)).await {
            Ok(tcp) => tcp,
            Err(error) => {
                tunnel.reject(error.rejection());
                return traffic.end(Some(Failure {
                    flags: "CONNECT",
                    reason: error.to_string(),
                }));
            }
        };
        let response = TunnelResponse::new().with_baggage(baggage(&self.resident.workload));
        let stream = tunnel.accept(response);
        let failure = tokio::select! {
            biased;
            refused = admitted.withdrawn() => Some(denied(&refused)),
            outcome = copy_with_progress(tcp, stream, progress) => outcome.abort.map(|reason| Failure {
                flags: "CONNECT",
                reason: reason.to_string(),
            }),
        };
        traffic.end(failure);
    }
}

/// The workload's port for that of a service of its.
fn port_of(mesh: &Mesh, resident: &Resident, hostname: &str, port: u16) -> Option<u16> {
    let memberships = resident.workload.services.iter();
    memberships
        .filter_map(|membership| Some((membership, mesh.snapshot.service(&membership.service)?)))
        .filter(|(_, service)| *service.hostname == *hostname)
        .find_map(|(membership, service)| {
            let own = membership.ports.iter().find(|mapping| mapping.service == port);
            let general = service.ports.iter().find(|mapping| mapping.service == port);
            own.or(general)?.target
        })
}

fn service_of(mesh: &Mesh, resident: &Resident, hostname: &str) -> Option<ServiceName> {
    let memberships = resident.workload.services.iter();
    memberships
        .filter_map(|membership| mesh.snapshot.service(&membership.service))
        .find(|service| *service.hostname == *hostname)
        .map(|service| ServiceName::from(&**service))
}

pub(super) fn denied(refused: &Refused) -> Failure {
    Failure {
        flags: "DENY",
        reason: format!("policy: {refused}"),
    }
}
