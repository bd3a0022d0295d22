//! What the driver needs from an HTTP/2 implementation.
//!
//! The rest of the crate sees HTTP/2 only through these two traits, so that another engine can
//! stand beside the [`h2`] crate's. An engine owns the protocol: frames, HPACK, flow control and
//! stream states. It never sees a tunnel's queues, clocks or handlers.

pub(crate) mod h2;

use std::io;
use std::task::{Context, Poll};

use bytes::Bytes;

use crate::wire::ErrorCode;

/// One HTTP/2 connection.
pub(crate) trait Engine {
    /// One stream of the connection.
    type Stream: EngineStream;

    /// Reads and writes frames as far as the transport allows.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Progress<Self::Stream>>;

    /// Waits until a stream can be opened (client): one that the peer's limit holds back keeps
    /// those behind it from being opened, also while a reset of another is on its way.
    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<()>;

    /// Opens a stream with `head`, a CONNECT request (client).
    fn open(&mut self, head: http::Request<()>) -> Result<Self::Stream, EngineError>;

    /// Streams that the peer lets this side have open at a time.
    fn peer_stream_limit(&self) -> usize;

    /// Sends a PING unless one is under way. Its answer is seen as received bytes.
    fn ping(&mut self);

    /// Refuses what is new and lets the connection end with its last stream: a server says so
    /// with GOAWAY (RFC 9113 §6.8), a client opens no more.
    fn drain(&mut self);

    /// Ends the connection at once, telling the peer why where the engine can.
    fn abort(&mut self, code: ErrorCode);
}

/// What an engine has to tell after a poll.
#[derive(Debug)]
pub(crate) enum Progress<S> {
    /// The peer opened a stream (server).
    Request(Box<http::request::Parts>, S),
    /// The connection ended.
    Closed(Result<(), EngineError>),
}

/// One stream: a request or its response, and bytes both ways.
pub(crate) trait EngineStream {
    /// The stream identifier.
    fn id(&self) -> u32;

    /// The response head (client).
    fn poll_response(&mut self, cx: &mut Context<'_>) -> Poll<Result<http::response::Parts, EngineError>>;

    /// Sends the response head (server); with `end` there are no bytes after it.
    fn respond(&mut self, head: http::Response<()>, end: bool) -> Result<(), EngineError>;

    /// Bytes, at most `wanted`, that may be sent now. Asks the peer's windows for that many, and
    /// for none with `wanted` 0, since what is held is kept from the other streams.
    fn poll_send_capacity(&mut self, cx: &mut Context<'_>, wanted: usize) -> Poll<Result<usize, EngineError>>;

    /// Sends bytes within the capacity; with `end` they are the last.
    fn send(&mut self, bytes: Bytes, end: bool) -> Result<(), EngineError>;

    /// Resets the stream (RFC 9113 §6.4).
    fn reset(&mut self, code: ErrorCode);

    /// Waits for the peer's reset once its bytes have ended.
    fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<EngineError>;

    /// The next bytes from the peer.
    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Received, EngineError>>;

    /// Lets the peer send `n` more bytes.
    fn release(&mut self, n: usize);
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
