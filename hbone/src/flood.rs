//! Frame accounting: how many frames of each type a peer may send for the work it asks for.
//!
//! HTTP/2 lets a peer send any number of PRIORITY, WINDOW_UPDATE, PING, SETTINGS and unknown
//! frames, and each costs the receiver time. The ledger counts them per interval and answers with
//! a [`Flood`] when one type exceeds its allowance (RFC 9113 §10.5). It is pure: frame heads and
//! ticks go in, a verdict comes out.

use std::fmt;

/// Length of an HTTP/2 frame head (RFC 9113 §4.1).
pub(crate) const HEAD_LEN: usize = 9;

/// Length of `PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n`, which precedes a client's frames.
const PREFACE_LEN: u32 = 24;

/// A frame type that a peer sent more often than its allowance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Flood {
    /// PRIORITY frames, beyond 100 for each stream (CVE-2019-9513).
    Priority,
    /// WINDOW_UPDATE frames, beyond two for each stream and twenty for each DATA frame sent.
    WindowUpdate,
    /// PING frames, asked for or not, beyond 1,000 in an interval (CVE-2019-9512).
    Ping,
    /// SETTINGS frames, beyond 100 in an interval (CVE-2019-9515).
    Settings,
    /// GOAWAY frames, beyond 100 in an interval.
    GoAway,
    /// RST_STREAM frames, beyond 20,000 in an interval: twice as many as tunnels can be open.
    Reset,
    /// Frames of unknown types, beyond 1,000 in an interval.
    Unknown,
    /// Streams that the peer reset, or had this side reset, before they were answered: beyond 100
    /// and beyond half of all streams of the interval (CVE-2023-44487, CVE-2025-8671).
    PrematureReset,
}

impl fmt::Display for Flood {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Priority => "too many PRIORITY frames",
            Self::WindowUpdate => "too many WINDOW_UPDATE frames",
            Self::Ping => "too many PING frames",
            Self::Settings => "too many SETTINGS frames",
            Self::GoAway => "too many GOAWAY frames",
            Self::Reset => "too many RST_STREAM frames",
            Self::Unknown => "too many frames of unknown types",
            Self::PrematureReset => "too many streams reset before they were answered",
        })
    }
}

/// Why a frame of the peer's ends the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Offence {
    /// It is one too many of its type.
    Flood(Flood),
    /// It is a PUSH_PROMISE: clients never push, and servers not after SETTINGS that forbid it
    /// (RFC 9113 §6.6, §8.4).
    Push,
}

/// What one frame head says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameHead {
    pub(crate) len: u32,
    pub(crate) kind: u8,
    pub(crate) flags: u8,
}

/// Frame types of RFC 9113 §6 that the ledger tells apart.
pub(crate) mod kind {
    pub(crate) const DATA: u8 = 0x0;
    pub(crate) const HEADERS: u8 = 0x1;
    pub(crate) const PRIORITY: u8 = 0x2;
    pub(crate) const RST_STREAM: u8 = 0x3;
    pub(crate) const SETTINGS: u8 = 0x4;
    pub(crate) const PUSH_PROMISE: u8 = 0x5;
    pub(crate) const PING: u8 = 0x6;
    pub(crate) const GOAWAY: u8 = 0x7;
    pub(crate) const WINDOW_UPDATE: u8 = 0x8;
    pub(crate) const CONTINUATION: u8 = 0x9;
}

/// The flag of the frame that ends a header block.
const END_HEADERS: u8 = 0x4;

/// Counts of one interval, and the allowances that follow from them.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    priority: u64,
    window_update: u64,
    ping: u64,
    settings: u64,
    goaway: u64,
    reset: u64,
    unknown: u64,
    streams: u64,
    premature_resets: u64,
    data_sent: u64,
}

impl Ledger {
    /// Counts a frame that the peer sent.
    ///
    /// DATA is not limited here: what a peer sends of it is bounded by its windows, and how fast
    /// by the meter of the [transport](crate::transport). The engine limits header blocks.
    pub(crate) fn received(&mut self, head: FrameHead) -> Result<(), Offence> {
        let (count, allowance, flood) = match head.kind {
            kind::PRIORITY => (&mut self.priority, 100 * (1 + self.streams), Flood::Priority),
            kind::WINDOW_UPDATE => {
                let allowance = 1_000 + 2 * (self.streams + 10 * self.data_sent);
                (&mut self.window_update, allowance, Flood::WindowUpdate)
            }
            kind::PING => (&mut self.ping, 1_000, Flood::Ping),
            kind::SETTINGS => (&mut self.settings, 100, Flood::Settings),
            kind::GOAWAY => (&mut self.goaway, 100, Flood::GoAway),
            kind::RST_STREAM => (&mut self.reset, 20_000, Flood::Reset),
            kind::PUSH_PROMISE => return Err(Offence::Push),
            known if known <= kind::CONTINUATION => return Ok(()),
            _ => (&mut self.unknown, 1_000, Flood::Unknown),
        };
        *count += 1;
        if *count > allowance {
            return Err(Offence::Flood(flood));
        }
        Ok(())
    }

    /// Counts a frame that was sent to the peer.
    pub(crate) fn sent(&mut self, head: FrameHead) {
        if head.kind == kind::DATA {
            self.data_sent += 1;
        }
    }

    /// Counts DATA frames that were sent to the peer.
    pub(crate) fn sent_data(&mut self, frames: u64) {
        self.data_sent += frames;
    }

    /// Counts a stream that either side opened.
    pub(crate) fn opened(&mut self) {
        self.streams += 1;
    }

    /// Counts a stream that failed by the peer's doing before it had an answer.
    pub(crate) fn premature_reset(&mut self) -> Result<(), Offence> {
        self.premature_resets += 1;
        if self.premature_resets > 100 && self.premature_resets * 2 > self.streams {
            return Err(Offence::Flood(Flood::PrematureReset));
        }
        Ok(())
    }

    /// Begins a new interval. Half of what was counted stays, so that a burst across the border
    /// of two intervals is seen whole.
    pub(crate) fn tick(&mut self) {
        for count in [
            &mut self.priority,
            &mut self.window_update,
            &mut self.ping,
            &mut self.settings,
            &mut self.goaway,
            &mut self.reset,
            &mut self.unknown,
            &mut self.streams,
            &mut self.premature_resets,
            &mut self.data_sent,
        ] {
            *count /= 2;
        }
    }
}

/// Finds frame heads in a byte stream that arrives in pieces of any size.
#[derive(Debug, Default)]
pub(crate) struct Scanner {
    head: [u8; HEAD_LEN],
    /// Bytes of `head` that are filled.
    filled: usize,
    /// Payload bytes of the current frame still to come.
    payload: u32,
    /// A frame has begun, and one has ended.
    begun: bool,
    whole: bool,
    /// The current frame ends a header block, or the block goes on after it.
    block: Option<BlockEnd>,
    /// Bytes of a GOAWAY payload still wanted, and those seen of its last stream id.
    goaway: Option<(u8, u32)>,
    /// The lowest last stream id of all GOAWAY frames.
    last_stream_id: Option<u32>,
}

/// Where a scan stopped.
#[derive(Debug)]
pub(crate) struct Stop<E> {
    /// Bytes before the frame at which it did.
    pub(crate) before: usize,
    pub(crate) error: E,
}

/// Where a header block ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BlockEnd {
    Here,
    Later,
}

impl Scanner {
    /// A scanner that skips the client's connection preface (RFC 9113 §3.4).
    pub(crate) fn after_preface() -> Self {
        Self {
            payload: PREFACE_LEN,
            ..Self::default()
        }
    }

    /// Takes the next bytes and calls `frame` for each head that they complete, until it fails.
    pub(crate) fn scan<E>(
        &mut self,
        mut bytes: &[u8],
        mut frame: impl FnMut(FrameHead) -> Result<(), E>,
    ) -> Result<(), Stop<E>> {
        let len = bytes.len();
        while !bytes.is_empty() {
            if self.payload > 0 {
                let n = bytes.len().min(self.payload as usize);
                let (payload, rest) = bytes.split_at(n);
                self.goaway_payload(payload);
                self.payload -= n as u32;
                self.whole |= self.begun && self.payload == 0;
                bytes = rest;
                continue;
            }
            let (taken, rest) = bytes.split_at(bytes.len().min(HEAD_LEN - self.filled));
            for (slot, byte) in self.head.iter_mut().skip(self.filled).zip(taken) {
                *slot = *byte;
            }
            self.filled += taken.len();
            bytes = rest;
            if self.filled == HEAD_LEN {
                let before = (len - bytes.len()).saturating_sub(HEAD_LEN);
                frame(self.complete()).map_err(|error| Stop { before, error })?;
            }
        }
        Ok(())
    }

    /// Whether a frame has ended.
    pub(crate) fn has_whole_frame(&self) -> bool {
        self.whole
    }

    /// Whether a header block has begun and not ended (RFC 9113 §4.3).
    pub(crate) fn is_in_block(&self) -> bool {
        match self.block {
            None => false,
            Some(BlockEnd::Here) => self.payload > 0,
            Some(BlockEnd::Later) => true,
        }
    }

    /// The lowest last stream id that a GOAWAY frame named (RFC 9113 §6.8).
    pub(crate) fn last_stream_id(&self) -> Option<u32> {
        self.last_stream_id
    }

    fn complete(&mut self) -> FrameHead {
        let [l0, l1, l2, kind, flags, ..] = self.head;
        let head = FrameHead {
            len: u32::from_be_bytes([0, l0, l1, l2]),
            kind,
            flags,
        };
        self.filled = 0;
        self.payload = head.len;
        self.begun = true;
        self.whole |= head.len == 0;
        self.block = match kind {
            kind::HEADERS | kind::CONTINUATION if flags & END_HEADERS != 0 => Some(BlockEnd::Here),
            kind::HEADERS | kind::CONTINUATION => Some(BlockEnd::Later),
            _ => None,
        };
        self.goaway = (kind == kind::GOAWAY).then_some((4, 0));
        head
    }

    fn goaway_payload(&mut self, payload: &[u8]) {
        let Some((mut wanted, mut id)) = self.goaway else {
            return;
        };
        for byte in payload {
            if wanted == 0 {
                break;
            }
            id = id << 8 | u32::from(*byte);
            wanted -= 1;
        }
        self.goaway = (wanted > 0).then_some((wanted, id));
        if wanted == 0 {
            // The top bit is reserved and ignored.
            let id = id & 0x7fff_ffff;
            self.last_stream_id = Some(self.last_stream_id.map_or(id, |known| known.min(id)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(kind: u8) -> FrameHead {
        FrameHead { len: 0, kind, flags: 0 }
    }

    fn allowance(kind: u8, ledger: &mut Ledger) -> (u64, Offence) {
        for n in 0.. {
            if let Err(offence) = ledger.received(head(kind)) {
                return (n, offence);
            }
        }
        unreachable!()
    }

    #[test]
    fn each_cheap_frame_type_has_an_allowance() {
        for (kind, expected, flood) in [
            (kind::PRIORITY, 100, Flood::Priority),
            (kind::WINDOW_UPDATE, 1_000, Flood::WindowUpdate),
            (kind::PING, 1_000, Flood::Ping),
            (kind::SETTINGS, 100, Flood::Settings),
            (kind::GOAWAY, 100, Flood::GoAway),
            (kind::RST_STREAM, 20_000, Flood::Reset),
            (0x2a, 1_000, Flood::Unknown),
        ] {
            assert_eq!(
                allowance(kind, &mut Ledger::default()),
                (expected, Offence::Flood(flood)),
                "frame type {kind}"
            );
        }
    }

    #[test]
    fn nobody_pushes() {
        assert_eq!(
            allowance(kind::PUSH_PROMISE, &mut Ledger::default()),
            (0, Offence::Push)
        );
    }

    #[test]
    fn data_and_header_blocks_are_free() {
        let mut ledger = Ledger::default();
        for kind in [kind::DATA, kind::HEADERS, kind::CONTINUATION] {
            for _ in 0..100_000 {
                assert_eq!(ledger.received(head(kind)), Ok(()));
            }
        }
    }

    #[test]
    fn streams_earn_priorities() {
        let mut ledger = Ledger::default();
        for _ in 0..10 {
            ledger.opened();
        }
        assert_eq!(allowance(kind::PRIORITY, &mut ledger).0, 1_100);
    }

    #[test]
    fn data_sent_earns_window_updates() {
        let mut ledger = Ledger::default();
        for _ in 0..100 {
            ledger.sent(head(kind::DATA));
        }
        assert_eq!(allowance(kind::WINDOW_UPDATE, &mut ledger).0, 1_000 + 2_000);
    }

    #[test]
    fn a_tick_forgives_a_slow_peer_but_not_a_burst() {
        let mut ledger = Ledger::default();
        for _ in 0..100 {
            for _ in 0..400 {
                assert_eq!(ledger.received(head(kind::PING)), Ok(()));
            }
            ledger.tick();
        }
        assert!(allowance(kind::PING, &mut ledger).0 <= 1_000);
    }

    #[test]
    fn premature_resets_are_judged_against_all_streams() {
        let mut busy = Ledger::default();
        for n in 0..2_000 {
            busy.opened();
            if n % 4 == 0 {
                assert_eq!(busy.premature_reset(), Ok(()));
            }
        }
        let mut hostile = Ledger::default();
        let survived = (0..)
            .take_while(|_| {
                hostile.opened();
                hostile.premature_reset().is_ok()
            })
            .count();
        assert_eq!(survived, 100);
    }

    #[test]
    fn heads_are_found_however_the_bytes_are_cut() {
        let mut wire = Vec::new();
        for (len, kind) in [(0_u32, kind::SETTINGS), (5, kind::DATA), (300, 0x2a)] {
            wire.extend_from_slice(&len.to_be_bytes()[1..]);
            wire.extend_from_slice(&[kind, 0, 0, 0, 0, 1]);
            wire.resize(wire.len() + len as usize, 7);
        }
        for piece in 1..=wire.len() {
            let mut scanner = Scanner::default();
            let mut seen = Vec::new();
            for bytes in wire.chunks(piece) {
                scanner
                    .scan(bytes, |head| {
                        seen.push((head.len, head.kind));
                        Ok::<(), ()>(())
                    })
                    .unwrap();
            }
            assert_eq!(seen, [(0, 4), (5, 0), (300, 0x2a)], "pieces of {piece}");
            assert!(scanner.has_whole_frame());
        }
    }

    #[test]
    fn a_frame_is_whole_with_its_last_byte() {
        let mut scanner = Scanner::after_preface();
        let mut whole = |bytes: &[u8]| {
            scanner.scan(bytes, |_| Ok::<(), ()>(())).unwrap();
            scanner.has_whole_frame()
        };
        assert!(!whole(&[b'P'; PREFACE_LEN as usize]));
        assert!(!whole(&[0, 0, 2, kind::SETTINGS, 0, 0, 0, 0, 0, 1]));
        assert!(whole(&[2]));
    }

    #[test]
    fn a_header_block_lasts_until_the_end_of_its_last_frame() {
        let mut scanner = Scanner::default();
        let mut after = |len: u8, kind, flags, payload: &[u8]| {
            let head = [0, 0, len, kind, flags, 0, 0, 0, 1];
            scanner.scan(&head, |_| Ok::<(), ()>(())).unwrap();
            let before = scanner.is_in_block();
            scanner.scan(payload, |_| Ok::<(), ()>(())).unwrap();
            (before, scanner.is_in_block())
        };
        assert_eq!(after(2, kind::DATA, 0, b"ab"), (false, false));
        assert_eq!(after(2, kind::HEADERS, END_HEADERS, b"ab"), (true, false));
        assert_eq!(after(2, kind::HEADERS, 0, b"ab"), (true, true));
        assert_eq!(after(0, kind::CONTINUATION, 0, b""), (true, true));
        assert_eq!(after(1, kind::CONTINUATION, END_HEADERS, b"c"), (true, false));
    }

    #[test]
    fn the_lowest_goaway_stream_id_is_kept() {
        let mut wire = Vec::new();
        for id in [u32::MAX, 7] {
            wire.extend_from_slice(&[0, 0, 8, kind::GOAWAY, 0, 0, 0, 0, 0]);
            wire.extend_from_slice(&id.to_be_bytes());
            wire.extend_from_slice(&[0, 0, 0, 0]);
        }
        let mut scanner = Scanner::default();
        let mut ids = Vec::new();
        for byte in wire {
            scanner.scan(&[byte], |_| Ok::<(), ()>(())).unwrap();
            ids.push(scanner.last_stream_id());
        }
        assert_eq!(ids.first(), Some(&None));
        assert!(ids.contains(&Some(0x7fff_ffff)));
        assert_eq!(ids.last(), Some(&Some(7)));
    }
}
