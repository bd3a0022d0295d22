//! Double HBONE: a connection to a peer that is reached through a tunnel.
//!
//! Across networks a client first opens a tunnel to the other network's gateway, and makes a
//! second connection, with TLS of its own, to the real peer inside it. The gateway sees neither
//! the inner identity nor the inner bytes. Because the inner side is an ordinary [`Client`], it
//! can be pooled like any other.

use mesh_identity::tls::ClientTls;

use crate::client::{Client, OpenError};
use crate::config::Config;
use crate::conn::Connection;
use crate::request::TunnelRequest;
use crate::stream::TunnelStream;
use crate::tls::{self, DialError, TlsStream};

/// Opens a tunnel through `gateway` with `outer`, and makes a connection to the peer at its end,
/// whose identity `tls` authorizes.
///
/// The inner connection ends when the outer one does; closing it ends the outer tunnel.
///
/// # Errors
///
/// If the gateway does not open the tunnel, or the connection inside it cannot be made.
///
/// # Cancel safety
///
/// Dropping the call resets the outer tunnel.
pub async fn connect_through(
    gateway: &Client,
    outer: TunnelRequest,
    tls: &ClientTls,
    config: &Config,
) -> Result<(Client, Connection<TlsStream<TunnelStream>>), DoubleError> {
    let tunnel = gateway.open(outer).await.map_err(DoubleError::Outer)?;
    Ok(connect_within(tunnel, tls, config).await?)
}

/// Makes a connection inside a tunnel that is open already, to the peer at its end, whose identity
/// `tls` authorizes.
///
/// # Errors
///
/// If the connection cannot be made.
///
/// # Cancel safety
///
/// Dropping the call resets the tunnel.
pub async fn connect_within(
    tunnel: TunnelStream,
    tls: &ClientTls,
    config: &Config,
) -> Result<(Client, Connection<TlsStream<TunnelStream>>), DialError> {
    let (stream, peer) = tls::connect(tunnel, tls, config).await?;
    tls::handshake(stream, peer, config).await
}

/// Why a connection through a gateway was not made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DoubleError {
    /// The gateway did not open the outer tunnel.
    #[error("gateway: {0}")]
    Outer(#[source] OpenError),
    /// The inner connection was not made.
    #[error("through gateway: {0}")]
    Inner(#[from] DialError),
}
