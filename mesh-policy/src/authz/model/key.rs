use std::{fmt, str::FromStr};

use thiserror::Error;

use crate::facts::Attribute;

const METADATA: &str = "experimental.envoy.filters.";

/// Names in the path to a claim, as many as levels in a file of policies: whoever follows a path may
/// do so by recursion.
const MAX_CLAIM_NAMES: usize = 32;

/// The key of a condition, such as `source.ip` or `request.headers[x-tier]`.
///
/// An unknown key is an error, whatever the policy's action: a condition that is left out would
/// make a rule match more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConditionKey(Attribute);

impl ConditionKey {
    /// What the key asks about.
    pub fn attribute(&self) -> &Attribute {
        &self.0
    }

    pub(super) fn into_attribute(self) -> Attribute {
        self.0
    }
}

impl FromStr for ConditionKey {
    type Err = KeyError;

    fn from_str(key: &str) -> Result<Self, KeyError> {
        let plain = match key {
            "source.ip" => Attribute::SourceIp,
            "remote.ip" => Attribute::RemoteIp,
            "source.namespace" => Attribute::Namespace,
            "source.principal" => Attribute::Principal,
            "source.serviceAccount" => Attribute::ServiceAccount,
            "source.trustDomain" => Attribute::TrustDomain,
            "request.auth.principal" => Attribute::RequestPrincipal,
            "request.auth.audiences" => Attribute::Audiences,
            "request.auth.presenter" => Attribute::Presenter,
            "destination.ip" => Attribute::DestinationIp,
            "destination.port" => Attribute::DestinationPort,
            "connection.sni" => Attribute::Sni,
            "" => return Err(KeyError::Empty),
            "destination.namespace" | "destination.name" | "destination.user" => return Err(KeyError::Replaced),
            _ => return bracketed(key).map(Self),
        };
        Ok(Self(plain))
    }
}

impl fmt::Display for ConditionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

fn bracketed(key: &str) -> Result<Attribute, KeyError> {
    let Some((name, inner)) = key.split_once('[') else {
        return Err(if ["request.headers", "request.auth.claims"].contains(&key) {
            KeyError::Brackets
        } else {
            KeyError::Unknown
        });
    };
    let known = ["request.headers", "request.auth.claims", "destination.labels"].contains(&name);
    if !known && !name.starts_with(METADATA) {
        return Err(KeyError::Unknown);
    }
    let inner = inner
        .strip_suffix(']')
        .filter(|inner| !inner.is_empty())
        .ok_or(KeyError::Brackets)?;
    match name {
        "destination.labels" => Err(KeyError::Replaced),
        "request.headers" => Ok(Attribute::Header(inner.to_ascii_lowercase().into())),
        "request.auth.claims" => claim_path(inner).map(Attribute::Claim),
        _ => Ok(Attribute::Metadata {
            filter: name.strip_prefix(METADATA).unwrap_or_default().into(),
            key: inner.into(),
        }),
    }
}

/// `a][b` is the path from `a` to `b`. What is not such a path is one name, as for Envoy.
fn claim_path(inner: &str) -> Result<Box<[Box<str>]>, KeyError> {
    let names = inner.split("][");
    if names.clone().any(|name| name.is_empty() || name.contains(['[', ']'])) {
        return Ok([inner.into()].into());
    }
    match names.clone().count() {
        0..=MAX_CLAIM_NAMES => Ok(names.map(Box::from).collect()),
        names => Err(KeyError::Deep { names }),
    }
}

/// Why a text is not the key of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum KeyError {
    /// There is no key.
    #[error("the key is empty")]
    Empty,
    /// No condition has this key.
    #[error("no condition has this key")]
    Unknown,
    /// The key is one of `destination.labels`, `.name`, `.namespace` and `.user`, in place of which
    /// a policy has its namespace and selector.
    #[error("the policy's namespace and selector take the place of this key")]
    Replaced,
    /// The key needs a name in brackets.
    #[error("the key has no name in brackets")]
    Brackets,
    /// The path to a claim has more than 32 names.
    #[error(
        "the key names {names} claims, one in the other, which are more than {}",
        MAX_CLAIM_NAMES
    )]
    Deep {
        /// How many it has.
        names: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_key_prints_it_reads() {
        for key in [
            "source.ip",
            "remote.ip",
            "source.namespace",
            "source.principal",
            "source.serviceAccount",
            "source.trustDomain",
            "request.auth.principal",
            "request.auth.audiences",
            "request.auth.presenter",
            "request.headers[x-tier]",
            "request.auth.claims[a][b.c]",
            "destination.ip",
            "destination.port",
            "connection.sni",
            "experimental.envoy.filters.network.mysql_proxy[db.table]",
        ] {
            assert_eq!(key.parse::<ConditionKey>().unwrap().to_string(), key);
        }
    }

    #[test]
    fn header_names_are_lower_case() {
        let key: ConditionKey = "request.headers[X-Role]".parse().unwrap();
        assert_eq!(key.attribute(), &Attribute::Header("x-role".into()));
    }

    #[test]
    fn malformed_brackets_are_one_name() {
        let key: ConditionKey = "request.auth.claims[a]b]".parse().unwrap();
        assert_eq!(key.attribute(), &Attribute::Claim(["a]b".into()].into()));
    }

    #[test]
    fn a_path_has_32_names_at_most() {
        let key = |names: usize| format!("request.auth.claims{}", "[a]".repeat(names)).parse::<ConditionKey>();
        let deepest = key(32).unwrap();
        assert!(matches!(deepest.attribute(), Attribute::Claim(path) if path.len() == 32));
        let error = key(100_000).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the key names 100000 claims, one in the other, which are more than 32"
        );
    }

    #[test]
    fn unknown_keys_are_errors() {
        for (key, fault) in [
            ("", KeyError::Empty),
            ("source.ips", KeyError::Unknown),
            ("request.headersx[a]", KeyError::Unknown),
            ("request.headers", KeyError::Brackets),
            ("request.headers[]", KeyError::Brackets),
            ("request.headers[a", KeyError::Brackets),
            ("destination.labels[app]", KeyError::Replaced),
            ("destination.user", KeyError::Replaced),
        ] {
            assert_eq!(key.parse::<ConditionKey>(), Err(fault), "{key}");
        }
    }
}
