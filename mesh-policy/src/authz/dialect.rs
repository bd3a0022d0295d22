use std::{fmt, sync::Arc};

use thiserror::Error;

use super::{
    invalid::{Fault, FieldPath},
    model::{AuthorizationPolicy, PolicyName},
};
use crate::facts::Attribute;

/// Whose understanding of policies counts.
///
/// The planes of Istio give different answers to the same policy. A set is compiled for one of
/// them, or for none and the side of caution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Hash)]
#[non_exhaustive]
pub enum Dialect {
    /// Wherever the planes disagree, the answer that admits less, with a diagnostic. Policies that
    /// break the rules of Istio's webhook do not compile. What a connection cannot tell is unknown:
    /// a rule that turns on it denies, and does not allow.
    #[default]
    Strict,
    /// ztunnel: connections only. What ztunnel is not sent is left out here.
    Ztunnel,
    /// Envoy's network filter, as istiod configures it for TCP.
    EnvoyTcp,
    /// Envoy's HTTP filter, as istiod configures it for HTTP.
    EnvoyHttp,
}

/// The trust domains that policies may mean: the mesh's own, and its other names.
///
/// As for Istio, a principal in one of them, or in the pointer `cluster.local`, stands for the same
/// workload in each. Default: `cluster.local` alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustDomains {
    names: Vec<Box<str>>,
}

/// Stands for the mesh's own trust domain, whatever its name.
const POINTER: &str = "cluster.local";

impl TrustDomains {
    /// The mesh's own trust domain.
    pub fn new(own: &str) -> Self {
        Self {
            names: vec![own.into()],
        }
    }

    /// Adds another name of it.
    #[must_use]
    pub fn alias(mut self, alias: &str) -> Self {
        self.names.push(alias.into());
        self
    }

    /// The own trust domain, and then the aliases.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(|name| &**name)
    }

    /// What Envoy gets for a value of `principals`. What decides and what is written for Envoy both
    /// ask here, so their agreement says nothing about it; the evaluator that tests compare with
    /// expands by itself.
    pub(super) fn expand_principal(&self, value: &str) -> Vec<String> {
        let unchanged = vec![value.to_owned()];
        let Some((domain, rest)) = value.split_once('/') else {
            return unchanged;
        };
        if domain == "*" || value.split('/').count() != 5 {
            return unchanged;
        }
        if domain != POINTER && !self.names().any(|name| overlap(name, domain)) {
            return unchanged;
        }
        let mut expanded = Vec::new();
        for name in self.names() {
            let principal = if ends_as(name, domain) {
                value.to_owned()
            } else {
                format!("{name}/{rest}")
            };
            if !expanded.contains(&principal) {
                expanded.push(principal);
            }
        }
        expanded
    }

    /// What Envoy gets for a value of `trustDomains`.
    pub(super) fn expand_trust_domain(&self, value: &str) -> Vec<String> {
        if self.names().any(|name| name == value) {
            self.names().map(str::to_owned).collect()
        } else {
            vec![value.to_owned()]
        }
    }
}

impl Default for TrustDomains {
    fn default() -> Self {
        Self::new(POINTER)
    }
}

/// Whether two trust domains are the same, where either may be a pattern.
fn overlap(one: &str, other: &str) -> bool {
    one == other || begins_as(one, other) || begins_as(other, one) || ends_as(one, other) || ends_as(other, one)
}

fn begins_as(text: &str, pattern: &str) -> bool {
    pattern.strip_suffix('*').is_some_and(|prefix| text.starts_with(prefix))
}

fn ends_as(text: &str, pattern: &str) -> bool {
    pattern.strip_prefix('*').is_some_and(|suffix| text.ends_with(suffix))
}

/// Something about a policy that its author would want to know, in one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic<N = Note> {
    /// Which policy.
    pub policy: PolicyName,
    /// The file that it was read from.
    pub file: Option<Arc<str>>,
    /// The line in the file, from 1; 0 if it was not read from a file.
    pub line: u32,
    /// Where in the policy.
    pub field: FieldPath,
    /// What there is to know.
    pub note: N,
}

impl<N> Diagnostic<N> {
    pub(crate) fn new(policy: &AuthorizationPolicy, line: u32, field: FieldPath, note: N) -> Self {
        Self {
            policy: policy.name().clone(),
            file: policy.file().cloned(),
            line: if line == 0 { policy.line() } else { line },
            field,
            note,
        }
    }
}

impl<N: fmt::Display> fmt::Display for Diagnostic<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{file}:{}: ", self.line)?;
        }
        let policy = self.policy.to_string();
        write!(f, "policy `{}`: {}: {}", policy.escape_debug(), self.field, self.note)
    }
}

/// What a [`Diagnostic`] says.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Note {
    /// The plane has no such action.
    #[error("this plane ignores the action")]
    ActionIgnored,
    /// ztunnel is not sent policies with target references.
    #[error("this plane ignores policies with target references")]
    TargetIgnored,
    /// An ALLOW rule asks for something that this plane cannot know.
    #[error("this plane cannot know `{}`, so the rule allows nothing", .attribute.to_string().escape_debug())]
    RuleOmitted {
        /// What it asks for.
        attribute: Attribute,
    },
    /// A rule that denies asks for something that this plane cannot know, and so denies more.
    #[error("this plane cannot know `{}`, so the rule matches whatever it is", .attribute.to_string().escape_debug())]
    FieldIgnored {
        /// What it asks for.
        attribute: Attribute,
    },
    /// ztunnel takes an entry that has no field left for one that never matches.
    #[error("nothing that this plane can know is left, so the entry never matches")]
    EntryWithoutEffect,
    /// An invalid value, entry or policy, and the plane makes do.
    #[error("{0}, and this plane goes on without it")]
    Tolerated(Fault),
    /// An ALLOW rule has an invalid value, so that Envoy gets no such rule.
    #[error("{0}, so the rule allows nothing")]
    RuleInvalid(Fault),
    /// Envoy compares the lower-case server name with a pattern that has upper case.
    #[error("`{}` has upper case, and the server name that it is compared with has none", .value.escape_debug())]
    UpperCaseSni {
        /// The pattern.
        value: Box<str>,
    },
    /// Not every plane knows this of a connection. It counts where it is known; where it is not, a
    /// rule that turns on it denies and does not allow.
    #[error(
        "not every plane can know `{}`: where it is unknown, this denies or does not allow",
        .attribute.to_string().escape_debug()
    )]
    UnknownToSome {
        /// What is asked for.
        attribute: Attribute,
    },
    /// Envoy knows this pseudo-header, and [`RequestFacts`](crate::RequestFacts) do not: a rule that
    /// turns on it denies and does not allow.
    #[error("no facts hold `{}`, so this denies or does not allow", .attribute.to_string().escape_debug())]
    PseudoHeader {
        /// What is asked for.
        attribute: Attribute,
    },
    /// ztunnel takes principals literally, Envoy expands trust domains.
    #[error(
        "not every plane replaces the trust domain of `{}`: what denies is replaced, what allows must match both ways",
        .value.escape_debug()
    )]
    TrustDomain {
        /// The value.
        value: Box<str>,
    },
    /// Envoy takes every star in a namespace for any text, ztunnel one at the end or beginning.
    #[error(
        "not every plane takes the inner star in `{}` for any text: what denies does, what allows does not",
        .value.escape_debug()
    )]
    InnerStar {
        /// The value.
        value: Box<str>,
    },
    /// Envoy takes `*` for any certificate, ztunnel for a SPIFFE ID.
    #[error(
        "`*` is any spiffe id on some planes and any certificate on others: what allows takes the one, what denies the other"
    )]
    AnyCertificate,
    /// Envoy takes a header without a value for present, Istio's reference does not.
    #[error("a header without a value counts as present in what denies, and not in what allows")]
    EmptyHeader,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expands_principals_of_the_mesh() {
        let mesh = TrustDomains::new("td1").alias("foobar");
        let expand = |value: &str| mesh.expand_principal(value).join(" ");
        assert_eq!(expand("td1/ns/a/sa/b"), "td1/ns/a/sa/b foobar/ns/a/sa/b");
        assert_eq!(expand("cluster.local/ns/a/sa/b"), "td1/ns/a/sa/b foobar/ns/a/sa/b");
        assert_eq!(expand("other/ns/a/sa/b"), "other/ns/a/sa/b");
        assert_eq!(expand("*/ns/a/sa/b"), "*/ns/a/sa/b");
        assert_eq!(expand("cluster.local/*"), "cluster.local/*");
        assert_eq!(expand("td1/ns/a/sa/b/c"), "td1/ns/a/sa/b/c");
        assert_eq!(expand("td*/ns/a/sa/b"), "td1/ns/a/sa/b foobar/ns/a/sa/b");
    }

    #[test]
    fn a_suffix_that_covers_a_name_stays_once() {
        let mesh = TrustDomains::new("new-td").alias("old-td").alias("some");
        assert_eq!(
            mesh.expand_principal("*-td/ns/a/sa/b"),
            ["*-td/ns/a/sa/b", "some/ns/a/sa/b"]
        );
        assert_eq!(mesh.expand_trust_domain("old-td"), ["new-td", "old-td", "some"]);
        assert_eq!(mesh.expand_trust_domain("*-td"), ["*-td"]);
        assert_eq!(mesh.expand_trust_domain("cluster.local"), ["cluster.local"]);
    }
}
