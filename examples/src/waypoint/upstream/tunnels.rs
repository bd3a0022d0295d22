use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use hbone::{TunnelRequest, TunnelStream};
use mesh_identity::SpiffeId;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::dial::{Dial, DialError};
use super::site::{Site, Way};
use crate::proxy::connect;
use crate::proxy::stretch::Spot;
use crate::proxy::tunnels::Tunnels;

/// Reaches endpoints under the waypoint's own identity.
pub(in crate::waypoint) struct OfWaypoint {
    tunnels: Tunnels,
    id: SpiffeId,
}

/// A stream to an endpoint.
pub(in crate::waypoint) enum Stream {
    /// By a tunnel, to who it is.
    Tunnel(TunnelStream),
    /// As the mesh says of what has no tunnels.
    Plain(TcpStream),
}

impl OfWaypoint {
    pub(in crate::waypoint) fn new(tunnels: Tunnels, id: SpiffeId) -> Self {
        Self { tunnels, id }
    }
}

impl Dial for OfWaypoint {
    type Io = Stream;

    async fn dial(&self, site: &Site) -> Result<Stream, DialError> {
        match &site.way {
            Way::Tunnel(stretch) => {
                let request = TunnelRequest::new(stretch.authority.clone());
                let opened = self.tunnels.open(&self.id, stretch, request).await?;
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
