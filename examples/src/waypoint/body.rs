//! The content of a request or answer on its way.

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;

/// The one kind of body that a waypoint moves.
pub(super) type Body = BoxBody<Bytes, BodyError>;

/// Why a body ends before its end, and whose fault that is.
#[derive(Debug, thiserror::Error)]
pub(super) enum BodyError {
    #[error("client: {0}")]
    Client(#[source] hyper::Error),
    #[error("endpoint: {0}")]
    Endpoint(#[source] hyper::Error),
    #[error("endpoint: not at its end in time")]
    Timeout,
    /// The answer has ended.
    #[error("client: more than is wanted")]
    Unwanted,
    #[error("nothing moved for too long")]
    Idle,
}

/// What a client sends.
pub(super) fn of_client(body: Incoming) -> Body {
    body.map_err(BodyError::Client).boxed()
}

/// What an endpoint sends.
pub(super) fn of_endpoint(body: Incoming) -> Body {
    body.map_err(BodyError::Endpoint).boxed()
}

/// Bytes that are there.
pub(super) fn whole(bytes: impl Into<Bytes>) -> Body {
    let bytes = bytes.into();
    match bytes.is_empty() {
        true => Empty::new().map_err(|never| match never {}).boxed(),
        false => Full::new(bytes).map_err(|never| match never {}).boxed(),
    }
}
