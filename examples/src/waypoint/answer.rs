//! Answers that no endpoint is asked for.

use std::borrow::Cow;

use bytes::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, UPGRADE, WWW_AUTHENTICATE};
use hyper::{Response, StatusCode};

use super::body::{self, Body};
use super::external::{Refused, Reply};
use super::upstream::SendError;

const TEXT: HeaderValue = HeaderValue::from_static("text/plain");
const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const OVERLOADED: HeaderName = HeaderName::from_static("x-envoy-overloaded");

/// An answer of the waypoint's own, and why it is that.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    /// What the client is told beside the status.
    message: Cow<'static, str>,
    header: Option<Box<(HeaderName, HeaderValue)>>,
    /// Another program's answer, which counts as it is.
    whole: Option<Box<Reply>>,
    /// The status for gRPC, where it does not follow from HTTP's.
    grpc_status: Option<u16>,
    /// What telemetry calls it, by the names that Envoy has for that.
    pub(super) flags: Cow<'static, str>,
    /// For the log.
    pub(super) reason: String,
}

impl Answer {
    pub(super) fn new(
        status: StatusCode,
        flags: impl Into<Cow<'static, str>>,
        reason: &(impl ToString + ?Sized),
    ) -> Self {
        Self {
            status,
            message: "".into(),
            header: None,
            whole: None,
            grpc_status: None,
            flags: flags.into(),
            reason: reason.to_string(),
        }
    }

    /// The request is not one that is sent on.
    pub(super) fn malformed(status: StatusCode, reason: &(impl ToString + ?Sized)) -> Self {
        let upgrade = (UPGRADE, HeaderValue::from_static("HTTP/1.1"));
        Self {
            header: (status == StatusCode::UPGRADE_REQUIRED).then(|| Box::new(upgrade)),
            ..Self::new(status, "DPE", reason)
        }
    }

    /// Policies forbid it.
    pub(super) fn denied(reason: &(impl ToString + ?Sized)) -> Self {
        Self {
            message: "RBAC: access denied".into(),
            ..Self::new(StatusCode::FORBIDDEN, "-", reason)
        }
    }

    /// Its token is not believed.
    pub(super) fn unauthenticated(
        status: StatusCode,
        challenge: &'static str,
        reason: &(impl ToString + ?Sized),
    ) -> Self {
        Self {
            message: "Jwt verification fails".into(),
            header: Some(Box::new((WWW_AUTHENTICATE, HeaderValue::from_static(challenge)))),
            ..Self::new(status, "UAEX", reason)
        }
    }

    /// There is no room for it.
    pub(super) fn overloaded(flags: &'static str, reason: &(impl ToString + ?Sized)) -> Self {
        Self {
            message: "overload".into(),
            header: Some(Box::new((OVERLOADED, HeaderValue::from_static("true")))),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, flags, reason)
        }
    }

    /// Nothing of it or its answer has moved for too long. Whether all of it is here says who was waited
    /// for.
    pub(super) fn idle(is_whole: bool) -> Self {
        let (status, reason) = match is_whole {
            true => (StatusCode::GATEWAY_TIMEOUT, "no answer for too long"),
            false => (StatusCode::REQUEST_TIMEOUT, "no more of the request for too long"),
        };
        Self {
            message: "stream timeout".into(),
            ..Self::new(status, "SI", reason)
        }
    }

    /// A route wants it to fail.
    pub(super) fn aborted(status: StatusCode, grpc_status: Option<u16>) -> Self {
        Self {
            message: "fault filter abort".into(),
            grpc_status,
            ..Self::new(status, "FI", "fault that a route asks for")
        }
    }

    /// There have been too many like it.
    pub(super) fn limited(after: std::time::Duration, reason: &(impl ToString + ?Sized)) -> Self {
        let seconds = after
            .as_secs()
            .saturating_add(u64::from(after.subsec_nanos() > 0))
            .max(1);
        Self {
            message: "local_rate_limited".into(),
            header: Some(Box::new((RETRY_AFTER, seconds.into()))),
            ..Self::new(StatusCode::TOO_MANY_REQUESTS, "RL", reason)
        }
    }

    /// With another status for gRPC.
    pub(super) fn with_grpc_status(self, status: Option<u16>) -> Self {
        Self {
            grpc_status: status,
            ..self
        }
    }

    /// As the client can read it: gRPC has statuses of its own, in headers of an answer with 200.
    pub(super) fn into_response(self, is_grpc: bool) -> Response<Body> {
        if let Some(reply) = self.whole {
            return Response::<Bytes>::from(*reply).map(body::whole);
        }
        let mut response = Response::new(body::whole(""));
        let headers = response.headers_mut();
        headers.extend(self.header.map(|line| *line));
        if is_grpc {
            let status = self.grpc_status.unwrap_or_else(|| grpc_status(self.status));
            headers.insert(CONTENT_TYPE, GRPC);
            headers.insert(GRPC_STATUS, status.into());
            if let Ok(message) = HeaderValue::from_str(&self.message) {
                headers.insert(GRPC_MESSAGE, message);
            }
            return response;
        }
        if !self.message.is_empty() {
            headers.insert(CONTENT_TYPE, TEXT);
            *response.body_mut() = body::whole(self.message.into_owned());
        }
        *response.status_mut() = self.status;
        response
    }
}

impl From<Refused> for Answer {
    fn from(refused: Refused) -> Self {
        let Refused { reply, reason } = refused;
        let status = reply.status;
        Self {
            whole: Some(Box::new(reply)),
            ..Self::new(status, reason.flag(), reason.details())
        }
    }
}

impl From<SendError> for Answer {
    fn from(error: SendError) -> Self {
        let overloaded = (OVERLOADED, HeaderValue::from_static("true"));
        Self {
            message: error.text().into(),
            header: error.is_overload().then(|| Box::new(overloaded)),
            ..Self::new(error.status(), error.flags().to_string(), &error)
        }
        .with_grpc_status(Some(error.grpc_status().into()))
    }
}

/// What gRPC makes of a status of HTTP.
fn grpc_status(status: StatusCode) -> u16 {
    match status.as_u16() {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502 | 503 | 504 => 14,
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grpc_is_answered_in_its_own_way() {
        let response = Answer::denied("by `p`").into_response(true);
        let headers = response.headers();
        assert_eq!(
            (response.status(), &headers["grpc-status"]),
            (StatusCode::OK, &HeaderValue::from(7))
        );
        assert_eq!(headers["grpc-message"], "RBAC: access denied");
        let response = Answer::denied("by `p`").into_response(false);
        assert_eq!(
            (response.status(), response.headers().get("grpc-status")),
            (StatusCode::FORBIDDEN, None)
        );
    }

    #[test]
    fn who_is_limited_is_told_for_how_long() {
        let answer = Answer::limited(std::time::Duration::from_millis(1200), "");
        assert_eq!(answer.into_response(false).headers()["retry-after"], "2");
    }
}
