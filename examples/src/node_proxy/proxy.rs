//! The listeners of a node, and what becomes of their connections.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use hbone::Authority;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::mesh::Resident;
use super::node::Node;
use super::outbound::{Outbound, OutboundError};
use super::socks5::{self, Reply};
use super::{capture, inbound, passthrough};
use crate::proxy::plain;
use crate::workers::Stop;

/// Time for a client to say what it wants.
const NEGOTIATION_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection on its way to its end.
pub(super) type Serving = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What a listener is for.
#[derive(Clone)]
pub(super) enum Role {
    /// Tunnels for workloads of this node.
    Inbound,
    /// Connections without a tunnel, to this address where it is given.
    Plaintext(Option<SocketAddr>),
    /// Connections of workloads of this node that the kernel redirected.
    Outbound,
    /// Connections by SOCKS5, of this workload where it is given.
    Socks5(Option<Arc<str>>),
}

impl Role {
    /// Treats one connection. Dropped before somebody carries it, it is reset.
    pub(super) fn serve(self, outbound: Outbound, tcp: TcpStream, from: SocketAddr, stop: Stop) -> Serving {
        plain::reset(&tcp);
        Box::pin(self.treat(outbound, tcp, from, stop))
    }

    async fn treat(self, outbound: Outbound, tcp: TcpStream, from: SocketAddr, stop: Stop) {
        let node = Arc::clone(&outbound.node);
        let prepared = hbone::tls::prepare(&tcp).and_then(|()| capture::destination(&tcp));
        let made_to = match prepared {
            Ok(made_to) => made_to,
            Err(reason) => return tracing::debug!(%from, %reason, "connection gone"),
        };
        match self {
            Self::Inbound => inbound::serve(node, tcp, (from, made_to), stop).await,
            Self::Plaintext(destination) => {
                passthrough::carry(&node, tcp, from, destination.unwrap_or(made_to)).await;
            }
            Self::Outbound => captured(&outbound, tcp, from, made_to).await,
            Self::Socks5(workload) => socks5(&outbound, workload.as_deref(), tcp, from).await,
        }
    }
}

/// Carries a connection to where it was going. A client of which nobody knows whose it is, or that
/// cannot be carried as the mesh wants it, is reset.
async fn captured(outbound: &Outbound, tcp: TcpStream, from: SocketAddr, target: SocketAddr) {
    let is_redirected = tcp
        .local_addr()
        .is_ok_and(|local| local.ip().to_canonical() != target.ip() || local.port() != target.port());
    let source = match is_redirected {
        true => outbound.node.resident_at(from.ip()).await,
        false => None,
    };
    let Some((source, authority)) = source.zip(Authority::try_from(target).ok()) else {
        return tracing::warn!(%from, %target, reason = "no workload of this node", "connection refused");
    };
    if let Ok(carrier) = outbound.connect(&source, from, &authority).await {
        carrier.carry(tcp).await;
    }
}

async fn socks5(outbound: &Outbound, workload: Option<&str>, mut tcp: TcpStream, from: SocketAddr) {
    let target = match timeout(NEGOTIATION_TIMEOUT, socks5::negotiate(&mut tcp)).await {
        Ok(Ok(target)) => target,
        Ok(Err(reason)) => {
            // It may have been told something.
            plain::settle(&tcp);
            return tracing::warn!(%from, %reason, "connection refused");
        }
        Err(_) => return tracing::warn!(%from, reason = "no request in time", "connection refused"),
    };
    let connected = match source(&outbound.node, workload, from).await {
        Some(source) => outbound
            .connect(&source, from, &target)
            .await
            .map_err(|error| reply(&error)),
        None => {
            tracing::warn!(%from, %target, reason = "no workload of this node", "connection refused");
            Err(Reply::NotAllowed)
        }
    };
    let answer = connected.as_ref().err().copied().unwrap_or(Reply::Succeeded);
    let answered = timeout(NEGOTIATION_TIMEOUT, socks5::answer(&mut tcp, answer)).await;
    match (connected, answered) {
        (Ok(carrier), Ok(Ok(()))) => carrier.carry(tcp).await,
        (Err(_), Ok(Ok(()))) => plain::settle(&tcp),
        (_, Ok(Err(_)) | Err(_)) => {}
    }
}

async fn source(node: &Node, workload: Option<&str>, from: SocketAddr) -> Option<Arc<Resident>> {
    match workload {
        Some(uid) => node.mesh().resident(uid).cloned(),
        None => node.resident_at(from.ip()).await,
    }
}

fn reply(error: &OutboundError) -> Reply {
    match error {
        error if error.is_denied() => Reply::NotAllowed,
        error if error.is_refused() => Reply::Refused,
        error if error.is_unreachable() => Reply::HostUnreachable,
        _ => Reply::Failure,
    }
}
