//! Connections to destinations.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hbone::Rejection;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use super::plain;

/// Time to reach a destination: less than clients wait for their answer.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Connects to an address, from `source` if that is of the same family: whatever comes back for it
/// has to be routed here. Dropped before somebody carries it, the connection is reset.
pub(crate) async fn connect(addr: SocketAddr, source: Option<IpAddr>) -> Result<TcpStream, ConnectError> {
    let connecting = async {
        match source.filter(|source| source.is_ipv4() == addr.is_ipv4()) {
            Some(source) => transparent(source)?.connect(addr).await,
            None => TcpStream::connect(addr).await,
        }
    };
    let connected = timeout(CONNECT_TIMEOUT, connecting).await;
    let tcp = connected
        .map_err(|_| ConnectError::Timeout)?
        .map_err(ConnectError::Unreachable)?;
    hbone::tls::prepare(&tcp).map_err(ConnectError::Unreachable)?;
    plain::reset(&tcp);
    Ok(tcp)
}

/// The first address of a name.
pub(crate) async fn resolve(name: &str, port: u16) -> Result<SocketAddr, ConnectError> {
    let found = timeout(CONNECT_TIMEOUT, tokio::net::lookup_host((name, port))).await;
    let mut addrs = found
        .map_err(|_| ConnectError::Timeout)?
        .map_err(ConnectError::Unknown)?;
    addrs
        .next()
        .ok_or_else(|| ConnectError::Unknown(io::ErrorKind::NotFound.into()))
}

/// Whether connections may be made from addresses that are not this machine's.
pub(crate) fn check_transparency() -> Result<(), NotTransparent> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).map_err(NotTransparent)?;
    socket.set_ip_transparent_v4(true).map_err(NotTransparent)
}

/// A socket that connects from an address, whosever that is.
fn transparent(source: IpAddr) -> io::Result<TcpSocket> {
    let source = SocketAddr::new(source, 0);
    let socket = Socket::new(Domain::for_address(source), Type::STREAM, Some(Protocol::TCP))?;
    match source {
        SocketAddr::V4(_) => socket.set_ip_transparent_v4(true)?,
        SocketAddr::V6(_) => socket.set_ip_transparent_v6(true)?,
    }
    socket.set_nonblocking(true)?;
    socket.bind(&source.into())?;
    Ok(TcpSocket::from_std_stream(socket.into()))
}

/// The operating system lets this process connect from no address but its own.
#[derive(Debug, thiserror::Error)]
#[error("cannot connect from other addresses (IP_TRANSPARENT, which needs CAP_NET_ADMIN): {0}")]
pub(crate) struct NotTransparent(#[source] io::Error);

/// Why a destination was not reached.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("cannot resolve: {0}")]
    Unknown(#[source] io::Error),
    #[error("cannot connect: {0}")]
    Unreachable(#[source] io::Error),
    #[error("no connection in {} s", CONNECT_TIMEOUT.as_secs())]
    Timeout,
    /// Whoever went there would speak as this program's listener takes its callers for.
    #[error("`{0}` is an address of this program")]
    Own(SocketAddr),
}

impl ConnectError {
    pub(crate) fn rejection(&self) -> Rejection {
        match self {
            Self::Unknown(_) => Rejection::UnknownDestination,
            Self::Unreachable(_) | Self::Own(_) => Rejection::UpstreamUnreachable,
            Self::Timeout => Rejection::UpstreamTimeout,
        }
    }

    pub(crate) fn is_refused(&self) -> bool {
        matches!(self, Self::Unreachable(error) if error.kind() == io::ErrorKind::ConnectionRefused)
    }
}
