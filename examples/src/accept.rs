//! Takes connections from a listener, each in a task of its own.

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinError, JoinSet};
use tokio::time::sleep;

/// Connections that are open at a time; more wait in the listener's backlog.
const MAX_CONNECTIONS: usize = 10_000;

/// Pause after the operating system could give no connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Has `carry` treat every connection until `stop`; answers with those that are still open.
pub(crate) async fn until<Fut>(
    stop: impl Future<Output = ()>,
    listener: TcpListener,
    carry: impl Fn(TcpStream, SocketAddr) -> Fut,
) -> Connections
where
    Fut: Future<Output = ()> + Send + 'static,
{
    let mut stop = pin!(stop);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = &mut stop => break,
            Some(ended) = connections.join_next() => report_panic(ended),
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                Ok((tcp, from)) => {
                    connections.spawn(carry(tcp, from));
                }
                Err(error) => {
                    tracing::warn!(reason = %error, "cannot accept");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    // Whoever was let in by the kernel does not know yet that it was too late.
    while connections.len() < MAX_CONNECTIONS
        && let Poll::Ready(Ok((tcp, from))) = poll_fn(|cx| Poll::Ready(listener.poll_accept(cx))).await
    {
        connections.spawn(carry(tcp, from));
    }
    Connections(connections)
}

/// Connections that were open when no more were taken. Dropped, they end at once.
pub(crate) struct Connections(JoinSet<()>);

impl Connections {
    /// Waits until all have ended.
    pub(crate) async fn ended(mut self) {
        while let Some(ended) = self.0.join_next().await {
            report_panic(ended);
        }
    }
}

fn report_panic(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!(reason = %error, "connection reset after a panic");
    }
}
