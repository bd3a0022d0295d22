//! Whose request it is: tokens, verified by Istio's RequestAuthentication.
//!
//! ```
//! use mesh_policy::{
//!     ConnectionFacts, Known, RequestFacts,
//!     authz::{PolicyName, RequestAuthentication},
//!     jwt::{Authenticator, InlineOnly},
//! };
//! use rustls_pki_types::UnixTime;
//!
//! let trusting = RequestAuthentication::new(PolicyName::new("shop", "jwt"));
//! let authenticator = Authenticator::new([&trusting])?;
//!
//! let headers = [("accept", "text/html")];
//! let request = RequestFacts::new(ConnectionFacts::new(), b"GET", &headers);
//! // What implements the signatures: a provider's `signature_verification_algorithms.all`.
//! let algorithms = &[];
//! let authentication = authenticator.authenticate(&request, &InlineOnly, UnixTime::now(), algorithms)?;
//! // Without a token a request passes, and has no claims.
//! assert_eq!(authentication.claims(), Known::Absent);
//! let request = request.claims(authentication.claims());
//! # let _ = request;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The rules of all RequestAuthentications that apply to a workload are one set, as istiod makes it
//! and Envoy's filter keeps it: a request passes if it has no token in any rule's places, or if one
//! rule believes all tokens in its own. Everything else is a [`Rejection`].
//!
//! Where Envoy is lenient about how a token is written, this is not, because who comes after might
//! read it otherwise: two tokens in one place, padding, spare bits, empty parts and bytes behind the
//! token, `crit`, and an `exp` of zero are refused. So are RSA keys below 2,048 bits, keys for
//! another use, secret keys, and an algorithm that is not the key's. Headers that rules set are
//! removed from every request, also where Envoy stops at the first rule that believes. A rule that in
//! the end does not believe changes nothing, while Envoy has by then removed what was good.

mod changes;
mod invalid;
mod judge;
mod key_source;
mod place;
mod rejection;
mod rule;
mod token;

use std::{collections::BTreeSet, fmt};

pub use mesh_identity::jws::{JwsError, KeySet, KeySetError, SignatureError};
use rustls_pki_types::{SignatureVerificationAlgorithm, UnixTime};

pub use self::{
    changes::Changes,
    invalid::{InvalidRule, MAX_ENTRIES, MAX_RULES, RuleFault},
    key_source::{InlineOnly, KeySource, WantedKeys},
    place::Place,
    rejection::{Rejection, TokenFault},
};
use self::{
    judge::{Believed, Grounds},
    rejection::Misplaced,
    rule::{Rule, invalid, invalid_rule},
    token::to_claims,
};
use crate::{
    authz::{PolicyName, RequestAuthentication},
    facts::{Claims, Facts, Known, RequestFacts},
};

/// Verifies the tokens of requests by the RequestAuthentications that apply to one workload.
pub struct Authenticator {
    /// By issuer.
    rules: Vec<Rule>,
    /// The headers that some rule sets.
    outputs: BTreeSet<Box<str>>,
}

impl Authenticator {
    /// Takes the RequestAuthentications that apply, which
    /// [`Recipient::believes_by`](crate::authz::attach::Recipient::believes_by) knows. Without any,
    /// no token is looked at.
    ///
    /// Rules are in the order of their issuers, and those of one issuer in the order given. Where
    /// several would believe a request, the first one's claims are the request's.
    ///
    /// # Errors
    ///
    /// The first rule that cannot be kept.
    pub fn new<'p>(policies: impl IntoIterator<Item = &'p RequestAuthentication>) -> Result<Self, InvalidRule> {
        let mut rules = Vec::new();
        let mut origins = Vec::new();
        for policy in policies {
            for (number, rule) in policy.rules.iter().enumerate() {
                let (count, most) = (rules.len() + 1, MAX_RULES);
                if count > most {
                    let fault = RuleFault::TooMany { count, most };
                    return Err(invalid_rule(policy, number, rule, fault));
                }
                rules.push(Rule::of(policy, number, rule)?);
                origins.push((policy, number, rule));
            }
        }
        for (rule, (policy, number, origin)) in rules.iter().zip(origins) {
            let read = |header: &&str| rules.iter().any(|reader| reader.places.has_header(header));
            if let Some(name) = rule.outputs().find(read) {
                let is_payload = rule.payload_header.as_deref() == Some(name);
                let field = if is_payload {
                    "outputPayloadToHeader"
                } else {
                    "outputClaimToHeaders"
                };
                let fault = RuleFault::ReadHeader { name: name.into() };
                return Err(invalid(policy, number, origin, field, fault));
            }
        }
        rules.sort_by(|one, other| one.issuer.cmp(&other.issuer));
        Ok(Self {
            outputs: rules.iter().flat_map(Rule::outputs).map(Box::from).collect(),
            rules,
        })
    }

    /// Verifies the tokens of a request at the moment `now`.
    ///
    /// The request's path has to be set if a rule looks into the query, which is so unless it says
    /// otherwise. `keys` has the keys of rules without inline ones, and `algorithms` implement the
    /// signatures. A browser's question about a request to come (CORS preflight) passes unread, for
    /// it never has a token.
    ///
    /// # Errors
    ///
    /// A token that must not be believed. The request must not pass.
    pub fn authenticate(
        &self,
        request: &RequestFacts<'_>,
        keys: &dyn KeySource,
        now: UnixTime,
        algorithms: &[&dyn SignatureVerificationAlgorithm],
    ) -> Result<Authentication, Rejection> {
        let request = Facts::from(request);
        let grounds = Grounds { keys, now, algorithms };
        let mut faults = Vec::new();
        if !is_preflight(&request) {
            for rule in &self.rules {
                match rule.judge(&request, grounds) {
                    Ok(Some(believed)) => return Ok(self.believed(rule, believed, &request)),
                    Ok(None) => {}
                    Err(fault) => faults.push((rule, fault)),
                }
            }
        }
        match telling(&faults) {
            Some((rule, fault)) => Err(Rejection {
                policy: rule.policy.clone(),
                rule: rule.number,
                place: fault.place.clone(),
                fault: fault.fault,
            }),
            None => Ok(Authentication {
                claims: None,
                rule: None,
                changes: Changes::removing(&self.outputs),
            }),
        }
    }

    /// Whether no token is looked at.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The keys that rules want without having them inline, for whoever fetches them beforehand. Two
    /// rules may want the same.
    pub fn wanted_keys(&self) -> impl Iterator<Item = WantedKeys<'_>> {
        let rules = self.rules.iter().filter(|rule| rule.keys.is_none());
        rules.map(Rule::wanted_keys)
    }

    fn believed(&self, rule: &Rule, believed: Believed, request: &Facts<'_>) -> Authentication {
        let mut changes = Changes::removing(&self.outputs).adding(believed.headers);
        if !rule.forwards {
            let target = request.path().present().map(|path| path.target());
            changes = changes.without_tokens(&believed.places, target);
        }
        Authentication {
            claims: Some(to_claims(&believed.claims, &rule.word_lists)),
            rule: Some((rule.policy.clone(), rule.number)),
            changes,
        }
    }
}

impl fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rules = self.rules.iter().map(|rule| (&rule.policy, rule.number, &rule.issuer));
        f.debug_list().entries(rules).finish()
    }
}

/// A request that may go on to be decided about.
///
/// Its `Debug` output has no claims.
#[derive(Clone, PartialEq, Eq)]
pub struct Authentication {
    claims: Option<Claims>,
    rule: Option<(PolicyName, usize)>,
    changes: Changes,
}

impl Authentication {
    /// The verified claims, for [`RequestFacts::claims`]; absent if there is no token.
    ///
    /// Those that are lists of words in one text, which are `scope`, `permission` and those that the
    /// rule names, are lists.
    pub fn claims(&self) -> Known<&Claims> {
        self.claims.as_ref().into()
    }

    /// The RequestAuthentication that the token is believed by, and which of its rules, from 0.
    pub fn rule(&self) -> Option<(&PolicyName, usize)> {
        self.rule.as_ref().map(|(policy, number)| (policy, *number))
    }

    /// What to change about the request before it is passed on, after it was decided about.
    pub fn changes(&self) -> &Changes {
        &self.changes
    }
}

impl fmt::Debug for Authentication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authentication")
            .field("rule", &self.rule)
            .field("changes", &self.changes)
            .finish_non_exhaustive()
    }
}

/// A request with a method, an origin and a method to come (Fetch, CORS-preflight request).
fn is_preflight(request: &Facts<'_>) -> bool {
    let Known::Present(headers) = request.headers() else {
        return false;
    };
    let has = |name: &str| headers.any_line(name, &mut |value| !value.is_empty());
    request.method() == Known::Present(b"OPTIONS".as_slice()) && has("origin") && has("access-control-request-method")
}

/// The fault that Envoy would answer with: rules of other issuers say least about a token. The first
/// of the rules that looked at one counts, and failing that the last that says something.
fn telling<'r, 'f>(faults: &'f [(&'r Rule, Misplaced)]) -> Option<&'f (&'r Rule, Misplaced)> {
    let says_something = |fault: &&(&Rule, Misplaced)| fault.1.fault != TokenFault::Issuer;
    let first = faults.first();
    first
        .filter(says_something)
        .or_else(|| faults.iter().rev().find(says_something))
        .or(first)
}
