//! What is likely to be wrong with policies, found without asking them anything.
//!
//! ```
//! use mesh_policy::authz::{
//!     AuthorizationPolicy, Compiler, Dialect,
//!     analyze::Analysis,
//!     model::{Rule, Source, SourceField},
//! };
//!
//! let policy = AuthorizationPolicy::allow("shop", "cart")
//!     .rule(Rule::new().from(Source::new().none_of(SourceField::Namespaces, ["dev"])));
//! let report = Analysis::new(Compiler::new(Dialect::Strict)).run([policy])?;
//! assert_eq!(
//!     report.findings()[0].to_string(),
//!     "policy `shop/cart`: rules[0].from[0].source.notNamespaces: \
//!      peers without a certificate are allowed too: add a positive field, such as principals `*`",
//! );
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

pub use self::finding::{Finding, Severity};
use super::{
    compile::{CompileError, Compiler, PolicySet},
    cover::{Effort, rules},
    dialect::{Diagnostic, Note},
    invalid::FieldPath,
    model::{AuthorizationPolicy, PolicyName},
    target::Target,
};

mod candidate;
mod entry;
mod finding;
mod identity;
mod shadow;
mod value;

/// Pairs of rules, fields and values that are held against each other at most: a second or so.
const MAX_PAIRS: u64 = 50_000_000;

/// Looks for what is likely to be wrong with policies.
#[derive(Clone, Debug)]
pub struct Analysis {
    compiler: Compiler,
    root_namespace: Box<str>,
}

/// What an [`Analysis`] found.
#[derive(Clone, Debug)]
pub struct Report {
    findings: Vec<Diagnostic<Finding>>,
    is_complete: bool,
}

impl Analysis {
    /// An analysis of policies as the compiler reads them.
    pub fn new(compiler: Compiler) -> Self {
        Self {
            compiler,
            root_namespace: "istio-system".into(),
        }
    }

    /// The namespace whose policies are the mesh's. Default: `istio-system`.
    #[must_use]
    pub fn root_namespace(mut self, namespace: &str) -> Self {
        self.root_namespace = namespace.into();
        self
    }

    /// Looks at policies, which may be for different workloads.
    ///
    /// # Errors
    ///
    /// More policies than the compiler's budget admits. Invalid ones are findings.
    pub fn run(
        &self,
        policies: impl IntoIterator<Item = impl Into<Arc<AuthorizationPolicy>>>,
    ) -> Result<Report, CompileError> {
        let policies = policies.into_iter().map(Into::into).collect();
        self.run_within(&Effort::new(MAX_PAIRS), policies)
    }

    fn run_within(&self, effort: &Effort, policies: Vec<Arc<AuthorizationPolicy>>) -> Result<Report, CompileError> {
        let mut findings = Vec::new();
        let policies = last_of_each_name(policies, &mut findings);
        let set = self.compile(policies, &mut findings)?;
        let rules = rules(&set);
        let mut views = BTreeMap::<_, Vec<_>>::new();
        for rule in &rules {
            views.entry(rule.name.policy().name()).or_default().push(rule);
        }
        let mut notes = BTreeMap::<_, Vec<_>>::new();
        for diagnostic in set.diagnostics() {
            notes.entry(&diagnostic.policy).or_default().push(diagnostic);
        }
        for policy in set.policies() {
            let notes = notes.remove(policy.name()).unwrap_or_default().into_iter();
            let news = notes.filter(|diagnostic| concerns(policy, &diagnostic.note));
            findings.extend(news.map(|diagnostic| {
                let line = entry::line_at(policy, &diagnostic.field).unwrap_or(diagnostic.line);
                Diagnostic::new(policy, line, diagnostic.field.clone(), diagnostic.note.clone().into())
            }));
            let views = views.remove(policy.name()).unwrap_or_default();
            entry::check(&set, policy, &views, effort, &mut findings);
        }
        shadow::check(&rules, &self.root_namespace, effort, &mut findings);
        let place = |finding: &Diagnostic<Finding>| (finding.file.clone(), finding.policy.clone(), finding.line);
        findings.sort_by_cached_key(place);
        findings.dedup();
        Ok(Report {
            findings,
            is_complete: !effort.is_spent(),
        })
    }

    /// A set of the policies that the dialect takes.
    fn compile(
        &self,
        mut policies: Vec<Arc<AuthorizationPolicy>>,
        findings: &mut Vec<Diagnostic<Finding>>,
    ) -> Result<PolicySet, CompileError> {
        let invalid = match self.compiler.clone().compile(policies.iter().map(Arc::clone)) {
            Err(CompileError::Invalid(invalid)) => invalid,
            result => return result,
        };
        let names: BTreeSet<_> = invalid.iter().map(|invalid| &invalid.policy).collect();
        policies.retain(|policy| !names.contains(policy.name()));
        findings.extend(invalid.into_iter().map(|invalid| Diagnostic {
            policy: invalid.policy,
            file: invalid.file,
            line: invalid.line,
            field: invalid.field,
            note: Finding::Invalid(invalid.fault),
        }));
        self.compiler.clone().compile(policies)
    }
}

impl Report {
    /// The findings, by file, policy and line.
    pub fn findings(&self) -> &[Diagnostic<Finding>] {
        &self.findings
    }

    /// Whether every rule, field and value was held against all others that may say something about
    /// it. Of very large sets, and of very large policies, it is not, and [`Finding::Unfinished`] says
    /// so.
    pub fn is_complete(&self) -> bool {
        self.is_complete
    }
}

/// Whether a note is news to a policy's author. What names the objects that it is for reaches only
/// planes that know requests.
fn concerns(policy: &AuthorizationPolicy, note: &Note) -> bool {
    !matches!((policy.target(), note), (Target::Refs(_), Note::UnknownToSome { .. }))
}

/// Of policies with the same name, the later one counts.
fn last_of_each_name(
    policies: Vec<Arc<AuthorizationPolicy>>,
    findings: &mut Vec<Diagnostic<Finding>>,
) -> Vec<Arc<AuthorizationPolicy>> {
    let mut seen = BTreeSet::<PolicyName>::new();
    let mut last = policies;
    last.reverse();
    last.retain(|policy| {
        let counts = seen.insert(policy.name().clone());
        if !counts {
            let field = FieldPath::Spec("metadata.name");
            findings.push(Diagnostic::new(policy, 0, field, Finding::Replaced));
        }
        counts
    });
    last.reverse();
    last
}

#[cfg(test)]
mod tests;
