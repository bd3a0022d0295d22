//! One tunnel of a connection, as its driver sees it: a queue pair and an HTTP/2 stream.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use http::StatusCode;

use crate::engine::{Engine, EngineError, Received};
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
    /// The stream failed because the transport did.
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
    exchange: Exchange<S>,
    /// The place that was kept for the tunnel, to be given back with this entry.
    _slot: Option<Slot>,
}

impl<S> Entry<S> {
    pub(crate) fn new(tunnel: Arc<Tunnel>, stream: S, phase: Phase, slot: Option<Slot>) -> Self {
        Self {
            waker: Waker::from(Arc::clone(&tunnel)),
            tunnel,
            exchange: Exchange {
                stream,
                phase,
                received_all: false,
                sent_all: false,
            },
            _slot: slot,
        }
    }

    pub(crate) fn stream(&self) -> &S {
        &self.exchange.stream
    }

    pub(crate) fn into_stream(self) -> S {
        self.exchange.stream
    }

    /// Has the next turn look at what `why` says.
    pub(crate) fn mark(&self, why: u8) {
        self.tunnel.mark(why);
    }

    /// Does what the tunnel or the engine asked for. `goaway` is the last stream that the peer
    /// says it will process.
    pub(crate) fn serve<E: Engine<Stream = S>>(&mut self, engine: &mut E, goaway: Option<u32>) -> Served {
        let why = self.tunnel.take_ready();
        let mut state = self.tunnel.lock();
        let mut turn = Turn {
            engine,
            state: &mut state,
            cx: &mut Context::from_waker(&self.waker),
            goaway,
            served: Served::default(),
        };
        self.exchange.serve(&mut turn, why);
        let mut served = turn.served;
        served.over = self.exchange.is_over();
        served.connection_lost = matches!(
            (&state.received_end, &state.send_error),
            (Some(Err(TunnelError::ConnectionLost(Lost::Io(_)))), _)
                | (_, Some(TunnelError::ConnectionLost(Lost::Io(_))))
        );
        let wakers = Wakers::due(&mut state, &self.tunnel);
        drop(state);
        wakers.wake();
        served
    }

    /// The connection is gone, or to be gone: what has not ended fails.
    pub(crate) fn lose<E: Engine<Stream = S>>(
        &mut self,
        engine: &mut E,
        reason: Lost,
        code: ErrorCode,
        goaway: Option<u32>,
    ) {
        let mut state = self.tunnel.lock();
        let mut turn = Turn {
            engine,
            state: &mut state,
            cx: &mut Context::from_waker(Waker::noop()),
            goaway,
            served: Served::default(),
        };
        self.exchange.lose(&mut turn, reason, code);
        let wakers = Wakers::due(&mut state, &self.tunnel);
        drop(state);
        wakers.wake();
    }

    /// The event of the tunnel's end.
    pub(crate) fn closed(&self, role: Role, stream: u32) -> Event {
        let state = self.tunnel.lock();
        let received = state.received_end.clone().and_then(Result::err);
        Event::TunnelClosed {
            role,
            stream,
            received: state.received,
            sent: state.sent,
            error: received.or_else(|| state.send_error.clone()),
        }
    }
}

/// What an exchange has in its hands while it is served.
struct Turn<'a, E> {
    engine: &'a mut E,
    state: &'a mut State,
    cx: &'a mut Context<'a>,
    goaway: Option<u32>,
    served: Served,
}

/// A stream, and how far its request and its two directions have come.
#[derive(Debug)]
struct Exchange<S> {
    stream: S,
    phase: Phase,
    /// The peer's bytes have ended, in order or not.
    received_all: bool,
    /// This side's bytes have ended, in order or not.
    sent_all: bool,
}

impl<S> Exchange<S> {
    fn is_over(&self) -> bool {
        self.received_all && self.sent_all
    }

    fn serve<E: Engine<Stream = S>>(&mut self, turn: &mut Turn<'_, E>, why: u8) {
        if self.phase == Phase::Requested && why & ready::ENGINE != 0 {
            self.take_response(turn);
        }
        if self.phase == Phase::Arrived {
            self.send_response(turn);
        }
        if why & ready::TAKEN != 0 {
            let taken = std::mem::take(&mut turn.state.taken);
            if !self.received_all {
                turn.engine.release(&mut self.stream, taken);
            }
        }
        if why & ready::ENGINE != 0 {
            self.receive(turn);
        }
        if why & (ready::ENGINE | ready::SEND) != 0 {
            self.send(turn);
        }
    }

    fn lose<E: Engine<Stream = S>>(&mut self, turn: &mut Turn<'_, E>, reason: Lost, code: ErrorCode) {
        // What arrived before the end still belongs to the reader.
        if self.phase != Phase::Requested {
            self.receive(turn);
        }
        if !self.is_over() {
            turn.engine.reset(&mut self.stream, code);
            self.fail(turn, &TunnelError::ConnectionLost(reason));
        }
    }

    fn take_response<E: Engine<Stream = S>>(&mut self, turn: &mut Turn<'_, E>) {
        match turn.engine.poll_response(&mut self.stream, turn.cx) {
            Poll::Pending => {}
            Poll::Ready(Ok(head)) => {
                self.phase = Phase::Answered;
                let opened = head.status.is_success();
                turn.served.rejected = (!opened).then_some((head.status, None));
                turn.state.response = Response::Head(Box::new(head));
                if !opened {
                    // A body would only explain the status; nobody reads it.
                    if let Err(error) = turn.engine.send(&mut self.stream, bytes::Bytes::new(), true) {
                        tracing::trace!(%error, "stream ended with its refusal");
                    }
                    (self.received_all, self.sent_all) = (true, true);
                }
            }
            Poll::Ready(Err(error)) => self.fail(turn, &TunnelError::from(&error)),
        }
    }

    fn send_response<E: Engine<Stream = S>>(&mut self, turn: &mut Turn<'_, E>) {
        let (head, rejection) = match std::mem::take(&mut turn.state.response) {
            Response::Head(head) => (http::Response::from_parts(*head, ()), None),
            Response::Rejection(rejection) => (rejection.to_response(), Some(rejection)),
            other => return turn.state.response = other,
        };
        turn.state.response = Response::Done;
        self.phase = Phase::Answered;
        let end = rejection.is_some();
        turn.served.rejected = rejection.map(|rejection| (head.status(), Some(rejection)));
        if let Err(error) = turn.engine.respond(&mut self.stream, head, end) {
            return self.fail(turn, &TunnelError::from(&error));
        }
        if end {
            turn.state.fin_sent = true;
            (self.received_all, self.sent_all) = (true, true);
        }
    }

    fn receive<E: Engine<Stream = S>>(&mut self, turn: &mut Turn<'_, E>) {
        while !self.received_all {
            match turn.engine.poll_recv(&mut self.stream, turn.cx) {
                Poll::Pending => return,
                Poll::Ready(Ok(Received::Data(bytes))) => {
                    turn.state.received += bytes.len() as u64;
                    if turn.state.reader_gone {
                        turn.engine.release(&mut self.stream, bytes.len());
                        self.stop_sender(turn);
                    } else {
                        turn.state.inbox.push(bytes);
                    }
                }
                Poll::Ready(Ok(Received::End)) => {
                    self.received_all = true;
                    turn.state.received_end = Some(Ok(()));
                }
                Poll::Ready(Ok(Received::Trailers)) => {
                    turn.engine.reset(&mut self.stream, ErrorCode::PROTOCOL_ERROR);
                    turn.served.premature_reset = self.phase == Phase::Arrived;
                    self.fail(turn, &TunnelError::Trailers);
                }
                Poll::Ready(Err(error)) => {
                    turn.served.premature_reset = self.is_premature(&error);
                    self.fail(turn, &TunnelError::from(&error));
                }
            }
        }
    }

    /// Nobody reads and nobody writes: what the peer still sends has no use (RFC 9113 §8.1).
    fn stop_sender<E: Engine<Stream = S>>(&mut self, turn: &mut Turn<'_, E>) {
        if turn.state.fin_sent {
            turn.engine.reset(&mut self.stream, ErrorCode::NO_ERROR);
            self.received_all = true;
            turn.state.received_end = Some(Err(TunnelError::Aborted(ErrorCode::NO_ERROR)));
        }
    }

    /// Whether the peer took back what it asked for, by a reset or by a violation that comes to
    /// the same (CVE-2023-44487, CVE-2025-8671).
    fn is_premature(&self, error: &EngineError) -> bool {
        self.phase == Phase::Arrived && matches!(error, EngineError::Reset { .. })
    }

    fn send<E: Engine<Stream = S>>(&mut self, turn: &mut Turn<'_, E>) {
        if let SendEnd::Reset(code) = turn.state.send_end
            && !self.is_over()
        {
            turn.engine.reset(&mut self.stream, code);
            return self.fail(turn, &TunnelError::Aborted(code));
        }
        if self.phase == Phase::Answered
            && !self.sent_all
            && let Err(error) = self.send_outbox(turn)
        {
            // A stream that takes no more may have been reset; the reset says why.
            let error = match turn.engine.poll_reset(&mut self.stream, turn.cx) {
                Poll::Ready(reset) => reset,
                Poll::Pending => error,
            };
            return self.fail_sending(turn.state, &TunnelError::from(&error));
        }
        // While the peer's bytes come, its reset is seen among them.
        if self.received_all
            && !self.sent_all
            && let Poll::Ready(error) = turn.engine.poll_reset(&mut self.stream, turn.cx)
        {
            turn.served.premature_reset = self.is_premature(&error);
            self.fail_sending(turn.state, &TunnelError::from(&error));
        }
    }

    fn send_outbox<E: Engine<Stream = S>>(&mut self, turn: &mut Turn<'_, E>) -> Result<(), EngineError> {
        while !turn.state.outbox.is_empty() {
            let wanted = turn.state.outbox.len();
            let Poll::Ready(room) = turn.engine.poll_send_capacity(&mut self.stream, turn.cx, wanted)? else {
                return Ok(());
            };
            let Some(chunk) = turn.state.outbox.pop(room) else {
                return Ok(());
            };
            turn.state.sent += chunk.len() as u64;
            self.send_chunk(turn, chunk)?;
        }
        if turn.state.send_end == SendEnd::Fin && !turn.state.fin_sent {
            self.send_chunk(turn, bytes::Bytes::new())?;
        }
        Ok(())
    }

    /// Sends a chunk, with END_STREAM if it is the last.
    fn send_chunk<E: Engine<Stream = S>>(
        &mut self,
        turn: &mut Turn<'_, E>,
        chunk: bytes::Bytes,
    ) -> Result<(), EngineError> {
        let last = turn.state.send_end == SendEnd::Fin && turn.state.outbox.is_empty();
        turn.engine.send(&mut self.stream, chunk, last)?;
        if last {
            turn.state.fin_sent = true;
            self.sent_all = true;
        }
        Ok(())
    }

    /// The stream failed: both directions are over.
    fn fail<E: Engine<Stream = S>>(&mut self, turn: &mut Turn<'_, E>, error: &TunnelError) {
        if self.phase == Phase::Requested {
            let refused = matches!(error, TunnelError::Reset(reset) if reset.is_retry_safe());
            let beyond = turn.goaway.is_some_and(|last| E::id(&self.stream) > last);
            turn.state.response = Response::Failed(OpenFailure {
                error: error.clone(),
                unprocessed: refused || beyond,
            });
        }
        if self.phase == Phase::Arrived {
            // Whoever is to answer will not read any more, and must not take what is left for the end.
            turn.state.inbox.clear();
            turn.state.received_end = None;
        }
        self.fail_sending(turn.state, error);
        self.received_all = true;
        turn.state.received_end.get_or_insert_with(|| Err(error.clone()));
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
