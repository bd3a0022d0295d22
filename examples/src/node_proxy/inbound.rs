//! Tunnels for the workloads of this node.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use hbone::{
    Authority, CopyProgress, DeniedStatus, Handler, Host, IncomingTunnel, Listener, Rejection, TunnelResponse,
    TunnelStream, copy_with_progress,
};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::guard::{Admitted, Refused};
use super::labels::{Reporter, ServiceName};
use super::mesh::{Mesh, Resident};
use super::node::{Node, has};
use super::party::{Party, baggage};
use super::traffic::{Ends, Failure, Inbound, Traffic};
use super::upstream::{self, ConnectError};
use super::{plain, proxy_protocol};
use crate::admission::Caller;
use crate::workers::Stop;

/// Serves one connection, under the identity of the workload that it was made to, until it ends.
pub(super) async fn serve(node: Arc<Node>, tcp: TcpStream, (from, destination): (SocketAddr, SocketAddr), stop: Stop) {
    let Some(resident) = node.resident_at(destination.ip()).await else {
        return tracing::warn!(%from, %destination, reason = "no workload of this node", "connection refused");
    };
    node.credentials.wait_for(&resident.id).await;
    let (credentials, id) = (Arc::clone(&node.credentials), resident.id.clone());
    plain::settle(&tcp);
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

/// Where a tunnel leads.
struct Target {
    addr: SocketAddr,
    /// What the workload is told by the PROXY protocol that the tunnel was for.
    announced: Option<SocketAddr>,
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
        let now = mesh.still(&self.resident, self.ip);
        let resident = now.unwrap_or(&self.resident);
        let target = match self.target(&mesh, resident, tunnel.request().authority()) {
            Ok(target) => target,
            Err(rejection) => {
                let peer = tunnel.peer().addr().map(tracing::field::display);
                let (authority, status) = (tunnel.request().authority(), rejection.status().as_u16());
                tracing::warn!(peer, %authority, status, reason = %rejection, "tunnel refused");
                return tunnel.reject(rejection);
            }
        };
        let progress = Arc::new(CopyProgress::default());
        let ends = ends(&mesh, resident, &tunnel, target.addr);
        let traffic = self.node.telemetry.begin(ends, Inbound(Arc::clone(&progress)));
        let id = tunnel.peer().identity().map(|peer| peer.id());
        let source = tunnel.peer().addr().map(|addr| addr.ip().to_canonical());
        let caller = Caller::new(id, source, Some(target.addr.ip()), target.addr.port());
        let admitted = match now {
            Some(resident) => Admitted::new(resident, caller),
            None => Err(Refused::Gone),
        };
        match admitted {
            Ok(admitted) => carry(tunnel, target, (resident, admitted), traffic, progress).await,
            Err(refused) => {
                tunnel.reject(Rejection::Denied(DeniedStatus::Unauthorized));
                traffic.end(Some(denied(&refused)));
            }
        }
    }
}

impl Tunnels {
    /// Where a tunnel leads: to an address of the workload, or to a service that it belongs to. A
    /// workload that is told by the PROXY protocol what was asked for may be asked for anything.
    fn target(&self, mesh: &Mesh, resident: &Resident, authority: &Authority) -> Result<Target, Rejection> {
        let workload = &resident.workload;
        let told = workload.application_tunnel.filter(|tunnel| tunnel.is_proxy_protocol);
        let asked = match authority.host() {
            Host::Ip(ip) if told.is_some() || ip.to_canonical() == self.ip || has(workload, ip) => {
                Some(SocketAddr::new(ip.to_canonical(), authority.port()))
            }
            Host::Ip(_) => return Err(Rejection::DestinationMismatch),
            Host::Name(name) if told.is_some() => {
                let namespace = &workload.identity.namespace;
                let service = mesh.snapshot.service_named(name, Some(namespace));
                let vip = service.and_then(|service| service.addresses.iter().find(|vip| vip.network == mesh.network));
                vip.map(|vip| SocketAddr::new(vip.address, authority.port()))
            }
            Host::Name(name) => {
                let port = port_of(mesh, resident, name, authority.port());
                port.map(|port| SocketAddr::new(self.ip, port))
            }
        };
        let asked = asked.ok_or(Rejection::UnknownDestination)?;
        let target = match told {
            Some(tunnel) => Target {
                addr: SocketAddr::new(self.ip, tunnel.port.unwrap_or(asked.port())),
                announced: Some(asked),
            },
            None => Target {
                addr: asked,
                announced: None,
            },
        };
        // A tunnel to this process would go round in circles.
        match self.node.is_own(target.addr) {
            true => Err(Rejection::UnknownDestination),
            false => Ok(target),
        }
    }
}

fn ends(mesh: &Mesh, resident: &Resident, tunnel: &IncomingTunnel, target: SocketAddr) -> Ends {
    let metadata = tunnel.request().metadata();
    let source_addr = tunnel.peer().addr().unwrap_or(target);
    // The peer is another node's proxy, or the workload itself: only then its address says who.
    let id = tunnel.peer().identity().map(|peer| peer.id());
    let known = mesh.workload_at(source_addr.ip());
    let source = known
        .filter(|workload| id.is_some_and(|id| id.to_string() == workload.identity.spiffe_id()))
        .map(|workload| Party::from(&**workload));
    let is_claimed = source.is_none();
    let source = source
        .or_else(|| metadata.baggage().map(Party::of_baggage))
        .unwrap_or_default();
    let host = metadata.forwarded().and_then(|forwarded| forwarded.host());
    Ends {
        reporter: Reporter::Destination,
        source: source.authenticated(id),
        is_claimed,
        source_addr,
        destination: Party::from(&*resident.workload).authenticated(Some(&resident.id)),
        destination_addr: target.to_string(),
        authority: Some(tunnel.request().authority().to_string()),
        service: host.and_then(|host| service_of(mesh, resident, host)),
        is_mutual_tls: true,
    }
}

async fn carry(
    tunnel: IncomingTunnel,
    target: Target,
    (resident, admitted): (&Resident, Admitted),
    traffic: Traffic,
    progress: Arc<CopyProgress>,
) {
    let connected = match preface(&tunnel, target.announced) {
        // Boxed, so that a tunnel that is open does not keep the room for its dial.
        Ok(preface) => Box::pin(open(target.addr, preface))
            .await
            .map_err(|error| (error.rejection(), error.to_string())),
        Err(rejection) => Err((rejection.clone(), rejection.to_string())),
    };
    let tcp = match connected {
        Ok(tcp) => tcp,
        Err((rejection, reason)) => {
            tunnel.reject(rejection);
            return traffic.end(Some(Failure::of_connection(&reason)));
        }
    };
    let response = TunnelResponse::new().with_baggage(baggage(&resident.workload));
    let stream = tunnel.accept(response);
    let failure = tokio::select! {
        biased;
        refused = admitted.withdrawn() => Some(denied(&refused)),
        aborted = carried(tcp, stream, progress) => aborted,
    };
    traffic.end(failure);
}

/// Copies until the end, and tells how it failed.
async fn carried(tcp: TcpStream, stream: TunnelStream, progress: Arc<CopyProgress>) -> Option<Failure> {
    plain::settle(&tcp);
    let outcome = copy_with_progress(tcp, stream, progress).await;
    outcome.abort.map(|reason| Failure::of_connection(&reason))
}

/// What a workload is told before a tunnel's bytes, if it is to be told anything.
fn preface(tunnel: &IncomingTunnel, announced: Option<SocketAddr>) -> Result<Option<Vec<u8>>, Rejection> {
    let Some(announced) = announced else {
        return Ok(None);
    };
    let identity = tunnel.peer().identity().map(|peer| peer.id());
    let source = tunnel.peer().addr();
    let header = source.and_then(|source| proxy_protocol::header(source, announced, identity));
    header.map(Some).ok_or(Rejection::UnknownDestination)
}

async fn open(addr: SocketAddr, preface: Option<Vec<u8>>) -> Result<TcpStream, ConnectError> {
    let mut tcp = upstream::connect(addr).await?;
    if let Some(preface) = preface {
        // Less than any new connection's buffer, so that this waits for nobody.
        tcp.write_all(&preface).await.map_err(ConnectError::Unreachable)?;
    }
    Ok(tcp)
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
