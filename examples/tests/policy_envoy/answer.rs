//! A decision in the words of both sides.

use mesh_policy::authz::{Decision, PolicySet, Verdict};
use serde_json::Value;

/// What CUSTOM policies' matches are called in what Envoy leaves, before the provider's name.
pub const CUSTOM: &str = "custom-";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub is_denied: bool,
    /// The rule that decided.
    pub rule: Option<String>,
    pub audit: Option<String>,
    pub dry_denied_by: Option<String>,
    pub dry_allowed_by: Option<String>,
    /// Sorted.
    pub providers: Vec<String>,
}

impl Answer {
    /// Ours.
    pub fn of(decision: &Decision, set: &PolicySet) -> Self {
        let name = |rule| set.rule(rule).unwrap().to_string();
        Self {
            is_denied: matches!(decision.verdict(), Verdict::Deny(_)),
            rule: decision.rule().map(name),
            audit: decision.audit().map(name),
            dry_denied_by: decision.dry_run().denied_by().map(name),
            dry_allowed_by: decision.dry_run().allowed_by().map(name),
            providers: decision.providers(set).map(str::to_owned).collect(),
        }
    }

    /// Envoy's: whether it let something pass, its own words about that, and the metadata that its
    /// filters left.
    pub fn of_envoy(is_denied: bool, details: &str, metadata: &Value) -> Self {
        let matched = |class: &str| {
            let rule = metadata.get(format!("{class}_shadow_effective_policy_id"))?;
            Some(rule.as_str().unwrap().to_owned())
        };
        let rule = if is_denied { matched("deny") } else { matched("allow") };
        if is_denied {
            let reason = rule.as_deref().unwrap_or("none");
            // Envoy writes no blanks into these details.
            assert!(
                details.contains(&format!("rbac_access_denied_matched_policy[{reason}]")),
                "{details} is not about {reason}"
            );
        } else {
            assert!(!details.contains("rbac"), "{details}");
        }
        let mut providers: Vec<_> = ["p", "q"].map(str::to_owned).into();
        providers.retain(|provider| matched(&format!("{CUSTOM}{provider}")).is_some());
        Self {
            is_denied,
            rule,
            audit: matched("audit"),
            dry_denied_by: matched("dry-deny"),
            dry_allowed_by: matched("dry-allow"),
            providers,
        }
    }
}
