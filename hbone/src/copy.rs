//! Copies between a TCP connection and a tunnel, with the ends that RFC 9113 §8.5 asks for.
//!
//! | on one side | on the other |
//! |---|---|
//! | TCP FIN | END_STREAM |
//! | TCP RST or any TCP error | RST_STREAM with CONNECT_ERROR |
//! | END_STREAM | TCP FIN, after all bytes |
//! | RST_STREAM, GOAWAY, lost connection | TCP RST |

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use socket2::SockRef;
use tokio::io::{Interest, ReadBuf, Ready};
use tokio::net::TcpStream;
use tokio::time::Sleep;

use crate::stream::{ReadHalf, TunnelStream, WriteHalf};
use crate::tunnel::TunnelError;
use crate::wire::ResetReason;

/// Smallest and largest read from the TCP connection. The smallest is what allocators have at hand.
const MIN_READ: usize = 1024;
const MAX_READ: usize = 256 * 1024;

/// Chunks that one write to the TCP connection gathers.
const GATHER: usize = 32;

/// Chunks that an idle tunnel has places for.
const KEEP: usize = 8;

/// Time for an application to end its side of a TCP connection that nobody reads any more, or to
/// take what arrived on a tunnel before it failed.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// What became of a copied tunnel.
#[derive(Debug)]
#[non_exhaustive]
pub struct CopyOutcome {
    /// Bytes from the TCP connection that the tunnel took.
    pub to_tunnel: u64,
    /// Bytes from the tunnel that the TCP connection took.
    pub to_tcp: u64,
    /// Why it was aborted; `None` if both directions ended in order.
    pub abort: Option<CopyAbort>,
}

/// Why a copied tunnel was aborted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CopyAbort {
    /// The TCP connection failed; the tunnel was reset with CONNECT_ERROR.
    #[error("TCP connection failed: {0}")]
    Tcp(#[source] io::Error),
    /// The tunnel failed; the TCP connection was reset.
    #[error(transparent)]
    Tunnel(#[from] TunnelError),
}

/// Copies both ways between `tcp` and `tunnel` until both directions have ended or one side has
/// failed.
///
/// A direction that has ended leaves the other open. A failed side fails the other: the
/// application on either end sees a reset where there was one, and an orderly end only if all
/// bytes were delivered. What arrived before a tunnel failed is still delivered, if the application
/// takes it within 2 s.
///
/// Buffers are taken when bytes are there to be read and given back when none are, so an idle
/// tunnel holds none.
///
/// # Cancel safety
///
/// Dropping the call resets both sides.
pub async fn copy_bidirectional(tcp: TcpStream, tunnel: TunnelStream) -> CopyOutcome {
    copy_with_progress(tcp, tunnel, Arc::default()).await
}

/// Bytes that a copy has moved so far, for whoever counts while it runs or after it was dropped.
#[derive(Debug, Default)]
pub struct CopyProgress {
    to_tunnel: AtomicU64,
    to_tcp: AtomicU64,
}

impl CopyProgress {
    /// Bytes from the TCP connection that the tunnel took.
    pub fn to_tunnel(&self) -> u64 {
        self.to_tunnel.load(Ordering::Relaxed)
    }

    /// Bytes from the tunnel that the TCP connection took.
    pub fn to_tcp(&self) -> u64 {
        self.to_tcp.load(Ordering::Relaxed)
    }
}

/// As [`copy_bidirectional`], and tells `progress` of the bytes as they move.
///
/// # Cancel safety
///
/// Dropping the call resets both sides; `progress` keeps what was copied.
pub async fn copy_with_progress(tcp: TcpStream, tunnel: TunnelStream, progress: Arc<CopyProgress>) -> CopyOutcome {
    let (read, write) = tunnel.into_split();
    let mut tcp = Resetting { tcp, reset: true };
    let mut copy = Copy {
        up: Up {
            tunnel: write,
            is_reading: true,
            is_finishing: false,
            buf: BytesMut::new(),
            size: MIN_READ,
            copied: 0,
            end: None,
        },
        down: Down {
            tunnel: read,
            chunks: VecDeque::new(),
            copied: 0,
            done: false,
        },
        failing: None,
    };
    let abort = {
        let mut failed = pin!(tcp.tcp.ready(Interest::ERROR));
        poll_fn(|cx| {
            let polled = copy.poll(cx, &tcp.tcp, failed.as_mut());
            progress.to_tunnel.store(copy.up.copied, Ordering::Relaxed);
            progress.to_tcp.store(copy.down.copied, Ordering::Relaxed);
            polled
        })
        .await
        .err()
    };
    let Copy { up, down, .. } = copy;
    let outcome = CopyOutcome {
        to_tunnel: up.copied,
        to_tcp: down.copied,
        abort,
    };
    if let Some(CopyAbort::Tcp(_)) = outcome.abort {
        up.tunnel.abort();
    } else if down.done {
        // Everything from the peer was delivered, whatever became of the other direction.
        tcp.close(matches!(up.end, Some(Err(_)))).await;
    }
    outcome
}

struct Copy {
    up: Up,
    down: Down,
    /// Ends the time that a failed tunnel's last bytes have.
    failing: Option<Pin<Box<Sleep>>>,
}

impl Copy {
    /// `failed` completes when the TCP connection has failed.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        tcp: &TcpStream,
        failed: Pin<&mut impl Future<Output = io::Result<Ready>>>,
    ) -> Poll<Result<(), CopyAbort>> {
        let up = self.up.poll(cx, tcp)?;
        let down = self.down.poll(cx, tcp)?;
        // An application that is silent is not what tells that nobody takes its bytes any more.
        if down.is_ready()
            && self.up.end.is_none()
            && let Poll::Ready(error) = self.down.tunnel.poll_failure(cx)
        {
            self.up.end = Some(Err(error));
        }
        let copied = match &self.up.end {
            // A peer that has sent everything and wants no more is not a failure.
            Some(Err(TunnelError::Reset(reset))) if down.is_ready() && reset.reason() == ResetReason::Finished => {
                Poll::Ready(Ok(()))
            }
            Some(Err(error)) if down.is_ready() => Poll::Ready(Err(error.clone().into())),
            _ if up.is_ready() && down.is_ready() => Poll::Ready(Ok(())),
            _ if down.is_ready() => Poll::Pending,
            _ => self.poll_failing(cx).map(|error| Err(error.into())),
        };
        if copied.is_pending() && !self.up.is_reading && failed.poll(cx).is_ready() {
            return Poll::Ready(Err(CopyAbort::Tcp(failure(tcp))));
        }
        copied
    }

    /// Gives a tunnel up that has failed and whose last bytes the TCP connection does not take.
    fn poll_failing(&mut self, cx: &mut Context<'_>) -> Poll<TunnelError> {
        let error = ready!(self.down.tunnel.poll_failure(cx));
        let deadline = self
            .failing
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(CLOSE_TIMEOUT)));
        ready!(deadline.as_mut().poll(cx));
        Poll::Ready(error)
    }
}

/// Why a TCP connection has failed, of which the operating system tells once.
fn failure(tcp: &TcpStream) -> io::Error {
    match tcp.take_error() {
        Ok(Some(error)) | Err(error) => error,
        Ok(None) => io::ErrorKind::ConnectionReset.into(),
    }
}

/// Tries to move `wanted` bytes. Where fewer were moved, the socket is at its end for now and is not
/// tried again before it says otherwise, which spares a system call for every short read: epoll and
/// kqueue tell of each change, which is why tokio's own reads and writes do the same.
fn try_io(
    tcp: &TcpStream,
    interest: Interest,
    wanted: usize,
    move_bytes: impl FnOnce() -> io::Result<usize>,
) -> io::Result<usize> {
    const TOLD_OF_CHANGES: bool = cfg!(any(target_os = "linux", target_os = "android", target_vendor = "apple"));
    let mut moved = 0;
    let tried = tcp.try_io(interest, || {
        moved = move_bytes()?;
        match TOLD_OF_CHANGES && (1..wanted).contains(&moved) {
            true => Err(io::ErrorKind::WouldBlock.into()),
            false => Ok(()),
        }
    });
    match tried {
        Err(error) if moved == 0 => Err(error),
        _ => Ok(moved),
    }
}

/// From the TCP connection into the tunnel.
struct Up {
    tunnel: WriteHalf,
    /// The next read tells whether the TCP connection has failed.
    is_reading: bool,
    /// The TCP connection has ended, and the tunnel is to take that.
    is_finishing: bool,
    buf: BytesMut,
    /// Size of the next read.
    size: usize,
    copied: u64,
    /// How the direction ended. The tunnel's failure waits for what can still be delivered the
    /// other way, which then ends with the same failure if it was not complete.
    end: Option<Result<(), TunnelError>>,
}

impl Up {
    fn poll(&mut self, cx: &mut Context<'_>, tcp: &TcpStream) -> Poll<Result<(), CopyAbort>> {
        while self.end.is_none() {
            match ready!(self.poll_step(cx, tcp)) {
                Ok(()) => {}
                Err(CopyAbort::Tunnel(error)) => self.end = Some(Err(error)),
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_step(&mut self, cx: &mut Context<'_>, tcp: &TcpStream) -> Poll<Result<(), CopyAbort>> {
        self.is_reading = false;
        if self.is_finishing {
            ready!(self.tunnel.poll_finish(cx))?;
            self.end = Some(Ok(()));
            return Poll::Ready(Ok(()));
        }
        let room = ready!(self.tunnel.poll_ready(cx))?;
        self.is_reading = true;
        let wanted = self.size.min(room);
        let chunk = ready!(self.poll_read(cx, tcp, wanted)).map_err(CopyAbort::Tcp)?;
        if chunk.is_empty() {
            self.is_reading = false;
            self.is_finishing = true;
            self.buf = BytesMut::new();
            ready!(self.tunnel.poll_finish(cx))?;
            self.end = Some(Ok(()));
        } else {
            self.copied += chunk.len() as u64;
            self.adapt(chunk.len());
            self.tunnel.put_chunk(chunk);
        }
        Poll::Ready(Ok(()))
    }

    /// Reads at most `wanted` bytes; none are the end.
    fn poll_read(&mut self, cx: &mut Context<'_>, tcp: &TcpStream, wanted: usize) -> Poll<io::Result<Bytes>> {
        loop {
            let Poll::Ready(readable) = tcp.poll_read_ready(cx) else {
                self.idle();
                return Poll::Pending;
            };
            readable?;
            match self.try_read(tcp, wanted) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return Poll::Ready(read),
            }
        }
    }

    /// Reads a little by way of the stack, and much into the buffer, which exists only while there
    /// is much.
    fn try_read(&mut self, tcp: &TcpStream, wanted: usize) -> io::Result<Bytes> {
        if wanted <= MIN_READ {
            let mut scratch = [MaybeUninit::uninit(); MIN_READ];
            let mut room = ReadBuf::uninit(scratch.get_mut(..wanted).unwrap_or_default());
            try_io(tcp, Interest::READABLE, wanted, || tcp.try_read_buf(&mut room))?;
            return Ok(Bytes::copy_from_slice(room.filled()));
        }
        self.buf.reserve(wanted);
        let mut buf = (&mut self.buf).limit(wanted);
        try_io(tcp, Interest::READABLE, wanted, || tcp.try_read_buf(&mut buf))?;
        Ok(self.buf.split().freeze())
    }

    /// Gives the buffer back, unless reads fill it: bulk data pauses only for its peer.
    fn idle(&mut self) {
        if self.size < MAX_READ {
            self.buf = BytesMut::new();
        }
    }

    fn adapt(&mut self, read: usize) {
        if read >= self.size {
            self.size = (self.size * 4).min(MAX_READ);
        } else if read < self.size / 8 {
            self.size = (self.size / 2).max(MIN_READ);
        }
    }
}

/// From the tunnel to the TCP connection.
struct Down {
    tunnel: ReadHalf,
    /// Taken from the tunnel and not written yet.
    chunks: VecDeque<Bytes>,
    copied: u64,
    done: bool,
}

impl Down {
    fn poll(&mut self, cx: &mut Context<'_>, tcp: &TcpStream) -> Poll<Result<(), CopyAbort>> {
        while !self.done {
            if self.chunks.is_empty() && !ready!(self.tunnel.poll_read_chunks(cx, &mut self.chunks))? {
                SockRef::from(tcp).shutdown(Shutdown::Write).map_err(CopyAbort::Tcp)?;
                self.done = true;
                break;
            }
            let written = ready!(self.poll_write(cx, tcp)).map_err(CopyAbort::Tcp)?;
            if written == 0 {
                return Poll::Ready(Err(CopyAbort::Tcp(io::ErrorKind::WriteZero.into())));
            }
            self.copied += written as u64;
            self.advance(written);
            self.tunnel.give_back(written);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_write(&self, cx: &mut Context<'_>, tcp: &TcpStream) -> Poll<io::Result<usize>> {
        loop {
            ready!(tcp.poll_write_ready(cx))?;
            match self.try_write(tcp) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }
    }

    fn try_write(&self, tcp: &TcpStream) -> io::Result<usize> {
        // A plain write costs the kernel less than a vectored one of a single slice.
        if let (Some(chunk), 1) = (self.chunks.front(), self.chunks.len()) {
            return try_io(tcp, Interest::WRITABLE, chunk.len(), || tcp.try_write(chunk));
        }
        let mut slices = [IoSlice::new(&[]); GATHER];
        let (mut filled, mut len) = (0, 0);
        for (slice, chunk) in slices.iter_mut().zip(&self.chunks) {
            *slice = IoSlice::new(chunk);
            filled += 1;
            len += chunk.len();
        }
        let slices = slices.get(..filled).unwrap_or_default();
        try_io(tcp, Interest::WRITABLE, len, || tcp.try_write_vectored(slices))
    }

    fn advance(&mut self, mut written: usize) {
        while let Some(front) = self.chunks.front_mut() {
            if front.len() > written {
                return front.advance(written);
            }
            written -= front.len();
            self.chunks.pop_front();
        }
        // An idle tunnel holds no buffer to speak of.
        if self.chunks.capacity() > KEEP {
            self.chunks = VecDeque::new();
        }
    }
}

/// A TCP connection that is reset when dropped, unless it was closed.
struct Resetting {
    tcp: TcpStream,
    reset: bool,
}

impl Resetting {
    /// Closes in order. With bytes `unread`, the operating system would turn the close into a
    /// reset that can overtake the bytes just written; they are read and dropped for a while.
    async fn close(&mut self, unread: bool) {
        self.reset = false;
        if unread {
            let drained = tokio::time::timeout(CLOSE_TIMEOUT, poll_fn(|cx| self.poll_drain(cx))).await;
            tracing::trace!(?drained, "read what nobody wants");
        }
    }

    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut scratch = [0; MIN_READ];
        loop {
            ready!(self.tcp.poll_read_ready(cx))?;
            match self.tcp.try_read(&mut scratch) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(0) => return Poll::Ready(Ok(())),
                read => drop(read?),
            }
        }
    }
}

impl Drop for Resetting {
    fn drop(&mut self) {
        if self.reset
            && let Err(error) = SockRef::from(&self.tcp).set_linger(Some(Duration::ZERO))
        {
            tracing::debug!(%error, "cannot reset a TCP connection");
        }
    }
}
