//! Whether one connection or request is allowed.

use mesh_policy::Sample;
use mesh_policy::authz::{AllowReason, AuthorizationPolicy, Decision, DenyReason, PolicySet, RuleRef, Verdict};
use serde::Serialize;

use super::facts::{self, Written, describe};
use super::{Failure, Out, Outcome, args, policies};

pub(super) fn run(args: &args::Question, out: &mut Out) -> Result<Outcome, Failure> {
    let sample = facts::sample(&args.facts)?;
    let policies = policies::load(&args.policies, &args.recipient)?;
    let set = args.reading.compiler().compile(policies)?;
    let decision = sample.with(|facts| set.decide(facts));
    let checked = Checked::new(&sample, &decision, &set);
    let text = format!("{}\n{}\n{}", describe(&sample), checked.answer, checked.answer.beside());
    out.print(&checked, &text)?;
    Ok(Outcome::found(!checked.answer.allowed))
}

#[derive(Debug, Serialize)]
struct Checked {
    #[serde(flatten)]
    answer: Answer,
    policies: usize,
    facts: Written,
}

impl Checked {
    fn new(sample: &Sample, decision: &Decision, set: &PolicySet) -> Self {
        Self {
            answer: Answer::new(decision, set),
            policies: set.policies().count(),
            facts: sample.into(),
        }
    }
}

/// A decision, as it is printed.
#[derive(Debug, Serialize)]
pub(super) struct Answer {
    pub(super) allowed: bool,
    reason: &'static str,
    rule: Option<RulePlace>,
    /// Providers that must agree, too.
    providers: Vec<String>,
    audited_by: Option<RulePlace>,
    /// By the policies that are only tried out, if there are any.
    dry_run_would_allow: Option<bool>,
}

/// A rule, and where it was read; nowhere, if a PeerAuthentication was made into it.
#[derive(Debug, Serialize)]
pub(super) struct RulePlace {
    policy: String,
    rule: usize,
    file: Option<String>,
    line: u32,
}

impl Answer {
    pub(super) fn new(decision: &Decision, set: &PolicySet) -> Self {
        let place = |rule| RulePlace::new(rule, set);
        let (allowed, reason) = match decision.verdict() {
            Verdict::Allow(AllowReason::NoAllowPolicies) => (true, "no policy restricts it"),
            Verdict::Allow(AllowReason::Matched(_)) => (true, "a rule allows it"),
            Verdict::Deny(DenyReason::Matched(_)) => (false, "a rule denies it"),
            Verdict::Deny(DenyReason::Unavailable(_)) => {
                (false, "whether a rule denies it turns on what is not known here")
            }
            Verdict::Deny(DenyReason::NoAllowMatched) => (false, "no rule allows it"),
        };
        Self {
            allowed,
            reason,
            rule: decision.rule().and_then(place),
            providers: decision.providers(set).map(str::to_owned).collect(),
            audited_by: decision.audit().and_then(place),
            dry_run_would_allow: set
                .policies()
                .any(|policy| policy.is_dry_run())
                .then(|| decision.dry_run().would_allow()),
        }
    }
}

impl Answer {
    /// What policies say that decide nothing, each in a line that ends.
    pub(super) fn beside(&self) -> String {
        let audit = self.audited_by.iter().map(|rule| format!("audited by {rule}\n"));
        let dry_run = self.dry_run_would_allow.iter().map(|would_allow| {
            let verdict = if *would_allow { "allow" } else { "deny" };
            format!("the policies that are only tried out (dry run) would {verdict} it\n")
        });
        audit.chain(dry_run).collect()
    }
}

impl RulePlace {
    fn new(rule: RuleRef, set: &PolicySet) -> Option<Self> {
        let name = set.rule(rule)?;
        Some(Self::of(name.policy(), name.index()))
    }

    pub(super) fn of(policy: &AuthorizationPolicy, rule: usize) -> Self {
        Self {
            policy: policy.name().to_string(),
            rule,
            file: policy.file().map(ToString::to_string),
            line: policy.line(),
        }
    }
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let verdict = if self.allowed { "ALLOWED" } else { "DENIED" };
        write!(f, "{verdict}: {}", self.reason)?;
        if let Some(rule) = &self.rule {
            write!(f, ": {rule}")?;
        }
        if self.allowed && !self.providers.is_empty() {
            write!(f, ", if the providers agree: {}", self.providers.join(", "))?;
        }
        Ok(())
    }
}

impl std::fmt::Display for RulePlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "policy {}, rule {} ", self.policy, self.rule)?;
        write_origin(f, self.file.as_deref(), self.line)
    }
}

/// Where a policy comes from, in brackets.
pub(super) fn write_origin(f: &mut std::fmt::Formatter<'_>, file: Option<&str>, line: u32) -> std::fmt::Result {
    match file {
        Some(file) => write!(f, "({file}:{line})"),
        None => f.write_str("(made from PeerAuthentication)"),
    }
}
