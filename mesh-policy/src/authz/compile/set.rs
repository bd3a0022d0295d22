use std::{
    cmp::Ordering,
    collections::{BTreeMap, HashSet},
    fmt,
    sync::Arc,
};

use super::{
    build::Builder,
    compiler::{CompileError, Compiler, MAX_PROVIDERS},
    lower::{LoweredPolicy, LoweredRule, Lowering},
    segment::{Compiled, Segment},
    value::Reader,
};
#[cfg(feature = "envoy")]
use crate::authz::dialect::TrustDomains;
use crate::{
    authz::{
        dialect::{Diagnostic, Dialect, Note},
        invalid::{Fault, FieldPath, Invalid},
        model::{Action, AuthorizationPolicy, PolicyName},
        rule_ref::{Origin, RuleRef},
    },
    budget::Resource,
};

/// So many policies may have changed since a set was compiled as a whole; one more, and it is
/// compiled as a whole again. With 10,000 policies, changing one then costs a few milliseconds on
/// average.
const MAX_CHANGED: usize = 128;

impl Compiler {
    /// Compiles policies. Of two with the same name, the later one counts, with a diagnostic; in the
    /// strict dialect they are an error.
    ///
    /// Which policies apply to a workload is another question: see [`attach`](crate::authz::attach).
    ///
    /// # Errors
    ///
    /// Policies that the dialect cannot take, all of them, or more than the budget. Whoever has a
    /// set that decides keeps it then.
    pub fn compile(
        self,
        policies: impl IntoIterator<Item = impl Into<Arc<AuthorizationPolicy>>>,
    ) -> Result<PolicySet, CompileError> {
        PolicySet::new(self, policies.into_iter().map(Into::into).collect())
    }
}

/// Policies compiled under one dialect, ready to decide. It never changes: an update makes another
/// set, which shares what stayed the same.
#[derive(Clone)]
pub struct PolicySet {
    compiler: Compiler,
    /// What was compiled as a whole.
    base: Arc<Part>,
    /// What changed since then.
    changed: Arc<Part>,
    /// One bit for each policy of the base that was replaced or removed.
    replaced: Arc<[u64]>,
    pub(in crate::authz) has_allow: bool,
    pub(in crate::authz) has_dry_run_allow: bool,
    providers: Arc<[Box<str>]>,
}

#[derive(Debug, Default)]
pub(in crate::authz) struct Part {
    pub(in crate::authz) segment: Segment,
    diagnostics: Vec<Diagnostic>,
    items: usize,
}

impl PolicySet {
    pub(super) fn new(compiler: Compiler, policies: Vec<Arc<AuthorizationPolicy>>) -> Result<Self, CompileError> {
        let base = Part::compile(&compiler, policies)?;
        Self::of_parts(compiler, Arc::new(base), Arc::default(), Arc::default())
    }

    /// The set with policies added, or put in place of those of the same name, as its next version.
    ///
    /// Only what changed is compiled, but for every hundredth or so such change, when the set is
    /// compiled as a whole to keep decisions fast.
    ///
    /// # Errors
    ///
    /// As [`Compiler::compile`]; this set then stays as good as it was.
    pub fn with(
        &self,
        policies: impl IntoIterator<Item = impl Into<Arc<AuthorizationPolicy>>>,
    ) -> Result<Self, CompileError> {
        let policies: Vec<_> = policies.into_iter().map(Into::into).collect();
        self.update(&policies, &[])
    }

    /// The set without some policies, as its next version. Names of no policy are passed over.
    ///
    /// # Errors
    ///
    /// None that the set as it is would not have met before; as [`Compiler::compile`].
    pub fn without(&self, names: &[PolicyName]) -> Result<Self, CompileError> {
        self.update(&[], names)
    }

    /// The version, which permits of this set carry, 0 if it has none.
    pub fn version(&self) -> u64 {
        self.compiler.version
    }

    /// The dialect that the set was compiled for.
    pub fn dialect(&self) -> Dialect {
        self.compiler.dialect
    }

    /// Reads a policy's values as the set does.
    pub(in crate::authz) fn reader<'s>(&'s self, policy: &'s AuthorizationPolicy) -> Reader<'s> {
        Reader::new(self.dialect(), &self.compiler.trust_domains, policy)
    }

    #[cfg(feature = "envoy")]
    pub(in crate::authz) fn trust_domains(&self) -> &TrustDomains {
        &self.compiler.trust_domains
    }

    /// The policies, in no particular order.
    pub fn policies(&self) -> impl Iterator<Item = &Arc<AuthorizationPolicy>> {
        let base = self.base.segment.policies.iter().enumerate();
        let kept = base
            .filter(|(at, _)| !self.is_replaced(*at))
            .map(|(_, compiled)| compiled);
        kept.chain(&self.changed.segment.policies)
            .map(|compiled| &compiled.policy)
    }

    /// What there is to know about the policies, as far as this dialect takes them otherwise than
    /// their author may think.
    pub fn diagnostics(&self) -> impl Iterator<Item = &Diagnostic> {
        let base = self.base.diagnostics.iter();
        let kept = base.filter(|diagnostic| !self.base.find(&diagnostic.policy).is_ok_and(|at| self.is_replaced(at)));
        kept.chain(&self.changed.diagnostics)
    }

    /// The providers that CUSTOM policies name, sorted.
    pub fn providers(&self) -> impl Iterator<Item = &str> {
        self.providers.iter().map(|name| &**name)
    }

    /// The rule that a decision of this set refers to; none for one of another set, perhaps.
    pub fn rule(&self, rule: RuleRef) -> Option<RuleName<'_>> {
        let (origin, number) = rule.parts();
        let segment = self.segment(origin);
        let rule = segment.rules.get(number as usize)?;
        Some(RuleName {
            policy: &segment.policies.get(rule.policy as usize)?.policy,
            index: rule.index as usize,
        })
    }

    pub(in crate::authz) fn parts(&self) -> [(Origin, &Segment); 2] {
        [
            (Origin::Base, &self.base.segment),
            (Origin::Changed, &self.changed.segment),
        ]
    }

    pub(in crate::authz) fn segment(&self, origin: Origin) -> &Segment {
        &self.part(origin).segment
    }

    /// Whether there are policies that came after the base.
    pub(in crate::authz) fn has_changed(&self) -> bool {
        !self.changed.segment.rules.is_empty()
    }

    /// Whether a policy of the base no longer counts.
    pub(in crate::authz) fn is_replaced(&self, policy: usize) -> bool {
        let word = self.replaced.get(policy / 64);
        word.is_some_and(|word| word >> (policy % 64) & 1 == 1)
    }

    pub(in crate::authz) fn provider_bit(&self, name: &str) -> u64 {
        let at = self.providers.binary_search_by(|provider| (**provider).cmp(name));
        at.map_or(0, |at| 1 << at)
    }

    /// Which of two rules comes first by its name.
    pub(in crate::authz) fn first_of(&self, one: RuleRef, other: RuleRef) -> RuleRef {
        match (self.rule(one), self.rule(other)) {
            (Some(first), Some(second)) if by_name(second.policy.name(), first.policy.name()).is_lt() => other,
            _ => one,
        }
    }

    fn part(&self, origin: Origin) -> &Part {
        match origin {
            Origin::Base => &self.base,
            Origin::Changed => &self.changed,
        }
    }

    fn update(&self, policies: &[Arc<AuthorizationPolicy>], removed: &[PolicyName]) -> Result<Self, CompileError> {
        let mut compiler = self.compiler.clone();
        // What has no version, or has no more of them, goes on without.
        if compiler.version != 0 {
            compiler.version = compiler.version.wrapping_add(1);
        }
        let touched: HashSet<_> = policies.iter().map(|policy| policy.name()).chain(removed).collect();
        let is_kept = |policy: &&Arc<AuthorizationPolicy>| !touched.contains(policy.name());
        let changed = self.changed.segment.policies.iter().map(|compiled| &compiled.policy);
        let mut changed: Vec<_> = changed.filter(is_kept).map(Arc::clone).collect();
        changed.extend(policies.iter().map(Arc::clone));
        let as_a_whole = |compiler| {
            let kept = self.policies().filter(is_kept).map(Arc::clone);
            Self::new(compiler, kept.chain(policies.iter().map(Arc::clone)).collect())
        };
        if changed.len() + removed.len() > MAX_CHANGED {
            return as_a_whole(compiler);
        }
        let words = self.base.segment.policies.len().div_ceil(64);
        let mut replaced = self.replaced.to_vec();
        replaced.resize(words, 0);
        for at in touched.iter().filter_map(|name| self.base.find(name).ok()) {
            if let Some(word) = replaced.get_mut(at / 64) {
                *word |= 1 << (at % 64);
            }
        }
        let changed = Arc::new(Part::compile(&compiler, changed)?);
        match Self::of_parts(compiler.clone(), Arc::clone(&self.base), changed, replaced.into()) {
            // What was replaced takes room until the set is compiled as a whole.
            Err(CompileError::OverBudget(_)) => as_a_whole(compiler),
            made => made,
        }
    }

    fn of_parts(
        compiler: Compiler,
        base: Arc<Part>,
        changed: Arc<Part>,
        replaced: Arc<[u64]>,
    ) -> Result<Self, CompileError> {
        let mut set = Self {
            compiler,
            base,
            changed,
            replaced,
            has_allow: false,
            has_dry_run_allow: false,
            providers: Arc::default(),
        };
        set.check_budget()?;
        let base = set.base.segment.policies.iter().enumerate();
        let kept = base
            .filter(|(at, _)| !set.is_replaced(*at))
            .map(|(_, compiled)| compiled);
        let mut providers = std::collections::BTreeSet::new();
        let (mut has_allow, mut has_dry_run_allow) = (false, false);
        for compiled in kept
            .chain(&set.changed.segment.policies)
            .filter(|compiled| compiled.exists)
        {
            match compiled.policy.action() {
                Action::Allow if compiled.policy.is_dry_run() => has_dry_run_allow = true,
                Action::Allow => has_allow = true,
                Action::Custom { provider } => {
                    providers.insert(provider.clone());
                }
                Action::Deny | Action::Audit => {}
            }
        }
        if providers.len() > MAX_PROVIDERS {
            let providers = providers.len();
            return Err(CompileError::TooManyProviders { providers });
        }
        set.has_allow = has_allow;
        set.has_dry_run_allow = has_dry_run_allow;
        set.providers = providers.into_iter().collect();
        Ok(set)
    }

    fn check_budget(&self) -> Result<(), CompileError> {
        let budget = &self.compiler.budget;
        let replaced: u32 = self.replaced.iter().map(|word| word.count_ones()).sum();
        let [base, changed] = [&self.base.segment, &self.changed.segment];
        let policies = base.policies.len() + changed.policies.len() - replaced as usize;
        budget.check(Resource::Policies, policies)?;
        budget.check(Resource::SetItems, self.base.items + self.changed.items)?;
        Ok(())
    }
}

impl fmt::Debug for PolicySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PolicySet")
            .field("version", &self.version())
            .field("dialect", &self.dialect())
            .field("policies", &self.policies().count())
            .finish_non_exhaustive()
    }
}

impl Part {
    fn compile(compiler: &Compiler, policies: Vec<Arc<AuthorizationPolicy>>) -> Result<Self, CompileError> {
        compiler.budget.check(Resource::Policies, policies.len())?;
        let (mut invalid, mut diagnostics) = (Vec::new(), Vec::new());
        let mut named = BTreeMap::new();
        for policy in policies {
            let Some(earlier) = named.insert(rule_prefix(policy.name()), policy) else {
                continue;
            };
            let (field, fault) = (FieldPath::Spec("metadata.name"), Fault::Replaced);
            if compiler.dialect == Dialect::Strict {
                invalid.push(Invalid::new(&earlier, 0, field, fault));
            } else {
                diagnostics.push(Diagnostic::new(&earlier, 0, field, Note::Tolerated(fault)));
            }
        }
        let mut items = 0;
        let mut builder = Builder::default();
        for policy in named.into_values() {
            let read = Lowering::run(
                &policy,
                compiler.dialect,
                &compiler.trust_domains,
                &compiler.budget,
                &mut diagnostics,
            );
            match read {
                Ok(LoweredPolicy { exists, rules }) => {
                    items += rules.iter().map(LoweredRule::items).sum::<usize>();
                    compiler.budget.check(Resource::SetItems, items)?;
                    builder.add(Compiled { policy, exists }, rules);
                }
                Err(faults) => invalid.extend(faults),
            }
        }
        if !invalid.is_empty() {
            return Err(CompileError::Invalid(invalid));
        }
        let segment = builder.build();
        Ok(Self {
            segment,
            diagnostics,
            items,
        })
    }

    fn find(&self, name: &PolicyName) -> Result<usize, usize> {
        self.segment
            .policies
            .binary_search_by(|compiled| by_name(compiled.policy.name(), name))
    }
}

/// A rule by its name: what Envoy reports as the effective policy.
#[derive(Clone, Copy, Debug)]
pub struct RuleName<'s> {
    policy: &'s AuthorizationPolicy,
    index: usize,
}

impl<'s> RuleName<'s> {
    #[cfg(feature = "envoy")]
    pub(in crate::authz) fn new(policy: &'s AuthorizationPolicy, index: usize) -> Self {
        Self { policy, index }
    }

    /// The policy that the rule is in.
    pub fn policy(&self) -> &'s AuthorizationPolicy {
        self.policy
    }

    /// The rule's index in the policy.
    pub fn index(&self) -> usize {
        self.index
    }
}

impl fmt::Display for RuleName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Action::Custom { provider } = self.policy.action() {
            write!(f, "istio-ext-authz-{provider}-")?;
        }
        let PolicyName { namespace, name } = self.policy.name();
        write!(f, "ns[{namespace}]-policy[{name}]-rule[{}]", self.index)
    }
}

/// What the names of a policy's rules begin with, and are sorted by.
fn rule_prefix(name: &PolicyName) -> String {
    format!("{}]-policy[{}]-rule[", name.namespace, name.name)
}

/// The order of [`rule_prefix`], without making one.
fn by_name(one: &PolicyName, other: &PolicyName) -> Ordering {
    prefix(one).cmp(prefix(other))
}

fn prefix(name: &PolicyName) -> impl Iterator<Item = u8> {
    let PolicyName { namespace, name } = name;
    [&**namespace, "]-policy[", &**name, "]-rule["]
        .into_iter()
        .flat_map(str::bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        authz::{
            Verdict,
            model::{Operation, OperationField, Rule},
        },
        budget::Budget,
        facts::ConnectionFacts,
    };

    fn deny_port(name: usize, port: usize) -> AuthorizationPolicy {
        let ports = Operation::new().any_of(OperationField::Ports, [port.to_string()]);
        AuthorizationPolicy::deny("n", &name.to_string()).rule(Rule::new().to(ports))
    }

    fn admits(set: &PolicySet, port: u16) -> bool {
        let facts = ConnectionFacts::new().destination_port(port);
        matches!(set.decide(&facts).verdict(), Verdict::Allow(_))
    }

    #[test]
    fn any_number_of_changes_leaves_what_they_say() {
        let compiler = Compiler::new(Dialect::Strict).version(1);
        let mut set = compiler.compile((0..10).map(|name| deny_port(name, name))).unwrap();
        for change in 0..3 * MAX_CHANGED {
            set = set.with([deny_port(change, 1000 + change)]).unwrap();
        }
        assert_eq!(set.version(), 1 + 3 * MAX_CHANGED as u64);
        assert_eq!(set.policies().count(), 3 * MAX_CHANGED);
        assert!(admits(&set, 5), "the rule for this port was replaced");
        assert!((0..3 * MAX_CHANGED).all(|change| !admits(&set, 1000 + change as u16)));
        let names: Vec<_> = (0..3 * MAX_CHANGED)
            .map(|name| PolicyName::new("n", &name.to_string()))
            .collect();
        let set = set.without(&names).unwrap();
        assert_eq!(set.policies().count(), 0);
        assert!(admits(&set, 1000));
    }

    #[test]
    fn of_two_with_one_name_the_later_counts_or_neither() {
        let two = || [deny_port(1, 80), deny_port(1, 81)];
        for dialect in [Dialect::Ztunnel, Dialect::EnvoyTcp, Dialect::EnvoyHttp] {
            let set = Compiler::new(dialect).compile(two()).unwrap();
            assert!(admits(&set, 80) && !admits(&set, 81));
            let said: Vec<_> = set.diagnostics().map(ToString::to_string).collect();
            assert_eq!(
                said,
                ["policy `n/1`: metadata.name: a later policy has the same name, and this plane goes on without it"]
            );
        }
        let expected = "policy `n/1`: metadata.name: a later policy has the same name";
        let error = Compiler::new(Dialect::Strict).compile(two()).unwrap_err();
        assert_eq!(error.to_string(), expected);
        let set = Compiler::new(Dialect::Strict).compile([deny_port(1, 79)]).unwrap();
        assert_eq!(set.with(two()).unwrap_err().to_string(), expected);
        // An update replaces on purpose, also where it has the set compiled as a whole.
        for count in [1, MAX_CHANGED + 1] {
            let set = set.with((1..=count).map(|name| deny_port(name, 80))).unwrap();
            assert!(admits(&set, 79) && !admits(&set, 80));
            assert_eq!((set.policies().count(), set.diagnostics().count()), (count, 0));
        }
    }

    /// What was replaced is no part of a set, though its arrays are shared.
    #[test]
    fn updates_have_the_same_limits_as_sets() {
        let budget = Budget::new().with_limit(Resource::SetItems, 9);
        let policies = |port| (0..3).map(move |name| deny_port(name, port));
        let compiler = Compiler::new(Dialect::Strict).budget(budget);
        let mut set = compiler.compile(policies(80)).unwrap();
        for port in 81..90_u16 {
            set = set.with(policies(port.into())).unwrap();
            assert!(admits(&set, port - 1) && !admits(&set, port));
        }
        let error = set.with([deny_port(3, 80)]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "12 rules, entries and values in a set are more than 9"
        );
        let fewer = set.without(&[PolicyName::new("n", "0")]).unwrap();
        assert!(fewer.with([deny_port(3, 80)]).is_ok());
    }

    #[test]
    fn sets_have_limits() {
        let compile = |resource, limit| {
            let budget = Budget::new().with_limit(resource, limit);
            Compiler::new(Dialect::Strict)
                .budget(budget)
                .compile((0..3).map(|name| deny_port(name, 80)))
        };
        assert!(compile(Resource::Policies, 3).is_ok() && compile(Resource::SetItems, 9).is_ok());
        assert!(matches!(
            compile(Resource::Policies, 2),
            Err(CompileError::OverBudget(_))
        ));
        assert!(matches!(
            compile(Resource::SetItems, 8),
            Err(CompileError::OverBudget(_))
        ));
        let asking = (0..=MAX_PROVIDERS)
            .map(|at| AuthorizationPolicy::custom("n", &format!("p{at}"), &format!("provider-{at}")).rule(Rule::new()));
        let error = Compiler::new(Dialect::Strict).compile(asking).unwrap_err();
        assert_eq!(error.to_string(), "65 providers are more than 64");
    }
}
