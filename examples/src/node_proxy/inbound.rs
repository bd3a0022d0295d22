//! Tunnels for the workloads of this node.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use hbone::{
    Authority, CopyProgress, DeniedStatus, Handler, IncomingTunnel, Listener, Rejection, TunnelResponse, TunnelStream,
    copy_with_progress,
};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::guard::{Admitted, Refused};
use super::mesh::{Mesh, Resident};
use super::node::Node;
use super::proxy_protocol;
use super::target::{Target, target};
use crate::admission::Caller;
use crate::proxy::connect::ConnectError;
use crate::proxy::labels::{Reporter, ServiceName};
use crate::proxy::party::{Party, baggage};
use crate::proxy::plain;
use crate::proxy::traffic::{Ends, Failure, Inbound, Traffic};
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
            Ok(admitted) => {
                self.carry(tunnel, target, (resident, admitted), traffic, progress)
                    .await;
            }
            Err(refused) => {
                tunnel.reject(Rejection::Denied(DeniedStatus::Unauthorized));
                traffic.end(Some(denied(&refused)));
            }
        }
    }
}

impl Tunnels {
    /// Where a tunnel leads. One to this process would go round in circles, unless it is for whoever
    /// answers operators at an address of the workload: such a workload is the node itself.
    fn target(&self, mesh: &Mesh, resident: &Resident, authority: &Authority) -> Result<Target, Rejection> {
        let target = target(mesh, (resident, self.ip), authority)?;
        let is_operators = self.node.admin == Some(target.addr);
        match self.node.is_own(target.addr) && !is_operators {
            true => Err(Rejection::UnknownDestination),
            false => Ok(target),
        }
    }

    async fn carry(
        &self,
        tunnel: IncomingTunnel,
        target: Target,
        (resident, admitted): (&Resident, Admitted),
        traffic: Traffic,
        progress: Arc<CopyProgress>,
    ) {
        let connected = match preface(&tunnel, target.announced) {
            Ok(preface) => {
                let source = tunnel.peer().addr().map(|addr| addr.ip().to_canonical());
                // Boxed, so that a tunnel that is open does not keep the room for its dial.
                Box::pin(self.open(target.addr, source, preface))
                    .await
                    .map_err(|error| (error.rejection(), error.to_string()))
            }
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

    async fn open(
        &self,
        addr: SocketAddr,
        source: Option<IpAddr>,
        preface: Option<Vec<u8>>,
    ) -> Result<TcpStream, ConnectError> {
        let Some(preface) = preface else {
            return self.node.connect(addr, source).await;
        };
        // The header says whose it is.
        let mut tcp = self.node.connect(addr, None).await?;
        // Less than any new connection's buffer, so that this waits for nobody.
        tcp.write_all(&preface).await.map_err(ConnectError::Unreachable)?;
        Ok(tcp)
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
