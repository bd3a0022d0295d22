//! What is written to a client that does not take it yet.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Whether somebody waits for a client to take more, and how much it took before.
#[derive(Default)]
pub(super) struct Backlog {
    is_waited_for: AtomicBool,
    taken: AtomicU64,
}

impl Backlog {
    /// How often the client has taken something, if more waits for it.
    pub(super) fn waiting(&self) -> Option<u64> {
        let is_waited_for = self.is_waited_for.load(Ordering::Relaxed);
        is_waited_for.then(|| self.taken.load(Ordering::Relaxed))
    }

    fn hear<T>(&self, written: Poll<T>) -> Poll<T> {
        self.is_waited_for.store(written.is_pending(), Ordering::Relaxed);
        if written.is_ready() {
            self.taken.fetch_add(1, Ordering::Relaxed);
        }
        written
    }
}

/// A client's stream whose backlog is known.
pub(super) struct Watched<S> {
    stream: S,
    backlog: Arc<Backlog>,
}

impl<S> Watched<S> {
    pub(super) fn new(stream: S, backlog: Arc<Backlog>) -> Self {
        Self { stream, backlog }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.backlog.hear(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.backlog.hear(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ended = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.backlog.hear(ended)
    }
}
