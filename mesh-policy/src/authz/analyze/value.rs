//! Single values.

use super::finding::Finding;
use crate::{
    authz::{
        compile::value::has_inner_star,
        cover::Effort,
        dialect::{Diagnostic, Dialect},
        invalid::{Clause, FieldPath, FieldValue},
        model::{Action, AuthorizationPolicy, Constraint, Value},
    },
    facts::Attribute,
    matcher::{
        ip::Cidr,
        path::PathTemplate,
        text::{Case, TextPattern},
    },
    normalize::PathNormalization,
};

pub(super) fn check(
    dialect: Dialect,
    policy: &AuthorizationPolicy,
    (rule, clause, entry): (usize, Clause, usize),
    constraint: &Constraint,
    effort: &Effort,
    findings: &mut Vec<Diagnostic<Finding>>,
) {
    let attribute = constraint.attribute();
    for (negated, values) in [(false, constraint.any_of()), (true, constraint.none_of())] {
        let stops = (*policy.action() == Action::Allow) == negated;
        let extents: Vec<_> = values.iter().map(|value| Extent::of(attribute, value.text())).collect();
        for (index, (value, extent)) in values.iter().zip(&extents).enumerate() {
            let mut found: Vec<_> = of_value(attribute, value.text()).into_iter().collect();
            let neighbours = values.iter().map(Value::text).zip(&extents);
            found.extend(of_neighbours(attribute, (value.text(), extent), neighbours, effort));
            if stops {
                found.extend(of_what_stops(dialect, attribute, value.text()));
            }
            let path = || {
                let field = FieldValue {
                    attribute: attribute.clone(),
                    negated,
                    value: Some(index),
                };
                FieldPath::field(rule, clause, entry, field)
            };
            findings.extend(
                found
                    .into_iter()
                    .map(|finding| Diagnostic::new(policy, value.line(), path(), finding)),
            );
        }
    }
}

/// Whether no request has such a value.
pub(super) fn never_passes(attribute: &Attribute, value: &str) -> bool {
    matches!(
        of_value(attribute, value),
        Some(Finding::Scheme { .. } | Finding::Host { .. } | Finding::Path { .. } | Finding::PathNotNormalized { .. })
    )
}

/// What is wrong with a value by itself.
fn of_value(attribute: &Attribute, text: &str) -> Option<Finding> {
    let value = || text.into();
    match attribute {
        Attribute::Principal => of_principal(text),
        Attribute::Namespace | Attribute::ServiceAccount | Attribute::TrustDomain
            if text.bytes().any(|byte| byte.is_ascii_uppercase()) =>
        {
            Some(Finding::UpperCaseIdentity { value: value() })
        }
        Attribute::Method if text.bytes().any(|byte| byte.is_ascii_lowercase()) => {
            Some(Finding::LowerCaseMethod { value: value() })
        }
        Attribute::Host if text.contains(['/', '@', ' ', '?', '#']) => Some(Finding::Host { value: value() }),
        Attribute::Path if !PathTemplate::is_one(text) => of_path(text),
        Attribute::SourceIp | Attribute::RemoteIp | Attribute::DestinationIp => of_block(text),
        Attribute::Host | Attribute::Method | Attribute::Header(_) | Attribute::Sni if has_inner_star(text) => {
            Some(Finding::LiteralStar { value: value() })
        }
        _ => None,
    }
}

fn of_principal(text: &str) -> Option<Finding> {
    let value = text.into();
    if text.starts_with("spiffe://") {
        return Some(Finding::Scheme { value });
    }
    if has_inner_star(text) {
        return Some(Finding::LiteralStar { value });
    }
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Some(Finding::UpperCaseIdentity { value });
    }
    let parts: Vec<_> = text.split('/').collect();
    let is_workload = matches!(&parts[..], [_, "ns", _, "sa", _]);
    (!text.contains('*') && !is_workload).then_some(Finding::Principal { value })
}

fn of_path(text: &str) -> Option<Finding> {
    let value = text.into();
    if has_inner_star(text) {
        return Some(Finding::LiteralStar { value });
    }
    let is_path = |text: &str| text.starts_with('/') && !text.contains(['?', '#']);
    match TextPattern::parse(text.as_bytes()) {
        TextPattern::Exact(_) if !is_path(text) => Some(Finding::Path { value }),
        TextPattern::Exact(_) => {
            let mut buffer = Vec::new();
            let Ok(path) = PathNormalization::Base.normalize(text.as_bytes(), &mut buffer) else {
                return Some(Finding::Path { value });
            };
            let normalized = String::from_utf8_lossy(path.path()).into();
            (path.path() != text.as_bytes()).then_some(Finding::PathNotNormalized { value, normalized })
        }
        TextPattern::Prefix(_) if !is_path(text) => Some(Finding::Path { value }),
        TextPattern::Suffix(_) if text.contains(['?', '#']) => Some(Finding::Path { value }),
        _ => None,
    }
}

fn of_block(text: &str) -> Option<Finding> {
    let block = text.parse::<Cidr>().ok()?;
    let value = text.into();
    if block.bits() == 0 {
        return Some(Finding::OneFamily { value });
    }
    let address = text.split_once('/').and_then(|(address, _)| address.parse().ok());
    let has_host_bits = address.is_some_and(|address: std::net::IpAddr| address.to_canonical() != block.first());
    has_host_bits.then_some(Finding::HostBits { value })
}

/// What the other values of a list make of one.
fn of_neighbours<'v>(
    attribute: &Attribute,
    (text, extent): (&str, &Extent),
    neighbours: impl Iterator<Item = (&'v str, &'v Extent)> + Clone,
    effort: &Effort,
) -> Option<Finding> {
    if *attribute == Attribute::Host
        && lacks_port(text)
        && !effort.any(neighbours.clone(), |(other, _)| is_port_variant(other, text))
    {
        return (!effort.is_spent()).then(|| Finding::HostWithoutPort { value: text.into() });
    }
    let mut by = None;
    let is_redundant = |(other, wider): (&'v str, &Extent)| {
        by = Some(other);
        other != text && extent.is_within(wider)
    };
    let value = text.into();
    effort
        .any(neighbours, is_redundant)
        .then_some(by)?
        .map(|by| Finding::RedundantValue { value, by: by.into() })
}

/// Whether a value asks for all of a host, and so for the end of the authority.
fn lacks_port(text: &str) -> bool {
    let host = text.strip_prefix('*').unwrap_or(text);
    !host.is_empty() && !host.ends_with('*') && !host.contains(['/', '@', ' ']) && {
        let behind_address = host.rsplit(']').next().unwrap_or_default();
        !behind_address.contains(':')
    }
}

fn is_port_variant(other: &str, host: &str) -> bool {
    other == "*"
        || other
            .strip_prefix(host)
            .is_some_and(|rest| rest.starts_with(':') || rest == "*")
}

/// What a value asks, as far as it can be held against others.
#[derive(PartialEq, Eq)]
enum Extent {
    Block(Cidr),
    Text(TextPattern),
    Unclear,
}

impl Extent {
    fn of(attribute: &Attribute, text: &str) -> Self {
        match attribute {
            Attribute::SourceIp | Attribute::RemoteIp | Attribute::DestinationIp => {
                text.parse().map_or(Self::Unclear, Self::Block)
            }
            Attribute::Host | Attribute::Method | Attribute::Principal | Attribute::Path
                if !PathTemplate::is_one(text) =>
            {
                Self::Text(TextPattern::parse(text.as_bytes()))
            }
            _ => Self::Unclear,
        }
    }

    /// Whether the other one asks for less.
    fn is_within(&self, other: &Self) -> bool {
        let implies = match (self, other) {
            (Self::Block(one), Self::Block(other)) => one.implies(other),
            (Self::Text(one), Self::Text(other)) => one.implies(other, Case::Counts),
            _ => false,
        };
        implies && self != other
    }
}

/// What gets past a value that is to stop something.
fn of_what_stops(dialect: Dialect, attribute: &Attribute, text: &str) -> Option<Finding> {
    let value = text.into();
    match attribute {
        Attribute::Path if PathTemplate::is_one(text) => {
            (dialect == Dialect::EnvoyHttp).then_some(Finding::TemplateGap { value })
        }
        Attribute::Path if text != "/" && !text.contains('*') && of_path(text).is_none() => {
            Some(Finding::OnePath { value })
        }
        _ => None,
    }
}
