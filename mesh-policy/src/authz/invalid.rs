use std::{fmt, sync::Arc};

use thiserror::Error;

use super::model::{AuthorizationPolicy, PolicyName, field_names};
use crate::{budget::OverBudget, facts::Attribute, matcher::path::TemplateError};

/// A policy breaks a rule of the API, in one line: file, line, policy, field and what is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// Which policy.
    pub policy: PolicyName,
    /// The file that it was read from.
    pub file: Option<Arc<str>>,
    /// The line in the file, from 1; 0 if it was not read from a file.
    pub line: u32,
    /// Where in the policy.
    pub field: FieldPath,
    /// What is wrong there.
    pub fault: Fault,
}

impl Invalid {
    pub(crate) fn new(policy: &AuthorizationPolicy, line: u32, field: FieldPath, fault: Fault) -> Self {
        Self {
            policy: policy.name().clone(),
            file: policy.file().cloned(),
            line: if line == 0 { policy.line() } else { line },
            field,
            fault,
        }
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{file}:{}: ", self.line)?;
        }
        let policy = self.policy.to_string();
        write!(f, "policy `{}`: {}: {}", policy.escape_debug(), self.field, self.fault)
    }
}

impl std::error::Error for Invalid {}

/// A place in a policy, mostly in its `spec`, printed as Kubernetes does: `rules[0].from[1].source.ipBlocks[2]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FieldPath {
    /// A field that belongs to no rule.
    Spec(&'static str),
    /// A rule, or something in it.
    Rule {
        /// The rule's index.
        rule: usize,
        /// What of the rule.
        part: Option<RulePart>,
    },
}

/// Something in a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RulePart {
    /// The list that it is in.
    pub clause: Clause,
    /// The index in that list.
    pub entry: usize,
    /// The field of the entry.
    pub field: Option<FieldValue>,
}

/// A field of an entry, or a value in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldValue {
    /// What the field asks about.
    pub attribute: Attribute,
    /// Whether it is the twin that asks for none.
    pub negated: bool,
    /// The index of the value.
    pub value: Option<usize>,
}

/// The lists that a rule has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Clause {
    /// Sources.
    From,
    /// Operations.
    To,
    /// Conditions.
    When,
}

impl FieldPath {
    pub(crate) fn entry(rule: usize, clause: Clause, entry: usize) -> Self {
        let field = None;
        Self::Rule {
            rule,
            part: Some(RulePart { clause, entry, field }),
        }
    }

    pub(crate) fn field(rule: usize, clause: Clause, entry: usize, field: FieldValue) -> Self {
        let field = Some(field);
        Self::Rule {
            rule,
            part: Some(RulePart { clause, entry, field }),
        }
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Spec(name) => f.write_str(name),
            Self::Rule { rule, part } => {
                write!(f, "rules[{rule}]")?;
                part.as_ref().map_or(Ok(()), |part| write!(f, ".{part}"))
            }
        }
    }
}

impl fmt::Display for RulePart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (clause, inner) = match self.clause {
            Clause::From => ("from", ".source"),
            Clause::To => ("to", ".operation"),
            Clause::When => ("when", ""),
        };
        write!(f, "{clause}[{}]{inner}", self.entry)?;
        let Some(field) = &self.field else { return Ok(()) };
        let (plain, negated) = match self.clause {
            Clause::When => ("values", "notValues"),
            Clause::From | Clause::To => field_names(&field.attribute).unwrap_or(("values", "notValues")),
        };
        write!(f, ".{}", if field.negated { negated } else { plain })?;
        field.value.map_or(Ok(()), |value| write!(f, "[{value}]"))
    }
}

/// What is wrong in a policy.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Fault {
    /// DENY and CUSTOM need rules to ever match.
    #[error("a policy that denies needs a rule, `{{}}` for everything")]
    NoRules,
    /// An entry asks for nothing; planes disagree whether that is everything or nothing.
    #[error("the entry has no field")]
    EmptyEntry,
    /// A condition has neither `values` nor `notValues`.
    #[error("the condition has no values")]
    NoValues,
    /// A value or a name is empty.
    #[error("the value is empty")]
    EmptyValue,
    /// The value is no address and no block.
    #[error("`{}` is no IP address or CIDR block", .value.escape_debug())]
    Cidr {
        /// The value.
        value: Box<str>,
    },
    /// The value is no port.
    #[error("`{}` is no port from 0 to 65535", .value.escape_debug())]
    Port {
        /// The value.
        value: Box<str>,
    },
    /// The value has a template's operator and is no template.
    #[error("`{}`: {fault}", .value.escape_debug())]
    Template {
        /// The value.
        value: Box<str>,
        /// What is wrong with it.
        fault: TemplateError,
    },
    /// The value is no `NAMESPACE/ACCOUNT` and no `ACCOUNT`.
    #[error("`{}` is no `NAMESPACE/ACCOUNT` or `ACCOUNT` without stars, of at most 320 bytes", .value.escape_debug())]
    ServiceAccount {
        /// The value.
        value: Box<str>,
    },
    /// There are more than 16 `serviceAccounts` or `notServiceAccounts` of a source.
    #[error("a list has at most 16 service accounts")]
    ServiceAccountCount,
    /// A source has `serviceAccounts` beside `principals` or `namespaces`.
    #[error("service accounts exclude principals and namespaces")]
    MixedIdentity,
    /// CUSTOM runs before tokens and identities are known, so it may not ask for them.
    #[error("a CUSTOM policy cannot ask for `{}`", .attribute.to_string().escape_debug())]
    CustomAttribute {
        /// What it asks for.
        attribute: Attribute,
    },
    /// CUSTOM needs the name of a provider: a DNS label.
    #[error("`{}` is no name of a provider", .name.escape_debug())]
    Provider {
        /// The name.
        name: Box<str>,
    },
    /// Only ALLOW and DENY can be tried out.
    #[error("a policy that is tried out allows or denies")]
    DryRunAction,
    /// A selector has an empty name or a star.
    #[error("the selector `{}` is empty or has a star", .label.escape_debug())]
    Selector {
        /// The label's name.
        label: Box<str>,
    },
    /// A policy cannot refer to objects of this kind.
    #[error("a policy cannot refer to the kind `{}` of the group `{}`", .kind.escape_debug(), .group.escape_debug())]
    TargetKind {
        /// The API group.
        group: Box<str>,
        /// The kind.
        kind: Box<str>,
    },
    /// There are more than 16 references.
    #[error("a policy has at most 16 target references")]
    TargetCount,
    /// Of two policies with one name, the earlier.
    #[error("a later policy has the same name")]
    Replaced,
    /// There is too much of something.
    #[error(transparent)]
    OverBudget(#[from] OverBudget),
}
