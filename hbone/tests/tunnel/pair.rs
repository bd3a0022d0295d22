//! A client and a server on the two ends of a pipe, both driven in the background.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use hbone::{Client, Config, Handler, IncomingTunnel, Lost, Peer, TunnelRequest, TunnelResponse, TunnelStream, server};
use mesh_testkit::pipe::{self, PipeControl};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};

/// Both ends of a connection; the tasks end with it.
pub struct Pair {
    pub client: Client,
    pub client_end: JoinHandle<Result<(), Lost>>,
    pub server_end: JoinHandle<Result<(), server::ServeError>>,
    /// Has the server drain.
    pub drain: oneshot::Sender<()>,
    _tasks: JoinSet<()>,
}

impl Pair {
    /// A pair of the test's own making, whose ends `tasks` drive.
    pub fn of(
        client: Client,
        client_end: JoinHandle<Result<(), Lost>>,
        server_end: ServerEnd,
        drain: oneshot::Sender<()>,
        tasks: JoinSet<()>,
    ) -> Self {
        Self {
            client,
            client_end,
            server_end,
            drain,
            _tasks: tasks,
        }
    }
}

/// A request that names no place in particular.
pub fn request() -> TunnelRequest {
    TunnelRequest::new("10.0.0.1:80".parse().unwrap())
}

/// Connects a client to a server whose tunnels `handler` answers.
pub async fn pair(config: &Config, handler: impl Handler) -> Pair {
    let (near, far) = tokio::io::duplex(256 * 1024);
    over(near, far, config, handler).await
}

/// As [`pair`], over a pipe that misbehaves on command: the client is on its left.
pub async fn piped(pipe: pipe::Builder, config: &Config, handler: impl Handler) -> (Pair, PipeControl) {
    let (near, far) = pipe.build();
    let control = near.control();
    (over(near, far, config, handler).await, control)
}

/// As [`pair`], over streams of the test's own.
pub async fn over<Near, Far>(near: Near, far: Far, config: &Config, handler: impl Handler) -> Pair
where
    Near: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    Far: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut tasks = JoinSet::new();
    let (drain, server_end) = serve(&mut tasks, far, config, handler);
    let (client, connection) = hbone::client::handshake(near, Peer::unknown(), config).await.unwrap();
    let (ended, client_end) = oneshot::channel();
    tasks.spawn(async move {
        ended.send(connection.await).ok();
    });
    Pair {
        client,
        client_end: wait(client_end),
        server_end,
        drain,
        _tasks: tasks,
    }
}

type ServerEnd = JoinHandle<Result<(), server::ServeError>>;

/// Serves one connection in a task, until told to drain.
pub fn serve<Io>(
    tasks: &mut JoinSet<()>,
    io: Io,
    config: &Config,
    handler: impl Handler,
) -> (oneshot::Sender<()>, ServerEnd)
where
    Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (drain, draining) = oneshot::channel();
    let (ended, end) = oneshot::channel();
    let config = config.clone();
    tasks.spawn(async move {
        let drain = async move {
            if draining.await.is_err() {
                pending::<()>().await;
            }
        };
        let served = server::serve(io, Peer::unknown(), &config, Arc::new(handler), drain);
        ended.send(served.await).ok();
    });
    (drain, wait(end))
}

/// A task that answers with what the channel brings.
pub fn wait<T: Send + 'static>(end: oneshot::Receiver<T>) -> JoinHandle<T> {
    background(async move {
        match end.await {
            Ok(end) => end,
            Err(_) => pending().await,
        }
    })
}

/// Runs something beside the test.
#[expect(clippy::disallowed_methods, reason = "the task ends with the test's runtime")]
pub fn background<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    tokio::spawn(work)
}

/// Lets everything that can happen now happen, by waiting a moment in paused time.
pub async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

/// Sends back what it gets, and ends when its peer ends.
pub async fn echo(tunnel: IncomingTunnel) {
    let mut stream = tunnel.accept(TunnelResponse::new());
    while let Ok(Some(chunk)) = stream.read_chunk().await {
        if stream.write_chunk(chunk).await.is_err() {
            return;
        }
    }
    stream.shutdown().await.ok();
}

/// Accepts, and then neither reads nor writes.
pub async fn stall(tunnel: IncomingTunnel) {
    let _stream = tunnel.accept(TunnelResponse::new());
    pending::<()>().await;
}

/// Sends `bytes` on a tunnel and ends it.
pub async fn send_all(stream: &mut TunnelStream, bytes: &[u8]) {
    stream.write_all(bytes).await.unwrap();
    stream.shutdown().await.unwrap();
}
