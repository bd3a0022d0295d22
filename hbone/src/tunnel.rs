//! One tunnel's byte queues, shared by its stream and its connection's driver.
//!
//! The stream puts bytes in the outbox and takes bytes from the inbox; the driver does the
//! reverse against the HTTP/2 engine. Both queues are bounded: the outbox by the configured send
//! buffer, the inbox by the stream's receive window, since window is only given back for bytes
//! that the stream took.

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use bytes::Bytes;

use crate::bell::Bell;
use crate::byte_queue::ByteQueue;
use crate::engine::EngineError;
use crate::lost::Lost;
use crate::wire::{Blame, ErrorCode, Rejection, Reset};

/// Why a tunnel's bytes ended before their end, or cannot be sent.
///
/// Every variant is an abort: bytes may be missing, and an application behind the tunnel must be
/// told with a reset, never with an orderly close (RFC 9113 §8.5).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TunnelError {
    /// The peer reset the tunnel.
    #[error(transparent)]
    Reset(#[from] Reset),
    /// The peer broke the protocol on this tunnel, which was reset.
    #[error("peer violated the protocol: {0}")]
    Violation(ErrorCode),
    /// The connection under the tunnel was lost.
    #[error("connection lost: {0}")]
    ConnectionLost(Lost),
    /// The peer sent trailers, which a tunnel cannot carry (RFC 9113 §8.5).
    #[error("peer sent trailers on a tunnel")]
    Trailers,
    /// This side reset the tunnel.
    #[error("tunnel aborted: {0}")]
    Aborted(ErrorCode),
    /// This side has already ended its bytes.
    #[error("write after shutdown")]
    SendClosed,
}

impl TunnelError {
    /// Who is to blame.
    #[must_use]
    pub fn blame(&self) -> Blame {
        match self {
            Self::Reset(reset) => reset.blame(),
            Self::Violation(_) | Self::Trailers => Blame::Peer,
            Self::ConnectionLost(lost) => lost.blame(),
            Self::Aborted(_) | Self::SendClosed => Blame::Local,
        }
    }
}

impl From<&EngineError> for TunnelError {
    fn from(error: &EngineError) -> Self {
        match error {
            EngineError::Reset { code, by_peer: true } => Reset::from(*code).into(),
            EngineError::Reset { code, .. } => Self::Violation(*code),
            other => Self::ConnectionLost(Lost::from(other)),
        }
    }
}

impl From<TunnelError> for io::Error {
    fn from(error: TunnelError) -> Self {
        let kind = match &error {
            TunnelError::Reset(_) | TunnelError::ConnectionLost(_) => io::ErrorKind::ConnectionReset,
            TunnelError::Trailers | TunnelError::Violation(_) => io::ErrorKind::InvalidData,
            TunnelError::Aborted(_) | TunnelError::SendClosed => io::ErrorKind::BrokenPipe,
        };
        Self::new(kind, error)
    }
}

/// Why a tunnel needs its driver.
pub(crate) mod ready {
    /// The engine has bytes, window or a reset for it.
    pub(crate) const ENGINE: u8 = 1;
    /// The stream has bytes, an end or a reset to send, or a response.
    pub(crate) const SEND: u8 = 2;
    /// The stream took bytes, whose window can be given back.
    pub(crate) const TAKEN: u8 = 4;
}

/// How far this side has ended its direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum SendEnd {
    /// More bytes may come.
    #[default]
    Open,
    /// END_STREAM follows the bytes in the outbox.
    Fin,
    /// The stream is to be reset; what is in the outbox is dropped.
    Reset(ErrorCode),
}

/// What is queued and known of one tunnel.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// Bytes from the peer.
    pub(crate) inbox: ByteQueue,
    /// How the peer's bytes ended: `Ok` is END_STREAM.
    pub(crate) received_end: Option<Result<(), TunnelError>>,
    /// Bytes taken from the inbox whose window has not been given back.
    pub(crate) taken: usize,
    /// Nobody will read the inbox any more.
    pub(crate) reader_gone: bool,
    /// Bytes for the peer.
    pub(crate) outbox: ByteQueue,
    pub(crate) send_end: SendEnd,
    /// Why no more bytes can be sent.
    pub(crate) send_error: Option<TunnelError>,
    /// END_STREAM has been handed to the engine.
    pub(crate) fin_sent: bool,
    /// The response head: from the peer (client) or for it (server).
    pub(crate) response: Response,
    pub(crate) reader: Option<Waker>,
    /// Who answers the request (server) and has to know if the tunnel fails.
    pub(crate) answerer: Option<Waker>,
    /// Who reads, but waits for something else and has to know if the tunnel fails.
    pub(crate) watcher: Option<Waker>,
    pub(crate) writer: Option<Waker>,
    /// Bytes received and sent so far.
    pub(crate) received: u64,
    pub(crate) sent: u64,
}

impl State {
    /// Why no more bytes are taken.
    fn refusal(&self) -> Option<TunnelError> {
        match (&self.send_error, self.send_end) {
            (Some(error), _) => Some(error.clone()),
            (None, SendEnd::Open) => None,
            (None, _) => Some(TunnelError::SendClosed),
        }
    }
}

/// Where a tunnel's response head is.
#[derive(Debug, Default)]
pub(crate) enum Response {
    /// Not there yet.
    #[default]
    Awaited,
    /// Ready for the driver to send, or for the opener to take.
    Head(Box<http::response::Parts>),
    /// Ready for the driver to send; no tunnel is opened.
    Rejection(Rejection),
    /// The stream failed before it had a response.
    Failed(OpenFailure),
    /// Sent, or taken.
    Done,
}

/// Why a stream got no response.
#[derive(Clone, Debug)]
pub(crate) struct OpenFailure {
    pub(crate) error: TunnelError,
    /// The peer provably did not act on the request (RFC 9113 §8.7).
    pub(crate) unprocessed: bool,
}

/// One tunnel, as its stream and its driver share it.
#[derive(Debug)]
pub(crate) struct Tunnel {
    state: Mutex<State>,
    /// Bits of [`ready`] that the driver has not looked at yet.
    ready: AtomicU8,
    /// The driver's name for the tunnel.
    key: AtomicUsize,
    bell: Arc<Bell>,
    send_limit: usize,
    /// Bytes taken before the driver is asked to give their window back.
    give_back: usize,
}

impl Tunnel {
    /// The key of a tunnel that the driver has not named yet.
    pub(crate) const WITHOUT_KEY: usize = usize::MAX;

    pub(crate) fn new(bell: Arc<Bell>, send_limit: usize, window: u32) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            ready: AtomicU8::new(0),
            key: AtomicUsize::new(Self::WITHOUT_KEY),
            bell,
            send_limit,
            give_back: (window as usize / 4).max(1),
        })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_key(&self, key: usize) {
        self.key.store(key, Ordering::Relaxed);
    }

    pub(crate) fn send_limit(&self) -> usize {
        self.send_limit
    }

    /// Has the driver look at everything.
    pub(crate) fn mark_all(&self) {
        let all = ready::ENGINE | ready::SEND | ready::TAKEN;
        self.ready.store(all, Ordering::Release);
    }

    /// Has the driver, who is at work, look at what `why` says.
    pub(crate) fn mark(&self, why: u8) {
        self.ready.fetch_or(why, Ordering::AcqRel);
    }

    /// Whether this side has reset the tunnel.
    pub(crate) fn is_reset(&self) -> bool {
        matches!(self.lock().send_end, SendEnd::Reset(_))
    }

    /// Fails a tunnel for which no stream was opened.
    pub(crate) fn refuse(&self, error: TunnelError) {
        let mut state = self.lock();
        state.response = Response::Failed(OpenFailure {
            error,
            unprocessed: true,
        });
        let reader = state.reader.take();
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    /// Opens the tunnel (server).
    pub(crate) fn accept(&self, head: http::Response<()>) {
        self.answer(Response::Head(Box::new(head.into_parts().0)));
    }

    /// Opens no tunnel (server).
    pub(crate) fn reject(&self, rejection: Rejection) {
        self.answer(Response::Rejection(rejection));
    }

    fn answer(&self, response: Response) {
        let mut state = self.lock();
        if matches!(state.response, Response::Awaited) {
            state.response = response;
        }
        drop(state);
        self.notify(ready::SEND);
    }

    /// Waits for the answer to the request (client).
    pub(crate) fn poll_response(&self, cx: &mut Context<'_>) -> Poll<Result<Box<http::response::Parts>, OpenFailure>> {
        let mut state = self.lock();
        match mem::take(&mut state.response) {
            Response::Head(head) => {
                state.response = Response::Done;
                Poll::Ready(Ok(head))
            }
            Response::Failed(failure) => Poll::Ready(Err(failure)),
            other => {
                state.response = other;
                register(&mut state.reader, cx);
                Poll::Pending
            }
        }
    }

    /// Waits until either direction has failed; `waiter` is where the one who waits is kept.
    pub(crate) fn poll_failure(
        &self,
        cx: &mut Context<'_>,
        waiter: fn(&mut State) -> &mut Option<Waker>,
    ) -> Poll<TunnelError> {
        let mut state = self.lock();
        match (&state.received_end, &state.send_error) {
            (Some(Err(error)), _) | (_, Some(error)) => Poll::Ready(error.clone()),
            _ => {
                register(waiter(&mut state), cx);
                Poll::Pending
            }
        }
    }

    /// Waits until the peer's bytes have failed, for a runner of handlers (server).
    pub(crate) fn poll_failed(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        if let Some(Err(_)) = state.received_end {
            return Poll::Ready(());
        }
        register(&mut state.answerer, cx);
        Poll::Pending
    }

    /// Asks for the driver.
    pub(crate) fn notify(&self, why: u8) {
        if self.ready.fetch_or(why, Ordering::AcqRel) == 0 {
            self.bell.tunnel(self.key.load(Ordering::Relaxed));
        }
    }

    /// Why the driver was asked for.
    pub(crate) fn take_ready(&self) -> u8 {
        self.ready.swap(0, Ordering::AcqRel)
    }

    /// Takes the next chunk from the peer, at most `max` bytes long; `None` is the clean end.
    pub(crate) fn poll_chunk(&self, cx: &mut Context<'_>, max: usize) -> Poll<Result<Option<Bytes>, TunnelError>> {
        let mut state = self.lock();
        if let Some(chunk) = state.inbox.pop(max) {
            let taken = chunk.len();
            self.took(state, taken);
            return Poll::Ready(Ok(Some(chunk)));
        }
        poll_end(&mut state, cx)
    }

    /// Moves every chunk that has arrived to `chunks` without giving window back; `false` is the
    /// clean end. [`give_back`](Self::give_back) follows when the bytes are gone.
    pub(crate) fn poll_chunks(
        &self,
        cx: &mut Context<'_>,
        chunks: &mut VecDeque<Bytes>,
    ) -> Poll<Result<bool, TunnelError>> {
        let mut state = self.lock();
        if state.inbox.drain_into(chunks) > 0 {
            return Poll::Ready(Ok(true));
        }
        poll_end(&mut state, cx).map_ok(|end: Option<()>| end.is_some())
    }

    /// Lets the peer send `n` more bytes.
    pub(crate) fn give_back(&self, n: usize) {
        let state = self.lock();
        self.took(state, n);
    }

    fn took(&self, mut state: MutexGuard<'_, State>, n: usize) {
        state.taken += n;
        let due = state.taken >= self.give_back && state.received_end.is_none();
        drop(state);
        if due {
            self.notify(ready::TAKEN);
        }
    }

    /// Waits until bytes can be put in the outbox; answers how many at most.
    pub(crate) fn poll_room(&self, cx: &mut Context<'_>) -> Poll<Result<usize, TunnelError>> {
        let mut state = self.lock();
        if let Some(error) = state.refusal() {
            return Poll::Ready(Err(error));
        }
        let room = self.send_limit.saturating_sub(state.outbox.len());
        if room == 0 {
            register(&mut state.writer, cx);
            return Poll::Pending;
        }
        Poll::Ready(Ok(room))
    }

    /// Waits until the tunnel takes no more bytes.
    pub(crate) fn poll_refusal(&self, cx: &mut Context<'_>) -> Poll<TunnelError> {
        let mut state = self.lock();
        match state.refusal() {
            Some(error) => Poll::Ready(error),
            None => {
                register(&mut state.writer, cx);
                Poll::Pending
            }
        }
    }

    /// Puts bytes in the outbox.
    pub(crate) fn put(&self, put: impl FnOnce(&mut ByteQueue)) {
        put(&mut self.lock().outbox);
        self.notify(ready::SEND);
    }

    /// Ends this side's bytes, and waits until the engine has them all.
    pub(crate) fn poll_fin(&self, cx: &mut Context<'_>) -> Poll<Result<(), TunnelError>> {
        let mut state = self.lock();
        if state.fin_sent {
            return Poll::Ready(Ok(()));
        }
        if let Some(error) = &state.send_error {
            return Poll::Ready(Err(error.clone()));
        }
        let first = state.send_end == SendEnd::Open;
        if first {
            state.send_end = SendEnd::Fin;
        }
        register(&mut state.writer, cx);
        drop(state);
        if first {
            self.notify(ready::SEND);
        }
        Poll::Pending
    }

    /// Resets the stream, unless both directions have ended.
    pub(crate) fn reset(&self, code: ErrorCode) {
        let mut state = self.lock();
        let over = state.send_error.is_some()
            || state.fin_sent && state.received_end.is_some()
            || matches!(state.send_end, SendEnd::Reset(_));
        if over {
            return;
        }
        state.send_end = SendEnd::Reset(code);
        state.outbox.clear();
        state.send_error = Some(TunnelError::Aborted(code));
        drop(state);
        self.notify(ready::SEND);
    }

    /// Nobody reads any more: what comes is dropped.
    pub(crate) fn drop_reader(&self) {
        let mut state = self.lock();
        state.reader_gone = true;
        state.taken += state.inbox.len();
        state.inbox.clear();
        let due = state.received_end.is_none();
        drop(state);
        if due {
            self.notify(ready::TAKEN);
        }
    }

    /// Nobody writes any more: without an end before it, that is an abort.
    pub(crate) fn drop_writer(&self) {
        if self.lock().send_end == SendEnd::Open {
            self.reset(if std::thread::panicking() {
                ErrorCode::INTERNAL_ERROR
            } else {
                ErrorCode::CANCEL
            });
        }
    }
}

/// The engine wakes a tunnel when it has something for it.
impl Wake for Tunnel {
    fn wake(self: Arc<Self>) {
        self.notify(ready::ENGINE);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.notify(ready::ENGINE);
    }
}

fn poll_end<T>(state: &mut State, cx: &mut Context<'_>) -> Poll<Result<Option<T>, TunnelError>> {
    match &state.received_end {
        Some(Ok(())) => Poll::Ready(Ok(None)),
        Some(Err(error)) => Poll::Ready(Err(error.clone())),
        None => {
            register(&mut state.reader, cx);
            Poll::Pending
        }
    }
}

fn register(slot: &mut Option<Waker>, cx: &Context<'_>) {
    match slot {
        Some(waker) => waker.clone_from(cx.waker()),
        None => *slot = Some(cx.waker().clone()),
    }
}
