//! What the driver needs from an HTTP/2 implementation.
//!
//! The rest of the crate sees HTTP/2 only through this trait, so that engines can stand side by
//! side. An engine owns the protocol: frames, HPACK, flow control and stream states. It never sees
//! a tunnel's queues, clocks or handlers.

pub(crate) mod h2;
pub(crate) mod tunnel;

use std::fmt;
use std::io;
use std::task::{Context, Poll};

use bytes::Bytes;

use crate::wire::ErrorCode;

/// Which implementation a connection has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum EngineKind {
    /// The one that is made for tunnels.
    #[default]
    Tunnel,
    /// The [`h2`](::h2) crate's.
    H2,
}

/// One HTTP/2 connection.
pub(crate) trait Engine {
    /// One stream of the connection: a request or its response, and bytes both ways.
    type Stream: fmt::Debug;

    /// Reads and writes frames as far as the transport allows. `woken` says whether the waker of an
    /// earlier poll was called since, or there was none.
    fn poll(&mut self, cx: &mut Context<'_>, woken: bool) -> Poll<Progress<Self::Stream>>;

    /// Hands what it has written to the transport; answers whether it has to be polled again for
    /// what was asked of it since it was.
    fn end_turn(&mut self) -> bool;

    /// Waits until a stream can be opened (client): one that the peer's limit holds back keeps
    /// those behind it from being opened.
    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<()>;

    /// Whether it is certain that the connection ends, however much is still to be written.
    fn is_ending(&self) -> bool;

    /// Opens a stream with `head`, a CONNECT request (client).
    fn open(&mut self, head: http::Request<()>) -> Result<Self::Stream, EngineError>;

    /// Streams that the peer lets this side have open at a time.
    fn peer_stream_limit(&self) -> usize;

    /// Sends a PING, with the next poll, unless one is under way. Its answer is seen as received bytes.
    fn ping(&mut self);

    /// Refuses what is new and, from the next poll, lets the connection end with its last stream: a server says so
    /// with GOAWAY (RFC 9113 §6.8), a client opens no more.
    fn drain(&mut self);

    /// Ends the connection with the next poll, telling the peer why where the engine can.
    fn abort(&mut self, code: ErrorCode);

    /// The stream's identifier.
    fn id(stream: &Self::Stream) -> u32;

    /// Gives a stream the name by which [`Progress`] speaks of it.
    fn name(&mut self, stream: &mut Self::Stream, name: usize);

    /// The response head (client).
    fn poll_response(
        &mut self,
        stream: &mut Self::Stream,
        cx: &mut Context<'_>,
    ) -> Poll<Result<http::response::Parts, EngineError>>;

    /// Sends the response head (server); with `end` there are no bytes after it.
    fn respond(&mut self, stream: &mut Self::Stream, head: http::Response<()>, end: bool) -> Result<(), EngineError>;

    /// Bytes, at most `wanted`, that may be sent now. Asks the peer's windows for that many, and
    /// for none with `wanted` 0, since what is held is kept from the other streams.
    fn poll_send_capacity(
        &mut self,
        stream: &mut Self::Stream,
        cx: &mut Context<'_>,
        wanted: usize,
    ) -> Poll<Result<usize, EngineError>>;

    /// Sends bytes within the capacity; with `end` they are the last.
    fn send(&mut self, stream: &mut Self::Stream, bytes: Bytes, end: bool) -> Result<(), EngineError>;

    /// Resets the stream (RFC 9113 §6.4).
    fn reset(&mut self, stream: &mut Self::Stream, code: ErrorCode);

    /// Waits for the peer's reset once its bytes have ended.
    fn poll_reset(&mut self, stream: &mut Self::Stream, cx: &mut Context<'_>) -> Poll<EngineError>;

    /// The next bytes from the peer.
    fn poll_recv(&mut self, stream: &mut Self::Stream, cx: &mut Context<'_>) -> Poll<Result<Received, EngineError>>;

    /// Lets the peer send `n` more bytes.
    fn release(&mut self, stream: &mut Self::Stream, n: usize);

    /// Nobody uses the stream any more: what of it has not ended is reset.
    fn forget(&mut self, stream: Self::Stream);
}

/// What an engine has to tell after a poll.
#[derive(Debug)]
pub(crate) enum Progress<S> {
    /// The peer opened a stream (server).
    Request(Box<http::request::Parts>, S),
    /// There is something for the stream of this name: what wakers of its polls would be called
    /// for, by an engine that calls none.
    News(usize),
    /// The stream of this name waited for its turn to send, which has come: it is the next to be
    /// asked for its bytes.
    Turn(usize),
    /// It is certain how the connection ends, and there is no more for its streams. What is left is
    /// to tell the peer.
    Closing(Result<(), EngineError>),
    /// The connection ended.
    Closed(Result<(), EngineError>),
}

/// What arrived on a stream.
#[derive(Debug)]
pub(crate) enum Received {
    /// Bytes, possibly none.
    Data(Bytes),
    /// END_STREAM.
    End,
    /// Trailers, which a CONNECT stream must not have (RFC 9113 §8.5).
    Trailers,
}

/// Why an engine failed a stream or a connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EngineError {
    /// The stream was reset.
    #[error("stream reset: {code}")]
    Reset { code: ErrorCode, by_peer: bool },
    /// The connection was ended by GOAWAY.
    #[error("connection ended by GOAWAY: {code}")]
    GoAway { code: ErrorCode, by_peer: bool },
    /// The transport failed or ended.
    #[error("transport failed")]
    Io(#[source] io::Error),
}

impl EngineError {
    /// The stream is no longer open for what was asked.
    pub(crate) fn closed() -> Self {
        Self::Io(io::ErrorKind::BrokenPipe.into())
    }
}
