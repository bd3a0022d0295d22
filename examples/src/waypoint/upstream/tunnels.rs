use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hbone::{Metadata, TunnelRequest, TunnelStream};
use mesh_identity::SpiffeId;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::dial::{Dial, DialError};
use super::endpoints::Endpoints;
use super::site::{Site, Way};
use super::tasks::Tasks;
use crate::proxy::connect;
use crate::proxy::party::baggage;
use crate::proxy::stretch::Spot;
use crate::proxy::tunnels::{Tunnels, Within};

/// Reaches endpoints under the waypoint's own identity.
pub(in crate::waypoint) struct OfWaypoint {
    tunnels: Tunnels,
    id: SpiffeId,
    endpoints: Arc<Endpoints>,
    /// Connections within tunnels, each of which ends with its stream.
    tasks: Tasks,
}

/// A stream to an endpoint.
pub(in crate::waypoint) enum Stream {
    /// By a tunnel, to who it is.
    Tunnel(TunnelStream),
    /// As the mesh says of what has no tunnels.
    Plain(TcpStream),
}

impl OfWaypoint {
    pub(in crate::waypoint) fn new(tunnels: Tunnels, id: SpiffeId, endpoints: Arc<Endpoints>) -> Self {
        Self {
            tunnels,
            id,
            endpoints,
            tasks: Tasks::default(),
        }
    }

    /// What is told at a tunnel's other end: who the waypoint is, as its address may not say.
    fn metadata(&self) -> Metadata {
        let own = self.endpoints.own_workload();
        own.map_or_else(Metadata::new, |own| Metadata::new().with_baggage(baggage(&own)))
    }
}

impl Dial for OfWaypoint {
    type Io = Stream;

    async fn dial(&self, site: &Site) -> Result<Stream, DialError> {
        match &site.way {
            Way::Tunnel(stretch) => {
                let request = TunnelRequest::new(stretch.authority.clone()).with_metadata(self.metadata());
                let opened = self.tunnels.open(&self.id, stretch, request).await?;
                Ok(Stream::Tunnel(opened.stream))
            }
            Way::Within { outer, servers } => {
                let mut metadata = self.metadata();
                if let Some(own) = self.endpoints.own_workload().filter(|own| !own.network.is_empty()) {
                    metadata = metadata.with_forwarded_network(&own.network)?;
                }
                let request = TunnelRequest::new(outer.authority.clone()).with_metadata(metadata);
                let opened = self.tunnels.open_within(&self.id, outer, servers, request).await?;
                if let Some(Within { connection, .. }) = opened.within {
                    self.tasks.start(connection);
                }
                Ok(Stream::Tunnel(opened.stream))
            }
            Way::Plain(spot) => {
                let addr = match spot {
                    Spot::Addr(addr) => *addr,
                    Spot::Name(name, port) => connect::resolve(name, *port).await?,
                };
                Ok(Stream::Plain(connect::connect(addr, None).await?))
            }
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tunnel(tunnel) => Pin::new(tunnel).poll_read(cx, buf),
            Self::Plain(tcp) => Pin::new(tcp).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tunnel(tunnel) => Pin::new(tunnel).poll_write(cx, buf),
            Self::Plain(tcp) => Pin::new(tcp).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tunnel(tunnel) => Pin::new(tunnel).poll_write_vectored(cx, bufs),
            Self::Plain(tcp) => Pin::new(tcp).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tunnel(tunnel) => tunnel.is_write_vectored(),
            Self::Plain(tcp) => tcp.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tunnel(tunnel) => Pin::new(tunnel).poll_flush(cx),
            Self::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tunnel(tunnel) => Pin::new(tunnel).poll_shutdown(cx),
            Self::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
        }
    }
}
