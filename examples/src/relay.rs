//! A client's part before the tunnel: takes connections, each through a tunnel of its own.

use std::future::Future;
use std::time::Duration;

use hbone::pool::{Connect, Dialer, PoolKey};
use hbone::{Config, Pool, PoolConfig, TunnelRequest, copy_bidirectional};
use mesh_identity::live::Live;
use mesh_identity::tls::ClientTls;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};

use crate::accept;

/// Time that open tunnels are given to end.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Carries connections to one destination through tunnels at one peer, which share connections.
#[derive(Clone)]
pub(crate) struct Relay<F> {
    /// This side, the peer, and where that is.
    pub(crate) key: PoolKey,
    /// TLS for that, asked for with each connection.
    pub(crate) identities: F,
    /// What open connections are held to.
    pub(crate) live: Live,
    pub(crate) config: Config,
    pub(crate) pool: PoolConfig,
    pub(crate) request: TunnelRequest,
}

impl<F: Fn(&PoolKey) -> Option<ClientTls> + Send + Sync + 'static> Relay<F> {
    /// Takes connections until `stop`; those that are open then have a time to end.
    pub(crate) async fn run(self, listener: TcpListener, stop: impl Future<Output = ()>) {
        let Self {
            key,
            identities,
            live,
            config,
            pool,
            request,
        } = self;
        let pool = Pool::new(pool, Dialer::new(identities, config).with_live(live));
        let carried = pool.clone();
        let open = accept::until(stop, listener, move |tcp, _| {
            carry(tcp, carried.clone(), key.clone(), request.clone())
        })
        .await;
        pool.drain(DRAIN_TIMEOUT).await;
        open.ended().await;
    }
}

async fn carry<C: Connect<PoolKey>>(tcp: TcpStream, pool: Pool<PoolKey, C>, key: PoolKey, request: TunnelRequest) {
    let authority = request.authority().clone();
    if let Err(error) = hbone::tls::prepare(&tcp) {
        return tracing::debug!(reason = %error, "connection gone");
    }
    // Boxed, so that a tunnel that is open does not keep the room for its opening.
    match Box::pin(pool.open(&key, request)).await {
        Ok(tunnel) => {
            let outcome = copy_bidirectional(tcp, tunnel).await;
            let (received, sent) = (outcome.to_tcp, outcome.to_tunnel);
            match outcome.abort {
                None => tracing::info!(%authority, received, sent, "tunnel ended"),
                Some(reason) => tracing::warn!(%authority, received, sent, %reason, "tunnel aborted"),
            }
        }
        Err(error) => {
            tracing::warn!(%authority, reason = %error, "no tunnel");
            // The application sees a failed connection and not an empty answer.
            if let Err(error) = SockRef::from(&tcp).set_linger(Some(Duration::ZERO)) {
                tracing::debug!(reason = %error, "cannot reset a connection");
            }
        }
    }
}
