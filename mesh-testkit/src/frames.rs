//! A raw HTTP/2 frame codec (RFC 9113 sections 4 and 6) that also writes what no honest peer would.
//!
//! A [`Frame`] is a head and a payload, nothing is checked: any length, kind, flags and stream identifier can be put on
//! the wire. The constructors make well-formed frames, the modifiers spoil them.

mod code;
mod frame;
mod view;

pub use self::code::{Kind, Reason};
pub use self::frame::Frame;

/// What a client sends before its first frame (RFC 9113 section 3.4).
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The largest payload that a peer accepts before it says otherwise (RFC 9113 section 6.5.2).
pub const DEFAULT_MAX_FRAME_SIZE: usize = 16_384;

/// The flow-control window that a stream and a connection start with (RFC 9113 section 6.9.2).
pub const DEFAULT_WINDOW: u32 = 65_535;

/// Frame flags (RFC 9113 section 6). What a bit means depends on the kind of the frame.
pub mod flag {
    /// The last frame of a stream's sender: DATA, HEADERS.
    pub const END_STREAM: u8 = 0x1;
    /// An acknowledgement: SETTINGS, PING.
    pub const ACK: u8 = 0x1;
    /// The last frame of a header block: HEADERS, PUSH_PROMISE, CONTINUATION.
    pub const END_HEADERS: u8 = 0x4;
    /// The payload is padded: DATA, HEADERS, PUSH_PROMISE.
    pub const PADDED: u8 = 0x8;
    /// The payload starts with a priority: HEADERS.
    pub const PRIORITY: u8 = 0x20;
}

/// Identifiers of settings (RFC 9113 section 6.5.2, RFC 8441 section 3).
pub mod setting {
    /// Room for the dynamic table of the peer's encoder, in bytes.
    pub const HEADER_TABLE_SIZE: u16 = 0x1;
    /// Whether a server may push: 0 or 1.
    pub const ENABLE_PUSH: u16 = 0x2;
    /// How many streams the peer may have open at a time.
    pub const MAX_CONCURRENT_STREAMS: u16 = 0x3;
    /// The window that the peer's streams start with, in bytes.
    pub const INITIAL_WINDOW_SIZE: u16 = 0x4;
    /// The largest payload that the peer may send, in bytes.
    pub const MAX_FRAME_SIZE: u16 = 0x5;
    /// The largest header list that the peer should send, in bytes with 32 added per field.
    pub const MAX_HEADER_LIST_SIZE: u16 = 0x6;
    /// Whether a client may use extended CONNECT: 0 or 1.
    pub const ENABLE_CONNECT_PROTOCOL: u16 = 0x8;
}
