use super::{compile::PolicySet, rule_ref::RuleRef};

/// What a set decides about a connection or a request, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Decision {
    version: u64,
    verdict: Verdict,
    custom: u64,
    audit: Option<RuleRef>,
    dry_run: DryRun,
}

/// The verdict of ALLOW and DENY.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// May pass.
    Allow(AllowReason),
    /// May not.
    Deny(DenyReason),
}

/// Why something is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AllowReason {
    /// No policy allows anything, so everything that none denies is allowed.
    NoAllowPolicies,
    /// This rule allows it.
    Matched(RuleRef),
}

/// Why something is denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DenyReason {
    /// This rule denies it.
    Matched(RuleRef),
    /// Whether this rule denies it turns on something that is not known here.
    Unavailable(RuleRef),
    /// There are policies that allow, and none allows this.
    NoAllowMatched,
}

/// What the policies that are only tried out would do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct DryRun {
    pub(super) denied_by: Option<RuleRef>,
    pub(super) allowed_by: Option<RuleRef>,
    pub(super) has_allow: bool,
}

impl DryRun {
    /// The rule that would deny.
    pub fn denied_by(&self) -> Option<RuleRef> {
        self.denied_by
    }

    /// The rule that would allow.
    pub fn allowed_by(&self) -> Option<RuleRef> {
        self.allowed_by
    }

    /// Whether, by the policies that are tried out alone, nothing would deny, and something would
    /// allow if any of them allows anything.
    pub fn would_allow(&self) -> bool {
        self.denied_by.is_none() && (self.allowed_by.is_some() || !self.has_allow)
    }
}

impl Decision {
    pub(super) fn new(version: u64, verdict: Verdict, custom: u64, audit: Option<RuleRef>, dry_run: DryRun) -> Self {
        Self {
            version,
            verdict,
            custom,
            audit,
            dry_run,
        }
    }

    /// The version of the set that decided, 0 if it has none.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// What ALLOW and DENY come to. If CUSTOM policies match, their providers are still to be
    /// asked; they cannot overrule a denial.
    pub fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// The rule that decided: the first by its name, if several match.
    pub fn rule(&self) -> Option<RuleRef> {
        match self.verdict {
            Verdict::Allow(AllowReason::Matched(rule))
            | Verdict::Deny(DenyReason::Matched(rule) | DenyReason::Unavailable(rule)) => Some(rule),
            Verdict::Allow(AllowReason::NoAllowPolicies) | Verdict::Deny(DenyReason::NoAllowMatched) => None,
        }
    }

    /// The providers whose CUSTOM policies match, sorted.
    pub fn providers<'s>(&self, set: &'s PolicySet) -> impl Iterator<Item = &'s str> + use<'s> {
        names(self.custom, set)
    }

    /// The AUDIT rule that matches, the first by its name: the request is to be recorded.
    pub fn audit(&self) -> Option<RuleRef> {
        self.audit
    }

    /// What the policies that are only tried out would do.
    pub fn dry_run(&self) -> DryRun {
        self.dry_run
    }

    /// Whether the connection or request may pass: the only way to a [`Permit`].
    pub fn admission(self) -> Admission {
        let permit = Permit { version: self.version };
        match self.verdict {
            Verdict::Deny(reason) => Admission::Refused(Denial {
                version: self.version,
                reason,
            }),
            Verdict::Allow(_) if self.custom != 0 => Admission::Ask(Consultation {
                permit,
                providers: self.custom,
            }),
            Verdict::Allow(_) => Admission::Granted(permit),
        }
    }
}

/// What a decision comes to.
#[derive(Debug)]
#[must_use]
pub enum Admission {
    /// It may pass.
    Granted(Permit),
    /// It may pass if the providers say so.
    Ask(Consultation),
    /// It may not pass.
    Refused(Denial),
}

/// Evidence that a set of policies admits a connection or a request. Nothing but an evaluation
/// makes one, and it is worth as much as the version of the set that it came from.
///
/// ```compile_fail
/// let permit = mesh_policy::authz::Permit { version: 1 };
/// ```
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub struct Permit {
    version: u64,
}

impl Permit {
    /// The version of the set that granted it, 0 if it has none.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Whether this is still the set that granted it. Otherwise [`PolicySet::renew`] asks again.
    /// Never for sets without a version.
    pub fn is_current(&self, set: &PolicySet) -> bool {
        self.version != 0 && self.version == set.version()
    }
}

/// A permit that depends on external providers.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub struct Consultation {
    permit: Permit,
    providers: u64,
}

impl Consultation {
    /// The providers to ask, sorted; all of them must agree.
    pub fn providers<'s>(&self, set: &'s PolicySet) -> impl Iterator<Item = &'s str> + use<'s> {
        names(self.providers, set)
    }

    /// The permit, for a caller who has asked every provider, and every one has agreed.
    pub fn all_agreed(self) -> Permit {
        self.permit
    }
}

/// A refusal, with its reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Denial {
    version: u64,
    reason: DenyReason,
}

impl Denial {
    /// The version of the set that refused, 0 if it has none.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Why.
    pub fn reason(&self) -> DenyReason {
        self.reason
    }
}

fn names(bits: u64, set: &PolicySet) -> impl Iterator<Item = &str> + use<'_> {
    set.providers()
        .enumerate()
        .filter(move |(at, _)| bits >> at & 1 == 1)
        .map(|(_, name)| name)
}
