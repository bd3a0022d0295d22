//! Two streams, joined.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional};
use tokio::net::TcpStream;

/// Bytes that have been carried so far.
#[derive(Debug, Default)]
pub(crate) struct PlainProgress {
    to_client: AtomicU64,
    to_server: AtomicU64,
}

impl PlainProgress {
    pub(crate) fn to_client(&self) -> u64 {
        self.to_client.load(Ordering::Relaxed)
    }

    pub(crate) fn to_server(&self) -> u64 {
        self.to_server.load(Ordering::Relaxed)
    }

    /// Counts what somebody else carries.
    pub(crate) fn count_to_client(&self, bytes: usize) {
        self.to_client.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn count_to_server(&self, bytes: usize) {
        self.to_server.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

/// Copies both ways until both directions have ended or one side has failed. Unless both ended in
/// order, both sides are reset, also where the call is dropped.
pub(crate) async fn join(client: TcpStream, server: TcpStream, progress: &PlainProgress) -> io::Result<()> {
    settle(&client);
    settle(&server);
    let (mut client, mut server) = (Side::new(client), Side::new(server));
    copy(&mut client.tcp, &mut server.tcp, progress).await?;
    client.is_done = true;
    server.is_done = true;
    Ok(())
}

/// Copies both ways until both directions have ended or one side has failed.
pub(crate) async fn copy(
    client: impl AsyncRead + AsyncWrite + Unpin,
    server: impl AsyncRead + AsyncWrite + Unpin,
    progress: &PlainProgress,
) -> io::Result<()> {
    let mut client = Counting {
        stream: client,
        written: &progress.to_client,
    };
    let mut server = Counting {
        stream: server,
        written: &progress.to_server,
    };
    copy_bidirectional(&mut client, &mut server).await.map(drop)
}

/// Has a connection end with a reset and not as if all had been said, unless it is settled.
pub(crate) fn reset(tcp: &TcpStream) {
    linger(tcp, Some(Duration::ZERO));
}

/// Has a connection end in order: somebody carries it, or all has been said.
pub(crate) fn settle(tcp: &TcpStream) {
    linger(tcp, None);
}

fn linger(tcp: &TcpStream, time: Option<Duration>) {
    if let Err(reason) = SockRef::from(tcp).set_linger(time) {
        tracing::debug!(%reason, "cannot say how a connection is to end");
    }
}

/// A connection that is reset when it is dropped, unless it is done.
struct Side {
    tcp: TcpStream,
    is_done: bool,
}

impl Side {
    fn new(tcp: TcpStream) -> Self {
        Self { tcp, is_done: false }
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        if !self.is_done {
            reset(&self.tcp);
        }
    }
}

/// A stream whose written bytes are counted.
struct Counting<'a, S> {
    stream: S,
    written: &'a AtomicU64,
}

impl<S: AsyncRead + Unpin> AsyncRead for Counting<'_, S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counting<'_, S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, buf))?;
        self.written.fetch_add(written as u64, Ordering::Relaxed);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
