//! Streams of HTTP/2 that go on by another protocol, and how they end.
//!
//! Hyper has a task send what is written to such a stream, and takes it for the stream's end in order
//! when nobody can write any more, for whatever reason; reading, it takes a reset for an end. An abort
//! is never to be shown as an end (RFC 8441 §5). So whoever joins the stream runs that task himself:
//! dropped before its time it resets the stream, and it ends before its time where the client has.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::{pending, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use hyper::rt::Executor;
use hyper::upgrade::Upgraded;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;
use tokio::task;

type Sending = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Runs the tasks of a connection, but for those that are awaited.
#[derive(Clone, Default)]
pub(super) struct Outlets {
    /// By the task that answers the stream's request.
    awaited: Arc<Mutex<HashMap<task::Id, oneshot::Sender<Sending>>>>,
}

/// What sends to a stream.
pub(super) struct Outlet(Mutex<Option<Sending>>);

/// A stream that both sides may abort.
pub(super) struct Abortable<'o> {
    io: TokioIo<Upgraded>,
    outlet: &'o Outlet,
    /// Whether this side has ended in order.
    has_ended: bool,
}

impl Outlets {
    /// The outlet of the stream whose request this task answers, once it has. Without a task there is
    /// none.
    pub(super) fn wait(&self) -> impl Future<Output = io::Result<Outlet>> + Send + use<> {
        let (coming, come) = oneshot::channel();
        if let Some(id) = task::try_id() {
            let mut awaited = self.lock();
            awaited.retain(|_, other| !other.is_closed());
            awaited.insert(id, coming);
        }
        async {
            let sending = come.await.map_err(io::Error::other)?;
            Ok(Outlet(Mutex::new(Some(sending))))
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<task::Id, oneshot::Sender<Sending>>> {
        self.awaited.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Outlets {
    fn execute(&self, task: F) {
        let coming = task::try_id().and_then(|id| self.lock().remove(&id));
        match coming {
            // Whoever waits no more drops it, and the stream is reset.
            Some(coming) => drop(coming.send(Box::pin(task))),
            None => TokioExecutor::new().execute(task),
        }
    }
}

impl Outlet {
    /// Sends for as long as this is polled.
    pub(super) async fn run(&self) -> Infallible {
        poll_fn(|cx| self.poll(cx)).await;
        // Whoever reads or writes hears of that.
        pending().await
    }

    /// Sends what can be sent. Ready when the stream takes no more.
    fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut sending = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(task) = &mut *sending {
            ready!(task.as_mut().poll(cx));
            *sending = None;
        }
        Poll::Ready(())
    }
}

impl<'o> Abortable<'o> {
    pub(super) fn new(stream: Upgraded, outlet: &'o Outlet) -> Self {
        Self {
            io: TokioIo::new(stream),
            outlet,
            has_ended: false,
        }
    }
}

impl AsyncRead for Abortable<'_> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let room = buf.remaining();
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        let is_end = room > 0 && buf.remaining() == room;
        // A stream that its client has ended in order still takes what is sent.
        if is_end && !self.has_ended && self.outlet.poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Abortable<'_> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.has_ended = true;
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
