//! A tunnel's bytes, as its user sees them.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::peer::Peer;
use crate::request::TunnelResponse;
use crate::tunnel::{Tunnel, TunnelError};
use crate::wire::ErrorCode;

/// An open tunnel: bytes both ways, each way with an end of its own.
///
/// Reads and writes through [`AsyncRead`] and [`AsyncWrite`], or in chunks of [`Bytes`] that are
/// never copied ([`read_chunk`](Self::read_chunk), [`write_chunk`](Self::write_chunk)).
///
/// # Ends
///
/// A read of zero bytes (or `None`) is the peer's orderly end, and nothing else is: a reset
/// tunnel or a lost connection is an error, even if some bytes arrived before it. Shutting down
/// the write side sends this side's end; the other direction stays open (RFC 9113 §8.5).
///
/// Dropping a tunnel that was not shut down resets it with CANCEL, which the peer sees as an
/// abort. [`abort`](Self::abort) tells the peer that the application behind the tunnel was reset.
///
/// # Flushing
///
/// Written bytes are sent without being flushed. Small writes that come faster than the
/// connection can send them travel in one frame.
pub struct TunnelStream {
    read: ReadHalf,
    write: WriteHalf,
}

impl TunnelStream {
    pub(crate) fn new(tunnel: Arc<Tunnel>, peer: Peer, response: TunnelResponse) -> Self {
        let facts = Arc::new(Facts { peer, response });
        Self {
            read: ReadHalf {
                tunnel: Arc::clone(&tunnel),
                facts: Arc::clone(&facts),
            },
            write: WriteHalf { tunnel, facts },
        }
    }

    /// Who is at the other end of the connection.
    pub fn peer(&self) -> &Peer {
        &self.read.facts.peer
    }

    /// The response that opened the tunnel: the peer's (client) or this side's (server).
    pub fn response(&self) -> &TunnelResponse {
        &self.read.facts.response
    }

    /// Reads the next chunk, without copying; `None` is the peer's orderly end.
    ///
    /// # Errors
    ///
    /// If the tunnel was aborted; bytes that arrived before are read first.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a dropped call has taken nothing.
    pub async fn read_chunk(&mut self) -> Result<Option<Bytes>, TunnelError> {
        self.read.read_chunk().await
    }

    /// Writes a chunk, without copying it unless it is small.
    ///
    /// # Errors
    ///
    /// If the tunnel was aborted or this side has ended.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a dropped call has written nothing.
    pub async fn write_chunk(&mut self, chunk: Bytes) -> Result<(), TunnelError> {
        self.write.write_chunk(chunk).await
    }

    /// Ends this side's bytes and waits until the connection has taken them all.
    ///
    /// # Errors
    ///
    /// If the tunnel was aborted before.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: the end is sent whether or not the call is waited for.
    pub async fn finish(&mut self) -> Result<(), TunnelError> {
        self.write.finish().await
    }

    /// Tells the peer that the application at this end was reset: RST_STREAM with CONNECT_ERROR
    /// (RFC 9113 §8.5). Bytes that were not sent yet are dropped.
    pub fn abort(self) {
        self.write.abort();
    }

    /// Resets the tunnel with `code`. Bytes that were not sent yet are dropped.
    pub fn reset(self, code: ErrorCode) {
        self.write.reset(code);
    }

    /// Bytes received from the peer and bytes handed to the connection so far.
    pub fn counts(&self) -> (u64, u64) {
        let state = self.read.tunnel.lock();
        (state.received, state.sent)
    }

    /// Splits the tunnel into halves that can be used from two tasks.
    pub fn into_split(self) -> (ReadHalf, WriteHalf) {
        (self.read, self.write)
    }
}

/// The half of a tunnel that reads.
///
/// Dropping it lets the peer send on; what it sends is dropped.
pub struct ReadHalf {
    tunnel: Arc<Tunnel>,
    facts: Arc<Facts>,
}

impl ReadHalf {
    /// Who is at the other end of the connection.
    pub fn peer(&self) -> &Peer {
        &self.facts.peer
    }

    /// Reads the next chunk, without copying; `None` is the peer's orderly end.
    ///
    /// # Errors
    ///
    /// If the tunnel was aborted; bytes that arrived before are read first.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a dropped call has taken nothing.
    pub async fn read_chunk(&mut self) -> Result<Option<Bytes>, TunnelError> {
        poll_fn(|cx| self.poll_read_chunk(cx)).await
    }

    /// Polls for the next chunk; see [`read_chunk`](Self::read_chunk).
    ///
    /// # Errors
    ///
    /// If the tunnel was aborted; bytes that arrived before are read first.
    pub fn poll_read_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, TunnelError>> {
        self.tunnel.poll_chunk(cx, usize::MAX)
    }

    /// Takes every chunk that has arrived; `false` is the orderly end.
    pub(crate) fn poll_read_chunks(
        &mut self,
        cx: &mut Context<'_>,
        chunks: &mut VecDeque<Bytes>,
    ) -> Poll<Result<bool, TunnelError>> {
        self.tunnel.poll_chunks(cx, chunks)
    }

    /// Lets the peer send `n` more bytes, once those of
    /// [`poll_read_chunks`](Self::poll_read_chunks) are gone.
    pub(crate) fn give_back(&mut self, n: usize) {
        self.tunnel.give_back(n);
    }

    /// Waits until the tunnel has failed, whatever of it is still to be read.
    pub(crate) fn poll_failure(&mut self, cx: &mut Context<'_>) -> Poll<TunnelError> {
        self.tunnel.poll_failure(cx, |state| &mut state.watcher)
    }
}

/// The half of a tunnel that writes.
///
/// Dropping it without [`finish`](Self::finish) resets the tunnel with CANCEL.
pub struct WriteHalf {
    tunnel: Arc<Tunnel>,
    facts: Arc<Facts>,
}

impl WriteHalf {
    /// Who is at the other end of the connection.
    pub fn peer(&self) -> &Peer {
        &self.facts.peer
    }

    /// Writes a chunk, without copying it unless it is small.
    ///
    /// # Errors
    ///
    /// If the tunnel was aborted or this side has ended.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a dropped call has written nothing.
    pub async fn write_chunk(&mut self, chunk: Bytes) -> Result<(), TunnelError> {
        poll_fn(|cx| self.poll_ready(cx)).await?;
        self.tunnel.put(|outbox| outbox.push(chunk));
        Ok(())
    }

    /// Waits until the tunnel takes no more bytes: the peer reset it, the connection was lost, or
    /// this side has ended. For a writer that has nothing to write and would not learn of it.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn lost(&mut self) -> TunnelError {
        poll_fn(|cx| self.tunnel.poll_refusal(cx)).await
    }

    /// Waits until the tunnel takes bytes; answers how many it takes before it is full.
    ///
    /// # Errors
    ///
    /// If the tunnel was aborted or this side has ended.
    pub fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, TunnelError>> {
        self.tunnel.poll_room(cx)
    }

    /// Writes a chunk that [`poll_ready`](Self::poll_ready) made room for.
    pub(crate) fn put_chunk(&mut self, chunk: Bytes) {
        self.tunnel.put(|outbox| outbox.push(chunk));
    }

    /// Ends this side's bytes and waits until the connection has taken them all.
    ///
    /// # Errors
    ///
    /// If the tunnel was aborted before.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: the end is sent whether or not the call is waited for.
    pub async fn finish(&mut self) -> Result<(), TunnelError> {
        poll_fn(|cx| self.poll_finish(cx)).await
    }

    /// Polls for the end of this side's bytes; see [`finish`](Self::finish).
    ///
    /// # Errors
    ///
    /// If the tunnel was aborted before.
    pub fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TunnelError>> {
        self.tunnel.poll_fin(cx)
    }

    /// Tells the peer that the application at this end was reset: RST_STREAM with CONNECT_ERROR
    /// (RFC 9113 §8.5). Bytes that were not sent yet are dropped.
    pub fn abort(self) {
        self.reset(ErrorCode::CONNECT_ERROR);
    }

    /// Resets the tunnel with `code`. Bytes that were not sent yet are dropped.
    pub fn reset(self, code: ErrorCode) {
        self.tunnel.reset(code);
    }
}

/// What is known of a tunnel from its opening.
#[derive(Debug)]
struct Facts {
    peer: Peer,
    response: TunnelResponse,
}

impl AsyncRead for ReadHalf {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        if let Some(chunk) = ready!(self.tunnel.poll_chunk(cx, buf.remaining()))? {
            buf.put_slice(&chunk);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for WriteHalf {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        // A writer that is never refused would otherwise keep its task from ever giving way to
        // the connection's driver.
        let coop = ready!(tokio::task::coop::poll_proceed(cx));
        let room = ready!(self.tunnel.poll_room(cx))?;
        coop.made_progress();
        let bytes = buf.get(..room).unwrap_or(buf);
        if !bytes.is_empty() {
            self.tunnel.put(|outbox| outbox.copy(bytes));
        }
        Poll::Ready(Ok(bytes.len()))
    }

    /// Does nothing: written bytes are sent without being flushed.
    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.tunnel.poll_fin(cx).map_err(io::Error::from)
    }
}

impl AsyncRead for TunnelStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.read).poll_read(cx, buf)
    }
}

impl AsyncWrite for TunnelStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.write).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.write).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.write).poll_shutdown(cx)
    }
}

impl Drop for ReadHalf {
    fn drop(&mut self) {
        self.tunnel.drop_reader();
    }
}

impl Drop for WriteHalf {
    fn drop(&mut self) {
        self.tunnel.drop_writer();
    }
}

impl fmt::Debug for TunnelStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TunnelStream")
            .field("peer", self.peer())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for ReadHalf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadHalf").finish_non_exhaustive()
    }
}

impl fmt::Debug for WriteHalf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriteHalf").finish_non_exhaustive()
    }
}
