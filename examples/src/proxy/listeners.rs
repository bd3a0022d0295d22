//! Where a proxy listens, shared out among its threads.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::config::Admin;
use crate::accept;
use crate::sockets::{self, BindError, Sockets};
use crate::workers::Stop;

/// What listens, with what each is for.
pub(crate) struct Listeners<R> {
    threads: u16,
    listeners: Vec<(R, Sockets)>,
    admin: Option<Sockets>,
}

/// The listeners of one thread, with what each is for.
pub(crate) type Share<R> = Vec<(R, TcpListener)>;

impl<R: Clone> Listeners<R> {
    /// So far only where operators are answered.
    pub(crate) fn new(admin: Option<&Admin>, threads: u16) -> Result<Self, ListenError> {
        let admin = admin.map(|admin| bind("admin.bind", admin.bind, 1)).transpose()?;
        Ok(Self {
            threads,
            listeners: Vec::new(),
            admin,
        })
    }

    /// Listens at an address too, which is what `field` says.
    pub(crate) fn listen(&mut self, role: R, field: &'static str, addr: SocketAddr) -> Result<(), ListenError> {
        self.listeners.push((role, bind(field, addr, self.threads)?));
        Ok(())
    }

    pub(crate) fn addrs(&self) -> impl Iterator<Item = (&R, SocketAddr)> {
        self.listeners.iter().map(|(role, sockets)| (role, sockets.addr))
    }

    pub(crate) fn admin(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(|admin| admin.addr)
    }

    /// A share for each thread, and where operators are answered.
    pub(super) fn into_shares(self) -> (Vec<Share<R>>, Option<TcpListener>) {
        let mut shares: Vec<Share<R>> = (0..self.threads).map(|_| Vec::new()).collect();
        for (role, sockets) in self.listeners {
            for (share, listener) in shares.iter_mut().zip(sockets.listeners) {
                share.push((role.clone(), listener));
            }
        }
        let admin = self.admin.and_then(|admin| admin.listeners.into_iter().next());
        (shares, admin)
    }
}

fn bind(field: &'static str, addr: SocketAddr, count: u16) -> Result<Sockets, ListenError> {
    sockets::bind(addr, count).map_err(|error| ListenError { field, error })
}

/// Has `carry` treat every connection until it is to stop, and then waits for those that are open,
/// though not longer than `drain`. Answers how much of that time is left.
pub(crate) async fn serve<R, Fut>(
    share: Share<R>,
    stop: Stop,
    drain: Duration,
    carry: impl Fn(R, TcpStream, SocketAddr, Stop) -> Fut + Clone + Send + 'static,
) -> std::io::Result<Duration>
where
    R: Clone + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let mut serving = JoinSet::new();
    for (role, listener) in share {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let (carry, stop) = (carry.clone(), stop.clone());
        serving.spawn(async move {
            let ordered = stop.clone();
            let carry = move |tcp, from| carry(role.clone(), tcp, from, ordered.clone());
            let open = accept::until(stop.draining(), listener, carry).await;
            if timeout(drain, open.ended()).await.is_err() {
                tracing::warn!("connections closed that did not end in time");
            }
        });
    }
    stop.draining().await;
    let began = Instant::now();
    while serving.join_next().await.is_some() {}
    Ok(drain.saturating_sub(began.elapsed()))
}

/// An address of the configuration that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("{field}: {error}")]
pub(crate) struct ListenError {
    field: &'static str,
    #[source]
    error: BindError,
}
