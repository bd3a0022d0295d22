//! What the peer has said on one stream.

use crate::authority::Authority;

/// A byte of a stream's payload.
pub(super) fn pattern(line: usize, offset: u64) -> u8 {
    (offset.wrapping_mul(31).wrapping_add(line as u64 * 7) % 251) as u8
}

/// The destination that names a line.
pub(super) fn authority(line: usize) -> Option<Authority> {
    Authority::new("10.0.0.1", u16::try_from(line + 1).ok()?).ok()
}

/// The line that a destination names.
pub(super) fn of(authority: &Authority) -> usize {
    usize::from(authority.port()) - 1
}

/// Where the peer ended a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    No,
    At(u64),
}

/// One stream, as the peer meant it.
#[derive(Debug)]
pub(super) struct Line {
    index: usize,
    sent: u64,
    ended: Ended,
    has_responded: bool,
    is_reset: bool,
    /// The script put frames of its own on the stream: it may mean anything.
    doubt: bool,
}

impl Line {
    pub(super) fn new(index: usize) -> Self {
        Self {
            index,
            sent: 0,
            ended: Ended::No,
            has_responded: false,
            is_reset: false,
            doubt: false,
        }
    }

    /// The stream's identifier: only clients open streams.
    pub(super) fn id(&self) -> u32 {
        u32::try_from(self.index * 2 + 1).unwrap_or(1)
    }

    /// The next bytes.
    pub(super) fn next(&mut self, len: usize) -> Vec<u8> {
        let start = self.sent;
        self.sent += len as u64;
        (start..self.sent).map(|offset| pattern(self.index, offset)).collect()
    }

    /// END_STREAM; the first one counts.
    pub(super) fn end(&mut self) {
        if self.ended == Ended::No {
            self.ended = Ended::At(self.sent);
        }
    }

    /// The peer's response.
    pub(super) fn respond(&mut self) {
        self.has_responded = true;
    }

    /// The peer's reset.
    pub(super) fn reset(&mut self) {
        self.is_reset = true;
    }

    /// Whether the peer may respond.
    pub(super) fn may_respond(&self) -> bool {
        !self.has_responded && !self.is_reset
    }

    /// Whether the peer may send bytes; a server has to respond before.
    pub(super) fn may_send(&self, by_server: bool) -> bool {
        self.ended == Ended::No && !self.is_reset && (self.has_responded || !by_server)
    }

    /// Bytes that the peer has sent.
    pub(super) fn sent(&self) -> u64 {
        self.sent
    }

    pub(super) fn ended(&self) -> Ended {
        self.ended
    }

    pub(super) fn doubt(&mut self) {
        self.doubt = true;
    }

    pub(super) fn is_in_doubt(&self) -> bool {
        self.doubt
    }
}
