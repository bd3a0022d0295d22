use thiserror::Error;

use crate::{
    authz::{
        dialect::{Dialect, TrustDomains},
        invalid::Invalid,
    },
    budget::{Budget, OverBudget},
};

/// How many providers the CUSTOM policies of a set may name.
pub const MAX_PROVIDERS: usize = 64;

/// Makes [`PolicySet`](crate::authz::PolicySet)s of policies.
///
/// ```
/// use mesh_policy::authz::{AuthorizationPolicy, Compiler, Dialect, model::Rule};
///
/// let set = Compiler::new(Dialect::Strict)
///     .version(1)
///     .compile([AuthorizationPolicy::allow("shop", "all").rule(Rule::new())])?;
/// assert_eq!(set.version(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Compiler {
    pub(super) dialect: Dialect,
    pub(super) trust_domains: TrustDomains,
    pub(super) budget: Budget,
    pub(super) version: u64,
}

impl Compiler {
    /// A compiler for a dialect, with the default trust domains and budget.
    pub fn new(dialect: Dialect) -> Self {
        Self {
            dialect,
            trust_domains: TrustDomains::default(),
            budget: Budget::new(),
            version: 0,
        }
    }

    /// The mesh's trust domains. Default: `cluster.local` alone.
    #[must_use]
    pub fn trust_domains(mut self, trust_domains: TrustDomains) -> Self {
        self.trust_domains = trust_domains;
        self
    }

    /// How much the policies may need. Default: [`Budget::new`].
    #[must_use]
    pub fn budget(mut self, budget: Budget) -> Self {
        self.budget = budget;
        self
    }

    /// The version of the set to be made, which is to grow from set to set: a permit is current as
    /// long as its version is, and is then renewed without a look at the facts. Default: 0, which
    /// is none, so that no permit is current: sets that are made independently of each other have
    /// nothing to tell their permits apart by.
    #[must_use]
    pub fn version(mut self, version: u64) -> Self {
        self.version = version;
        self
    }
}

/// Why policies make no set.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CompileError {
    /// Policies break rules of the API.
    #[error("{}", first(.0))]
    Invalid(Vec<Invalid>),
    /// The set is larger than the budget.
    #[error(transparent)]
    OverBudget(#[from] OverBudget),
    /// More providers decide than a decision can name.
    #[error("{providers} providers are more than {MAX_PROVIDERS}")]
    TooManyProviders {
        /// How many there are.
        providers: usize,
    },
}

/// One line for a message; the variant has them all.
fn first(invalid: &[Invalid]) -> String {
    match invalid {
        [] => String::new(),
        [only] => only.to_string(),
        [first, rest @ ..] => format!("{first} (and {} more)", rest.len()),
    }
}
