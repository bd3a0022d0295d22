use std::fmt;

use mesh_identity::jws::{JsonError, JwsError, SignatureError};
use thiserror::Error;

use super::place::{Place, PlaceFault};
use crate::authz::PolicyName;

/// A request has a token that must not be believed, and so must not pass.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rejection {
    /// The RequestAuthentication whose rule the token breaks. Where several rules look at one token,
    /// it is the one that comes closest.
    pub policy: PolicyName,
    /// Which of its rules, from 0.
    pub rule: usize,
    /// The place of the token.
    pub place: Place,
    /// What is wrong.
    pub fault: TokenFault,
}

impl Rejection {
    /// The HTTP status of the response: 403 for a token that is addressed to others, as Envoy has
    /// it, and 401 for everything else.
    pub fn status(&self) -> u16 {
        match self.fault {
            TokenFault::Audience => 403,
            _ => 401,
        }
    }

    /// The response's `www-authenticate` (RFC 6750 §3).
    pub fn challenge(&self) -> &'static str {
        "Bearer error=\"invalid_token\""
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            policy,
            rule,
            place,
            fault,
        } = self;
        write!(f, "policy `{policy}`: jwtRules[{rule}]: {place}: {fault}")
    }
}

impl std::error::Error for Rejection {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.fault)
    }
}

/// Why a token is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TokenFault {
    /// There is more than one token in one place, so that others could believe another one.
    #[error("there is more than one token")]
    Repeated,
    /// The facts leave out where the token might be.
    #[error("the place cannot be seen here")]
    Unavailable,
    /// The token is malformed.
    #[error(transparent)]
    Token(JwsError),
    /// The claims are no JSON, or have a name twice.
    #[error("the token's claims: {0}")]
    Claims(#[source] JsonError),
    /// The claims are no JSON object.
    #[error("the token's claims are no json object")]
    ClaimsNotAnObject,
    /// A registered claim is not what RFC 7519 §4.1 has it be.
    #[error("the token's claim `{name}` is malformed")]
    Claim {
        /// The claim's name.
        name: &'static str,
    },
    /// The token is of another issuer, or of none.
    #[error("the token's issuer is not the rule's")]
    Issuer,
    /// The token is ahead of its time by more than 60 seconds.
    #[error("the token is not valid yet")]
    NotYetValid,
    /// The token is past its time by more than 60 seconds.
    #[error("the token has expired")]
    Expired,
    /// The token is addressed to others.
    #[error("the token is not addressed to this audience")]
    Audience,
    /// The issuer's keys are not to be had. It says nothing about the token, which may be a good
    /// one; but nobody can tell.
    #[error("the issuer's keys are unavailable")]
    KeysUnavailable,
    /// No key of the issuer vouches for the token.
    #[error(transparent)]
    Signature(SignatureError),
    /// A claim that is to be put in a header has a byte that no header may have.
    #[error("a claim for a header is no header value")]
    HeaderValue,
}

impl TokenFault {
    /// A short name of the rule, fit for a metric's label. It does not change between releases.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Repeated => "jwt_repeated",
            Self::Unavailable => "jwt_unavailable",
            Self::Token(fault) => fault.reason(),
            Self::Claims(_) => "jwt_claims",
            Self::ClaimsNotAnObject => "jwt_claims_not_an_object",
            Self::Claim { .. } => "jwt_claim",
            Self::Issuer => "jwt_issuer",
            Self::NotYetValid => "jwt_not_yet_valid",
            Self::Expired => "jwt_expired",
            Self::Audience => "jwt_audience",
            Self::KeysUnavailable => "jwt_keys_unavailable",
            Self::Signature(fault) => fault.reason(),
            Self::HeaderValue => "jwt_header_value",
        }
    }
}

/// A fault with its place, before it is known which rule will be named.
#[derive(Clone)]
pub(super) struct Misplaced {
    pub(super) place: Place,
    pub(super) fault: TokenFault,
}

impl From<PlaceFault> for Misplaced {
    fn from(fault: PlaceFault) -> Self {
        match fault {
            PlaceFault::Repeated(place) => Self {
                place,
                fault: TokenFault::Repeated,
            },
            PlaceFault::Unavailable(place) => Self {
                place,
                fault: TokenFault::Unavailable,
            },
        }
    }
}
