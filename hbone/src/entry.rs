//! One tunnel of a connection, as its driver sees it: a queue pair and an HTTP/2 stream.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use http::StatusCode;

use crate::engine::{EngineError, EngineStream, Received};
use crate::lost::Lost;
use crate::observe::{Event, Role};
use crate::slot::Slot;
use crate::tunnel::{OpenFailure, Response, SendEnd, State, Tunnel, TunnelError, ready};
use crate::wire::{ErrorCode, Rejection};

/// How far a tunnel has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Requested by this side; the response is awaited (client).
    Requested,
    /// Requested by the peer; the answer is awaited (server).
    Arrived,
    /// Answered.
    Answered,
}

/// What the driver has to know of a turn.
#[derive(Debug, Default)]
pub(crate) struct Served {
    /// The stream is over, and its entry can go.
    pub(crate) over: bool,
    /// The stream failed by the peer's doing before it had an answer.
    pub(crate) premature_reset: bool,
    /// The stream failed because the connection did.
    pub(crate) connection_lost: bool,
    /// The request was answered with this status, for this reason if it was this side that did,
    /// and no tunnel was opened.
    pub(crate) rejected: Option<(StatusCode, Option<Rejection>)>,
}

/// A tunnel and its stream.
#[derive(Debug)]
pub(crate) struct Entry<S> {
    tunnel: Arc<Tunnel>,
    waker: Waker,
    stream: S,
    phase: Phase,
    /// The peer's bytes have ended, in order or not.
    received_all: bool,
    /// This side's bytes have ended, in order or not.
    sent_all: bool,
    /// The place that was kept for the tunnel, to be given back with this entry.
    _slot: Option<Slot>,
}

impl<S: EngineStream> Entry<S> {
    pub(crate) fn new(tunnel: Arc<Tunnel>, stream: S, phase: Phase, slot: Option<Slot>) -> Self {
        Self {
            waker: Waker::from(Arc::clone(&tunnel)),
            tunnel,
            stream,
            phase,
            received_all: false,
            sent_all: false,
            _slot: slot,
        }
    }

    pub(crate) fn id(&self) -> u32 {
        self.stream.id()
    }

    /// Does what the tunnel or the engine asked for. `goaway` is the last stream that the peer
    /// says it will process.
    pub(crate) fn serve(&mut self, goaway: Option<u32>) -> Served {
        let why = self.tunnel.take_ready();
        let tunnel = Arc::clone(&self.tunnel);
        let waker = self.waker.clone();
        let mut cx = Context::from_waker(&waker);
        let mut served = Served::default();
        let mut state = tunnel.lock();
        if self.phase == Phase::Requested && why & ready::ENGINE != 0 {
            self.take_response(&mut state, &mut cx, goaway, &mut served);
        }
        if self.phase == Phase::Arrived {
            self.send_response(&mut state, &mut served);
        }
        if why & ready::TAKEN != 0 {
            let taken = std::mem::take(&mut state.taken);
            if !self.received_all {
                self.stream.release(taken);
            }
        }
        if why & ready::ENGINE != 0 {
            self.receive(&mut state, &mut cx, &mut served);
        }
        if why & (ready::ENGINE | ready::SEND) != 0 {
            self.send(&mut state, &mut cx, &mut served);
        }
        served.over = self.received_all && self.sent_all;
        served.connection_lost = matches!(
            (&state.received_end, &state.send_error),
            (Some(Err(TunnelError::ConnectionLost(_))), _) | (_, Some(TunnelError::ConnectionLost(_)))
        );
        let wakers = Wakers::due(&mut state, &tunnel);
        drop(state);
        wakers.wake();
        served
    }

    /// The connection is gone, or to be gone: what has not ended fails.
    pub(crate) fn lose(&mut self, reason: Lost, code: ErrorCode, goaway: Option<u32>) {
        let tunnel = Arc::clone(&self.tunnel);
        let mut state = tunnel.lock();
        // What arrived before the end still belongs to the reader.
        let mut cx = Context::from_waker(Waker::noop());
        if self.phase != Phase::Requested {
            self.receive(&mut state, &mut cx, &mut Served::default());
        }
        if !(self.received_all && self.sent_all) {
            self.stream.reset(code);
            self.fail(&mut state, &TunnelError::ConnectionLost(reason), goaway);
        }
        let wakers = Wakers::due(&mut state, &tunnel);
        drop(state);
        wakers.wake();
    }

    /// The event of the tunnel's end.
    pub(crate) fn closed(&self, role: Role) -> Event {
        let state = self.tunnel.lock();
        let received = state.received_end.clone().and_then(Result::err);
        Event::TunnelClosed {
            role,
            stream: self.stream.id(),
            received: state.received,
            sent: state.sent,
            error: received.or_else(|| state.send_error.clone()),
        }
    }

    fn take_response(&mut self, state: &mut State, cx: &mut Context<'_>, goaway: Option<u32>, served: &mut Served) {
        match self.stream.poll_response(cx) {
            Poll::Pending => {}
            Poll::Ready(Ok(head)) => {
                self.phase = Phase::Answered;
                let opened = head.status.is_success();
                served.rejected = (!opened).then_some((head.status, None));
                state.response = Response::Head(Box::new(head));
                if !opened {
                    // A body would only explain the status; nobody reads it.
                    if let Err(error) = self.stream.send(bytes::Bytes::new(), true) {
                        tracing::trace!(%error, "stream ended with its refusal");
                    }
                    (self.received_all, self.sent_all) = (true, true);
                }
            }
            Poll::Ready(Err(error)) => self.fail(state, &TunnelError::from(&error), goaway),
        }
    }

    fn send_response(&mut self, state: &mut State, served: &mut Served) {
        let (head, rejection) = match std::mem::take(&mut state.response) {
            Response::Head(head) => (http::Response::from_parts(*head, ()), None),
            Response::Rejection(rejection) => (rejection.to_response(), Some(rejection)),
            other => return state.response = other,
        };
        state.response = Response::Done;
        self.phase = Phase::Answered;
        let end = rejection.is_some();
        served.rejected = rejection.map(|rejection| (head.status(), Some(rejection)));
        if let Err(error) = self.stream.respond(head, end) {
            return self.fail(state, &TunnelError::from(&error), None);
        }
        if end {
            state.fin_sent = true;
            (self.received_all, self.sent_all) = (true, true);
        }
    }

    fn receive(&mut self, state: &mut State, cx: &mut Context<'_>, served: &mut Served) {
        while !self.received_all {
            match self.stream.poll_recv(cx) {
                Poll::Pending => return,
                Poll::Ready(Ok(Received::Data(bytes))) => {
                    state.received += bytes.len() as u64;
                    if state.reader_gone {
                        self.stream.release(bytes.len());
                        self.stop_sender(state);
                    } else {
                        state.inbox.push(bytes);
                    }
                }
                Poll::Ready(Ok(Received::End)) => {
                    self.received_all = true;
                    state.received_end = Some(Ok(()));
                }
                Poll::Ready(Ok(Received::Trailers)) => {
                    self.stream.reset(ErrorCode::PROTOCOL_ERROR);
                    served.premature_reset = self.phase == Phase::Arrived;
                    self.fail(state, &TunnelError::Trailers, None);
                }
                Poll::Ready(Err(error)) => {
                    served.premature_reset = self.is_premature(&error);
                    self.fail(state, &TunnelError::from(&error), None);
                }
            }
        }
    }

    /// Nobody reads and nobody writes: what the peer still sends has no use (RFC 9113 §8.1).
    fn stop_sender(&mut self, state: &mut State) {
        if state.fin_sent {
            self.stream.reset(ErrorCode::NO_ERROR);
            self.received_all = true;
            state.received_end = Some(Err(TunnelError::Aborted(ErrorCode::NO_ERROR)));
        }
    }

    /// Whether the peer took back what it asked for, by a reset or by a violation that comes to
    /// the same (CVE-2023-44487, CVE-2025-8671).
    fn is_premature(&self, error: &EngineError) -> bool {
        self.phase == Phase::Arrived && matches!(error, EngineError::Reset { .. })
    }

    fn send(&mut self, state: &mut State, cx: &mut Context<'_>, served: &mut Served) {
        if let SendEnd::Reset(code) = state.send_end
            && !(self.received_all && self.sent_all)
        {
            self.stream.reset(code);
            return self.fail(state, &TunnelError::Aborted(code), None);
        }
        if self.phase == Phase::Answered
            && !self.sent_all
            && let Err(error) = self.send_outbox(state, cx)
        {
            // A stream that takes no more may have been reset; the reset says why.
            let error = match self.stream.poll_reset(cx) {
                Poll::Ready(reset) => reset,
                Poll::Pending => error,
            };
            return self.fail_sending(state, &TunnelError::from(&error));
        }
        // While the peer's bytes come, its reset is seen among them.
        if self.received_all
            && !self.sent_all
            && let Poll::Ready(error) = self.stream.poll_reset(cx)
        {
            served.premature_reset = self.is_premature(&error);
            self.fail_sending(state, &TunnelError::from(&error));
        }
    }

    fn send_outbox(&mut self, state: &mut State, cx: &mut Context<'_>) -> Result<(), EngineError> {
        while !state.outbox.is_empty() {
            let Poll::Ready(room) = self.stream.poll_send_capacity(cx, state.outbox.len())? else {
                return Ok(());
            };
            let Some(chunk) = state.outbox.pop(room) else {
                return Ok(());
            };
            state.sent += chunk.len() as u64;
            self.send_chunk(state, chunk)?;
        }
        if state.send_end == SendEnd::Fin && !state.fin_sent {
            self.send_chunk(state, bytes::Bytes::new())?;
        }
        Ok(())
    }

    /// Sends a chunk, with END_STREAM if it is the last.
    fn send_chunk(&mut self, state: &mut State, chunk: bytes::Bytes) -> Result<(), EngineError> {
        let last = state.send_end == SendEnd::Fin && state.outbox.is_empty();
        self.stream.send(chunk, last)?;
        if last {
            state.fin_sent = true;
            self.sent_all = true;
        }
        Ok(())
    }

    /// The stream failed: both directions are over.
    fn fail(&mut self, state: &mut State, error: &TunnelError, goaway: Option<u32>) {
        if self.phase == Phase::Requested {
            let refused = matches!(error, TunnelError::Reset(reset) if reset.is_retry_safe());
            let beyond = goaway.is_some_and(|last| self.stream.id() > last);
            state.response = Response::Failed(OpenFailure {
                error: error.clone(),
                unprocessed: refused || beyond,
            });
        }
        if self.phase == Phase::Arrived {
            // Whoever is to answer will not read any more, and must not take what is left for the end.
            state.inbox.clear();
            state.received_end = None;
        }
        self.fail_sending(state, error);
        self.received_all = true;
        state.received_end.get_or_insert_with(|| Err(error.clone()));
    }

    /// The peer takes no more bytes; what it sent before stays readable.
    fn fail_sending(&mut self, state: &mut State, error: &TunnelError) {
        self.sent_all = true;
        if !state.fin_sent {
            state.send_error.get_or_insert_with(|| error.clone());
        }
        state.outbox.clear();
    }
}

/// The tasks that a turn has something for.
struct Wakers([Option<Waker>; 4]);

impl Wakers {
    fn due(state: &mut State, tunnel: &Tunnel) -> Self {
        let failed = matches!(state.received_end, Some(Err(_))) || state.send_error.is_some();
        let readable = !state.inbox.is_empty() || state.received_end.is_some();
        let opened = !matches!(state.response, Response::Awaited | Response::Done);
        let writable = state.fin_sent || state.send_error.is_some() || state.outbox.len() <= tunnel.send_limit() / 2;
        Self([
            state.reader.take_if(|_| readable || opened),
            state.writer.take_if(|_| writable),
            state.answerer.take_if(|_| failed),
            state.watcher.take_if(|_| failed),
        ])
    }

    fn wake(self) {
        self.0.into_iter().flatten().for_each(Waker::wake);
    }
}
