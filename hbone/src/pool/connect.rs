//! How a pool comes to its connections.

use std::error::Error;
use std::future::Future;
use std::hash::Hash;

use crate::client::Client;
use crate::lost::Lost;

/// What says that two tunnels may share a connection: equal keys may, others never do.
///
/// Keys are compared whole. Every type that can be one is one.
pub trait Key: Hash + Eq + Clone + Send + Sync + 'static {}

impl<K: Hash + Eq + Clone + Send + Sync + 'static> Key for K {}

/// Makes the connections of a [`Pool`](super::Pool).
///
/// Every function from a key to a future of a client and its driver is one:
///
/// ```
/// use std::net::SocketAddr;
/// use hbone::{Config, Peer, Pool, PoolConfig, client};
///
/// // Without TLS, for a test or inside a transport that is already secure.
/// let connect = |addr: SocketAddr| async move {
///     let tcp = tokio::net::TcpStream::connect(addr).await?;
///     let peer = Peer::unknown().with_addr(addr);
///     let connected = client::handshake(tcp, peer, &Config::default()).await;
///     connected.map_err(std::io::Error::other)
/// };
/// # let _ = || {
/// let pool = Pool::new(PoolConfig::default(), connect);
/// # pool
/// # };
/// ```
pub trait Connect<K: Key>: Send + Sync + 'static {
    /// Why no connection was made.
    type Error: Error + Send + Sync + 'static;

    /// What does the work of a connection, most often a [`Connection`](crate::Connection).
    type Driver: Future<Output = Result<(), Lost>> + Send + 'static;

    /// Makes a connection that any tunnel of `key` may use. The pool drops the future when its
    /// dial timeout passes.
    fn connect(&self, key: &K) -> impl Future<Output = Result<(Client, Self::Driver), Self::Error>> + Send;
}

impl<K, F, Fut, D, E> Connect<K> for F
where
    K: Key,
    F: Fn(K) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(Client, D), E>> + Send,
    D: Future<Output = Result<(), Lost>> + Send + 'static,
    E: Error + Send + Sync + 'static,
{
    type Error = E;
    type Driver = D;

    fn connect(&self, key: &K) -> impl Future<Output = Result<(Client, D), E>> + Send {
        self(key.clone())
    }
}

/// Why a key got no connection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DialFailure<E> {
    /// The connector failed.
    #[error("{0}")]
    Connect(#[source] E),
    /// The configured dial timeout passed.
    #[error("dial timed out")]
    Timeout,
    /// The connector panicked.
    #[error("connector panicked")]
    Panicked,
    /// The peer ended a connection before it carried a tunnel.
    #[error("peer ended the connection before it was used")]
    Unused,
}
