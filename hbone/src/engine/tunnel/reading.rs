//! How far the peer's bytes have been read.

use crate::observe::Role;

/// Where the peer's bytes have come to.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) at: At,
    /// The field block that CONTINUATION frames continue.
    pub(super) block: Option<Block>,
    /// Bytes that have to be there before there is anything to do.
    pub(super) wanted: usize,
    /// Length of the buffer that the bytes are in.
    pub(super) whole: usize,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum At {
    /// Before the client's preface.
    Preface,
    /// Before the first frame, which is SETTINGS.
    First,
    Head,
    /// In the payload of a DATA frame.
    Data(Data),
    /// In a payload that nobody needs.
    Skip(usize),
}

/// A DATA frame, as far as it is still to come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Data {
    /// The stream that gets the bytes, if there is one.
    pub(super) slot: Option<usize>,
    pub(super) stream: u32,
    pub(super) left: usize,
    pub(super) padding: usize,
    pub(super) end: bool,
}

/// A field block that is not complete.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) stream: u32,
    pub(super) end: bool,
    pub(super) bytes: Vec<u8>,
    pub(super) continuations: usize,
}

impl Reading {
    pub(super) fn new(role: Role) -> Self {
        Self {
            at: match role {
                Role::Client => At::First,
                Role::Server => At::Preface,
            },
            block: None,
            wanted: 0,
            whole: 0,
        }
    }

    pub(super) fn is_greeted(&self) -> bool {
        !matches!(self.at, At::Preface)
    }

    pub(super) fn is_within_frame(&self) -> bool {
        self.block.is_some() || self.wanted > 0 || matches!(self.at, At::Data(_) | At::Skip(_))
    }
}
