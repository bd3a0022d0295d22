//! Authorization, decided slowly and obviously: an evaluator that goes through all policies for
//! each request and reads each value anew, and generators of policies and requests.
//!
//! Nothing of it knows how `mesh-policy` compiles. It reads the model and the facts, and follows
//! what Istio, Envoy and ztunnel document.

pub mod generate;
mod naive;
mod value;
pub mod wire;

use mesh_policy::authz::{AllowReason, Decision, DenyReason, PolicySet, Verdict};

pub use self::naive::{Mesh, decide};

/// A decision in words, so that two evaluators can be compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The verdict, and the name of the rule that decided.
    pub verdict: String,
    /// The providers to ask, sorted.
    pub providers: Vec<String>,
    /// The rule that audits.
    pub audit: Option<String>,
    /// What would deny.
    pub dry_denied_by: Option<String>,
    /// What would allow.
    pub dry_allowed_by: Option<String>,
    /// What the policies that are tried out come to.
    pub dry_would_allow: bool,
}

impl Outcome {
    /// A decision of the compiled evaluator.
    pub fn of(decision: &Decision, set: &PolicySet) -> Self {
        let name = |rule| set.rule(rule).unwrap().to_string();
        let verdict = match decision.verdict() {
            Verdict::Allow(AllowReason::NoAllowPolicies) => "allow: no policy allows".to_owned(),
            Verdict::Allow(AllowReason::Matched(rule)) => format!("allow: {}", name(rule)),
            Verdict::Deny(DenyReason::Matched(rule)) => format!("deny: {}", name(rule)),
            Verdict::Deny(DenyReason::Unavailable(rule)) => format!("deny, perhaps: {}", name(rule)),
            Verdict::Deny(DenyReason::NoAllowMatched) => "deny: none allows".to_owned(),
        };
        let dry_run = decision.dry_run();
        Self {
            verdict,
            providers: decision.providers(set).map(str::to_owned).collect(),
            audit: decision.audit().map(name),
            dry_denied_by: dry_run.denied_by().map(name),
            dry_allowed_by: dry_run.allowed_by().map(name),
            dry_would_allow: dry_run.would_allow(),
        }
    }

    /// Whether ALLOW and DENY let it pass.
    pub fn is_allowed(&self) -> bool {
        self.verdict.starts_with("allow")
    }
}
