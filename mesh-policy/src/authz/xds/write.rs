use std::net::IpAddr;

use mesh_xds_types::security::{
    self, Address, Authorization, Clause, Match, ServiceAccountMatch, StringMatch, string_match::MatchType,
};

use super::{
    field::{self, Field},
    received::Scope,
};
use crate::{
    authz::{
        model::{Action, AuthorizationPolicy, Constraint, Rule, Value},
        target::Target,
        validate::{check_value, split_service_account},
    },
    facts::Attribute,
    matcher::{ip::Cidr, port},
};

/// The message for a policy, if there is one: ztunnel is sent nothing of AUDIT, of CUSTOM and of
/// policies with target references, and nothing that is only tried out, which a ztunnel before 1.29
/// would enforce.
///
/// As from istiod, a rule that allows is left out if it asks for something of HTTP, a rule that
/// denies is sent without that, and so are values that are invalid. A set of
/// [`Dialect::Ztunnel`](crate::authz::Dialect::Ztunnel) has diagnostics for all of it.
pub fn write(policy: &AuthorizationPolicy, root_namespace: &str) -> Option<Authorization> {
    if policy.is_dry_run() {
        return None;
    }
    let action = match policy.action() {
        Action::Allow => security::Action::Allow,
        Action::Deny => security::Action::Deny,
        Action::Audit | Action::Custom { .. } => return None,
    };
    let scope = match policy.target() {
        Target::Refs(_) => return None,
        Target::Selector(labels) if !labels.is_empty() => Scope::Workloads,
        _ if &*policy.name().namespace == root_namespace => Scope::Mesh,
        _ => Scope::Namespace,
    };
    Some(Authorization {
        name: policy.name().name.to_string(),
        namespace: policy.name().namespace.to_string(),
        scope: security::Scope::from(scope).into(),
        action: action.into(),
        rules: policy
            .rules()
            .iter()
            .filter_map(|rule| write_rule(policy, rule))
            .collect(),
        dry_run: false,
        extensions: Vec::new(),
    })
}

fn write_rule(policy: &AuthorizationPolicy, rule: &Rule) -> Option<security::Rule> {
    let operations = rule.operations().iter().map(|operation| operation.fields());
    let sources = rule.sources().iter().map(|source| source.fields());
    let conditions = rule.conditions().iter().map(|condition| condition.constraint());
    let mut clauses = Vec::new();
    if operations.len() > 0 {
        clauses.push(clause(policy, operations, Place::Entry)?);
    }
    if sources.len() > 0 {
        clauses.push(clause(policy, sources, Place::Entry)?);
    }
    for condition in conditions {
        let condition = std::slice::from_ref(condition);
        clauses.push(clause(policy, [condition].into_iter(), Place::Condition)?);
    }
    Some(security::Rule { clauses })
}

/// Where something is asked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// In an entry of `from` or `to`.
    Entry,
    /// In `when`.
    Condition,
}

impl Place {
    fn knows(self, attribute: &Attribute) -> bool {
        match attribute {
            Attribute::Namespace | Attribute::Principal | Attribute::SourceIp | Attribute::DestinationPort => true,
            Attribute::ServiceAccount => self == Self::Entry,
            Attribute::DestinationIp => self == Self::Condition,
            _ => false,
        }
    }

    /// Trust domains are the one field of an entry that goes missing without any effect.
    fn forgets(self, attribute: &Attribute) -> bool {
        self == Self::Entry && *attribute == Attribute::TrustDomain
    }
}

/// One match for each entry, with what ztunnel knows of it, be that nothing.
fn clause<'r>(
    policy: &AuthorizationPolicy,
    entries: impl Iterator<Item = &'r [Constraint]>,
    place: Place,
) -> Option<Clause> {
    let mut matches = Vec::new();
    for constraints in entries {
        let mut found = Match::default();
        for constraint in constraints {
            let attribute = constraint.attribute();
            let asks = !constraint.any_of().is_empty() || !constraint.none_of().is_empty();
            if place.knows(attribute) {
                for (negated, values) in [(false, constraint.any_of()), (true, constraint.none_of())] {
                    if let Some(field) = field::of(&mut found, attribute, negated) {
                        fill(field, &policy.name().namespace, attribute, values);
                    }
                }
            } else if asks && !place.forgets(attribute) && *policy.action() == Action::Allow {
                return None;
            }
        }
        matches.push(found);
    }
    Some(Clause { matches })
}

fn fill(field: Field<'_>, namespace: &str, attribute: &Attribute, values: &[Value]) {
    let values = values.iter().map(Value::text);
    let values = values.filter(|value| check_value(attribute, value).is_ok());
    match field {
        Field::Texts(texts) => texts.extend(values.map(text)),
        Field::Accounts(accounts) => accounts.extend(values.map(|value| {
            let (namespace, account) = split_service_account(value, namespace);
            ServiceAccountMatch {
                namespace: namespace.to_owned(),
                service_account: account.to_owned(),
            }
        })),
        Field::Addresses(addresses) => addresses.extend(values.filter_map(|value| value.parse().ok()).map(address)),
        Field::Ports(ports) => ports.extend(values.filter_map(port::parse).map(u32::from)),
    }
}

fn text(value: &str) -> StringMatch {
    let match_type = if value == "*" {
        MatchType::Presence(())
    } else if let Some(end) = value.strip_prefix('*') {
        MatchType::Suffix(end.to_owned())
    } else if let Some(start) = value.strip_suffix('*') {
        MatchType::Prefix(start.to_owned())
    } else {
        MatchType::Exact(value.to_owned())
    };
    StringMatch {
        match_type: Some(match_type),
    }
}

fn address(block: Cidr) -> Address {
    Address {
        address: match block.first() {
            IpAddr::V4(v4) => v4.octets().to_vec(),
            IpAddr::V6(v6) => v6.octets().to_vec(),
        },
        length: block.bits().into(),
    }
}
