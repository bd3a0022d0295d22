//! An engine made for tunnels: one request for each stream, and then bytes.
//!
//! It knows what a CONNECT needs of HTTP/2 and refuses the rest. The [protocol](protocol::Protocol)
//! is pure; this file reads and writes.

mod blocks;
mod control;
mod fault;
mod frame;
mod head;
mod hpack;
mod inlet;
mod protocol;
mod reading;
mod receive;
mod send;
mod settings;
mod stream;
mod streams;
mod window;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};

use self::inlet::Inlet;
use self::protocol::Protocol;
use self::stream::Failure;
use super::{Engine, EngineError, Progress, Received};
use crate::config::Config;
use crate::observe::Role;
use crate::transport::{GATHER, SharedTransport};
use crate::wire::ErrorCode;

/// Bytes that wait for the peer before what it says is not read any more, for it might have to be
/// answered. More than DATA can be: a peer that takes no bytes may be waiting for its own to be taken.
const BACKLOG: usize = GATHER + 32 * 1024;

/// One connection, of either role.
pub(crate) struct TunnelEngine<Io> {
    transport: SharedTransport<Io>,
    protocol: Protocol,
    inlet: Inlet,
    /// The transport may have more than was read; if not, its waker will say so.
    may_read: bool,
    /// DATA waits for the transport, whose waker will say when it takes more.
    is_stalled: bool,
    /// The transport takes no more bytes.
    is_broken: bool,
    /// The peer is not heard any more: it has closed, or the connection ends without it.
    is_deaf: bool,
    farewell: Farewell,
}

/// How far the end of the connection has come, once it is certain. A poll goes on with it when the
/// transport says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Farewell {
    NotYet,
    /// The last frames are being written, and the end behind them.
    Writing,
    /// What the peer still sends is read and dropped until it has closed, too: for bytes that
    /// nobody reads the operating system would reset the connection, and take away what the peer
    /// has not read yet.
    Reading,
}

/// One stream: its slot, and its identifier.
#[derive(Debug)]
pub(crate) struct Ticket {
    slot: usize,
    id: u32,
}

impl<Io: AsyncRead + AsyncWrite + Unpin> TunnelEngine<Io> {
    /// Has the client's preface and SETTINGS ready to be written.
    pub(crate) fn client(transport: SharedTransport<Io>, config: &Config) -> Self {
        Self::new(transport, Role::Client, config)
    }

    /// Sends the server's SETTINGS and reads the client's preface.
    pub(crate) async fn server(transport: SharedTransport<Io>, config: &Config) -> Result<Self, EngineError> {
        let mut engine = Self::new(transport, Role::Server, config);
        std::future::poll_fn(|cx| engine.poll_greeting(cx)).await?;
        // Whoever polls from now on is not who has been waiting.
        engine.may_read = true;
        Ok(engine)
    }

    fn new(transport: SharedTransport<Io>, role: Role, config: &Config) -> Self {
        Self {
            transport,
            protocol: Protocol::new(role, config),
            inlet: Inlet::new(),
            may_read: true,
            is_stalled: false,
            is_broken: false,
            is_deaf: false,
            farewell: Farewell::NotYet,
        }
    }

    fn poll_greeting(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), EngineError>> {
        self.may_read = true;
        self.read(cx);
        self.hand_over();
        // A peer that takes nothing may still say something; silence has its own deadline.
        let (Poll::Ready(()) | Poll::Pending) = self.transport.lock().poll_flush_gathered(cx);
        match self.protocol.end() {
            Some(Err(failure)) => Poll::Ready(Err(failure.into())),
            Some(Ok(())) => Poll::Ready(Err(EngineError::Io(io::ErrorKind::UnexpectedEof.into()))),
            None if self.protocol.is_greeted() => Poll::Ready(Ok(())),
            None => Poll::Pending,
        }
    }

    /// Reads and acts until the transport has no more, or is not to be asked for more.
    fn read(&mut self, cx: &mut Context<'_>) {
        while self.may_read && !self.protocol.is_over() {
            let whole = self.inlet.whole();
            let wanted = self.protocol.receive(self.inlet.bytes(), whole);
            if self.protocol.is_over() {
                return;
            }
            if self.protocol.written() >= BACKLOG && self.poll_make_room(cx).is_pending() {
                return;
            }
            match self.inlet.poll_fill(cx, &mut self.transport, wanted) {
                Poll::Pending => {
                    self.may_read = self.transport.lock().is_metered();
                    return self.inlet.idle();
                }
                Poll::Ready(Ok(0)) => {
                    self.is_deaf = true;
                    self.protocol.closed();
                }
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => {
                    self.is_broken = true;
                    self.protocol.broken(error.kind());
                }
            }
        }
    }

    fn poll_make_room(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.hand_over();
        let mut transport = self.transport.lock();
        let flushed = transport.poll_flush_gathered(cx);
        self.protocol.set_room(GATHER.saturating_sub(transport.gathered()));
        flushed
    }

    /// Gives the transport what is to be written. It is flushed at the end of the driver's turn.
    fn hand_over(&mut self) {
        let (out, data_frames) = self.protocol.output();
        if !out.is_empty() {
            let mut transport = self.transport.lock();
            transport.gather(out, data_frames);
            self.protocol.set_room(GATHER.saturating_sub(transport.gathered()));
        }
    }

    /// Ends a connection of which it is certain how it `ends`. An error is told of before the
    /// peer is, which may take no bytes; an orderly end when the peer has been sent everything.
    fn poll_farewell(&mut self, cx: &mut Context<'_>, ends: Result<(), Failure>) -> Poll<Progress<Ticket>> {
        let ends = ends.map_err(EngineError::from);
        if self.is_broken {
            return Poll::Ready(Progress::Closed(ends));
        }
        match self.farewell {
            Farewell::NotYet => {
                self.farewell = Farewell::Writing;
                self.is_deaf |= ends.is_err();
                if ends.is_err() {
                    return Poll::Ready(Progress::Closing(ends));
                }
                self.poll_end_writing(cx)
            }
            Farewell::Writing => self.poll_end_writing(cx),
            Farewell::Reading => self.poll_end_reading(cx).map(|()| Progress::Closed(ends)),
        }
    }

    fn poll_end_writing(&mut self, cx: &mut Context<'_>) -> Poll<Progress<Ticket>> {
        self.hand_over();
        let mut transport = self.transport.clone();
        let written = ready!(Pin::new(&mut transport).poll_shutdown(cx));
        self.farewell = Farewell::Reading;
        self.is_deaf |= written.is_err() || self.transport.lock().write_failure().is_some();
        Poll::Ready(Progress::Closing(written.map_err(EngineError::Io)))
    }

    fn poll_end_reading(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while !self.is_deaf && self.transport.lock().offence().is_none() {
            self.inlet.bytes().clear();
            match self.inlet.poll_fill(cx, &mut self.transport, 0) {
                Poll::Ready(Ok(0) | Err(_)) => self.is_deaf = true,
                Poll::Ready(Ok(_)) => {}
                // Who has offended is not read any more, and nobody would call.
                Poll::Pending if self.transport.lock().offence().is_none() => return Poll::Pending,
                Poll::Pending => {}
            }
        }
        Poll::Ready(())
    }
}

impl<Io: AsyncRead + AsyncWrite + Unpin> Engine for TunnelEngine<Io> {
    type Stream = Ticket;

    fn poll(&mut self, cx: &mut Context<'_>, woken: bool) -> Poll<Progress<Ticket>> {
        self.may_read |= woken;
        self.is_stalled &= !woken;
        loop {
            self.read(cx);
            if let Some((head, slot, id)) = self.protocol.next_arrival() {
                return Poll::Ready(Progress::Request(head, Ticket { slot, id }));
            }
            let end = self.protocol.end();
            if let Some(end) = end
                && let Poll::Ready(progress) = self.poll_farewell(cx, end)
            {
                // The end of the connection is news enough for its streams.
                return Poll::Ready(progress);
            }
            if let Some(key) = self.protocol.next_news() {
                return Poll::Ready(Progress::News(key));
            }
            if let Some(key) = self.protocol.next_turn() {
                return Poll::Ready(Progress::Turn(key));
            }
            if end.is_some() || !self.protocol.is_full() {
                return Poll::Pending;
            }
            self.is_stalled = self.poll_make_room(cx).is_pending();
            if self.is_stalled {
                return Poll::Pending;
            }
        }
    }

    fn end_turn(&mut self) -> bool {
        self.hand_over();
        self.protocol.has_more()
            || (!self.is_stalled && self.protocol.is_full())
            || (self.farewell == Farewell::NotYet && self.protocol.end().is_some())
    }

    fn poll_open(&mut self, _cx: &mut Context<'_>) -> Poll<()> {
        // Each turn asks again, and nothing but a turn makes a place.
        if self.protocol.may_open() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    fn is_ending(&self) -> bool {
        self.protocol.is_over()
    }

    fn open(&mut self, head: http::Request<()>) -> Result<Ticket, EngineError> {
        let (slot, id) = self.protocol.open(&head)?;
        Ok(Ticket { slot, id })
    }

    fn peer_stream_limit(&self) -> usize {
        self.protocol.peer_stream_limit()
    }

    fn ping(&mut self) {
        self.protocol.ping();
    }

    fn drain(&mut self) {
        self.protocol.drain();
    }

    fn abort(&mut self, code: ErrorCode) {
        self.is_deaf = true;
        self.protocol.abort(code);
    }

    fn id(stream: &Ticket) -> u32 {
        stream.id
    }

    fn name(&mut self, stream: &mut Ticket, name: usize) {
        self.protocol.name(stream.slot, name);
    }

    fn poll_response(
        &mut self,
        stream: &mut Ticket,
        _cx: &mut Context<'_>,
    ) -> Poll<Result<http::response::Parts, EngineError>> {
        self.protocol.poll_response(stream.slot)
    }

    fn respond(&mut self, stream: &mut Ticket, head: http::Response<()>, end: bool) -> Result<(), EngineError> {
        self.protocol.respond(stream.slot, &head, end)
    }

    fn poll_send_capacity(
        &mut self,
        stream: &mut Ticket,
        _cx: &mut Context<'_>,
        wanted: usize,
    ) -> Poll<Result<usize, EngineError>> {
        self.protocol.poll_send_capacity(stream.slot, wanted)
    }

    fn send(&mut self, stream: &mut Ticket, bytes: Bytes, end: bool) -> Result<(), EngineError> {
        self.protocol.send(stream.slot, &bytes, end)
    }

    fn reset(&mut self, stream: &mut Ticket, code: ErrorCode) {
        self.protocol.reset(stream.slot, code);
    }

    fn poll_reset(&mut self, stream: &mut Ticket, _cx: &mut Context<'_>) -> Poll<EngineError> {
        self.protocol.poll_reset(stream.slot)
    }

    fn poll_recv(&mut self, stream: &mut Ticket, _cx: &mut Context<'_>) -> Poll<Result<Received, EngineError>> {
        self.protocol.poll_recv(stream.slot)
    }

    fn release(&mut self, stream: &mut Ticket, n: usize) {
        self.protocol.release(stream.slot, n);
    }

    fn forget(&mut self, stream: Ticket) {
        self.protocol.forget(stream.slot);
    }
}

#[cfg(test)]
mod tests;
