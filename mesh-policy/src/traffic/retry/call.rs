use std::time::Duration;

/// A request, as far as it matters for trying it again.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    pub(super) attempts: u32,
    pub(super) deadline: Option<Duration>,
    pub(super) is_idempotent: bool,
    pub(super) can_be_sent_again: bool,
    pub(super) is_answered: bool,
}

impl Call {
    /// A request of which one attempt was made, without a deadline. Whether it may be done twice is
    /// told by its method: GET, HEAD, OPTIONS, TRACE, PUT and DELETE may (RFC 9110 §9.2.2).
    pub fn new(method: &[u8]) -> Self {
        Self {
            attempts: 1,
            deadline: None,
            is_idempotent: matches!(method, b"GET" | b"HEAD" | b"OPTIONS" | b"TRACE" | b"PUT" | b"DELETE"),
            can_be_sent_again: true,
            is_answered: false,
        }
    }

    /// How often it was sent, the first time included. Default 1.
    #[must_use]
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts;
        self
    }

    /// When all of it must be done, retries included: the route's timeout, or `grpc-timeout`.
    #[must_use]
    pub fn deadline(mut self, deadline: Option<Duration>) -> Self {
        self.deadline = deadline;
        self
    }

    /// Whether it may be done twice, where more is known than its method.
    #[must_use]
    pub fn idempotent(mut self, is_idempotent: bool) -> Self {
        self.is_idempotent = is_idempotent;
        self
    }

    /// Whether all of its body is still there. It is not once the replay buffer has overflowed.
    /// Default: yes.
    #[must_use]
    pub fn can_be_sent_again(mut self, can: bool) -> Self {
        self.can_be_sent_again = can;
        self
    }

    /// Whether any part of a response has gone to the client. Default: no.
    #[must_use]
    pub fn answered(mut self, is_answered: bool) -> Self {
        self.is_answered = is_answered;
        self
    }
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// With the head of a response.
    Response(Response),
    /// Without one.
    Failure(Failure),
}

impl Outcome {
    /// Whether it is certain that the endpoint did nothing about the request.
    pub fn is_unprocessed(&self) -> bool {
        match self {
            Self::Response(_) => false,
            Self::Failure(failure) => failure.is_unprocessed(),
        }
    }
}

/// Why there was no response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Failure {
    /// There was no connection, or no tunnel, to send the request by.
    Connect,
    /// The endpoint did not take it: REFUSED_STREAM, or a GOAWAY whose last stream is an earlier one
    /// (RFC 9113 §8.7).
    Refused,
    /// The connection ended before any of the request was sent.
    ResetBeforeRequest,
    /// The stream or connection ended after some of it was.
    Reset,
    /// The time for one attempt was up.
    Timeout,
    /// A [`Breaker`](crate::traffic::breaker::Breaker) turned it away. Never tried again.
    Overflow,
}

impl Failure {
    /// Whether it is certain that the endpoint did nothing about the request.
    pub fn is_unprocessed(self) -> bool {
        match self {
            Self::Connect | Self::Refused | Self::ResetBeforeRequest | Self::Overflow => true,
            Self::Reset | Self::Timeout => false,
        }
    }
}

/// The head of a response, as far as it matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    pub(super) status: u16,
    pub(super) grpc_status: Option<u32>,
    pub(super) rate_limited: bool,
    pub(super) retriable_header: bool,
    pub(super) pushback: Option<Pushback>,
}

impl Response {
    /// A response of this HTTP status.
    pub fn new(status: u16) -> Self {
        Self {
            status,
            grpc_status: None,
            rate_limited: false,
            retriable_header: false,
            pushback: None,
        }
    }

    /// Its `grpc-status`, if it came with the head. One that comes behind a body is too late for
    /// retries.
    #[must_use]
    pub fn grpc_status(mut self, status: Option<u32>) -> Self {
        self.grpc_status = status;
        self
    }

    /// Whether a rate limiter sent it (`x-envoy-ratelimited`).
    #[must_use]
    pub fn rate_limited(mut self, is_limited: bool) -> Self {
        self.rate_limited = is_limited;
        self
    }

    /// Whether it has a header that a route calls retriable (Envoy's `retriable_headers`).
    #[must_use]
    pub fn retriable_header(mut self, has_one: bool) -> Self {
        self.retriable_header = has_one;
        self
    }

    /// What it says about retries.
    #[must_use]
    pub fn pushback(mut self, pushback: Option<Pushback>) -> Self {
        self.pushback = pushback;
        self
    }
}

/// What a server says about when to come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushback {
    /// Not before this has passed.
    After(Duration),
    /// Not at all.
    Never,
}

impl Pushback {
    /// That of a `retry-after` line in seconds (RFC 9110 §10.2.3). A date is `None`: what it comes to
    /// would take a calendar.
    pub fn of_retry_after(value: &[u8]) -> Option<Self> {
        Some(Self::After(Duration::from_secs(number(value)?)))
    }

    /// That of a `grpc-retry-pushback-ms` line: milliseconds, and whatever else it says is a no
    /// (gRFC A6).
    pub fn of_grpc(value: &[u8]) -> Self {
        number(value).map_or(Self::Never, |millis| Self::After(Duration::from_millis(millis)))
    }
}

fn number(value: &[u8]) -> Option<u64> {
    if !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn pushback_is_read_as_it_is_written() {
        let after = |millis| Pushback::After(Duration::from_millis(millis));
        assert_eq!(Pushback::of_retry_after(b"120"), Some(after(120_000)));
        for value in [
            "",
            "-1",
            "+1",
            "1.5",
            "Wed, 21 Oct 2015 07:28:00 GMT",
            "99999999999999999999",
        ] {
            assert_eq!(Pushback::of_retry_after(value.as_bytes()), None, "{value}");
            assert_eq!(Pushback::of_grpc(value.as_bytes()), Pushback::Never, "{value}");
        }
        assert_eq!(Pushback::of_grpc(b"25"), after(25));
    }

    #[test]
    fn methods_that_change_things_are_not_done_twice() {
        let idempotent = |method: &str| Call::new(method.as_bytes()).is_idempotent;
        assert!(
            ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"]
                .into_iter()
                .all(idempotent)
        );
        assert!(!["POST", "PATCH", "CONNECT", "get", ""].into_iter().any(idempotent));
    }

    proptest! {
        #[test]
        fn no_value_is_too_strange(value in prop::collection::vec(any::<u8>(), 0..40)) {
            Pushback::of_retry_after(&value);
            Pushback::of_grpc(&value);
        }
    }
}
