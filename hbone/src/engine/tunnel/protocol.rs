//! The protocol of one connection, without its transport: bytes from the peer go in, bytes for the
//! peer and news of streams come out.

use std::collections::VecDeque;
use std::io;

use super::fault::Fault;
use super::frame::{self, MIN_MAX_FRAME};
use super::hpack::{Decoder, Encoder};
use super::reading::Reading;
use super::settings::{self, Settings};
use super::stream::Failure;
use super::streams::Streams;
use super::window::{self, RecvWindow, SendWindow};
use crate::config::Config;
use crate::observe::Role;
use crate::transport::GATHER;
use crate::wire::ErrorCode;

/// Largest identifier of a stream (RFC 9113 §5.1.1).
pub(super) const MAX_ID: u32 = (1 << 31) - 1;

/// DATA frames in a row that have no bytes and end nothing; no honest peer has a use for them
/// (CVE-2019-9518).
pub(super) const EMPTY_FRAMES: u32 = 100;

/// Streams that were reset, by either side, before anybody was told of them (CVE-2023-44487).
pub(super) const UNSEEN_RESETS: usize = 20;

/// Errors of streams that a peer can provoke before they end the connection. They are counted for
/// its life, so the bound is far above what honest peers provoke; the [ledger](crate::flood) sees to
/// the others.
const STREAM_FAULTS: u32 = 64 * 1024;

/// Payload of the PING that finds out whether the peer has seen a GOAWAY.
pub(super) const DRAIN_PING: [u8; 8] = *b"goodbye!";

/// Payload of the PING that asks for a sign of life.
pub(super) const USER_PING: [u8; 8] = *b"alright?";

/// One connection, of either role.
#[derive(Debug)]
pub(super) struct Protocol {
    pub(super) role: Role,
    pub(super) limits: Limits,
    pub(super) streams: Streams,
    pub(super) decoder: Decoder,
    pub(super) encoder: Encoder,
    pub(super) peer: Settings,
    /// The peer has acknowledged this side's SETTINGS.
    pub(super) is_acked: bool,
    pub(super) send_window: SendWindow,
    pub(super) recv_window: RecvWindow,
    pub(super) reading: Reading,
    /// Requests that nobody has been told of: the slots of their streams.
    pub(super) arrivals: VecDeque<(Box<http::request::Parts>, usize)>,
    /// Bytes for the peer.
    pub(super) out: Vec<u8>,
    /// DATA frames among them.
    pub(super) data_frames: u64,
    /// Bytes that `out` may grow to before DATA has to wait.
    pub(super) room: usize,
    /// Highest stream that the peer has opened (server).
    pub(super) last_opened: u32,
    /// Stream that this side opens next (client).
    pub(super) next_id: u32,
    /// Highest stream that was handed to whoever answers (server).
    pub(super) last_processed: u32,
    pub(super) empty_frames: u32,
    pub(super) unseen_resets: usize,
    pub(super) faults: u32,
    pub(super) is_pinging: bool,
    pub(super) farewell: Farewell,
}

/// What this side does not take more of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) stream_window: u32,
    pub(super) max_frame: usize,
    pub(super) max_list: usize,
    pub(super) max_tunnels: usize,
}

impl Limits {
    /// Streams that are remembered as reset: more than a peer that knows no limit yet opens.
    pub(super) fn remembered(&self) -> usize {
        (2 * self.max_tunnels).max(1_000)
    }
}

/// How the two sides take their leave (RFC 9113 §6.8).
#[derive(Debug, Default)]
pub(super) struct Farewell {
    /// The last GOAWAY sent.
    pub(super) sent: Option<(u32, ErrorCode)>,
    /// The last GOAWAY received.
    pub(super) received: Option<(u32, ErrorCode)>,
    /// No more streams: the connection ends with the last that is open.
    pub(super) is_draining: bool,
    /// How it ends, once that is certain.
    pub(super) end: Option<Result<(), Failure>>,
}

impl Protocol {
    pub(super) fn new(role: Role, config: &Config) -> Self {
        let max_tunnels = config.max_tunnels() as usize;
        let mut protocol = Self {
            role,
            limits: Limits {
                stream_window: config.stream_window(),
                max_frame: (config.max_frame_size() as usize).max(MIN_MAX_FRAME),
                max_list: config.max_header_list() as usize,
                max_tunnels,
            },
            streams: Streams::default(),
            decoder: Decoder::new(),
            encoder: Encoder::default(),
            peer: Settings::before(max_tunnels),
            is_acked: false,
            send_window: SendWindow::new(window::INITIAL),
            recv_window: RecvWindow::new(window::INITIAL),
            reading: Reading::new(role),
            arrivals: VecDeque::new(),
            out: Vec::new(),
            data_frames: 0,
            room: GATHER,
            last_opened: 0,
            next_id: 1,
            last_processed: 0,
            empty_frames: 0,
            unseen_resets: 0,
            faults: 0,
            is_pinging: false,
            farewell: Farewell::default(),
        };
        if role == Role::Client {
            protocol.out.extend_from_slice(frame::PREFACE);
        }
        frame::put_settings(&mut protocol.out, &settings::ours(role, config));
        protocol
            .recv_window
            .release(config.connection_window().saturating_sub(window::INITIAL));
        protocol.announce_window();
        protocol
    }

    /// Whether a client's preface has been read (server).
    pub(super) fn is_greeted(&self) -> bool {
        self.reading.is_greeted()
    }

    /// The next request that nobody has been told of (server).
    pub(super) fn next_arrival(&mut self) -> Option<(Box<http::request::Parts>, usize, u32)> {
        let (head, slot) = self.arrivals.pop_front()?;
        let stream = self.streams.get_mut(slot)?;
        stream.place.is_unseen = false;
        if stream.is_closed() {
            self.unseen_resets = self.unseen_resets.saturating_sub(1);
        }
        Some((head, slot, stream.id))
    }

    /// The key of the next stream that there is something for.
    pub(super) fn next_news(&mut self) -> Option<usize> {
        self.streams.next_news()
    }

    /// The key of the next stream whose turn it is to send.
    pub(super) fn next_turn(&mut self) -> Option<usize> {
        match self.sendable() {
            0 => None,
            _ => self.streams.next_turn(),
        }
    }

    /// Bytes may be written up to this many before DATA has to wait.
    pub(super) fn set_room(&mut self, room: usize) {
        self.room = room;
    }

    /// Whether DATA waits for bytes to be taken away.
    pub(super) fn is_full(&self) -> bool {
        self.streams.is_crowded() && self.send_window.available() > 0 && self.out.len() >= self.room
    }

    /// Bytes that are to be written.
    pub(super) fn written(&self) -> usize {
        GATHER.saturating_sub(self.room) + self.out.len()
    }

    /// Whether there is something to tell of a stream, or a turn to be given.
    pub(super) fn has_more(&self) -> bool {
        !self.arrivals.is_empty() || self.streams.has_news() || (self.streams.is_crowded() && self.sendable() > 0)
    }

    /// Whether it is certain how the connection ends.
    pub(super) fn is_over(&self) -> bool {
        self.farewell.end.is_some()
    }

    /// What is to be written, and how many DATA frames it contains; to be emptied.
    pub(super) fn output(&mut self) -> (&mut Vec<u8>, u64) {
        (&mut self.out, std::mem::take(&mut self.data_frames))
    }

    /// The key of the stream in `slot` for its user.
    pub(super) fn name(&mut self, slot: usize, key: usize) {
        if let Some(stream) = self.streams.get_mut(slot) {
            stream.key = key;
        }
    }

    pub(super) fn peer_stream_limit(&self) -> usize {
        self.peer.max_streams
    }

    /// Asks for a sign of life, unless that was done and is not answered.
    pub(super) fn ping(&mut self) {
        if !std::mem::replace(&mut self.is_pinging, true) {
            frame::put_ping(&mut self.out, USER_PING, false);
        }
    }

    /// Takes no more streams. A server says so, and names the last one only when the peer has seen
    /// that: what it asked for meanwhile is served.
    pub(super) fn drain(&mut self) {
        match self.role {
            Role::Client => self.farewell.is_draining = true,
            Role::Server if self.farewell.sent.is_none() => {
                self.say_goodbye(MAX_ID, ErrorCode::NO_ERROR);
                frame::put_ping(&mut self.out, DRAIN_PING, false);
            }
            Role::Server => {}
        }
    }

    /// Ends the connection with all its streams, for a reason of this side's.
    pub(super) fn abort(&mut self, code: ErrorCode) {
        self.finish(Failure::GoAway { code, by_peer: false }, Ok(()));
        self.say_goodbye(self.last_processed, code);
    }

    /// How the connection ends, if that is certain.
    pub(super) fn end(&mut self) -> Option<Result<(), Failure>> {
        let leaves = self.farewell.is_draining || self.farewell.received.is_some();
        if self.farewell.end.is_none() && leaves && self.streams.open() == 0 {
            self.say_goodbye(self.last_processed, ErrorCode::NO_ERROR);
            self.farewell.end = Some(self.verdict());
        }
        self.farewell.end
    }

    /// The peer broke the protocol.
    pub(super) fn violated(&mut self, code: ErrorCode) {
        let failure = Failure::GoAway { code, by_peer: false };
        // Its own error came first, and most likely caused this one.
        let end = self.verdict().and(Err(failure));
        self.finish(failure, end);
        self.say_goodbye(self.last_processed, code);
    }

    /// The transport ended.
    pub(super) fn closed(&mut self) {
        let end = match self.reading.is_within_frame() {
            true => Err(Failure::Io(io::ErrorKind::UnexpectedEof)),
            false => self.verdict(),
        };
        self.finish(Failure::Io(io::ErrorKind::BrokenPipe), end);
    }

    /// The transport failed. A peer that only forgot to end TLS has ended the connection.
    pub(super) fn broken(&mut self, kind: io::ErrorKind) {
        let was_leaving = matches!(self.farewell.received, Some((_, ErrorCode::NO_ERROR)));
        let forgivable = kind == io::ErrorKind::UnexpectedEof && (self.role == Role::Server || was_leaving);
        let end = if forgivable { Ok(()) } else { Err(Failure::Io(kind)) };
        self.finish(Failure::Io(kind), end);
    }

    fn finish(&mut self, failure: Failure, end: Result<(), Failure>) {
        for slot in self.streams.all() {
            self.streams.fail(slot, failure);
        }
        self.farewell.end.get_or_insert(end);
    }

    /// Whether the peer left for an error.
    fn verdict(&self) -> Result<(), Failure> {
        match self.farewell.received {
            Some((_, code)) if code != ErrorCode::NO_ERROR => Err(Failure::GoAway { code, by_peer: true }),
            _ => Ok(()),
        }
    }

    pub(super) fn say_goodbye(&mut self, last: u32, code: ErrorCode) {
        if self.farewell.sent.replace((last, code)) != Some((last, code)) {
            frame::put_goaway(&mut self.out, last, code);
        }
    }

    /// Tells the peer of bytes that it may send, if they are worth it.
    pub(super) fn announce_window(&mut self) {
        if let Some(increment) = self.recv_window.due() {
            frame::put_window_update(&mut self.out, 0, increment);
        }
    }

    /// Bytes of DATA that the connection has window and room for.
    pub(super) fn sendable(&self) -> usize {
        let room = self.room.saturating_sub(self.out.len());
        self.send_window.available().min(room)
    }

    /// An error of a stream that the peer provoked (RFC 9113 §5.4.2).
    pub(super) fn fail_stream(&mut self, id: u32, code: ErrorCode) -> Result<(), Fault> {
        if self.is_idle(id) {
            return Err(Fault::Connection(code));
        }
        self.faults += 1;
        if self.faults > STREAM_FAULTS {
            return Err(Fault::CALM);
        }
        frame::put_reset(&mut self.out, id, code);
        if let Some(slot) = self.streams.find(id) {
            self.count_unseen(slot)?;
            let window = self.streams.get(slot).map_or(0, |stream| stream.recv_window.left());
            self.streams.fail(slot, Failure::Reset { code, by_peer: false });
            self.streams.remember(id, window, self.limits.remembered());
        }
        Ok(())
    }

    /// Whether nobody has opened the stream yet.
    pub(super) fn is_idle(&self, id: u32) -> bool {
        match (self.role, id.is_multiple_of(2)) {
            (_, true) => true,
            (Role::Client, false) => id >= self.next_id,
            (Role::Server, false) => id > self.last_opened,
        }
    }
}
