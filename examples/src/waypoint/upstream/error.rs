//! Why a request was not answered by an endpoint.

use hyper::StatusCode;

use crate::proxy::tunnels::TunnelsError;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(in crate::waypoint) enum SendError {
    #[error("no healthy endpoint")]
    NoHealthyEndpoint,
    #[error("endpoint: {0}")]
    Connect(#[source] Box<TunnelsError>),
    #[error("endpoint: {0}")]
    Reset(#[source] hyper::Error),
}

impl SendError {
    /// What the client is told.
    pub(in crate::waypoint) fn status(&self) -> StatusCode {
        StatusCode::SERVICE_UNAVAILABLE
    }

    /// What telemetry calls it, by the names that Envoy has for that.
    pub(in crate::waypoint) fn flags(&self) -> &'static str {
        match self {
            Self::NoHealthyEndpoint => "UH",
            Self::Connect(_) => "UF",
            Self::Reset(_) => "UC",
        }
    }
}
