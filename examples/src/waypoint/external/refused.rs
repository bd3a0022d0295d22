use crate::waypoint::reply::Reply;

/// A request that goes no further, with what its client is told and its operators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::waypoint) struct Refused {
    pub(in crate::waypoint) reply: Reply,
    pub(in crate::waypoint) reason: Reason,
}

/// Why a request goes no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::waypoint) enum Reason {
    /// A provider says no.
    Denied,
    /// A provider does not answer, or nothing that could be carried out, or is not known here.
    AuthorizationFailed,
    /// The body is larger than what a provider is to be told of it.
    BodyTooLarge,
    /// What a provider is to be told of the body takes too long.
    BodyTooSlow,
    /// There are too many requests.
    Limited,
    /// Whoever counts requests does not answer.
    LimitFailed,
}

impl Reason {
    /// Envoy's response flag, for access logs and metrics.
    pub(in crate::waypoint) fn flag(self) -> &'static str {
        match self {
            Self::Denied | Self::AuthorizationFailed => "UAEX",
            Self::BodyTooLarge | Self::BodyTooSlow => "-",
            Self::Limited => "RL",
            Self::LimitFailed => "RLSE",
        }
    }

    /// Envoy's response code details.
    pub(in crate::waypoint) fn details(self) -> &'static str {
        match self {
            Self::Denied => "ext_authz_denied",
            Self::AuthorizationFailed => "ext_authz_error",
            Self::BodyTooLarge => "request_payload_too_large",
            Self::BodyTooSlow => "request_overall_timeout",
            Self::Limited => "request_rate_limited",
            Self::LimitFailed => "rate_limiter_error",
        }
    }
}
