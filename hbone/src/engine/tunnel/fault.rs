//! What a peer did wrong, and how far it reaches.

use crate::wire::ErrorCode;

/// A violation of the protocol (RFC 9113 §5.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It ends the connection.
    Connection(ErrorCode),
    /// It ends one stream.
    Stream(u32, ErrorCode),
}

impl Fault {
    /// A violation that no other code names.
    pub(super) const PROTOCOL: Self = Self::Connection(ErrorCode::PROTOCOL_ERROR);
    /// A frame of a size that its type cannot have.
    pub(super) const FRAME_SIZE: Self = Self::Connection(ErrorCode::FRAME_SIZE_ERROR);
    /// More bytes than the connection's window, or a window that is too large.
    pub(super) const FLOW_CONTROL: Self = Self::Connection(ErrorCode::FLOW_CONTROL_ERROR);
    /// More than is good for this side.
    pub(super) const CALM: Self = Self::Connection(ErrorCode::ENHANCE_YOUR_CALM);
}
