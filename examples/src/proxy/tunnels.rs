//! Tunnels to other nodes, waypoints and gateways.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use hbone::pool::{Connect, DialFailure, Dialer, DialerError, PoolKey};
use hbone::tls::DialError;
use hbone::{Client, OpenError, Pool, PoolConfig, PoolError, Refusal, RefusalKind, TunnelRequest, TunnelStream};
use mesh_identity::live::CloseReason;
use mesh_identity::tls::{ClientTls, IdentityUnavailable};
use mesh_identity::{PeerPolicy, SpiffeId};

use super::connect::{self, ConnectError};
use super::credentials::Credentials;
use super::stretch::{Spot, Stretch};

/// Gives the TLS configuration of a key.
type Identities = Box<dyn Fn(&PoolKey) -> Option<ClientTls> + Send + Sync>;

/// Opens tunnels under a proxy's identities; those of one identity to one peer share connections.
#[derive(Clone)]
pub(crate) struct Tunnels {
    credentials: Arc<Credentials>,
    config: hbone::Config,
    pool: Pool<PoolKey, Dialer<Identities>>,
}

/// A tunnel, and what has to be polled for it to go on, if that is its own.
pub(crate) struct Opened {
    pub(crate) stream: TunnelStream,
    pub(crate) within: Option<Within>,
}

/// The connection that a tunnel has to itself; it ends with the tunnel when nobody holds `client`.
pub(crate) struct Within {
    pub(crate) client: Client,
    pub(crate) connection: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Tunnels {
    pub(crate) fn new(credentials: Arc<Credentials>, config: hbone::Config, timers: hbone::Timers) -> Self {
        let live = credentials.live().clone();
        let of_key = Arc::clone(&credentials);
        let identities: Identities = Box::new(move |key| {
            let tls = of_key.client(key.source(), key.destinations());
            tls.inspect_err(|reason| tracing::warn!(%reason, "no identity")).ok()
        });
        let dialer = Dialer::new(identities, config.clone()).with_live(live);
        let mut pool = PoolConfig::default();
        pool.set_observer(Arc::new(crate::events::Log)).set_timers(timers);
        Self {
            pool: Pool::new(pool, dialer),
            credentials,
            config,
        }
    }

    /// Opens a tunnel of `source`.
    pub(crate) async fn open(
        &self,
        source: &SpiffeId,
        stretch: &Stretch,
        request: TunnelRequest,
    ) -> Result<Opened, TunnelsError> {
        let peer = match &stretch.peer {
            Spot::Addr(addr) => *addr,
            Spot::Name(name, port) => connect::resolve(name, *port).await?,
        };
        self.credentials.wait_for(source).await;
        let key = PoolKey::new(source.clone(), stretch.servers.clone(), peer);
        let stream = open(self.pool.clone(), key, request).await?;
        Ok(Opened { stream, within: None })
    }

    /// Opens a tunnel of `source` within the one to a gateway. It has a connection to itself, so
    /// that what is behind the gateway can be another workload for each.
    pub(crate) async fn open_within(
        &self,
        source: &SpiffeId,
        outer: &Stretch,
        servers: &PeerPolicy,
        request: TunnelRequest,
    ) -> Result<Opened, TunnelsError> {
        let to_gateway = TunnelRequest::new(outer.authority.clone());
        let Opened { stream, .. } = self.open(source, outer, to_gateway).await?;
        let credentials = &self.credentials;
        let tls = credentials.client(source, servers)?;
        let (client, mut connection) = hbone::connect_within(stream, &tls, &self.config).await?;
        if let Some(peer) = client.peer().identity().cloned() {
            let guard = credentials.live().scope(servers.clone()).register(source, peer)?;
            connection = connection.hold(guard);
        }
        let mut connection = Box::pin(async move {
            if let Err(reason) = connection.await {
                tracing::debug!(%reason, "connection through a gateway lost");
            }
        });
        let stream = tokio::select! {
            opened = client.open(request) => opened?,
            () = &mut connection => return Err(TunnelsError::Lost),
        };
        let within = Some(Within { client, connection });
        Ok(Opened { stream, within })
    }

    /// Opens no more tunnels, and waits for those that are open, though not longer.
    pub(crate) async fn drain(&self, timeout: Duration) {
        self.pool.drain(timeout).await;
    }
}

/// A tunnel that is being opened.
type Opening<E> = Pin<Box<dyn Future<Output = Result<TunnelStream, PoolError<E>>> + Send>>;

/// Opens a tunnel of a pool. Whatever makes the pool's connections, the call can change threads.
fn open<C: Connect<PoolKey>>(pool: Pool<PoolKey, C>, key: PoolKey, request: TunnelRequest) -> Opening<C::Error> {
    Box::pin(async move { pool.open(&key, request).await })
}

/// Why there is no tunnel.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TunnelsError {
    #[error(transparent)]
    Place(#[from] ConnectError),
    #[error(transparent)]
    Identity(#[from] IdentityUnavailable),
    #[error(transparent)]
    Pool(#[from] PoolError<DialerError>),
    #[error("through gateway: {0}")]
    Dial(#[from] DialError),
    #[error("through gateway: {0}")]
    Distrusted(#[from] CloseReason),
    #[error("through gateway: {0}")]
    Open(#[from] OpenError),
    #[error("through gateway: connection lost")]
    Lost,
}

impl TunnelsError {
    /// What metrics call it.
    pub(crate) fn flags(&self) -> &'static str {
        let dial = match self {
            Self::Identity(_) => return "IDENTITY_ERROR",
            Self::Dial(dial) => Some(dial),
            Self::Pool(PoolError::Dial(failure) | PoolError::HeldOff { error: failure, .. }) => match &**failure {
                DialFailure::Connect(DialerError::Identity(_)) => return "IDENTITY_ERROR",
                DialFailure::Connect(DialerError::Dial(dial)) => Some(dial),
                _ => None,
            },
            _ => None,
        };
        match dial {
            Some(DialError::Tls(_)) => "TLS_FAILURE",
            Some(DialError::Http2(_)) => "H2_HANDSHAKE_FAILURE",
            _ => "CONNECT",
        }
    }

    /// What the peer answered, if it did.
    pub(crate) fn refusal(&self) -> Option<RefusalKind> {
        match self {
            Self::Open(OpenError::Refused(refusal)) | Self::Pool(PoolError::Open(OpenError::Refused(refusal))) => {
                Some(Refusal::kind(refusal))
            }
            _ => None,
        }
    }
}
