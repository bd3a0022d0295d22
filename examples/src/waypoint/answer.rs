//! Answers that no endpoint is asked for.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use hyper::header::{HeaderName, HeaderValue, RETRY_AFTER, UPGRADE, WWW_AUTHENTICATE};
use hyper::{Response, StatusCode};

use super::body::{self, Body};
use super::external::{Reason, Refused};
use super::reply::Reply;
use super::upstream::SendError;

const RATE_LIMITED: HeaderName = HeaderName::from_static("x-envoy-ratelimited");
const OVERLOADED: HeaderName = HeaderName::from_static("x-envoy-overloaded");

/// An answer of the waypoint's own, or of a program that it has asked, and why it is that.
#[derive(Debug)]
pub(super) struct Answer {
    /// What the client is told.
    reply: Box<Reply>,
    /// The status for gRPC, where it does not follow from HTTP's.
    grpc_status: Option<u32>,
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
            reply: Box::new(Reply::bare(status)),
            grpc_status: None,
            flags: flags.into(),
            reason: reason.to_string(),
        }
    }

    /// The request is not one that is sent on.
    pub(super) fn malformed(status: StatusCode, reason: &(impl ToString + ?Sized)) -> Self {
        let answer = Self::new(status, "DPE", reason);
        match status {
            StatusCode::UPGRADE_REQUIRED => answer.with(UPGRADE, HeaderValue::from_static("HTTP/1.1")),
            _ => answer,
        }
    }

    /// Policies forbid it.
    pub(super) fn denied(reason: &(impl ToString + ?Sized)) -> Self {
        Self::new(StatusCode::FORBIDDEN, "-", reason).saying("RBAC: access denied")
    }

    /// Its token is not believed.
    pub(super) fn unauthenticated(
        status: StatusCode,
        challenge: &'static str,
        reason: &(impl ToString + ?Sized),
    ) -> Self {
        Self::new(status, "UAEX", reason)
            .saying("Jwt verification fails")
            .with(WWW_AUTHENTICATE, HeaderValue::from_static(challenge))
    }

    /// There is no room for it.
    pub(super) fn overloaded(flags: &'static str, reason: &(impl ToString + ?Sized)) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, flags, reason)
            .saying("overload")
            .with(OVERLOADED, HeaderValue::from_static("true"))
    }

    /// Nothing of it or its answer has moved for too long. Whether all of it is here says who was waited
    /// for.
    pub(super) fn idle(is_whole: bool) -> Self {
        let (status, reason) = match is_whole {
            true => (StatusCode::GATEWAY_TIMEOUT, "no answer for too long"),
            false => (StatusCode::REQUEST_TIMEOUT, "no more of the request for too long"),
        };
        Self::new(status, "SI", reason).saying("stream timeout")
    }

    /// A route wants it to fail.
    pub(super) fn aborted(status: StatusCode, grpc_status: Option<u32>) -> Self {
        Self::new(status, "FI", "fault that a route asks for")
            .saying("fault filter abort")
            .with_grpc_status(grpc_status)
    }

    /// There have been too many like it.
    pub(super) fn limited(after: Duration, reason: &(impl ToString + ?Sized)) -> Self {
        let seconds = after
            .as_secs()
            .saturating_add(u64::from(after.subsec_nanos() > 0))
            .max(1);
        Self::new(StatusCode::TOO_MANY_REQUESTS, "RL", reason)
            .saying("local_rate_limited")
            .with(RETRY_AFTER, seconds.into())
            .with(RATE_LIMITED, HeaderValue::from_static("true"))
    }

    /// With another status for gRPC.
    pub(super) fn with_grpc_status(self, status: Option<u32>) -> Self {
        Self {
            grpc_status: status,
            ..self
        }
    }

    fn saying(mut self, text: &'static str) -> Self {
        self.reply.body = Bytes::from_static(text.as_bytes());
        self
    }

    fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.reply.headers.insert(name, value);
        self
    }

    /// As the client can read it.
    pub(super) fn into_response(self, is_grpc: bool) -> Response<Body> {
        let reply = match is_grpc {
            true => self.reply.for_call(self.grpc_status),
            false => *self.reply,
        };
        Response::<Bytes>::from(reply).map(body::whole)
    }
}

impl From<Refused> for Answer {
    fn from(Refused { reply, reason }: Refused) -> Self {
        let answer = Self {
            reply: Box::new(reply),
            grpc_status: None,
            flags: reason.flag().into(),
            reason: reason.details().to_owned(),
        };
        match reason {
            Reason::Limited => answer.with(RATE_LIMITED, HeaderValue::from_static("true")),
            _ => answer,
        }
    }
}

impl From<SendError> for Answer {
    fn from(error: SendError) -> Self {
        let answer = Self::new(error.status(), error.flags().to_string(), &error)
            .saying(error.text())
            .with_grpc_status(Some(error.grpc_status().into()));
        match error.is_overload() {
            true => answer.with(OVERLOADED, HeaderValue::from_static("true")),
            false => answer,
        }
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
        let answer = Answer::limited(Duration::from_millis(1200), "");
        assert_eq!(answer.into_response(false).headers()["retry-after"], "2");
    }
}
