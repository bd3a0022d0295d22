//! Two TCP connections, joined.

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
}

/// Copies both ways until both directions have ended or one side has failed. Unless both ended in
/// order, both sides are reset, also where the call is dropped.
pub(crate) async fn join(client: TcpStream, server: TcpStream, progress: &PlainProgress) -> io::Result<()> {
    settle(&client);
    settle(&server);
    let mut client = Side::new(client, &progress.to_client);
    let mut server = Side::new(server, &progress.to_server);
    copy_bidirectional(&mut client, &mut server).await?;
    client.is_done = true;
    server.is_done = true;
    Ok(())
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

/// A connection whose written bytes are counted.
struct Side<'a> {
    tcp: TcpStream,
    written: &'a AtomicU64,
    is_done: bool,
}

impl<'a> Side<'a> {
    fn new(tcp: TcpStream, written: &'a AtomicU64) -> Self {
        Self {
            tcp,
            written,
            is_done: false,
        }
    }
}

impl Drop for Side<'_> {
    fn drop(&mut self) {
        if !self.is_done {
            reset(&self.tcp);
        }
    }
}

impl AsyncRead for Side<'_> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_read(cx, buf)
    }
}

impl AsyncWrite for Side<'_> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.tcp).poll_write(cx, buf))?;
        self.written.fetch_add(written as u64, Ordering::Relaxed);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}
