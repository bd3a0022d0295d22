//! The one table between what happens to a tunnel and what stands on the wire, in both directions.
//!
//! A tunnel that is not opened is answered with an HTTP status; a tunnel that ends badly, with an
//! HTTP/2 error code.
//!
//! | the server cannot open a tunnel because of | [`Rejection::status`] | the client reads |
//! |---|---|---|
//! | a head that is no well-formed CONNECT, or another destination | 400 | [`RefusalKind::Malformed`] |
//! | a policy | 401, or 403 where Envoy's clients are | [`RefusalKind::Denied`] |
//! | a destination that it does not know or reach, overload, shutdown | 503 | [`RefusalKind::Unavailable`] |
//!
//! | one side ends a tunnel because of | [`ResetReason::code`] | the other side reads |
//! |---|---|---|
//! | a reset or failed TCP connection behind it | `CONNECT_ERROR` | [`ResetReason::Aborted`] |
//! | nobody using it any more | `CANCEL` | [`ResetReason::Cancelled`] |
//! | load or shutdown, before any byte was processed | `REFUSED_STREAM` | [`ResetReason::Refused`] |
//! | frames that break the protocol | `PROTOCOL_ERROR` | [`ResetReason::ProtocolViolation`] |
//! | a peer that exceeds a limit | `ENHANCE_YOUR_CALM` | [`ResetReason::Flooded`] |
//! | a fault of its own | `INTERNAL_ERROR` | [`ResetReason::Internal`] |
//! | no error, after everything was said | `NO_ERROR` | [`ResetReason::Finished`] |
//!
//! Statuses as Istio's proxies and Envoy use them; error codes of RFC 9113, section 7, for tunnels
//! by section 8.5.

mod code;

use std::io;

use http::header::HeaderName;
use http::{Response, StatusCode};

pub use self::code::ErrorCode;

use crate::authority::AuthorityError;

/// Why a server opens no tunnel.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Rejection {
    /// The method is not CONNECT.
    #[error("request is not a CONNECT")]
    NotConnect,
    /// The destination cannot be read.
    #[error(transparent)]
    MalformedAuthority(#[from] AuthorityError),
    /// Something else in the head is not allowed.
    #[error(transparent)]
    MalformedHead(#[from] HeadFault),
    /// The destination is not behind this server.
    #[error("destination is not served here")]
    DestinationMismatch,
    /// A policy does not let the peer reach the destination.
    #[error("denied by policy")]
    Denied(DeniedStatus),
    /// The destination is not known.
    #[error("destination is unknown")]
    UnknownDestination,
    /// The connection to the destination failed.
    #[error("destination is unreachable")]
    UpstreamUnreachable,
    /// The connection to the destination took too long.
    #[error("connecting to the destination timed out")]
    UpstreamTimeout,
    /// The server has no room for another tunnel.
    #[error("server is overloaded")]
    Overloaded,
    /// The server is about to shut down.
    #[error("server is draining")]
    Draining,
}

impl Rejection {
    /// The status that says so to the client.
    ///
    /// There is no body and no further field, and one status for many reasons: the reason belongs
    /// into the log of the server, not into the hands of the peer.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::NotConnect | Self::MalformedAuthority(_) | Self::MalformedHead(_) | Self::DestinationMismatch => {
                StatusCode::BAD_REQUEST
            }
            Self::Denied(DeniedStatus::Unauthorized) => StatusCode::UNAUTHORIZED,
            Self::Denied(DeniedStatus::Forbidden) => StatusCode::FORBIDDEN,
            Self::UnknownDestination
            | Self::UpstreamUnreachable
            | Self::UpstreamTimeout
            | Self::Overloaded
            | Self::Draining => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The error code that says so where the stream is reset instead of answered.
    ///
    /// For [`Rejection::Overloaded`] and [`Rejection::Draining`] a reset tells the client more than
    /// a status: that it may safely try again elsewhere.
    #[must_use]
    pub fn reset_reason(&self) -> ResetReason {
        match self {
            Self::NotConnect | Self::MalformedAuthority(_) | Self::MalformedHead(_) => ResetReason::ProtocolViolation,
            Self::DestinationMismatch | Self::Denied(_) | Self::UnknownDestination => ResetReason::Cancelled,
            Self::UpstreamUnreachable | Self::UpstreamTimeout => ResetReason::Aborted,
            Self::Overloaded | Self::Draining => ResetReason::Refused,
        }
    }

    /// The head of the response that says so.
    #[must_use]
    pub fn to_response(&self) -> Response<()> {
        let mut response = Response::new(());
        *response.status_mut() = self.status();
        response
    }

    /// Who is to blame, seen from the server.
    #[must_use]
    pub fn blame(&self) -> Blame {
        match self {
            Self::NotConnect
            | Self::MalformedAuthority(_)
            | Self::MalformedHead(_)
            | Self::DestinationMismatch
            | Self::Denied(_)
            | Self::UnknownDestination => Blame::Peer,
            Self::UpstreamUnreachable | Self::UpstreamTimeout => Blame::Network,
            Self::Overloaded | Self::Draining => Blame::Local,
        }
    }
}

/// The status of a denial.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum DeniedStatus {
    /// 401, as Istio's node proxy answers. The default.
    #[default]
    Unauthorized,
    /// 403, as Envoy answers.
    Forbidden,
}

/// What is not allowed in the head of a message: RFC 9113, sections 8.2.2, 8.3 and 8.5; RFC 9110,
/// section 9.3.6.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeadFault {
    /// `:protocol` is present: an extended CONNECT of RFC 8441 is another thing than a tunnel.
    #[error("`:protocol` on a tunnel")]
    Protocol,
    /// `:scheme` or `:path` is present.
    #[error("`:scheme` or `:path` on a tunnel")]
    SchemeOrPath,
    /// `:authority` is absent.
    #[error("no `:authority`")]
    AuthorityMissing,
    /// `host` is present and does not name the same destination as `:authority`.
    #[error("`host` differs from `:authority`")]
    Host,
    /// `content-length` is present.
    #[error("`content-length` on a tunnel")]
    ContentLength,
    /// A field that HTTP/2 does not have.
    #[error("connection-specific field `{name}`")]
    ConnectionSpecific {
        /// The name of the field.
        name: HeaderName,
    },
    /// There are too many fields.
    #[error("{count} header fields exceed {limit}")]
    TooManyFields {
        /// How many fields there are.
        count: usize,
        /// How many are allowed.
        limit: usize,
    },
    /// The fields are too large together.
    #[error("header fields of {bytes} bytes exceed {limit} bytes")]
    TooLarge {
        /// Names and values, and 32 bytes for each field.
        bytes: usize,
        /// How many bytes are allowed.
        limit: usize,
    },
}

/// What a peer answered instead of opening a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[error("peer refused the tunnel with status {}: {}", .status.as_u16(), .kind.text())]
pub struct Refusal {
    status: StatusCode,
    kind: RefusalKind,
}

impl Refusal {
    /// The status of the response.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// What the status means, as Istio's proxies and Envoy use it.
    #[must_use]
    pub fn kind(&self) -> RefusalKind {
        self.kind
    }

    /// Who is to blame, seen from the client.
    #[must_use]
    pub fn blame(&self) -> Blame {
        match self.kind {
            RefusalKind::Malformed | RefusalKind::Denied | RefusalKind::UnknownDestination => Blame::Local,
            RefusalKind::Overloaded | RefusalKind::Unavailable | RefusalKind::Unexpected => Blame::Peer,
            RefusalKind::Timeout => Blame::Network,
        }
    }

    /// Whether another attempt is worth making, perhaps at another endpoint.
    ///
    /// No refused tunnel carried a byte to its destination, so that none is unsafe to try again.
    #[must_use]
    pub fn is_retry_safe(&self) -> bool {
        matches!(
            self.kind,
            RefusalKind::Overloaded | RefusalKind::Unavailable | RefusalKind::Timeout
        )
    }
}

/// Reads the status of a final response that is not successful.
impl From<StatusCode> for Refusal {
    fn from(status: StatusCode) -> Self {
        let kind = match status.as_u16() {
            400 | 405 | 431 => RefusalKind::Malformed,
            401 | 403 => RefusalKind::Denied,
            404 => RefusalKind::UnknownDestination,
            429 => RefusalKind::Overloaded,
            502 | 503 => RefusalKind::Unavailable,
            408 | 504 => RefusalKind::Timeout,
            _ => RefusalKind::Unexpected,
        };
        Self { status, kind }
    }
}

/// What the status of a [`Refusal`] means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RefusalKind {
    /// 400, 405, 431: the peer takes the request for malformed, or the destination for another
    /// server's.
    Malformed,
    /// 401, 403: a policy of the peer denies it.
    Denied,
    /// 404: the peer does not know the destination. Istio's node proxy says 503 instead.
    UnknownDestination,
    /// 429: the peer limits how many requests it takes.
    Overloaded,
    /// 502, 503: the peer cannot reach the destination, or has no capacity.
    Unavailable,
    /// 408, 504: something behind the peer took too long.
    Timeout,
    /// Any other status.
    Unexpected,
}

impl RefusalKind {
    fn text(self) -> &'static str {
        match self {
            Self::Malformed => "malformed request",
            Self::Denied => "denied by policy",
            Self::UnknownDestination => "unknown destination",
            Self::Overloaded => "overloaded",
            Self::Unavailable => "destination unavailable",
            Self::Timeout => "timeout",
            Self::Unexpected => "unexpected status",
        }
    }
}

/// Who is to blame for a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Blame {
    /// The other end of the connection.
    Peer,
    /// This program, its configuration or its identity.
    Local,
    /// Something between or behind the two.
    Network,
}

/// A reset of a stream by the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[error("peer reset the tunnel with {code}: {}", .reason.text())]
pub struct Reset {
    code: ErrorCode,
    reason: ResetReason,
}

impl Reset {
    /// The code on the wire.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        self.code
    }

    /// What the code means for the tunnel.
    #[must_use]
    pub fn reason(&self) -> ResetReason {
        self.reason
    }

    /// Who is to blame, seen from the side that reads the reset.
    #[must_use]
    pub fn blame(&self) -> Blame {
        match self.reason {
            ResetReason::ProtocolViolation | ResetReason::Flooded => Blame::Local,
            ResetReason::Aborted => Blame::Network,
            ResetReason::Finished | ResetReason::Cancelled | ResetReason::Refused | ResetReason::Internal => {
                Blame::Peer
            }
        }
    }

    /// Whether the peer promises that it processed nothing, so that the tunnel may be opened again
    /// elsewhere: RFC 9113, section 8.7.
    #[must_use]
    pub fn is_retry_safe(&self) -> bool {
        self.reason == ResetReason::Refused
    }
}

/// Reads the code of a RST_STREAM.
impl From<ErrorCode> for Reset {
    fn from(code: ErrorCode) -> Self {
        let reason = match code {
            ErrorCode::NO_ERROR => ResetReason::Finished,
            ErrorCode::CONNECT_ERROR => ResetReason::Aborted,
            ErrorCode::CANCEL => ResetReason::Cancelled,
            ErrorCode::REFUSED_STREAM => ResetReason::Refused,
            ErrorCode::ENHANCE_YOUR_CALM => ResetReason::Flooded,
            ErrorCode::PROTOCOL_ERROR
            | ErrorCode::FLOW_CONTROL_ERROR
            | ErrorCode::SETTINGS_TIMEOUT
            | ErrorCode::STREAM_CLOSED
            | ErrorCode::FRAME_SIZE_ERROR
            | ErrorCode::COMPRESSION_ERROR
            | ErrorCode::INADEQUATE_SECURITY
            | ErrorCode::HTTP_1_1_REQUIRED => ResetReason::ProtocolViolation,
            // Section 7 of RFC 9113 lets unknown codes count as INTERNAL_ERROR.
            _ => ResetReason::Internal,
        };
        Self { code, reason }
    }
}

/// Keeps the reset as the source of the error; a reset is never an end of file.
impl From<Reset> for io::Error {
    fn from(reset: Reset) -> Self {
        let kind = match reset.reason {
            ResetReason::Finished => io::ErrorKind::UnexpectedEof,
            ResetReason::Aborted => io::ErrorKind::ConnectionReset,
            ResetReason::Refused => io::ErrorKind::ConnectionRefused,
            ResetReason::Cancelled | ResetReason::ProtocolViolation | ResetReason::Flooded | ResetReason::Internal => {
                io::ErrorKind::ConnectionAborted
            }
        };
        Self::new(kind, reset)
    }
}

/// Why a stream is reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ResetReason {
    /// The sender has said everything and wants nothing more. After END_STREAM this is no error;
    /// before it, what was read is incomplete.
    Finished,
    /// The TCP connection that the tunnel stands for was reset or failed; the reader resets its own
    /// in turn.
    Aborted,
    /// Nobody uses the tunnel any more; also the end of one whose permission was withdrawn, or that
    /// outlived a drain.
    Cancelled,
    /// Nothing of the stream was processed.
    Refused,
    /// The protocol was broken: trailers on a tunnel, a malformed head, invalid frames.
    ProtocolViolation,
    /// A limit on rates or resources was exceeded.
    Flooded,
    /// The sender failed, for example in a handler that panicked.
    Internal,
}

impl ResetReason {
    /// The code on the wire.
    #[must_use]
    pub fn code(self) -> ErrorCode {
        match self {
            Self::Finished => ErrorCode::NO_ERROR,
            Self::Aborted => ErrorCode::CONNECT_ERROR,
            Self::Cancelled => ErrorCode::CANCEL,
            Self::Refused => ErrorCode::REFUSED_STREAM,
            Self::ProtocolViolation => ErrorCode::PROTOCOL_ERROR,
            Self::Flooded => ErrorCode::ENHANCE_YOUR_CALM,
            Self::Internal => ErrorCode::INTERNAL_ERROR,
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::Finished => "closed before its end",
            Self::Aborted => "aborted by the connection behind it",
            Self::Cancelled => "cancelled",
            Self::Refused => "refused before it was processed",
            Self::ProtocolViolation => "protocol violation",
            Self::Flooded => "limit exceeded",
            Self::Internal => "internal failure",
        }
    }
}

#[cfg(test)]
mod tests;
