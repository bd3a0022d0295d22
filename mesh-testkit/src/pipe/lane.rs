//! One direction of a pipe: what is in flight, when it is due, and who waits for it.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::ReadBuf;
use tokio::time::Instant;

use super::Cut;
use crate::random::Sequence;

/// On a lane with a rate, bytes leave in pieces of about this size, as packets do.
const PACKET: usize = 1460;

/// The settings of a lane that a test may choose.
#[derive(Clone, Debug)]
pub(super) struct Terms {
    pub(super) capacity: usize,
    pub(super) latency: Duration,
    pub(super) rate: Option<u64>,
    pub(super) record: Option<usize>,
}

/// How much a read may return.
#[derive(Debug)]
pub(super) enum Chunks {
    AtMost(usize),
    Drawn { sequence: Sequence, max: usize },
}

/// What a read came to.
pub(super) enum Delivery {
    Done(io::Result<()>),
    /// Nothing now: again at the given instant, or when woken.
    Later(Option<Instant>),
}

/// What happened in one direction of a pipe.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Stats {
    /// Bytes that the writer handed over.
    pub written: u64,
    /// Bytes that the reader got.
    pub delivered: u64,
    /// Bytes that a blackhole, a reset or a reader's departure destroyed.
    pub lost: u64,
    /// Write calls that ended, vectored ones and failed ones among them; calls that had to wait do not count.
    pub writes: u64,
    /// Those of the write calls that were vectored.
    pub vectored_writes: u64,
    /// Flush calls.
    pub flushes: u64,
    /// Whether the writer has shut its side down.
    pub shut_down: bool,
}

pub(super) struct Lane {
    terms: Terms,
    chunks: Chunks,
    in_flight: VecDeque<Segment>,
    in_flight_bytes: usize,
    /// When the last byte written so far has left, on a lane with a rate.
    line_free: Option<Instant>,
    weather: Weather,
    writer: Writer,
    reader_gone: bool,
    cut: Option<Cut>,
    recorded: Vec<u8>,
    stats: Stats,
    reader_waker: Option<Waker>,
    writer_waker: Option<Waker>,
}

/// Bytes that arrive together; without an instant, as soon as they are first in line.
struct Segment {
    due: Option<Instant>,
    bytes: BytesMut,
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Weather {
    Fair,
    Stalled,
    Blackhole,
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Writer {
    Open,
    /// Shut down, and the end of file arrives at that instant.
    Shut(Option<Instant>),
    /// Shut down into a blackhole: the end of file never arrives.
    Lost,
}

impl Lane {
    pub(super) fn new(terms: Terms, chunks: Chunks) -> Self {
        Self {
            terms,
            chunks,
            in_flight: VecDeque::new(),
            in_flight_bytes: 0,
            line_free: None,
            weather: Weather::Fair,
            writer: Writer::Open,
            reader_gone: false,
            cut: None,
            recorded: Vec::new(),
            stats: Stats::default(),
            reader_waker: None,
            writer_waker: None,
        }
    }

    pub(super) fn poll_write(
        &mut self,
        cx: &Context<'_>,
        slices: &[IoSlice<'_>],
        now: Instant,
    ) -> Poll<io::Result<usize>> {
        if let Err(error) = self.writable() {
            return Poll::Ready(Err(error));
        }
        let offered: usize = slices.iter().map(|slice| slice.len()).sum();
        let room = self.terms.capacity - self.in_flight_bytes;
        if room == 0 && offered > 0 {
            self.writer_waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let mut left = room.min(offered);
        for slice in slices {
            let n = left.min(slice.len());
            self.put(&slice[..n], now);
            left -= n;
        }
        wake(&mut self.reader_waker);
        Poll::Ready(Ok(room.min(offered)))
    }

    pub(super) fn count_write(&mut self, vectored: bool) {
        self.stats.writes += 1;
        self.stats.vectored_writes += u64::from(vectored);
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.stats.flushes += 1;
        match self.cut {
            Some(Cut::Reset) => Err(ErrorKind::ConnectionReset.into()),
            Some(Cut::Eof) | None => Ok(()),
        }
    }

    pub(super) fn shut_down(&mut self, now: Instant) -> io::Result<()> {
        if self.cut == Some(Cut::Reset) {
            return Err(ErrorKind::ConnectionReset.into());
        }
        self.stats.shut_down = true;
        self.close_writer(now);
        Ok(())
    }

    pub(super) fn drop_writer(&mut self, now: Instant) {
        self.close_writer(now);
    }

    pub(super) fn drop_reader(&mut self) {
        self.reader_gone = true;
        self.lose_in_flight();
        wake(&mut self.writer_waker);
    }

    pub(super) fn deliver(&mut self, cx: &Context<'_>, buf: &mut ReadBuf<'_>, now: Instant) -> Delivery {
        if self.cut == Some(Cut::Reset) {
            return Delivery::Done(Err(ErrorKind::ConnectionReset.into()));
        }
        self.reader_waker = Some(cx.waker().clone());
        if self.weather != Weather::Fair {
            return Delivery::Later(None);
        }
        let end = match (self.cut, self.writer) {
            (Some(_), _) => Some(None),
            (None, Writer::Shut(due)) => Some(due),
            (None, Writer::Open | Writer::Lost) => None,
        };
        match (self.in_flight.front().map(|segment| segment.due), end) {
            (Some(Some(due)), _) | (None, Some(Some(due))) if due > now => Delivery::Later(Some(due)),
            (Some(_), _) => {
                self.take(buf, now);
                wake(&mut self.writer_waker);
                Delivery::Done(Ok(()))
            }
            (None, Some(_)) => Delivery::Done(Ok(())),
            (None, None) => Delivery::Later(None),
        }
    }

    pub(super) fn cut(&mut self, how: Cut) {
        self.cut = Some(how);
        if how == Cut::Reset {
            self.lose_in_flight();
        }
        self.wake_both();
    }

    pub(super) fn blackhole(&mut self) {
        self.weather = Weather::Blackhole;
        self.lose_in_flight();
        if matches!(self.writer, Writer::Shut(_)) {
            self.writer = Writer::Lost;
        }
        self.wake_both();
    }

    pub(super) fn stall(&mut self) {
        self.weather = Weather::Stalled;
    }

    pub(super) fn resume(&mut self) {
        self.weather = Weather::Fair;
        self.wake_both();
    }

    pub(super) fn set_latency(&mut self, latency: Duration) {
        self.terms.latency = latency;
    }

    pub(super) fn set_rate(&mut self, rate: Option<u64>) {
        assert!(rate != Some(0), "a rate of 0 is a stall");
        self.terms.rate = rate;
    }

    pub(super) fn stats(&self) -> Stats {
        self.stats
    }

    pub(super) fn recording(&self) -> Vec<u8> {
        let limit = self
            .terms
            .record
            .expect("recording was not asked for: see `Builder::record`");
        assert!(
            self.stats.written <= limit as u64,
            "{} bytes were written, more than the {limit} that `Builder::record` allows",
            self.stats.written,
        );
        self.recorded.clone()
    }

    fn writable(&self) -> io::Result<()> {
        match self.cut {
            Some(Cut::Reset) => Err(ErrorKind::ConnectionReset.into()),
            Some(Cut::Eof) => Err(ErrorKind::BrokenPipe.into()),
            None if self.writer != Writer::Open => Err(ErrorKind::BrokenPipe.into()),
            // Into a blackhole not even the news of the reader's departure comes back.
            None if self.reader_gone && self.weather != Weather::Blackhole => Err(ErrorKind::BrokenPipe.into()),
            None => Ok(()),
        }
    }

    fn put(&mut self, bytes: &[u8], now: Instant) {
        self.stats.written += bytes.len() as u64;
        if let Some(limit) = self.terms.record {
            let room = limit - self.recorded.len();
            self.recorded.extend_from_slice(&bytes[..bytes.len().min(room)]);
        }
        if self.weather == Weather::Blackhole || self.reader_gone {
            self.stats.lost += bytes.len() as u64;
            return;
        }
        self.in_flight_bytes += bytes.len();
        for packet in bytes.chunks(if self.terms.rate.is_some() { PACKET } else { usize::MAX }) {
            let due = self.schedule(packet.len(), now);
            match self.in_flight.back_mut() {
                Some(last) if last.due == due => last.bytes.extend_from_slice(packet),
                _ => self.in_flight.push_back(Segment {
                    due,
                    bytes: packet.into(),
                }),
            }
        }
    }

    /// When `len` bytes that are written now arrive; `None` is at once, or behind what is in flight.
    fn schedule(&mut self, len: usize, now: Instant) -> Option<Instant> {
        let sent = self.terms.rate.map(|rate| {
            let start = self.line_free.map_or(now, |free| free.max(now));
            let sent = start + Duration::from_nanos(len as u64 * 1_000_000_000 / rate);
            self.line_free = Some(sent);
            sent
        });
        if sent.is_none() && self.terms.latency.is_zero() {
            return None;
        }
        Some(sent.unwrap_or(now) + self.terms.latency)
    }

    /// Moves what is due, up to the size of a chunk, into `buf`.
    fn take(&mut self, buf: &mut ReadBuf<'_>, now: Instant) {
        let chunk = match &mut self.chunks {
            Chunks::AtMost(bytes) => *bytes,
            Chunks::Drawn { sequence, max } => sequence.up_to(*max),
        };
        let mut left = chunk.min(buf.remaining());
        while left > 0
            && let Some(segment) = self.in_flight.front_mut()
            && segment.due.is_none_or(|due| due <= now)
        {
            let n = left.min(segment.bytes.len());
            buf.put_slice(&segment.bytes[..n]);
            segment.bytes.advance(n);
            if segment.bytes.is_empty() {
                self.in_flight.pop_front();
            }
            left -= n;
            self.in_flight_bytes -= n;
            self.stats.delivered += n as u64;
        }
    }

    fn close_writer(&mut self, now: Instant) {
        if self.writer != Writer::Open {
            return;
        }
        self.writer = match self.weather {
            Weather::Blackhole => Writer::Lost,
            Weather::Fair | Weather::Stalled => Writer::Shut(self.schedule(0, now)),
        };
        self.wake_both();
    }

    fn lose_in_flight(&mut self) {
        self.stats.lost += self.in_flight_bytes as u64;
        self.in_flight.clear();
        self.in_flight_bytes = 0;
    }

    fn wake_both(&mut self) {
        wake(&mut self.reader_waker);
        wake(&mut self.writer_waker);
    }
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}
