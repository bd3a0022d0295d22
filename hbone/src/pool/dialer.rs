//! Connectors for mutual TLS: to an address, and through a gateway.

use std::error::Error;

use mesh_identity::live::{CloseReason, Live};
use mesh_identity::tls::ClientTls;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::connect::Connect;
use super::handle::{Pool, PoolError};
use super::key::{Behind, PoolKey};
use crate::client::Client;
use crate::config::Config;
use crate::conn::Connection;
use crate::double;
use crate::request::TunnelRequest;
use crate::stream::TunnelStream;
use crate::tls::{self, DialError, TlsStream};

/// Connects by [`tls::dial`].
///
/// It asks for a key's TLS configuration with each dial, so new connections have the certificates
/// of their time. A configuration of another identity, or for other peers, than the key's is not
/// used.
///
/// # Examples
///
/// ```no_run
/// use hbone::pool::{Dialer, PoolKey};
/// use hbone::{Config, Pool, PoolConfig, TunnelRequest};
/// # async fn example(tls: mesh_identity::tls::ClientTls) -> Result<(), Box<dyn std::error::Error>> {
///
/// // One identity, and one set of acceptable peers.
/// let key = PoolKey::new(tls.identity().id().clone(), tls.policy().clone(), "10.0.0.7:15008".parse()?);
/// let pool = Pool::new(PoolConfig::default(), Dialer::new(move |_: &_| Some(tls.clone()), Config::default()));
/// let tunnel = pool.open(&key, TunnelRequest::new("10.0.0.7:8080".parse()?)).await?;
/// # drop(tunnel);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Dialer<F> {
    identities: F,
    live: Option<Live>,
    config: Config,
}

impl<F> Dialer<F>
where
    F: Fn(&PoolKey) -> Option<ClientTls> + Send + Sync + 'static,
{
    /// A dialer that makes connections with `config`, and TLS as `identities` says: for each key
    /// the identity of its [source](PoolKey::source) and the policy of its
    /// [destinations](PoolKey::destinations), or nothing for a key that it does not know.
    pub fn new(identities: F, config: Config) -> Self {
        Self {
            identities,
            live: None,
            config,
        }
    }

    /// Registers every connection with `live`, and closes it when its peer is not trusted any more:
    /// see [`Connection::hold`]. Default: connections are judged by their handshakes alone.
    #[must_use]
    pub fn with_live(self, live: Live) -> Self {
        Self {
            live: Some(live),
            ..self
        }
    }
}

impl<F> Connect<PoolKey> for Dialer<F>
where
    F: Fn(&PoolKey) -> Option<ClientTls> + Send + Sync + 'static,
{
    type Error = DialerError;
    type Driver = Connection<TlsStream<TcpStream>>;

    async fn connect(&self, key: &PoolKey) -> Result<(Client, Self::Driver), DialerError> {
        let tls = identity(key, (self.identities)(key))?;
        let made = tls::dial(*key.place(), &tls, &self.config).await?;
        Ok(held(self.live.as_ref(), key, made)?)
    }
}

/// Connects through tunnels of another pool, by [`connect_within`](crate::connect_within): double
/// HBONE with both connections pooled.
///
/// TLS configurations are asked for and checked as by a [`Dialer`]. The tunnel through the gateway
/// is requested without metadata, since the connection in it is not for one tunnel alone.
#[derive(Clone, Debug)]
pub struct GatewayDialer<F, C: Connect<PoolKey>> {
    gateways: Pool<PoolKey, C>,
    identities: F,
    live: Option<Live>,
    config: Config,
}

impl<F, C> GatewayDialer<F, C>
where
    F: Fn(&PoolKey<Behind>) -> Option<ClientTls> + Send + Sync + 'static,
    C: Connect<PoolKey>,
{
    /// A dialer that reaches gateways by `gateways`, and makes the connections behind them with
    /// `config`, and TLS as `identities` says.
    pub fn new(gateways: Pool<PoolKey, C>, identities: F, config: Config) -> Self {
        Self {
            gateways,
            identities,
            live: None,
            config,
        }
    }

    /// As [`Dialer::with_live`].
    #[must_use]
    pub fn with_live(self, live: Live) -> Self {
        Self {
            live: Some(live),
            ..self
        }
    }
}

impl<F, C> Connect<PoolKey<Behind>> for GatewayDialer<F, C>
where
    F: Fn(&PoolKey<Behind>) -> Option<ClientTls> + Send + Sync + 'static,
    C: Connect<PoolKey>,
{
    type Error = GatewayError<C::Error>;
    type Driver = Connection<TlsStream<TunnelStream>>;

    async fn connect(&self, key: &PoolKey<Behind>) -> Result<(Client, Self::Driver), Self::Error> {
        let tls = identity(key, (self.identities)(key))?;
        let Behind { gateway, authority } = key.place();
        let request = TunnelRequest::new(authority.clone());
        let tunnel = self
            .gateways
            .open(gateway, request)
            .await
            .map_err(GatewayError::Gateway)?;
        let made = double::connect_within(tunnel, &tls, &self.config).await?;
        Ok(held(self.live.as_ref(), key, made)?)
    }
}

/// Registers a connection that was made for a key.
fn held<P, Io>(
    live: Option<&Live>,
    key: &PoolKey<P>,
    (client, connection): (Client, Connection<Io>),
) -> Result<(Client, Connection<Io>), CloseReason>
where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    let (Some(live), Some(peer)) = (live, client.peer().identity().cloned()) else {
        return Ok((client, connection));
    };
    let guard = live.scope(key.destinations().clone()).register(key.source(), peer)?;
    Ok((client, connection.hold(guard)))
}

/// The TLS configuration for a key, if it is the key's.
fn identity<P>(key: &PoolKey<P>, tls: Option<ClientTls>) -> Result<ClientTls, IdentityError> {
    let tls = tls.ok_or(IdentityError::Unknown)?;
    key.suits(&tls).then_some(tls).ok_or(IdentityError::Mismatch)
}

/// Why there is no TLS configuration for a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// There is none.
    #[error("no TLS configuration for the key")]
    Unknown,
    /// It is for another identity, or for other peers.
    #[error("TLS configuration is not the key's")]
    Mismatch,
}

/// Why a [`Dialer`] made no connection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DialerError {
    /// There is no TLS configuration for the key.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The dial failed.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The peer was verified, and is not trusted by now.
    #[error(transparent)]
    Distrusted(#[from] CloseReason),
}

/// Why a [`GatewayDialer`] made no connection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GatewayError<E: Error + 'static> {
    /// There is no TLS configuration for the key.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// There is no tunnel through the gateway.
    #[error("gateway: {0}")]
    Gateway(#[source] PoolError<E>),
    /// The connection behind the gateway was not made.
    #[error("through gateway: {0}")]
    Inner(#[from] DialError),
    /// The peer behind the gateway was verified, and is not trusted by now.
    #[error("through gateway: {0}")]
    Distrusted(#[from] CloseReason),
}
