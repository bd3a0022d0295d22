//! How making a connection fails, on either side.

use crate::engine::EngineError;
use crate::lost::Lost;

/// Why a connection was not made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The configured handshake timeout passed.
    #[error("HTTP/2 handshake timed out")]
    Timeout,
    /// The connection was lost before the peer's preface and SETTINGS had arrived.
    #[error("HTTP/2 handshake failed: {0}")]
    Lost(Lost),
}

impl From<EngineError> for HandshakeError {
    fn from(error: EngineError) -> Self {
        Self::Lost(Lost::from(&error))
    }
}
