use std::str::FromStr;

use thiserror::Error;

use super::call::{Failure, Outcome, Response};
use crate::traffic::grpc;

/// After which ends a request may be tried again: Envoy's `retry_on`, Istio's `retryOn`.
///
/// Read from text, names are separated by commas, with spaces around them or not:
///
/// | name | tries again after |
/// |---|---|
/// | `5xx` | any 5xx response, and any failure but overflow |
/// | `gateway-error` | 502, 503 and 504, and any failure but overflow |
/// | `reset` | any failure but overflow |
/// | `reset-before-request` | a failure before the request was sent |
/// | `connect-failure` | a connection that could not be made |
/// | `refused-stream` | a stream that the endpoint refused |
/// | `retriable-4xx` | 409 |
/// | `retriable-status-codes` | the statuses of the [policy](super::Policy::statuses) |
/// | `retriable-headers` | a response [marked](Response::retriable_header) so |
/// | `envoy-ratelimited` | a response of a [rate limiter](Response::rate_limited) |
/// | `cancelled`, `deadline-exceeded`, `internal`, `resource-exhausted`, `unavailable` | that gRPC status |
/// | `100` to `599` | that status, as Istio has it |
///
/// Envoy's `http3-post-connect-failure` is about a protocol that is not spoken here, and an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conditions {
    names: u32,
    statuses: Statuses,
}

/// A name of the table, whose bit is its number.
#[derive(Clone, Copy)]
enum Name {
    ServerError,
    GatewayError,
    Reset,
    ResetBeforeRequest,
    ConnectFailure,
    RefusedStream,
    Retriable4xx,
    RetriableStatusCodes,
    RetriableHeaders,
    RateLimited,
    Cancelled,
    DeadlineExceeded,
    Internal,
    ResourceExhausted,
    Unavailable,
}

const NAMES: [(&str, Name); 15] = [
    ("5xx", Name::ServerError),
    ("gateway-error", Name::GatewayError),
    ("reset", Name::Reset),
    ("reset-before-request", Name::ResetBeforeRequest),
    ("connect-failure", Name::ConnectFailure),
    ("refused-stream", Name::RefusedStream),
    ("retriable-4xx", Name::Retriable4xx),
    ("retriable-status-codes", Name::RetriableStatusCodes),
    ("retriable-headers", Name::RetriableHeaders),
    ("envoy-ratelimited", Name::RateLimited),
    ("cancelled", Name::Cancelled),
    ("deadline-exceeded", Name::DeadlineExceeded),
    ("internal", Name::Internal),
    ("resource-exhausted", Name::ResourceExhausted),
    ("unavailable", Name::Unavailable),
];

impl Conditions {
    /// None: nothing is tried again.
    pub const fn none() -> Self {
        Self {
            names: 0,
            statuses: Statuses([0; 8]),
        }
    }

    /// Istio's default: `connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes`.
    pub fn istio() -> Self {
        let mut conditions = Self::none();
        for name in [
            Name::ConnectFailure,
            Name::RefusedStream,
            Name::Unavailable,
            Name::Cancelled,
            Name::RetriableStatusCodes,
        ] {
            conditions.set(name);
        }
        conditions
    }

    /// Failures of which it is certain that the endpoint did nothing:
    /// `connect-failure,refused-stream,reset-before-request`.
    pub fn unprocessed() -> Self {
        let mut conditions = Self::none();
        for name in [Name::ConnectFailure, Name::RefusedStream, Name::ResetBeforeRequest] {
            conditions.set(name);
        }
        conditions
    }

    /// These statuses as well, as if written into the list. Those outside of 100 to 599 never come.
    #[must_use]
    pub fn statuses(mut self, statuses: impl IntoIterator<Item = u16>) -> Self {
        self.set(Name::RetriableStatusCodes);
        statuses.into_iter().for_each(|status| self.statuses.insert(status));
        self
    }

    /// These or those.
    #[must_use]
    pub fn or(mut self, other: &Self) -> Self {
        self.names |= other.names;
        let statuses = self.statuses.0.iter_mut().zip(other.statuses.0);
        statuses.for_each(|(own, other)| *own |= other);
        self
    }

    /// Whether a request that ended so may be tried again, as far as its end goes.
    pub fn allow(&self, outcome: &Outcome) -> bool {
        match outcome {
            Outcome::Failure(failure) => self.allow_failure(*failure),
            // A rate limiter's answer is only a reason to come back if that is what was asked for.
            Outcome::Response(response) if response.rate_limited => self.has(Name::RateLimited),
            Outcome::Response(response) => self.allow_response(response),
        }
    }

    fn allow_failure(&self, failure: Failure) -> bool {
        let any = self.has(Name::ServerError) || self.has(Name::GatewayError) || self.has(Name::Reset);
        match failure {
            Failure::Overflow => false,
            Failure::Connect => any || self.has(Name::ConnectFailure) || self.has(Name::ResetBeforeRequest),
            Failure::Refused => any || self.has(Name::RefusedStream),
            Failure::ResetBeforeRequest => any || self.has(Name::ResetBeforeRequest),
            Failure::Reset | Failure::Timeout => any,
        }
    }

    fn allow_response(&self, response: &Response) -> bool {
        let by_status = match response.status {
            409 => self.has(Name::Retriable4xx),
            502..=504 => self.has(Name::ServerError) || self.has(Name::GatewayError),
            500..=599 => self.has(Name::ServerError),
            _ => false,
        };
        let by_grpc = match response.grpc_status.map(grpc::known) {
            Some(grpc::CANCELLED) => self.has(Name::Cancelled),
            Some(grpc::DEADLINE_EXCEEDED) => self.has(Name::DeadlineExceeded),
            Some(grpc::RESOURCE_EXHAUSTED) => self.has(Name::ResourceExhausted),
            Some(grpc::INTERNAL) => self.has(Name::Internal),
            Some(grpc::UNAVAILABLE) => self.has(Name::Unavailable),
            _ => false,
        };
        let by_list = self.has(Name::RetriableStatusCodes) && self.statuses.contains(response.status);
        by_status || by_grpc || by_list || (response.retriable_header && self.has(Name::RetriableHeaders))
    }

    fn has(&self, name: Name) -> bool {
        self.names & (1 << name as u32) != 0
    }

    fn set(&mut self, name: Name) {
        self.names |= 1 << name as u32;
    }
}

impl FromStr for Conditions {
    type Err = InvalidCondition;

    fn from_str(text: &str) -> Result<Self, InvalidCondition> {
        let mut conditions = Self::none();
        for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            if let Some((_, name)) = NAMES.iter().find(|(known, _)| *known == name) {
                conditions.set(*name);
            } else if let Some(status) = status(name) {
                conditions = conditions.statuses([status]);
            } else {
                return Err(InvalidCondition { name: name.into() });
            }
        }
        Ok(conditions)
    }
}

fn status(name: &str) -> Option<u16> {
    let is_plain = name.bytes().all(|byte| byte.is_ascii_digit());
    name.parse()
        .ok()
        .filter(|status| is_plain && (100..600).contains(status))
}

/// A retry condition that nobody knows.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{name}` is no condition for retries")]
#[non_exhaustive]
pub struct InvalidCondition {
    /// The condition.
    pub name: Box<str>,
}

/// A set of statuses from 100 to 599, a bit each.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Statuses([u64; 8]);

impl Statuses {
    fn insert(&mut self, status: u16) {
        if let Some((word, bit)) = Self::place(status)
            && let Some(bits) = self.0.get_mut(word)
        {
            *bits |= bit;
        }
    }

    fn contains(&self, status: u16) -> bool {
        Self::place(status).is_some_and(|(word, bit)| self.0.get(word).is_some_and(|bits| bits & bit != 0))
    }

    fn place(status: u16) -> Option<(usize, u64)> {
        let at = status.checked_sub(100).filter(|at| *at < 500)?;
        Some((usize::from(at / 64), 1 << (at % 64)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends() -> Vec<(&'static str, Outcome)> {
        let grpc = |status| Outcome::Response(Response::new(200).grpc_status(Some(status)));
        vec![
            ("200", Outcome::Response(Response::new(200))),
            ("404", Outcome::Response(Response::new(404))),
            ("409", Outcome::Response(Response::new(409))),
            ("429", Outcome::Response(Response::new(429))),
            ("500", Outcome::Response(Response::new(500))),
            ("503", Outcome::Response(Response::new(503))),
            ("limited", Outcome::Response(Response::new(503).rate_limited(true))),
            ("header", Outcome::Response(Response::new(200).retriable_header(true))),
            ("g1", grpc(1)),
            ("g2", grpc(2)),
            ("g4", grpc(4)),
            ("g8", grpc(8)),
            ("g13", grpc(13)),
            ("g14", grpc(14)),
            ("connect", Outcome::Failure(Failure::Connect)),
            ("refused", Outcome::Failure(Failure::Refused)),
            ("early", Outcome::Failure(Failure::ResetBeforeRequest)),
            ("reset", Outcome::Failure(Failure::Reset)),
            ("timeout", Outcome::Failure(Failure::Timeout)),
            ("overflow", Outcome::Failure(Failure::Overflow)),
        ]
    }

    #[test]
    fn either_conditions_are_as_if_written_into_one_list() {
        let read = |text: &str| text.parse::<Conditions>().unwrap();
        let either = read("refused-stream,503").or(&read("reset-before-request,404,503"));
        assert_eq!(either, read("reset-before-request,refused-stream,404,503"));
        assert_eq!(either.clone().or(&Conditions::none()), either);
    }

    #[test]
    fn every_condition_allows_what_it_says() {
        let failures = "connect refused early reset timeout";
        for (condition, allowed) in [
            ("", String::new()),
            ("5xx", format!("500 503 {failures}")),
            ("gateway-error", format!("503 {failures}")),
            ("reset", failures.to_owned()),
            ("reset-before-request", "connect early".to_owned()),
            ("connect-failure", "connect".to_owned()),
            ("refused-stream", "refused".to_owned()),
            ("retriable-4xx", "409".to_owned()),
            ("retriable-status-codes", String::new()),
            ("retriable-headers", "header".to_owned()),
            ("envoy-ratelimited", "limited".to_owned()),
            ("cancelled", "g1".to_owned()),
            ("deadline-exceeded", "g4".to_owned()),
            ("resource-exhausted", "g8".to_owned()),
            ("internal", "g13".to_owned()),
            ("unavailable", "g14".to_owned()),
            ("404,503, 200", "200 404 503 header g1 g2 g4 g8 g13 g14".to_owned()),
            (" connect-failure ,, retriable-4xx", "409 connect".to_owned()),
        ] {
            let conditions: Conditions = condition.parse().unwrap();
            let found: Vec<_> = ends()
                .into_iter()
                .filter(|(_, end)| conditions.allow(end))
                .map(|(name, _)| name)
                .collect();
            assert_eq!(found.join(" "), allowed, "{condition}");
        }
    }

    #[test]
    fn istio_names_its_defaults() {
        let list = "connect-failure,refused-stream,unavailable,cancelled,503";
        assert_eq!(Conditions::istio().statuses([503]), list.parse().unwrap());
    }

    #[test]
    fn unknown_conditions_are_refused() {
        for name in [
            "5XX",
            "99",
            "600",
            "http3-post-connect-failure",
            "-1",
            "reset before request",
        ] {
            let error = name.parse::<Conditions>().unwrap_err();
            assert_eq!(error.to_string(), format!("`{name}` is no condition for retries"));
        }
    }
}
