//! The byte stream under a connection: batches writes, counts frames, meters each turn.
//!
//! An HTTP/2 engine may flush after every frame it writes, as h2's does. Each flush would be a TLS
//! record and a system call of its own, so [`Transport`] only gathers what the engine writes and the
//! driver flushes once, at the end of its turn. Because the gathered plaintext is contiguous, TLS records
//! come out full whatever the size of the frames in them.
//!
//! Reading is metered: after [`FRAMES_PER_TURN`] frames the engine sees `Pending` until the driver
//! has moved what arrived into the tunnels. A flood of tiny frames therefore costs the flooder its
//! speed, and never overruns the engine's own queues.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::flood::{Ledger, Offence, Scanner, Stop};

/// Output gathered before the engine has to wait for the peer.
pub(crate) const GATHER: usize = 256 * 1024;

/// Length of the pieces in which output is copied, here and by the TLS layer.
///
/// Frame and record heads put a payload a few bytes further into its page than it was at its
/// source, and there some processors' string move is sixteen times slower than vector moves. The C
/// library takes vector moves for copies as short as this.
const PIECE: usize = 2 * 1024;

/// Pieces that are handed to the stream below at a time.
const PIECES: usize = 64;

/// Gathered capacity that an idle connection may keep.
const KEEP: usize = 16 * 1024;

/// Frames that the engine may read in one turn of the driver.
///
/// The engine charges an unread DATA frame of a few bytes with up to 256 bytes of its budget (see
/// [`engine::h2`](crate::engine::h2)); this many always fit.
pub(crate) const FRAMES_PER_TURN: u32 = 2_048;

/// A connection's byte stream with what is known of the frames on it.
pub(crate) struct Transport<Io> {
    io: Io,
    out: Vec<u8>,
    /// Bytes at the front of `out` that `io` has taken.
    taken: usize,
    /// `io` has taken bytes that it may still hold.
    unflushed: bool,
    /// Why `io` takes no more bytes.
    write_failure: Option<io::ErrorKind>,
    inbound: Scanner,
    outbound: Scanner,
    ledger: Ledger,
    offence: Option<Offence>,
    frames: u32,
    metered: bool,
    /// See [`received`](Self::received).
    received: u64,
    sent: u64,
}

impl<Io: AsyncRead + AsyncWrite + Unpin> Transport<Io> {
    fn new(io: Io, inbound: Scanner, outbound: Scanner) -> Self {
        Self {
            io,
            out: Vec::new(),
            taken: 0,
            unflushed: false,
            write_failure: None,
            inbound,
            outbound,
            ledger: Ledger::default(),
            offence: None,
            frames: 0,
            metered: false,
            received: 0,
            sent: 0,
        }
    }

    /// Allows the engine to read again; answers whether it may have stopped before the end.
    pub(crate) fn end_turn(&mut self) -> bool {
        self.frames = 0;
        std::mem::take(&mut self.metered)
    }

    /// Whether reading stopped for the meter rather than for want of bytes.
    pub(crate) fn is_metered(&self) -> bool {
        self.metered
    }

    /// Writes out what was gathered. Once that has failed, output is dropped and reading goes on:
    /// a peer that closed may have said much before.
    pub(crate) fn poll_flush_gathered(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.write_failure.is_none()
            && let Err(error) = ready!(self.poll_write_out(cx))
        {
            self.write_failure = Some(error.kind());
        }
        self.out.clear();
        self.taken = 0;
        self.unflushed = false;
        Poll::Ready(())
    }

    fn poll_write_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.out.get(self.taken..).filter(|rest| !rest.is_empty()) {
            let n = match rest.len() {
                ..=PIECE => ready!(Pin::new(&mut self.io).poll_write(cx, rest))?,
                _ => ready!(poll_write_pieces(&mut self.io, cx, rest))?,
            };
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.taken += n;
            self.sent += n as u64;
            self.unflushed = true;
        }
        match self.unflushed {
            true => Pin::new(&mut self.io).poll_flush(cx),
            false => Poll::Ready(Ok(())),
        }
    }

    /// Why nothing can be sent any more.
    pub(crate) fn write_failure(&self) -> Option<io::ErrorKind> {
        self.write_failure
    }

    /// A new interval of frame accounting; memory that only a burst needed goes back.
    pub(crate) fn tick(&mut self) {
        self.ledger.tick();
        if self.out.is_empty() && self.out.capacity() > KEEP {
            self.out = Vec::new();
        }
    }

    /// Counts a stream that either side opened.
    pub(crate) fn stream_opened(&mut self) {
        self.ledger.opened();
    }

    /// Counts a stream that failed by the peer's doing before it was answered.
    pub(crate) fn premature_reset(&mut self) {
        if let Err(offence) = self.ledger.premature_reset() {
            self.offence.get_or_insert(offence);
        }
    }

    /// What the peer did that it may not do.
    pub(crate) fn offence(&self) -> Option<Offence> {
        self.offence
    }

    /// Bytes received so far, without those of a header block that is not complete. Nothing may
    /// come between its frames, so a peer that sends one in drops says nothing else for as long.
    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    /// Bytes that the stream below has accepted so far.
    pub(crate) fn sent(&self) -> u64 {
        self.sent
    }

    /// Whether the peer's first frame, its SETTINGS, has arrived (RFC 9113 §3.4).
    pub(crate) fn has_first_frame(&self) -> bool {
        self.inbound.has_whole_frame()
    }

    /// The lowest last stream id of the GOAWAY frames received (RFC 9113 §6.8).
    pub(crate) fn goaway(&self) -> Option<u32> {
        self.inbound.last_stream_id()
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.offence.is_some() {
            return Poll::Pending;
        }
        if self.frames >= FRAMES_PER_TURN {
            self.metered = true;
            return Poll::Pending;
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        let new = buf.filled().get(before..).unwrap_or_default();
        let received = new.len() as u64;
        let Self {
            inbound,
            ledger,
            frames,
            ..
        } = self;
        let scanned = inbound.scan(new, |head| {
            *frames += 1;
            ledger.received(head)
        });
        if let Err(Stop { before: kept, error }) = scanned {
            // The engine never sees a frame that ends the connection.
            self.offence = Some(error);
            buf.set_filled(before + kept);
            if kept == 0 {
                return Poll::Pending;
            }
        }
        if !self.inbound.is_in_block() {
            self.received += received;
        }
        Poll::Ready(Ok(()))
    }

    /// Bytes that are gathered and not written.
    pub(crate) fn gathered(&self) -> usize {
        self.out.len() - self.taken
    }

    /// Takes frames to be written, `data_frames` of them DATA; leaves an empty buffer.
    pub(crate) fn gather(&mut self, frames: &mut Vec<u8>, data_frames: u64) {
        self.ledger.sent_data(data_frames);
        if self.out.is_empty() {
            std::mem::swap(&mut self.out, frames);
        } else {
            copy_pieces(&mut self.out, frames);
        }
        frames.clear();
        if frames.capacity() > KEEP && self.out.len() <= KEEP {
            *frames = Vec::new();
        }
    }

    fn poll_gather(&mut self, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        if self.out.len() >= GATHER {
            ready!(self.poll_flush_gathered(cx));
        }
        let mut taken = 0;
        for buf in bufs {
            let room = GATHER.saturating_sub(self.out.len());
            let bytes = buf.get(..room).unwrap_or(buf);
            copy_pieces(&mut self.out, bytes);
            let Self { outbound, ledger, .. } = self;
            let Ok(()) = outbound.scan(bytes, |head| {
                ledger.sent(head);
                Ok::<(), Infallible>(())
            });
            taken += bytes.len();
        }
        Poll::Ready(Ok(taken))
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_flush_gathered(cx));
        match self.write_failure {
            Some(_) => Poll::Ready(Ok(())),
            None => Pin::new(&mut self.io).poll_shutdown(cx),
        }
    }
}

fn poll_write_pieces<Io: AsyncWrite + Unpin>(
    io: &mut Io,
    cx: &mut Context<'_>,
    bytes: &[u8],
) -> Poll<io::Result<usize>> {
    let mut pieces = [io::IoSlice::new(&[]); PIECES];
    let mut filled = 0;
    for (slot, piece) in pieces.iter_mut().zip(bytes.chunks(PIECE)) {
        *slot = io::IoSlice::new(piece);
        filled += 1;
    }
    Pin::new(io).poll_write_vectored(cx, pieces.get(..filled).unwrap_or_default())
}

/// Copies in pieces: see [`PIECE`].
pub(crate) fn copy_pieces(to: &mut Vec<u8>, bytes: &[u8]) {
    for piece in bytes.chunks(PIECE) {
        to.extend_from_slice(piece);
    }
}

/// One transport, reached by the engine that reads and writes frames and by the driver that
/// flushes. Both run in the same task, so the lock is never waited for.
pub(crate) struct SharedTransport<Io>(Arc<Mutex<Transport<Io>>>);

impl<Io: AsyncRead + AsyncWrite + Unpin> SharedTransport<Io> {
    /// The transport of a client, which sends the connection preface.
    pub(crate) fn client(io: Io) -> Self {
        Self::new(Transport::new(io, Scanner::default(), Scanner::after_preface()))
    }

    /// The transport of a server, which receives the connection preface.
    pub(crate) fn server(io: Io) -> Self {
        Self::new(Transport::new(io, Scanner::after_preface(), Scanner::default()))
    }

    fn new(transport: Transport<Io>) -> Self {
        Self(Arc::new(Mutex::new(transport)))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Transport<Io>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<Io> Clone for SharedTransport<Io> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<Io: AsyncRead + AsyncWrite + Unpin> AsyncRead for SharedTransport<Io> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.lock().poll_read(cx, buf)
    }
}

impl<Io: AsyncRead + AsyncWrite + Unpin> AsyncWrite for SharedTransport<Io> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.lock().poll_gather(cx, &[io::IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.lock().poll_gather(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Does nothing: the driver flushes at the end of its turn.
    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.lock().poll_shutdown(cx)
    }
}
