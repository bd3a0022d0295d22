use hbone::metadata::NetworkError;
use tokio::io::{AsyncRead, AsyncWrite};

use super::site::Site;
use crate::proxy::connect::ConnectError;
use crate::proxy::tunnels::TunnelsError;

/// Makes streams of bytes to endpoints.
pub(in crate::waypoint) trait Dial: Send + Sync + 'static {
    /// A stream.
    type Io: AsyncRead + AsyncWrite + Send + Unpin + 'static;

    /// Reaches an endpoint. What comes back is certain to lead to its application: a tunnel is
    /// answered only when the far end has connected.
    fn dial(&self, site: &Site) -> impl Future<Output = Result<Self::Io, DialError>> + Send;
}

/// Why an endpoint is not reached.
#[derive(Debug, thiserror::Error)]
pub(in crate::waypoint) enum DialError {
    #[error(transparent)]
    Tunnel(#[from] TunnelsError),
    #[error("network: {0}")]
    Network(#[from] NetworkError),
    #[error(transparent)]
    Plain(#[from] ConnectError),
    #[error("no connection in time")]
    Timeout,
    #[error("HTTP: {0}")]
    Http(#[source] hyper::Error),
}
