//! A scripted HTTP/2 peer: it says what the script says, and expects what the script expects.
//!
//! [`RawClient`] and [`RawServer`] run over any `AsyncRead + AsyncWrite`. Nothing runs in the background: bytes move
//! while a method of the peer is awaited. Three habits of honest peers are automatic until switched off: acknowledging
//! SETTINGS, answering PING, and giving back flow-control credit. What a habit has dealt with is not shown to the script.
//!
//! Expectations are strict about a stream and lenient between streams: the next frame of the stream in question must be
//! the expected one, while frames of other streams stay queued for later expectations. WINDOW_UPDATE and PRIORITY frames
//! never stand in the way. Every wait has a deadline in tokio's time; what goes wrong ends the test with the frames that
//! crossed before.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite};

use self::credit::Credit;
use self::history::History;
use self::wire::Wire;
use crate::frames::{DEFAULT_MAX_FRAME_SIZE, Frame, setting};
use crate::hpack::{Decoder, Fields};

mod client;
mod credit;
mod expect;
mod history;
mod intake;
mod send;
mod server;
mod wire;

pub use self::client::Client;
pub use self::server::Server;
pub use self::wire::End;

/// A peer that opens streams.
pub type RawClient<T> = RawPeer<T, Client>;

/// A peer that is asked.
pub type RawServer<T> = RawPeer<T, Server>;

/// How long a peer waits before it gives up, unless told otherwise.
const DEFAULT_DEADLINE: Duration = Duration::from_secs(5);

/// A scripted peer on the side `S` of a connection over `T`.
pub struct RawPeer<T, S> {
    wire: Wire<T>,
    side: S,
    own_settings: Vec<(u16, u32)>,
    peer_settings: BTreeMap<u16, u32>,
    heard_settings: bool,
    habits: Habits,
    deadline: Duration,
    decoder: Decoder,
    open_block: BytesMut,
    inbox: VecDeque<Received>,
    went_away: bool,
    credit: Credit,
    pings: u64,
    history: History,
}

/// What a peer does without the script.
struct Habits {
    acks_settings: bool,
    acks_pings: bool,
    returns_credit: bool,
    reads: bool,
}

/// A frame that came in.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Received {
    /// The frame as it stood on the wire.
    pub frame: Frame,
    /// The decoded fields, on the frame that ends a header block.
    pub fields: Option<Fields>,
}

/// A header block that came in.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Message {
    /// The stream.
    pub stream: u32,
    /// What the block decoded to.
    pub fields: Fields,
    /// Whether it ended the stream.
    pub end_stream: bool,
}

impl<T: AsyncRead + AsyncWrite + Unpin, S> RawPeer<T, S> {
    fn on(wire: Wire<T>, side: S) -> Self {
        Self {
            wire,
            side,
            own_settings: Vec::new(),
            peer_settings: BTreeMap::new(),
            heard_settings: false,
            habits: Habits {
                acks_settings: true,
                acks_pings: true,
                returns_credit: true,
                reads: true,
            },
            deadline: DEFAULT_DEADLINE,
            decoder: Decoder::new(),
            open_block: BytesMut::new(),
            inbox: VecDeque::new(),
            went_away: false,
            credit: Credit::default(),
            pings: 0,
            history: History::default(),
        }
    }

    /// What the handshake announces; see [`setting`]. Default: nothing.
    #[must_use]
    pub fn with_settings(mut self, settings: &[(u16, u32)]) -> Self {
        self.own_settings = settings.to_vec();
        if let Some(&(_, size)) = settings.iter().rfind(|(id, _)| *id == setting::HEADER_TABLE_SIZE) {
            self.decoder.allow_table_size(usize::try_from(size).unwrap());
        }
        self
    }

    /// How long every wait may take, in tokio's time. Default 5 s.
    #[must_use]
    pub fn with_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Leaves acknowledging SETTINGS to the script, which then also sees the peer's SETTINGS and acknowledgements.
    #[must_use]
    pub fn without_settings_acks(mut self) -> Self {
        self.habits.acks_settings = false;
        self
    }

    /// Leaves answering PING to the script, which then sees the PINGs.
    #[must_use]
    pub fn without_ping_acks(mut self) -> Self {
        self.habits.acks_pings = false;
        self
    }

    /// Leaves WINDOW_UPDATE to the script: without it the peer runs out of credit.
    #[must_use]
    pub fn without_window_updates(mut self) -> Self {
        self.habits.returns_credit = false;
        self
    }

    /// Stops reading: bytes that the other side sends stay in the transport until it is full.
    pub fn stop_reading(&mut self) {
        self.habits.reads = false;
    }

    /// Reads again.
    pub fn resume_reading(&mut self) {
        self.habits.reads = true;
    }

    /// The last value that the other side announced for a setting, if any.
    #[must_use]
    pub fn peer_setting(&self, id: u16) -> Option<u32> {
        self.peer_settings.get(&id).copied()
    }

    /// The transport, with which the script may do what it likes once it is done with frames.
    #[must_use]
    pub fn into_io(self) -> T {
        self.wire.into_io()
    }

    fn peer_max_frame_size(&self) -> usize {
        self.peer_setting(setting::MAX_FRAME_SIZE)
            .map_or(DEFAULT_MAX_FRAME_SIZE, |size| usize::try_from(size).unwrap())
    }
}

#[cfg(test)]
mod tests;
