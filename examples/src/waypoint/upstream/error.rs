use std::fmt;
use std::sync::Arc;

use hyper::StatusCode;
use mesh_policy::traffic::balance::NoEndpoint;
use mesh_policy::traffic::breaker::Overflow;
use mesh_policy::traffic::retry::{Failure, Stop};
use mesh_xds::store::Workload;

use super::dial::DialError;

/// A request has no answer of an endpoint.
#[derive(Debug, thiserror::Error)]
#[error("{fault}")]
pub(in crate::waypoint) struct SendError {
    #[source]
    pub(in crate::waypoint) fault: Fault,
    /// How often it was tried.
    pub(in crate::waypoint) attempts: u32,
    /// Who was tried last.
    pub(in crate::waypoint) endpoint: Option<Arc<Workload>>,
    /// Why it was not tried again.
    pub(in crate::waypoint) stop: Option<Stop>,
}

/// Why an attempt, or all of them, came to nothing.
#[derive(Debug, thiserror::Error)]
pub(in crate::waypoint) enum Fault {
    #[error("service has no endpoints of that kind")]
    NoCluster,
    #[error("{0}")]
    NoHealthyEndpoint(NoEndpoint),
    #[error("{0}")]
    Overflow(Overflow),
    #[error("cannot reach the endpoint: {0}")]
    Connect(Arc<DialError>),
    #[error("no answer in the time for one attempt")]
    AttemptTimeout(Late),
    #[error("no answer in time")]
    Timeout(Late),
    #[error("endpoint refused the request")]
    Refused,
    #[error("connection ended before the request")]
    ResetBeforeRequest,
    #[error("connection ended before the answer: {0}")]
    Reset(#[source] hyper::Error),
    #[error("answer is not HTTP: {0}")]
    Garbled(#[source] hyper::Error),
    #[error("client did not send all of the request")]
    Client,
    #[error("request cannot be written as HTTP")]
    Unwritable,
}

/// Who kept a request waiting until its time was up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::waypoint) enum Late {
    Endpoint,
    /// It has not sent all of the request in time for an answer, or gave the time itself.
    Client,
    /// Other requests, which have all connections that there may be.
    Others,
}

/// What a client is told, and what the access log says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Verdict {
    status: StatusCode,
    grpc: u8,
    /// Envoy's response flag.
    flag: &'static str,
    text: &'static str,
}

impl Fault {
    /// Envoy's words, statuses and flags; the codes of gRPC are those that Envoy makes of the
    /// statuses, but for a call whose time is up, which has one of its own.
    fn verdict(&self) -> Verdict {
        const UNAVAILABLE: (StatusCode, u8) = (StatusCode::SERVICE_UNAVAILABLE, 14);
        let ((status, grpc), flag, text) = match self {
            Self::NoCluster => (UNAVAILABLE, "NC", "no cluster"),
            Self::NoHealthyEndpoint(_) => (UNAVAILABLE, "UH", "no healthy upstream"),
            Self::Overflow(_) => (UNAVAILABLE, "UO", "upstream overloaded"),
            Self::Connect(_) => (UNAVAILABLE, "UF", "upstream connection failure"),
            Self::AttemptTimeout(_) => ((StatusCode::GATEWAY_TIMEOUT, 14), "UT", "upstream request timeout"),
            Self::Timeout(_) => ((StatusCode::GATEWAY_TIMEOUT, 4), "UT", "upstream request timeout"),
            Self::Refused => (UNAVAILABLE, "UR", "upstream refused the request"),
            Self::ResetBeforeRequest | Self::Reset(_) => (UNAVAILABLE, "UC", "upstream connection termination"),
            Self::Garbled(_) => ((StatusCode::BAD_GATEWAY, 14), "UPE", "upstream protocol error"),
            Self::Client => ((StatusCode::BAD_REQUEST, 13), "DC", "incomplete request"),
            Self::Unwritable => ((StatusCode::BAD_REQUEST, 13), "DPE", "bad request"),
        };
        Verdict {
            status,
            grpc,
            flag,
            text,
        }
    }

    /// As a retry policy sees it; `None` for what is not the endpoint's doing, and is final.
    pub(super) fn failure(&self) -> Option<Failure> {
        Some(match self {
            Self::Connect(_) => Failure::Connect,
            Self::Refused => Failure::Refused,
            Self::ResetBeforeRequest => Failure::ResetBeforeRequest,
            Self::Reset(_) | Self::Garbled(_) => Failure::Reset,
            Self::AttemptTimeout(Late::Others) | Self::Overflow(_) => Failure::Overflow,
            Self::AttemptTimeout(_) => Failure::Timeout,
            Self::NoCluster | Self::NoHealthyEndpoint(_) | Self::Timeout(_) | Self::Client | Self::Unwritable => {
                return None;
            }
        })
    }

    /// Whether it tells something about the endpoint.
    pub(super) fn is_of_endpoint(&self) -> bool {
        match self {
            Self::Timeout(late) | Self::AttemptTimeout(late) => *late == Late::Endpoint,
            Self::Overflow(_) | Self::ResetBeforeRequest => false,
            other => other.failure().is_some(),
        }
    }
}
impl SendError {
    /// The status of the answer.
    pub(in crate::waypoint) fn status(&self) -> StatusCode {
        self.fault.verdict().status
    }

    /// The code of the answer to a call of gRPC.
    pub(in crate::waypoint) fn grpc_status(&self) -> u8 {
        self.fault.verdict().grpc
    }

    /// The text of the answer, which tells nothing about the mesh.
    pub(in crate::waypoint) fn text(&self) -> &'static str {
        self.fault.verdict().text
    }

    /// Whether the answer is to have `x-envoy-overloaded`: more of the same would not help.
    pub(in crate::waypoint) fn is_overload(&self) -> bool {
        matches!(self.fault, Fault::Overflow(_))
    }

    /// Envoy's response flags.
    pub(in crate::waypoint) fn flags(&self) -> Flags {
        Flags(Some(self.fault.verdict().flag), stopped(self.stop))
    }
}

/// Envoy's response flags, with commas in between; `-` if there are none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::waypoint) struct Flags(Option<&'static str>, Option<&'static str>);

impl Flags {
    /// Those of an answer that was not tried again for this reason.
    pub(super) fn of_answer(stop: Option<Stop>) -> Self {
        Self(None, stopped(stop))
    }
}

impl fmt::Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0, self.1) {
            (Some(one), Some(other)) => write!(f, "{one},{other}"),
            (one, other) => f.write_str(one.or(other).unwrap_or("-")),
        }
    }
}

/// What Envoy says about retries that were not made, though conditions would have had them.
fn stopped(stop: Option<Stop>) -> Option<&'static str> {
    match stop? {
        Stop::Attempts => Some("URX"),
        Stop::Budget => Some("UO"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(fault: Fault, stop: Option<Stop>) -> SendError {
        SendError {
            fault,
            attempts: 1,
            endpoint: None,
            stop,
        }
    }

    #[test]
    fn answers_are_those_of_envoy() {
        for (fault, status, grpc, flag) in [
            (Fault::NoHealthyEndpoint(NoEndpoint::Empty), 503, 14, "UH"),
            (Fault::Connect(Arc::new(DialError::Timeout)), 503, 14, "UF"),
            (Fault::AttemptTimeout(Late::Endpoint), 504, 14, "UT"),
            (Fault::Timeout(Late::Endpoint), 504, 4, "UT"),
            (Fault::Refused, 503, 14, "UR"),
            (Fault::ResetBeforeRequest, 503, 14, "UC"),
            (Fault::Client, 400, 13, "DC"),
        ] {
            let error = error(fault, None);
            let found = (error.status().as_u16(), error.grpc_status(), error.flags().to_string());
            assert_eq!(found, (status, grpc, flag.to_owned()), "{error}");
        }
    }

    #[test]
    fn flags_say_that_retries_were_used_up() {
        let exhausted = error(Fault::ResetBeforeRequest, Some(Stop::Attempts));
        assert_eq!(exhausted.flags().to_string(), "UC,URX");
        assert_eq!(error(Fault::Refused, Some(Stop::Budget)).flags().to_string(), "UR,UO");
        assert_eq!(Flags::of_answer(Some(Stop::Unsafe)).to_string(), "-");
        assert_eq!(Flags::of_answer(Some(Stop::Attempts)).to_string(), "URX");
    }
}
