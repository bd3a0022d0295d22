//! Connections to destinations.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use hbone::Rejection;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::plain;

/// Time to reach a destination: less than clients wait for their answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Connects to an address. Dropped before somebody carries it, the connection is reset.
pub(super) async fn connect(addr: SocketAddr) -> Result<TcpStream, ConnectError> {
    let connected = timeout(CONNECT_TIMEOUT, TcpStream::connect(addr)).await;
    let tcp = connected
        .map_err(|_| ConnectError::Timeout)?
        .map_err(ConnectError::Unreachable)?;
    hbone::tls::prepare(&tcp).map_err(ConnectError::Unreachable)?;
    plain::reset(&tcp);
    Ok(tcp)
}

/// The first address of a name.
pub(super) async fn resolve(name: &str, port: u16) -> Result<SocketAddr, ConnectError> {
    let found = timeout(CONNECT_TIMEOUT, tokio::net::lookup_host((name, port))).await;
    let mut addrs = found
        .map_err(|_| ConnectError::Timeout)?
        .map_err(ConnectError::Unknown)?;
    addrs
        .next()
        .ok_or_else(|| ConnectError::Unknown(io::ErrorKind::NotFound.into()))
}

/// Why a destination was not reached.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
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
    pub(super) fn rejection(&self) -> Rejection {
        match self {
            Self::Unknown(_) => Rejection::UnknownDestination,
            Self::Unreachable(_) | Self::Own(_) => Rejection::UpstreamUnreachable,
            Self::Timeout => Rejection::UpstreamTimeout,
        }
    }

    pub(super) fn is_refused(&self) -> bool {
        matches!(self, Self::Unreachable(error) if error.kind() == io::ErrorKind::ConnectionRefused)
    }
}
