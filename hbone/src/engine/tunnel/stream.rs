//! One stream: its states, windows and what arrived on it (RFC 9113 §5.1).

use std::collections::VecDeque;
use std::io;

use bytes::Bytes;
use http::response;

use super::window::{RecvWindow, SendWindow};
use crate::engine::EngineError;
use crate::wire::ErrorCode;

/// How far one direction has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Half {
    /// Its head is awaited.
    Head,
    /// Bytes follow.
    Body,
    /// END_STREAM.
    Ended,
}

/// Why a stream ended before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    Reset { code: ErrorCode, by_peer: bool },
    GoAway { code: ErrorCode, by_peer: bool },
    Io(io::ErrorKind),
}

impl From<Failure> for EngineError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Reset { code, by_peer } => Self::Reset { code, by_peer },
            Failure::GoAway { code, by_peer } => Self::GoAway { code, by_peer },
            Failure::Io(kind) => Self::Io(kind.into()),
        }
    }
}

/// A stream that somebody holds, open or not.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) id: u32,
    /// The driver's name for it.
    pub(super) key: usize,
    pub(super) sending: Half,
    pub(super) receiving: Half,
    pub(super) failure: Option<Failure>,
    pub(super) send_window: SendWindow,
    pub(super) recv_window: RecvWindow,
    /// Bytes received and not released.
    pub(super) in_flight: u32,
    /// The final response, until it is taken.
    pub(super) response: Option<Box<response::Parts>>,
    /// Heads of responses before the final one.
    pub(super) interim: u8,
    pub(super) inbox: VecDeque<Bytes>,
    /// It ended with trailers.
    pub(super) has_trailers: bool,
    pub(super) place: Place,
}

/// Where a stream stands in the queues.
#[derive(Debug, Default)]
pub(super) struct Place {
    /// Nobody has been told of it.
    pub(super) is_unseen: bool,
    /// Its user is to be told that there is something for it.
    pub(super) has_news: bool,
    /// Its window holds bytes back.
    pub(super) is_held: bool,
    /// It waits for its turn to send.
    pub(super) is_waiting: bool,
    /// Its turn has come.
    pub(super) has_turn: bool,
}

impl Stream {
    pub(super) fn new(id: u32, send_window: u32, recv_window: u32) -> Self {
        Self {
            id,
            key: usize::MAX,
            sending: Half::Head,
            receiving: Half::Head,
            failure: None,
            send_window: SendWindow::new(send_window),
            recv_window: RecvWindow::new(recv_window),
            in_flight: 0,
            response: None,
            interim: 0,
            inbox: VecDeque::new(),
            has_trailers: false,
            place: Place::default(),
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.failure.is_some() || (self.sending == Half::Ended && self.receiving == Half::Ended)
    }
}
