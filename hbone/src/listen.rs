//! Serving tunnels on a TCP listener.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use mesh_identity::live::{CloseReason, Scope};
use mesh_identity::tls::{IdentityUnavailable, ServerTls};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::config::Config;
use crate::conn::Connection;
use crate::observe::Event;
use crate::server::{self, Handler, ServeError};
use crate::tls::{self, TlsError};

/// First and longest pause after the operating system could give no connection.
const BACKOFF: Duration = Duration::from_millis(5);
const MAX_BACKOFF: Duration = Duration::from_millis(500);

/// Serves tunnels on a TCP listener: TLS, HTTP/2 and one task for each connection.
#[derive(Clone)]
pub struct Listener {
    identity: Arc<Identity>,
    scope: Option<Arc<Scope>>,
    config: Config,
    max_connections: usize,
}

/// The TLS configuration of this moment.
type Identity = dyn Fn() -> Result<ServerTls, IdentityUnavailable> + Send + Sync;

impl Listener {
    /// A listener for the peers that `tls` authorizes.
    #[must_use]
    pub fn new(tls: ServerTls, config: Config) -> Self {
        Self::with_identity(move || Ok(tls.clone()), config)
    }

    /// A listener that asks for its TLS configuration with each connection, so that new connections
    /// have the certificates of their time: see
    /// [`Identities::server`](mesh_identity::tls::Identities::server). While there is none,
    /// connections are closed.
    #[must_use]
    pub fn with_identity(
        identity: impl Fn() -> Result<ServerTls, IdentityUnavailable> + Send + Sync + 'static,
        config: Config,
    ) -> Self {
        Self {
            identity: Arc::new(identity),
            scope: None,
            config,
            max_connections: 10_000,
        }
    }

    /// Registers every connection here, and closes it when its peer is not trusted any more: see
    /// [`Connection::hold`](crate::Connection::hold). Default: connections are judged by their
    /// handshakes alone.
    pub fn set_scope(&mut self, scope: Arc<Scope>) -> &mut Self {
        self.scope = Some(scope);
        self
    }

    /// Connections that are open or in their handshake at a time; while there are so many, more
    /// wait in the listener's backlog. Default 10,000; at least 1.
    pub fn set_max_connections(&mut self, connections: usize) -> &mut Self {
        self.max_connections = connections.max(1);
        self
    }

    /// Accepts connections and has `handler` answer their tunnels, until `shutdown` completes.
    /// Then accepts no more, drains all connections, and returns when they have ended.
    ///
    /// An accept that fails for want of file descriptors or memory is tried again after a pause
    /// that doubles from 5 ms to 500 ms.
    ///
    /// # Cancel safety
    ///
    /// Dropping the call drops every connection; every tunnel is reset.
    pub async fn serve<H: Handler>(&self, listener: TcpListener, handler: H, shutdown: impl Future<Output = ()>) {
        let handler = Arc::new(handler);
        let (drain, draining) = watch::channel(false);
        let mut shutdown = pin!(shutdown);
        let mut backoff = BACKOFF;
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                biased;
                () = &mut shutdown => break,
                Some(ended) = connections.join_next() => {
                    tracing::trace!(?ended, "connection ended");
                    continue;
                }
                accepted = listener.accept(), if connections.len() < self.max_connections => accepted,
            };
            match accepted {
                Ok((tcp, addr)) => {
                    backoff = BACKOFF;
                    let peer_drain = draining.clone();
                    let connection = self.clone().connection(tcp, addr, Arc::clone(&handler), peer_drain);
                    connections.spawn(connection);
                }
                Err(error) => {
                    self.config.observe(&Event::AcceptBackoff { kind: error.kind() });
                    tracing::warn!(%error, "cannot accept");
                    tokio::select! {
                        () = &mut shutdown => break,
                        () = tokio::time::sleep(backoff) => backoff = (backoff * 2).min(MAX_BACKOFF),
                    }
                }
            }
        }
        drop(listener);
        drain.send_replace(true);
        while connections.join_next().await.is_some() {}
    }

    /// Serves one connection from `addr` that was accepted elsewhere, such as where a listener's
    /// address alone does not say which identity it is for: TLS, HTTP/2, and `handler` for its
    /// tunnels, until it ends. When `shutdown` completes it is drained.
    ///
    /// # Errors
    ///
    /// If the connection cannot be made, is not to be used, or is lost.
    ///
    /// # Cancel safety
    ///
    /// Dropping the call drops the connection; every tunnel is reset.
    pub fn serve_connection<H: Handler>(
        &self,
        tcp: TcpStream,
        addr: SocketAddr,
        handler: Arc<H>,
        shutdown: impl Future<Output = ()> + Send,
    ) -> impl Future<Output = Result<(), ConnectionError>> + Send {
        self.try_connection(tcp, addr, handler, shutdown)
    }

    async fn try_connection<H: Handler>(
        &self,
        tcp: TcpStream,
        addr: SocketAddr,
        handler: Arc<H>,
        shutdown: impl Future<Output = ()> + Send,
    ) -> Result<(), ConnectionError> {
        tls::prepare(&tcp).map_err(ConnectionError::Tcp)?;
        let tls = (self.identity)().inspect_err(|error| {
            let error = error.clone();
            self.config.observe(&Event::IdentityUnavailable {
                addr: Some(addr),
                error,
            });
        })?;
        let mut drain = pin!(shutdown);
        let accepted = tokio::select! {
            accepted = tls::accept(tcp, &tls, &self.config) => accepted,
            () = &mut drain => return Ok(()),
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                self.config.observe(&Event::TlsFailed {
                    addr: Some(addr),
                    error: error.handshake().cloned(),
                });
                return Err(error.into());
            }
        };
        let peer = peer.with_addr(addr);
        let Some((scope, identity)) = self.scope.as_ref().zip(peer.identity().cloned()) else {
            return Ok(server::serve(stream, peer, &self.config, handler, drain).await?);
        };
        let guard = scope.register(tls.identity().id(), identity).inspect_err(|&reason| {
            self.config.observe(&Event::PeerDistrusted {
                addr: Some(addr),
                reason,
            });
        })?;
        let hold = |connection: Connection<_>| connection.hold(guard);
        Ok(server::serve_as(stream, peer, &self.config, handler, drain, hold).await?)
    }

    async fn connection<H: Handler>(
        self,
        tcp: TcpStream,
        addr: SocketAddr,
        handler: Arc<H>,
        mut draining: watch::Receiver<bool>,
    ) {
        let drain = async move {
            // A listener that is gone drains as well.
            let drained = draining.wait_for(|draining| *draining).await.is_ok();
            tracing::trace!(drained, "connection drains");
        };
        if let Err(error) = self.try_connection(tcp, addr, handler, drain).await {
            tracing::debug!(peer = ?addr, %error, "connection failed");
        }
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener")
            .field("scope", &self.scope)
            .field("config", &self.config)
            .field("max_connections", &self.max_connections)
            .finish_non_exhaustive()
    }
}

/// Why a connection that was accepted failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectionError {
    /// The operating system refused a socket option.
    #[error("cannot set socket options: {0}")]
    Tcp(#[source] io::Error),
    /// There is no identity to present.
    #[error(transparent)]
    Identity(#[from] IdentityUnavailable),
    /// The TLS handshake failed, or the peer is not authorized.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The peer was verified, and is not trusted by now.
    #[error(transparent)]
    Distrusted(#[from] CloseReason),
    /// HTTP/2 did not begin, or the connection was lost.
    #[error(transparent)]
    Serve(#[from] ServeError),
}
