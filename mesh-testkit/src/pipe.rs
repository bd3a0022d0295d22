//! A duplex byte pipe in memory that misbehaves on command.
//!
//! [`pair`] gives two connected ends; [`Builder`] the same with faults set from the start. Each end is an
//! `AsyncRead + AsyncWrite` with true half-close. Its [`PipeControl`] changes the weather while a test runs.
//!
//! Time is tokio's, so under a paused runtime latency and rate cost no real time. Tokio's timers tick in milliseconds:
//! a shorter latency is rounded up. Without latency and rate no timer is used, and no runtime is needed.

use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use self::lane::{Delivery, Lane};

mod builder;
mod lane;

pub use self::builder::Builder;
pub use self::lane::Stats;

/// Two connected ends, left and right, that transport faithfully: 64 KiB in flight each way, no delay.
#[must_use]
pub fn pair() -> (Pipe, Pipe) {
    Builder::new().build()
}

/// One of the two ways through a pipe.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Direction {
    /// What the left end writes and the right end reads.
    LeftToRight,
    /// What the right end writes and the left end reads.
    RightToLeft,
}

impl Direction {
    /// Both directions, to loop over.
    pub const BOTH: [Self; 2] = [Self::LeftToRight, Self::RightToLeft];
}

/// How [`PipeControl::cut`] ends a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Cut {
    /// As a TCP RST: what is in flight is lost, all reads and writes fail with `ConnectionReset`.
    Reset,
    /// As a connection that ends without anyone's shutdown: what is in flight still arrives, then reads give end of
    /// file and writes fail with `BrokenPipe`. Over TLS this is the end without a `close_notify`.
    Eof,
}

/// One end of a pipe.
///
/// Dropping it is an orderly close: the other end reads what is in flight, then end of file; its writes fail with
/// `BrokenPipe`. (A socket of an operating system resets instead when closed with unread bytes: [`abort`](Self::abort).)
pub struct Pipe {
    link: Arc<Mutex<Link>>,
    outbound: Direction,
    inbound: Direction,
    /// Wakes the reader when the next bytes are due.
    due: Option<Pin<Box<Sleep>>>,
}

impl Pipe {
    /// The control of the pair that this end belongs to.
    #[must_use]
    pub fn control(&self) -> PipeControl {
        PipeControl {
            link: Arc::clone(&self.link),
        }
    }

    /// Closes this end abruptly, as a socket with `SO_LINGER` 0: the other end gets `ConnectionReset`.
    pub fn abort(self) {
        self.control().cut(Cut::Reset);
    }

    fn poll_write_slices(
        &self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
        vectored: bool,
    ) -> Poll<io::Result<usize>> {
        let coop = ready!(tokio::task::coop::poll_proceed(cx));
        let mut link = lock(&self.link);
        let lane = link.lane(self.outbound);
        let written = ready!(lane.poll_write(cx, slices, Instant::now()));
        coop.made_progress();
        lane.count_write(vectored);
        Poll::Ready(written)
    }
}

impl AsyncRead for Pipe {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let coop = ready!(tokio::task::coop::poll_proceed(cx));
        loop {
            let delivery = lock(&self.link).lane(self.inbound).deliver(cx, buf, Instant::now());
            let due = match delivery {
                Delivery::Done(result) => {
                    coop.made_progress();
                    return Poll::Ready(result);
                }
                Delivery::Later(None) => return Poll::Pending,
                Delivery::Later(Some(due)) => due,
            };
            let sleep = self.due.get_or_insert_with(|| Box::pin(sleep_until(due)));
            if sleep.deadline() != due {
                sleep.as_mut().reset(due);
            }
            ready!(sleep.as_mut().poll(cx));
        }
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_slices(cx, &[IoSlice::new(buf)], false)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_slices(cx, bufs, true)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(lock(&self.link).lane(self.outbound).flush())
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(lock(&self.link).lane(self.outbound).shut_down(Instant::now()))
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        let mut link = lock(&self.link);
        link.lane(self.outbound).drop_writer(Instant::now());
        link.lane(self.inbound).drop_reader();
    }
}

impl fmt::Debug for Pipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pipe")
            .field("outbound", &self.outbound)
            .finish_non_exhaustive()
    }
}

/// Changes and observes a pair of pipe ends. Clones control the same pair; the ends do not end when it is dropped.
#[derive(Clone)]
pub struct PipeControl {
    link: Arc<Mutex<Link>>,
}

impl PipeControl {
    /// Ends the connection for both ends at once.
    pub fn cut(&self, how: Cut) {
        for direction in Direction::BOTH {
            self.lane(direction, |lane| lane.cut(how));
        }
    }

    /// Makes a direction swallow everything: bytes in flight, bytes yet to be written and the end of file vanish
    /// without an error, and the reader waits. After [`resume`](Self::resume) the stream goes on with a hole in it.
    pub fn blackhole(&self, direction: Direction) {
        self.lane(direction, |lane| lane.blackhole());
    }

    /// Stops delivery in a direction: the reader gets nothing, writes fill the capacity and then wait. Nothing is lost.
    pub fn stall(&self, direction: Direction) {
        self.lane(direction, |lane| lane.stall());
    }

    /// Ends a stall or a blackhole.
    pub fn resume(&self, direction: Direction) {
        self.lane(direction, |lane| lane.resume());
    }

    /// Sets the time that bytes written from now on travel. Bytes never overtake others.
    pub fn latency(&self, direction: Direction, latency: Duration) {
        self.lane(direction, |lane| lane.set_latency(latency));
    }

    /// Sets the rate, in bytes per second, at which bytes written from now on leave; `None` is unlimited.
    ///
    /// # Panics
    ///
    /// At a rate of 0: that is a stall.
    pub fn rate(&self, direction: Direction, bytes_per_second: Option<u64>) {
        self.lane(direction, |lane| lane.set_rate(bytes_per_second));
    }

    /// What happened in a direction so far.
    #[must_use]
    pub fn stats(&self, direction: Direction) -> Stats {
        self.lane(direction, |lane| lane.stats())
    }

    /// Every byte that was written in a direction so far, also those that a blackhole swallowed.
    ///
    /// # Panics
    ///
    /// When recording was not asked for or more was written than [`Builder::record`] allows: a scan of half a recording
    /// would prove nothing.
    #[must_use]
    pub fn recording(&self, direction: Direction) -> Vec<u8> {
        self.lane(direction, |lane| lane.recording())
    }

    fn lane<R>(&self, direction: Direction, act: impl FnOnce(&mut Lane) -> R) -> R {
        act(lock(&self.link).lane(direction))
    }
}

impl fmt::Debug for PipeControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PipeControl")
            .field("left_to_right", &self.stats(Direction::LeftToRight))
            .field("right_to_left", &self.stats(Direction::RightToLeft))
            .finish()
    }
}

/// What the two ends and their control share.
struct Link {
    left_to_right: Lane,
    right_to_left: Lane,
}

impl Link {
    fn lane(&mut self, direction: Direction) -> &mut Lane {
        match direction {
            Direction::LeftToRight => &mut self.left_to_right,
            Direction::RightToLeft => &mut self.right_to_left,
        }
    }
}

fn connect(left_to_right: Lane, right_to_left: Lane) -> (Pipe, Pipe) {
    let link = Arc::new(Mutex::new(Link {
        left_to_right,
        right_to_left,
    }));
    let end = |outbound, inbound| Pipe {
        link: Arc::clone(&link),
        outbound,
        inbound,
        due: None,
    };
    (
        end(Direction::LeftToRight, Direction::RightToLeft),
        end(Direction::RightToLeft, Direction::LeftToRight),
    )
}

fn lock(link: &Mutex<Link>) -> MutexGuard<'_, Link> {
    // A test that failed an assertion while it held the lock has its own message to show.
    link.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
