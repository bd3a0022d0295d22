//! How a connection ends before its time.

use std::io;

#[cfg(feature = "tls")]
use mesh_identity::live::CloseReason;

use crate::engine::EngineError;
use crate::flood::{Flood, Offence};
use crate::keepalive::Dead;
use crate::wire::{Blame, ErrorCode};

/// How a connection was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Lost {
    /// The transport failed or was closed without an end.
    #[error("transport failed: {0}")]
    Io(io::ErrorKind),
    /// The peer ended the connection with GOAWAY.
    #[error("peer sent GOAWAY: {0}")]
    GoAway(ErrorCode),
    /// The peer broke the protocol, and was sent GOAWAY.
    #[error("peer violated the protocol: {0}")]
    Violation(ErrorCode),
    /// The peer fell silent, or took no bytes, for too long.
    #[error("peer is {}", match .0 { Dead::Silent => "silent", Dead::Stalled => "not reading" })]
    Dead(Dead),
    /// The peer sent too many frames of one type.
    #[error("{0}")]
    Flood(Flood),
    /// The drain deadline passed.
    #[error("drain deadline passed")]
    Drained,
    /// More tunnels wait for the peer's leave than may be open.
    #[error("too many tunnels are waiting")]
    Busy,
    /// This side dropped the connection.
    #[error("connection dropped")]
    Dropped,
    /// The peer was trusted when the connection was made, and is not any more.
    #[cfg(feature = "tls")]
    #[error("{0}")]
    Distrusted(CloseReason),
}

impl Lost {
    /// Who is to blame.
    #[must_use]
    pub fn blame(&self) -> Blame {
        match self {
            Self::Io(_) | Self::Dead(Dead::Silent) => Blame::Network,
            Self::GoAway(_) | Self::Violation(_) | Self::Dead(Dead::Stalled) | Self::Flood(_) => Blame::Peer,
            Self::Drained | Self::Busy | Self::Dropped => Blame::Local,
            #[cfg(feature = "tls")]
            Self::Distrusted(CloseReason::Withdrawn | CloseReason::Unattended) => Blame::Local,
            #[cfg(feature = "tls")]
            Self::Distrusted(_) => Blame::Peer,
        }
    }
}

impl From<&EngineError> for Lost {
    fn from(error: &EngineError) -> Self {
        match error {
            EngineError::GoAway { code, by_peer: true } => Self::GoAway(*code),
            EngineError::GoAway { code, .. } | EngineError::Reset { code, .. } => Self::Violation(*code),
            EngineError::Io(error) => Self::Io(error.kind()),
        }
    }
}

impl From<Offence> for Lost {
    fn from(offence: Offence) -> Self {
        match offence {
            Offence::Flood(flood) => Self::Flood(flood),
            Offence::Push => Self::Violation(ErrorCode::PROTOCOL_ERROR),
        }
    }
}
