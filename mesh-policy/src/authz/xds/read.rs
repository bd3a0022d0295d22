use std::{fmt, net::IpAddr};

use mesh_xds_types::security::{
    self, Address, Authorization, Clause, Extension, Match, ServiceAccountMatch, StringMatch, string_match::MatchType,
};
use thiserror::Error;

use super::{
    field::{self, Field},
    received::{Received, Scope},
};
use crate::{
    authz::{
        model::{
            Action, AuthorizationPolicy, Condition, ConditionKey, Operation, OperationField, PolicyName, Rule, Source,
        },
        validate::check_value,
    },
    facts::Attribute,
    matcher::text::TextPattern,
};

/// A message that is no policy which this crate could decide by.
///
/// Nothing of such a policy counts, and it may be one that denies: whoever receives it keeps the
/// policy that was there before, or denies.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("policy `{}/{}`: {field}: {wrong}", .namespace.escape_debug(), .name.escape_debug())]
pub struct ReadError {
    /// The policy's namespace.
    pub namespace: Box<str>,
    /// The policy's name.
    pub name: Box<str>,
    /// The field, as the message has it: `rules[0].clauses[1].matches[0].source_ips[2]`.
    pub field: Box<str>,
    /// What is wrong there.
    pub wrong: Wrong,
}

/// What a [`ReadError`] says of a field.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Wrong {
    /// It is empty and may not be.
    #[error("there is nothing")]
    Empty,
    /// A number that stands for nothing that is known here.
    #[error("`{value}` is none of the values")]
    Enum {
        /// The number.
        value: i32,
    },
    /// An extension could ask for more than is known here.
    #[error("extension `{}` is not known", .name.escape_debug())]
    Extension {
        /// Its name.
        name: Box<str>,
    },
    /// A text to match has no kind, or one that is not known here.
    #[error("the match has no type")]
    NoType,
    /// A text that a policy cannot ask for: with a star where it would be a wildcard, or empty.
    #[error("`{}` cannot be asked for", .text.escape_debug())]
    Text {
        /// The text, with the star of its kind.
        text: Box<str>,
    },
    /// A service account with an empty part, a slash or a star.
    #[error("`{}` is no service account", .value.escape_debug())]
    ServiceAccount {
        /// Namespace and account.
        value: Box<str>,
    },
    /// An address of neither 4 nor 16 bytes.
    #[error("an address has 4 or 16 bytes, not {bytes}")]
    AddressBytes {
        /// How many there are.
        bytes: usize,
    },
    /// More bits count than the address has.
    #[error("no address has a prefix of {bits} bits")]
    PrefixLength {
        /// How many are to count.
        bits: u32,
    },
    /// A number that is no port.
    #[error("`{port}` is no port")]
    Port {
        /// The number.
        port: u32,
    },
    /// A rule asks for combinations that no policy of Istio can ask for.
    #[error("no policy can ask for this besides the rule's other clauses")]
    Combination,
}

/// Reads a policy.
///
/// # Errors
///
/// Whatever is not understood, be it an unknown extension or an unknown number for an action: what
/// is left out of a policy could let pass what it is to stop.
pub fn read(message: Authorization) -> Result<Received, ReadError> {
    let Authorization {
        name,
        namespace,
        scope,
        action,
        rules,
        dry_run,
        extensions,
    } = message;
    let read = || -> Result<Received, Fault> {
        if name.is_empty() {
            return Err(Fault::at("name", Wrong::Empty));
        }
        if namespace.is_empty() {
            return Err(Fault::at("namespace", Wrong::Empty));
        }
        no_extension(&extensions)?;
        let scope = match security::Scope::try_from(scope) {
            Ok(security::Scope::Global) => Scope::Mesh,
            Ok(security::Scope::Namespace) => Scope::Namespace,
            Ok(security::Scope::WorkloadSelector) => Scope::Workloads,
            Err(_) => return Err(Fault::at("scope", Wrong::Enum { value: scope })),
        };
        let action = match security::Action::try_from(action) {
            Ok(security::Action::Allow) => Action::Allow,
            Ok(security::Action::Deny) => Action::Deny,
            Err(_) => return Err(Fault::at("action", Wrong::Enum { value: action })),
        };
        let policy = AuthorizationPolicy::new(PolicyName::new(&namespace, &name), action).dry_run(dry_run);
        let rules = rules.into_iter().enumerate();
        let policy = rules
            .map(|(index, rule)| read_rule(rule).map_err(|fault| fault.within("rules", index)))
            .try_fold(policy, |policy, rule| Ok(policy.rule(rule?)))?;
        Ok(Received { policy, scope })
    };
    read().map_err(|Fault { field, wrong }| ReadError {
        namespace: namespace.as_str().into(),
        name: name.as_str().into(),
        field: field.into(),
        wrong,
    })
}

/// What is wrong, and where in the part that was read.
struct Fault {
    field: String,
    wrong: Wrong,
}

impl Fault {
    fn at(field: impl fmt::Display, wrong: Wrong) -> Self {
        Self {
            field: field.to_string(),
            wrong,
        }
    }

    fn within(self, list: &str, index: usize) -> Self {
        let field = match self.field.as_str() {
            "" => format!("{list}[{index}]"),
            field => format!("{list}[{index}].{field}"),
        };
        Self { field, ..self }
    }
}

fn no_extension(extensions: &[Extension]) -> Result<(), Fault> {
    extensions.first().map_or(Ok(()), |extension| {
        let name = extension.name.as_str().into();
        Err(Fault::at("extensions[0]", Wrong::Extension { name }))
    })
}

/// What a clause can become in a policy.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// Alternatives of sources.
    From,
    /// Alternatives of operations.
    To,
    /// One attribute, in any number of conditions.
    When,
    /// It never matches, and so the rule does not.
    Never,
}

/// What is asked of one attribute in a match.
struct Asked {
    attribute: Attribute,
    any_of: Vec<String>,
    none_of: Vec<String>,
}

fn read_rule(rule: security::Rule) -> Result<Rule, Fault> {
    let mut clauses = Vec::with_capacity(rule.clauses.len());
    for (index, clause) in rule.clauses.into_iter().enumerate() {
        let matches = read_clause(clause).map_err(|fault| fault.within("clauses", index))?;
        clauses.extend(split(matches).into_iter().map(|matches| (index, matches)));
    }
    if clauses.iter().any(|(_, matches)| shape(matches) == Some(Shape::Never)) {
        return Ok(Rule::new().to(Operation::new()));
    }
    // What can only be an alternative of sources or operations goes before what can be a condition.
    clauses.sort_by_key(|(index, matches)| (shape(matches) == Some(Shape::When), *index));
    let mut read = Rule::new();
    for (index, matches) in clauses {
        read = add(read, matches).ok_or_else(|| Fault::at("", Wrong::Combination).within("clauses", index))?;
    }
    Ok(read)
}

fn read_clause(clause: Clause) -> Result<Vec<Vec<Asked>>, Fault> {
    let matches = clause.matches.into_iter().enumerate();
    matches
        .map(|(index, found)| read_match(found).map_err(|fault| fault.within("matches", index)))
        .collect()
}

/// A clause as clauses of which each has a place in a policy: all that its only match asks for must
/// be so, as all clauses must. istiod sends required certificates of a port as one match.
fn split(matches: Vec<Vec<Asked>>) -> Vec<Vec<Vec<Asked>>> {
    if matches.len() != 1 || matches.iter().all(Vec::is_empty) {
        return vec![matches];
    }
    // A source can ask for all of it together, and a policy has no condition for all of it.
    let is_of_source = |asked: &Asked| field::of_source(&asked.attribute).is_some();
    let (peer, others): (Vec<_>, Vec<_>) = matches.into_iter().flatten().partition(is_of_source);
    let others = others.into_iter().map(|asked| vec![asked]);
    let parts = [peer].into_iter().chain(others);
    parts.filter(|part| !part.is_empty()).map(|part| vec![part]).collect()
}

/// None for what no policy has.
fn shape(matches: &[Vec<Asked>]) -> Option<Shape> {
    let is_from =
        |asked: &Asked| asked.attribute != Attribute::DestinationPort && field::of_source(&asked.attribute).is_some();
    let is_to = |asked: &Asked| asked.attribute == Attribute::DestinationPort;
    match matches {
        // A match without fields matches nothing.
        matches if matches.iter().all(Vec::is_empty) => Some(Shape::Never),
        [only] if matches!(only.as_slice(), [asked] if asked.attribute != Attribute::ServiceAccount) => {
            Some(Shape::When)
        }
        matches if matches.iter().flatten().all(is_from) => Some(Shape::From),
        matches if matches.iter().flatten().all(is_to) => Some(Shape::To),
        _ => None,
    }
}

/// The rule with a clause, if there is a place for it.
fn add(rule: Rule, matches: Vec<Vec<Asked>>) -> Option<Rule> {
    let shape = match (shape(&matches)?, matches.iter().flatten().next()) {
        // One attribute is a condition only where its usual place is taken.
        (Shape::When, Some(asked)) if asked.attribute == Attribute::DestinationPort && rule.operations().is_empty() => {
            Shape::To
        }
        (Shape::When, Some(asked)) if field::of_source(&asked.attribute).is_some() && rule.sources().is_empty() => {
            Shape::From
        }
        // So are several, if none of them is only known of a source.
        (Shape::From, _) if !rule.sources().is_empty() && matches.len() == 1 && !asks_for_accounts(&matches) => {
            Shape::When
        }
        (shape, _) => shape,
    };
    match shape {
        Shape::Never => None,
        Shape::From if rule.sources().is_empty() => matches.into_iter().try_fold(rule, |rule, asked| {
            let source = asked.into_iter().try_fold(Source::new(), |source, asked| {
                let field = field::of_source(&asked.attribute)?;
                Some(source.any_of(field, asked.any_of).none_of(field, asked.none_of))
            });
            Some(rule.from(source?))
        }),
        Shape::To if rule.operations().is_empty() => Some(matches.into_iter().fold(rule, |rule, asked| {
            rule.to(asked.into_iter().fold(Operation::new(), |operation, asked| {
                operation
                    .any_of(OperationField::Ports, asked.any_of)
                    .none_of(OperationField::Ports, asked.none_of)
            }))
        })),
        Shape::From | Shape::To => None,
        Shape::When => matches.into_iter().flatten().try_fold(rule, |rule, asked| {
            let key: ConditionKey = asked.attribute.to_string().parse().ok()?;
            Some(rule.when(Condition::new(key).any_of(asked.any_of).none_of(asked.none_of)))
        }),
    }
}

fn asks_for_accounts(matches: &[Vec<Asked>]) -> bool {
    let mut asked = matches.iter().flatten();
    asked.any(|asked| asked.attribute == Attribute::ServiceAccount)
}

/// What ztunnel can be asked for, with the names of the fields.
const ATTRIBUTES: [(Attribute, [&str; 2]); 6] = [
    (Attribute::Namespace, ["namespaces", "not_namespaces"]),
    (Attribute::Principal, ["principals", "not_principals"]),
    (Attribute::ServiceAccount, ["service_accounts", "not_service_accounts"]),
    (Attribute::SourceIp, ["source_ips", "not_source_ips"]),
    (Attribute::DestinationIp, ["destination_ips", "not_destination_ips"]),
    (
        Attribute::DestinationPort,
        ["destination_ports", "not_destination_ports"],
    ),
];

fn read_match(mut found: Match) -> Result<Vec<Asked>, Fault> {
    no_extension(&found.extensions)?;
    let mut all = Vec::new();
    for (attribute, names) in ATTRIBUTES {
        let [plain, negated] = names;
        let mut values = |name, negated| match field::of(&mut found, &attribute, negated) {
            Some(field) => read_field(&attribute, field, name),
            None => Ok(Vec::new()),
        };
        let (any_of, none_of) = (values(plain, false)?, values(negated, true)?);
        if !any_of.is_empty() || !none_of.is_empty() {
            all.push(Asked {
                attribute,
                any_of,
                none_of,
            });
        }
    }
    Ok(all)
}

fn read_field(attribute: &Attribute, field: Field<'_>, name: &str) -> Result<Vec<String>, Fault> {
    let values: Vec<Result<String, Wrong>> = match field {
        Field::Texts(texts) => texts.iter().map(text).collect(),
        Field::Accounts(accounts) => accounts.iter().map(account).collect(),
        Field::Addresses(addresses) => addresses.iter().map(address).collect(),
        Field::Ports(ports) => ports.iter().map(|port| read_port(*port)).collect(),
    };
    let values = values.into_iter().enumerate();
    values
        .map(|(index, value)| {
            let value = value.map_err(|wrong| Fault::at("", wrong).within(name, index))?;
            match check_value(attribute, &value) {
                Ok(()) => Ok(value),
                Err(_) => Err(Fault::at("", Wrong::Text { text: value.into() }).within(name, index)),
            }
        })
        .collect()
}

/// A value that means the same when it is read as one of a policy.
fn text(found: &StringMatch) -> Result<String, Wrong> {
    let (value, meant) = match &found.match_type {
        None => return Err(Wrong::NoType),
        Some(MatchType::Presence(())) => ("*".to_owned(), TextPattern::Present),
        Some(MatchType::Exact(text)) => (text.clone(), TextPattern::Exact(text.as_bytes().into())),
        Some(MatchType::Prefix(text)) => (format!("{text}*"), TextPattern::Prefix(text.as_bytes().into())),
        Some(MatchType::Suffix(text)) => (format!("*{text}"), TextPattern::Suffix(text.as_bytes().into())),
    };
    if TextPattern::parse(value.as_bytes()) == meant {
        Ok(value)
    } else {
        Err(Wrong::Text { text: value.into() })
    }
}

fn account(found: &ServiceAccountMatch) -> Result<String, Wrong> {
    let value = format!("{}/{}", found.namespace, found.service_account);
    match check_value(&Attribute::ServiceAccount, &value) {
        Ok(()) => Ok(value),
        Err(_) => Err(Wrong::ServiceAccount { value: value.into() }),
    }
}

fn address(found: &Address) -> Result<String, Wrong> {
    let bytes = found.address.as_slice();
    let address = if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        IpAddr::from(v4)
    } else if let Ok(v6) = <[u8; 16]>::try_from(bytes) {
        IpAddr::from(v6)
    } else {
        return Err(Wrong::AddressBytes { bytes: bytes.len() });
    };
    let most = if address.is_ipv4() { 32 } else { 128 };
    if found.length > most {
        return Err(Wrong::PrefixLength { bits: found.length });
    }
    Ok(format!("{address}/{}", found.length))
}

fn read_port(port: u32) -> Result<String, Wrong> {
    u16::try_from(port)
        .map(|port| port.to_string())
        .map_err(|_| Wrong::Port { port })
}
