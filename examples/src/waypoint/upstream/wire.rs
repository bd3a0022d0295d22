use std::any::Any;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use mesh_policy::traffic::breaker::Permit;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

/// A stream to an endpoint, by which its connection is known to be open.
pub(super) struct Wire<Io> {
    io: Io,
    count: Arc<Count>,
    _berth: Berth,
}

/// What was written to a stream, and what it holds on to.
#[derive(Default)]
pub(super) struct Count {
    taken: AtomicU64,
    /// What a request holds whose connection became something else.
    held: Mutex<Option<Box<dyn Any + Send>>>,
}

impl Count {
    /// Bytes that the stream has taken.
    pub(super) fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// Holds something for as long as the stream is there.
    pub(super) fn hold(&self, held: impl Any + Send) {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(held));
    }
}

/// How many connections there are to an endpoint.
#[derive(Default)]
pub(super) struct Quay {
    berths: AtomicUsize,
    /// Somebody may go on who waits for a connection.
    freed: Notify,
}

impl Quay {
    pub(super) fn is_empty(&self) -> bool {
        self.berths.load(Ordering::Relaxed) == 0
    }

    /// There is a place for one.
    pub(super) fn free(&self) {
        self.freed.notify_one();
    }

    /// There are places for all who wait.
    pub(super) fn open(&self) {
        self.freed.notify_waiters();
    }

    /// Waits until something may have changed.
    pub(super) async fn freed(&self) {
        self.freed.notified().await;
    }
}

/// A connection's place at an endpoint, from before it is made.
pub(super) struct Berth {
    quay: Arc<Quay>,
    /// What a breaker has granted; none beyond its limit.
    _permit: Option<Permit>,
}

impl Berth {
    pub(super) fn new(quay: &Arc<Quay>, permit: Option<Permit>) -> Self {
        quay.berths.fetch_add(1, Ordering::Relaxed);
        Self {
            quay: Arc::clone(quay),
            _permit: permit,
        }
    }
}

impl Drop for Berth {
    fn drop(&mut self) {
        self.quay.berths.fetch_sub(1, Ordering::Relaxed);
        self.quay.free();
    }
}

impl<Io> Wire<Io> {
    pub(super) fn new(io: Io, berth: Berth) -> (Self, Arc<Count>) {
        let count = Arc::<Count>::default();
        let wire = Self {
            io,
            count: Arc::clone(&count),
            _berth: berth,
        };
        (wire, count)
    }

    fn took(&self, result: &Poll<io::Result<usize>>) {
        if let Poll::Ready(Ok(bytes)) = result {
            self.count.taken.fetch_add(*bytes as u64, Ordering::Relaxed);
        }
    }
}

impl<Io> Drop for Wire<Io> {
    fn drop(&mut self) {
        let held = self.count.held.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(held);
    }
}

impl<Io: AsyncRead + Unpin> AsyncRead for Wire<Io> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<Io: AsyncWrite + Unpin> AsyncWrite for Wire<Io> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, buf);
        self.took(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.took(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
