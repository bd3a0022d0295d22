//! A server's part behind the tunnel: connects each to its destination and copies.

use std::io;
use std::net::{IpAddr, SocketAddr};

use hbone::{Authority, CopyOutcome, Handler, Host, IncomingTunnel, Rejection, TunnelResponse, copy_bidirectional};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::proxy::connect::{CONNECT_TIMEOUT, ConnectError};

/// Where tunnels are connected to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Forward {
    /// To the destination that each asks for; the system's resolver looks names up.
    Authority,
    /// All to this address.
    Fixed(SocketAddr),
}

impl Handler for Forward {
    async fn handle(&self, tunnel: IncomingTunnel) {
        if let Err(rejection) = self.carry(tunnel).await {
            tracing::trace!(%rejection, "answered");
        }
    }
}

impl Forward {
    /// Where a tunnel goes that asks for `authority`: port, and address unless a name is yet to be
    /// looked up.
    pub(crate) fn destination(&self, authority: &Authority) -> (Option<IpAddr>, u16) {
        match (self, authority.host()) {
            (Self::Fixed(addr), _) => (Some(addr.ip()), addr.port()),
            (Self::Authority, Host::Ip(ip)) => (Some(ip), authority.port()),
            (Self::Authority, Host::Name(_)) => (None, authority.port()),
        }
    }

    /// Connects a tunnel to its destination and copies until it ends, or rejects it.
    pub(crate) async fn carry(&self, tunnel: IncomingTunnel) -> Result<CopyOutcome, Rejection> {
        let authority = tunnel.request().authority().clone();
        let peer = tunnel.peer().clone();
        let peer = peer.identity().map(|peer| tracing::field::display(peer.id()));
        // Boxed, so that a tunnel that is open does not keep the room for its dial.
        let tcp = match Box::pin(self.connect(&authority)).await {
            Ok(tcp) => tcp,
            Err(error) => {
                let rejection = error.rejection();
                let status = rejection.status().as_u16();
                tracing::warn!(peer, %authority, status, reason = %error, "tunnel refused");
                tunnel.reject(rejection.clone());
                return Err(rejection);
            }
        };
        let outcome = copy_bidirectional(tcp, tunnel.accept(TunnelResponse::new())).await;
        let (received, sent) = (outcome.to_tcp, outcome.to_tunnel);
        match &outcome.abort {
            None => tracing::info!(peer, %authority, received, sent, "tunnel ended"),
            Some(reason) => tracing::info!(peer, %authority, received, sent, %reason, "tunnel aborted"),
        }
        Ok(outcome)
    }

    async fn connect(&self, authority: &Authority) -> Result<TcpStream, ConnectError> {
        let connected = async {
            let tcp = match (self, authority.host()) {
                (Self::Fixed(addr), _) => TcpStream::connect(addr).await,
                (Self::Authority, Host::Ip(ip)) => TcpStream::connect((ip, authority.port())).await,
                (Self::Authority, Host::Name(name)) => connect_by_name(name, authority.port()).await?,
            };
            let tcp = tcp.map_err(ConnectError::Unreachable)?;
            hbone::tls::prepare(&tcp).map_err(ConnectError::Unreachable)?;
            Ok(tcp)
        };
        timeout(CONNECT_TIMEOUT, connected)
            .await
            .map_err(|_| ConnectError::Timeout)?
    }
}

/// Tries the addresses of a name in the resolver's order.
async fn connect_by_name(name: &str, port: u16) -> Result<io::Result<TcpStream>, ConnectError> {
    let addrs = tokio::net::lookup_host((name, port)).await;
    let addrs: Vec<SocketAddr> = addrs.map_err(ConnectError::Unknown)?.collect();
    Ok(TcpStream::connect(addrs.as_slice()).await)
}
