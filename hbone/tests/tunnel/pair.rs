//! A client and a server on the two ends of a pipe, both driven in the background.

use std::sync::Arc;

use hbone::{Client, Config, Handler, IncomingTunnel, Lost, Peer, TunnelRequest, TunnelResponse, TunnelStream, server};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::task::{JoinHandle, JoinSet};

/// Both ends of a connection; the tasks end with it.
pub struct Pair {
    pub client: Client,
    pub client_end: JoinHandle<Result<(), Lost>>,
    pub server_end: JoinHandle<Result<(), server::ServeError>>,
    _tasks: JoinSet<()>,
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

/// As [`pair`], over streams of the test's own.
pub async fn over<Io>(near: Io, far: Io, config: &Config, handler: impl Handler) -> Pair
where
    Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut tasks = JoinSet::new();
    let (ended, server_end) = tokio::sync::oneshot::channel();
    let server_config = config.clone();
    tasks.spawn(async move {
        let served = server::serve(
            far,
            Peer::unknown(),
            &server_config,
            Arc::new(handler),
            std::future::pending(),
        );
        ended.send(served.await).ok();
    });
    let (client, connection) = hbone::client::handshake(near, Peer::unknown(), config).await.unwrap();
    let (ended, client_end) = tokio::sync::oneshot::channel();
    tasks.spawn(async move {
        ended.send(connection.await).ok();
    });
    Pair {
        client,
        client_end: wait(client_end),
        server_end: wait(server_end),
        _tasks: tasks,
    }
}

fn wait<T: Send + 'static>(end: tokio::sync::oneshot::Receiver<T>) -> JoinHandle<T> {
    #[expect(clippy::disallowed_methods, reason = "the task ends with the test's runtime")]
    tokio::spawn(async move { end.await.expect("the connection was dropped") })
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

/// Sends `bytes` on a tunnel and ends it.
pub async fn send_all(stream: &mut TunnelStream, bytes: &[u8]) {
    stream.write_all(bytes).await.unwrap();
    stream.shutdown().await.unwrap();
}
