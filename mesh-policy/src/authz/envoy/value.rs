//! One value of a policy, as what Envoy compares with it. Values have passed
//! [`check_value`](crate::authz::validate::check_value).

use thiserror::Error;

use super::{
    config::{
        Authenticated, CidrRange, FilterState, ListMatcher, MetadataMatcher, OrMatcher, PathMatcher, Permission,
        Principal, Segment, Term, UriTemplate, ValueMatcher,
    },
    text::{HeaderMatcher, StringMatcher, StringPattern, quote},
};
use crate::{
    authz::{
        dialect::{Dialect, TrustDomains},
        validate::split_service_account,
    },
    facts::Attribute,
    matcher::{path::PathTemplate, port},
};

pub(super) const SCHEME: &str = "spiffe://";

/// Where Envoy's filter leaves the claims of a token, and under which key Istio has it do so.
pub(super) const JWT_FILTER: &str = "envoy.filters.http.jwt_authn";
pub(super) const JWT_KEY: &str = "payload";

/// Under which key waypoints keep the peer's identity.
pub(super) const PEER_KEY: &str = "io.istio.peer_principal";

/// Where Envoy finds the peer's identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PeerSource {
    /// In the certificate of the connection that the filter is on: sidecars and gateways.
    Certificate,
    /// In the filter state `io.istio.peer_principal`, where a waypoint keeps what it took from the
    /// tunnel.
    FilterState,
}

/// Why a set cannot be written for Envoy.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ExportError {
    /// Only sets of [`Dialect::EnvoyHttp`] and [`Dialect::EnvoyTcp`] mean what Envoy makes of them.
    #[error("a set of the dialect `{dialect:?}` is not what envoy would do")]
    Dialect {
        /// The set's dialect.
        dialect: Dialect,
    },
    /// There is no matcher of Envoy for a value. Left out, it would make a rule match more.
    #[error("envoy has nothing to compare `{attribute}` with `{value}`")]
    Value {
        /// What is asked about.
        attribute: Attribute,
        /// The value.
        value: Box<str>,
    },
    /// Envoy refuses a configuration with such a header.
    #[error("`{}` is no name of a header for envoy", name.escape_debug())]
    HeaderName {
        /// The name.
        name: Box<str>,
    },
}

impl ExportError {
    fn value(attribute: &Attribute, value: &str) -> Self {
        Self::Value {
            attribute: attribute.clone(),
            value: value.into(),
        }
    }
}

/// Writes the values of one policy's sources.
pub(super) struct Writer<'s> {
    /// The policy's.
    pub(super) namespace: &'s str,
    pub(super) trust_domains: &'s TrustDomains,
    pub(super) peer: PeerSource,
}

/// A value of an operation, or of a condition that stands with the operations.
pub(super) fn permission(attribute: &Attribute, value: &str) -> Result<Permission, ExportError> {
    let unknown = || ExportError::value(attribute, value);
    Ok(match attribute {
        Attribute::Host => Permission::Header(HeaderMatcher::of(":authority", value).ignoring_case()),
        Attribute::Method => Permission::Header(HeaderMatcher::of(":method", value)),
        Attribute::Path if PathTemplate::is_one(value) => Permission::UriTemplate(UriTemplate::of(value)),
        Attribute::Path => Permission::UrlPath(PathMatcher {
            path: StringMatcher::of(value),
        }),
        Attribute::DestinationPort => Permission::DestinationPort(port::parse(value).ok_or_else(unknown)?),
        Attribute::DestinationIp => Permission::DestinationIp(block(value).ok_or_else(unknown)?),
        Attribute::Sni => Permission::RequestedServerName(StringMatcher::of(value)),
        Attribute::Metadata { filter, key } => Permission::Metadata(MetadataMatcher {
            filter: format!("envoy.filters.{filter}"),
            path: vec![segment(key)],
            value: match value.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                Some(element) => listed(StringMatcher::of(element)),
                None => ValueMatcher::Text(StringMatcher::of(value)),
            },
        }),
        _ => return Err(unknown()),
    })
}

/// A value of a source, or of a condition that stands with the sources, if it is not one of the
/// peer's identity.
pub(super) fn principal(attribute: &Attribute, value: &str) -> Result<Principal, ExportError> {
    let unknown = || ExportError::value(attribute, value);
    Ok(match attribute {
        Attribute::RequestPrincipal => request_principal(value),
        Attribute::SourceIp => Principal::DirectRemoteIp(block(value).ok_or_else(unknown)?),
        Attribute::RemoteIp => Principal::RemoteIp(block(value).ok_or_else(unknown)?),
        Attribute::Header(name) if name.contains(['\0', '\r', '\n']) => {
            return Err(ExportError::HeaderName { name: name.clone() });
        }
        Attribute::Header(name) => Principal::Header(HeaderMatcher::of(name, value)),
        Attribute::Audiences => claim(&["aud".into()], value),
        Attribute::Presenter => claim(&["azp".into()], value),
        Attribute::Claim(path) => claim(path, value),
        _ => return Err(unknown()),
    })
}

impl Writer<'_> {
    /// A value of a source, or of a condition that stands with the sources: one principal for each
    /// trust domain that it is meant in.
    pub(super) fn principals(&self, attribute: &Attribute, value: &str) -> Result<Vec<Principal>, ExportError> {
        let values = match attribute {
            Attribute::Principal => self.trust_domains.expand_principal(value),
            Attribute::TrustDomain => self.trust_domains.expand_trust_domain(value),
            _ if attribute.is_identity() => vec![value.to_owned()],
            _ => return Ok(vec![principal(attribute, value)?]),
        };
        let names = values
            .iter()
            .filter_map(|value| identity(attribute, self.namespace, value));
        Ok(names.map(|name| self.peer(name)).collect())
    }

    fn peer(&self, matcher: StringMatcher) -> Principal {
        match self.peer {
            PeerSource::Certificate => Principal::Authenticated(Authenticated {
                principal_name: matcher,
            }),
            PeerSource::FilterState => Principal::FilterState(FilterState {
                key: PEER_KEY.to_owned(),
                string_match: matcher,
            }),
        }
    }
}

/// What the peer's name is compared with, for a value of a policy in a namespace that is meant in
/// one trust domain.
pub(super) fn identity(attribute: &Attribute, namespace: &str, value: &str) -> Option<StringMatcher> {
    Some(match attribute {
        Attribute::Principal => StringMatcher::of_prefixed(SCHEME, value),
        Attribute::TrustDomain => trust_domain(value),
        Attribute::Namespace => {
            let pieces: Vec<_> = value.split('*').map(quote).collect();
            StringMatcher::regex(format!(".*/ns/{}/.*", pieces.join(".*")))
        }
        Attribute::ServiceAccount => {
            let (namespace, account) = split_service_account(value, namespace);
            let (namespace, account) = (quote(namespace), quote(account));
            StringMatcher::regex(format!("{SCHEME}.+/ns/{namespace}/(.+/|)sa/{account}(/.+)?"))
        }
        _ => return None,
    })
}

/// A star stands for a part of a trust domain, which ends at the first slash.
fn trust_domain(value: &str) -> StringMatcher {
    if value == "*" {
        StringMatcher::prefix(SCHEME.to_owned())
    } else if let Some(end) = value.strip_prefix('*') {
        StringMatcher::regex(format!("{SCHEME}[^/]*{}/.*", quote(end)))
    } else if let Some(start) = value.strip_suffix('*') {
        StringMatcher::regex(format!("{SCHEME}{}[^/]*/.*", quote(start)))
    } else {
        StringMatcher::prefix(format!("{SCHEME}{value}/"))
    }
}

/// Issuer and subject, split at the last slash.
fn request_principal(value: &str) -> Principal {
    let exact = |text: &str| StringPattern::Exact(text.to_owned()).into();
    let (issuer, subject) = match value.rsplit_once('/') {
        None if value == "*" => (Some(StringMatcher::of("*")), Some(StringMatcher::of("*"))),
        None if value.starts_with('*') => (None, Some(StringMatcher::of(value))),
        None if value.ends_with('*') => (Some(StringMatcher::of(value)), None),
        None => (Some(exact(value)), Some(exact(""))),
        Some((issuer, subject)) if value.starts_with('*') => (Some(StringMatcher::of(issuer)), Some(exact(subject))),
        Some((issuer, subject)) => (Some(exact(issuer)), Some(StringMatcher::of(subject))),
    };
    let of_token = |name: &str, matcher| {
        Principal::Metadata(MetadataMatcher {
            filter: JWT_FILTER.to_owned(),
            path: vec![segment(JWT_KEY), segment(name)],
            value: ValueMatcher::Text(matcher),
        })
    };
    let issuer = issuer.map(|matcher| of_token("iss", matcher));
    let subject = subject.map(|matcher| of_token("sub", matcher));
    Principal::all_of(issuer.into_iter().chain(subject).collect())
}

/// A claim that is a text, or a list with it.
fn claim(path: &[Box<str>], value: &str) -> Principal {
    let matcher = StringMatcher::of(value);
    Principal::Metadata(MetadataMatcher {
        filter: JWT_FILTER.to_owned(),
        path: [JWT_KEY]
            .into_iter()
            .chain(path.iter().map(|name| &**name))
            .map(segment)
            .collect(),
        value: ValueMatcher::Or(OrMatcher {
            value_matchers: vec![listed(matcher.clone()), ValueMatcher::Text(matcher)],
        }),
    })
}

fn listed(matcher: StringMatcher) -> ValueMatcher {
    ValueMatcher::List(ListMatcher {
        one_of: Box::new(ValueMatcher::Text(matcher)),
    })
}

fn segment(key: &str) -> Segment {
    Segment { key: key.to_owned() }
}

/// The block as it is written: Envoy clears the bits past the prefix itself.
fn block(value: &str) -> Option<CidrRange> {
    let (address, bits) = match value.split_once('/') {
        Some((address, bits)) => (address, bits.parse().ok()?),
        None => (value, if value.contains(':') { 128 } else { 32 }),
    };
    Some(CidrRange {
        address_prefix: address.to_owned(),
        prefix_len: bits,
    })
}
