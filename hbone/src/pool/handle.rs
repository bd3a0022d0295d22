//! A pool as its user holds it.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio::time::timeout_at;

use super::action::Refusal;
use super::config::PoolConfig;
use super::connect::{Connect, DialFailure, Key};
use super::group::WaiterId;
use super::shared::{Asked, Lease, Shared};
use super::stats::PoolStats;
use super::worker::keep_house;
use crate::client::OpenError;
use crate::conn::driver::LINGER;
use crate::request::TunnelRequest;
use crate::slot::ConnId;
use crate::stream::TunnelStream;

/// Tunnels by key, over shared connections. See the [module](super).
///
/// Clones are cheap and share everything. The pool's tasks run in the runtime of the first call,
/// and end when the last clone is dropped: connections are dropped then, and tunnels on them fail
/// with [`Lost::Dropped`](crate::Lost::Dropped). [`drain`](Self::drain) first to end them in order.
pub struct Pool<K: Key, C: Connect<K>> {
    owner: Arc<Owner<K, C>>,
}

/// What ends with the last clone.
struct Owner<K: Key, C: Connect<K>> {
    shared: Arc<Shared<K, C>>,
    worker: OnceLock<JoinSet<()>>,
}

impl<K: Key, C: Connect<K>> Pool<K, C> {
    /// A pool without connections, which `connector` makes.
    pub fn new(config: PoolConfig, connector: C) -> Self {
        let shared = Shared::new(config, connector);
        let worker = OnceLock::new();
        Self {
            owner: Arc::new(Owner { shared, worker }),
        }
    }

    /// Opens a tunnel on a connection of `key`, which is dialled if need be.
    ///
    /// A request that the peer provably did not process is made again on another connection, as
    /// often as [configured](PoolConfig::set_tries). A request that may have been processed never
    /// is.
    ///
    /// # Errors
    ///
    /// See [`PoolError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the call gives its place back, and gives the request up as
    /// [`Client::open`](crate::Client::open) does. A dial that it waited for goes on for others.
    ///
    /// # Panics
    ///
    /// Outside of a Tokio runtime.
    pub async fn open(&self, key: &K, request: TunnelRequest) -> Result<TunnelStream, PoolError<C::Error>> {
        let shared = &self.owner.shared;
        let deadline = tokio::time::Instant::now() + shared.config.acquire_timeout;
        let mut refused_by = Vec::new();
        loop {
            let Lease { client, slot, proven } = self.acquire(key, &refused_by, deadline).await?;
            let conn = slot.id();
            let opened = client.open_in(slot, &request).await;
            if !proven && matches!(opened, Ok(_) | Err(OpenError::Refused(_))) {
                shared.proven(conn);
            }
            match opened {
                Ok(stream) => return Ok(stream),
                Err(error) => {
                    refused_by.push(conn);
                    if !error.is_unprocessed() || refused_by.len() >= shared.config.tries as usize {
                        return Err(PoolError::Open(error));
                    }
                }
            }
        }
    }

    /// Takes no more calls, gives the open tunnels `timeout` to end, and then resets those that
    /// have not. Calls that wait for a connection fail with [`PoolError::Closed`].
    ///
    /// Returns when all connections have ended, or a second after the timeout, which is for telling
    /// the peers.
    ///
    /// # Cancel safety
    ///
    /// The pool drains whether or not the call is waited for.
    pub async fn drain(&self, timeout: Duration) {
        let shared = &self.owner.shared;
        shared.close(timeout);
        let emptied = tokio::time::timeout(timeout.saturating_add(LINGER), shared.emptied());
        if emptied.await.is_err() {
            tracing::debug!("connections are left after the drain deadline");
        }
    }

    /// What the pool has done and what it holds.
    #[must_use]
    pub fn stats(&self) -> PoolStats {
        self.owner.shared.stats()
    }

    async fn acquire(
        &self,
        key: &K,
        avoid: &[ConnId],
        deadline: tokio::time::Instant,
    ) -> Result<Lease, PoolError<C::Error>> {
        let shared = &self.owner.shared;
        self.owner.worker.get_or_init(|| {
            let mut worker = JoinSet::new();
            worker.spawn(keep_house(Arc::clone(shared)));
            worker
        });
        let (waiter, mut answer) = match shared.acquire(key, avoid) {
            Asked::Answered(answer) => return answer.map_err(PoolError::from),
            Asked::Waiting(waiter, answer) => (waiter, answer),
        };
        // Dropped before the answer, so that none comes once nobody is there to take it.
        let _waiting = Waiting { shared, waiter };
        match timeout_at(deadline, &mut answer).await {
            Ok(Ok(answer)) => answer.map_err(PoolError::from),
            Ok(Err(_)) => Err(PoolError::Closed),
            Err(_) => Err(PoolError::Timeout),
        }
    }
}

impl<K: Key, C: Connect<K>> Clone for Pool<K, C> {
    fn clone(&self) -> Self {
        Self {
            owner: Arc::clone(&self.owner),
        }
    }
}

impl<K: Key, C: Connect<K>> fmt::Debug for Pool<K, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

/// A call that waits; given up if dropped.
struct Waiting<'a, K: Key, C: Connect<K>> {
    shared: &'a Shared<K, C>,
    waiter: WaiterId,
}

impl<K: Key, C: Connect<K>> Drop for Waiting<'_, K, C> {
    fn drop(&mut self) {
        self.shared.cancel(self.waiter);
    }
}

/// Why a pool opened no tunnel.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PoolError<E> {
    /// The dial that the call waited for failed, for all that waited for it.
    #[error("dial failed: {0}")]
    Dial(#[source] Arc<DialFailure<E>>),
    /// The key has no connection, and its dials have failed just before.
    #[error("dial failed before: {error}")]
    HeldOff {
        /// The latest failure.
        #[source]
        error: Arc<DialFailure<E>>,
        /// When the key is dialled again, if it is asked for then.
        retry_at: Instant,
    },
    /// The configured acquire timeout passed.
    #[error("no connection in time")]
    Timeout,
    /// As many calls as may wait for a connection of the key.
    #[error("too many calls wait for a connection")]
    Crowded,
    /// The pool drains.
    #[error("pool is closed")]
    Closed,
    /// The tunnel was not opened, on the last connection on which it was tried.
    #[error(transparent)]
    Open(#[from] OpenError),
}

impl<E> PoolError<E> {
    /// Whether the peer provably did not act on the request, so that it can be made again without
    /// harm. See [`OpenError::is_unprocessed`].
    #[must_use]
    pub fn is_unprocessed(&self) -> bool {
        match self {
            Self::Open(error) => error.is_unprocessed(),
            Self::Dial(_) | Self::HeldOff { .. } | Self::Timeout | Self::Crowded | Self::Closed => true,
        }
    }
}

impl<E> From<Refusal<Arc<DialFailure<E>>>> for PoolError<E> {
    fn from(refusal: Refusal<Arc<DialFailure<E>>>) -> Self {
        match refusal {
            Refusal::Dial(error) => Self::Dial(error),
            Refusal::HeldOff { error, retry_at } => Self::HeldOff { error, retry_at },
            Refusal::Crowded => Self::Crowded,
            Refusal::Closed => Self::Closed,
        }
    }
}
