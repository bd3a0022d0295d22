//! Policies as they are written.
//!
//! Nothing is interpreted here: a value is text until a [`Compiler`](super::Compiler) reads it under
//! the rules of a dialect. Policies come out of files or are built:
//!
//! ```
//! use mesh_policy::authz::{
//!     AuthorizationPolicy,
//!     model::{Condition, Operation, OperationField, Rule, Source, SourceField},
//! };
//!
//! let policy = AuthorizationPolicy::allow("shop", "reviews").rule(
//!     Rule::new()
//!         .from(Source::new().any_of(SourceField::Namespaces, ["front", "back"]))
//!         .to(Operation::new().any_of(OperationField::Methods, ["GET"]))
//!         .when(Condition::new("request.headers[x-tier]".parse()?).none_of(["free"])),
//! );
//! # let _ = policy;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::{fmt, sync::Arc};

pub use self::{
    field::{OperationField, SourceField},
    key::{ConditionKey, KeyError},
    rule::{Condition, Constraint, Entry, Operation, Rule, Source, Value},
};
use super::target::{Labels, Target, TargetRef};

mod field;
pub(crate) use self::field::names as field_names;
mod key;
mod rule;

/// The name of a policy in its namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PolicyName {
    /// The namespace.
    pub namespace: Box<str>,
    /// The name, unique in the namespace.
    pub name: Box<str>,
}

impl PolicyName {
    /// The policy `name` in `namespace`.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

impl fmt::Display for PolicyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// What a matching policy does.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// Allows, and makes it so that only what some policy allows may pass.
    Allow,
    /// Denies, whatever others allow.
    Deny,
    /// Marks, and decides nothing.
    Audit,
    /// Leaves it to an external provider whether the request may pass the others.
    Custom {
        /// The provider's name in the mesh configuration.
        provider: Box<str>,
    },
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Allow => "ALLOW",
            Self::Deny => "DENY",
            Self::Audit => "AUDIT",
            Self::Custom { .. } => "CUSTOM",
        })
    }
}

/// An AuthorizationPolicy (`security.istio.io/v1`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorizationPolicy {
    name: PolicyName,
    action: Action,
    target: Target,
    dry_run: bool,
    rules: Vec<Rule>,
    file: Option<Arc<str>>,
    line: u32,
}

impl AuthorizationPolicy {
    /// A policy without rules, which never matches.
    pub fn new(name: PolicyName, action: Action) -> Self {
        Self {
            name,
            action,
            target: Target::Namespace,
            dry_run: false,
            rules: Vec::new(),
            file: None,
            line: 0,
        }
    }

    /// A policy that allows. Without a rule, it has the effect that only others allow.
    pub fn allow(namespace: &str, name: &str) -> Self {
        Self::new(PolicyName::new(namespace, name), Action::Allow)
    }

    /// A policy that denies.
    pub fn deny(namespace: &str, name: &str) -> Self {
        Self::new(PolicyName::new(namespace, name), Action::Deny)
    }

    /// A policy that marks what it matches.
    pub fn audit(namespace: &str, name: &str) -> Self {
        Self::new(PolicyName::new(namespace, name), Action::Audit)
    }

    /// A policy that has what it matches decided by a provider.
    pub fn custom(namespace: &str, name: &str, provider: &str) -> Self {
        let provider = provider.into();
        Self::new(PolicyName::new(namespace, name), Action::Custom { provider })
    }

    /// Adds a rule. The policy matches what one of its rules matches.
    #[must_use]
    pub fn rule(mut self, rule: Rule) -> Self {
        self.rules.push(rule);
        self
    }

    /// Restricts the policy to workloads with these labels. Default: none are asked for.
    #[must_use]
    pub fn selector(mut self, labels: Labels) -> Self {
        self.target = Target::Selector(labels);
        self
    }

    /// Restricts the policy to what serves these objects.
    #[must_use]
    pub fn target_refs(mut self, refs: impl IntoIterator<Item = TargetRef>) -> Self {
        self.target = Target::Refs(refs.into_iter().collect());
        self
    }

    /// Whether the policy is only tried out (annotation `istio.io/dry-run`): decisions tell what it
    /// would do, and it does nothing. Default: no.
    #[must_use]
    pub fn dry_run(mut self, dry_run: bool) -> Self {
        self.dry_run = dry_run;
        self
    }

    /// Says where the policy was read, for messages.
    #[must_use]
    pub fn read_from(mut self, file: &Arc<str>, line: u32) -> Self {
        self.file = Some(Arc::clone(file));
        self.line = line;
        self
    }

    /// Without the room that lists have for more: a mesh has many policies, and keeps them.
    #[cfg(feature = "k8s")]
    #[must_use]
    pub(super) fn shrunk(mut self) -> Self {
        if let Target::Refs(refs) = &mut self.target {
            refs.shrink_to_fit();
        }
        self.rules.shrink_to_fit();
        self.rules.iter_mut().for_each(Rule::shrink);
        self
    }

    /// The policy's name.
    pub fn name(&self) -> &PolicyName {
        &self.name
    }

    /// What the policy does.
    pub fn action(&self) -> &Action {
        &self.action
    }

    /// Which workloads it is for.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Whether it is only tried out.
    pub fn is_dry_run(&self) -> bool {
        self.dry_run
    }

    /// Its rules.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The file that it was read from.
    pub fn file(&self) -> Option<&Arc<str>> {
        self.file.as_ref()
    }

    /// The line that it begins in, from 1; 0 if it was not read from a file.
    pub fn line(&self) -> u32 {
        self.line
    }
}
