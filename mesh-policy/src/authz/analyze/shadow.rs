//! Rules that others leave without effect.

use std::collections::BTreeSet;

use super::{candidate::Candidates, entry, finding::Finding};
use crate::authz::{
    attach::selects,
    compile::RuleName,
    cover::{Effort, RuleView},
    dialect::Diagnostic,
    invalid::FieldPath,
    model::{Action, AuthorizationPolicy},
    target::Target,
};

pub(super) fn check(rules: &[RuleView<'_>], root: &str, effort: &Effort, findings: &mut Vec<Diagnostic<Finding>>) {
    let dead = findings.iter().filter_map(|found| match &found.field {
        FieldPath::Rule { rule, .. } if found.note == Finding::NeverMatches => Some((found.policy.clone(), *rule)),
        _ => None,
    });
    let dead: BTreeSet<_> = dead.collect();
    let candidates = Candidates::new(rules);
    for (at, rule) in rules.iter().enumerate() {
        let policy = rule.name.policy();
        let field = FieldPath::Rule {
            rule: rule.name.index(),
            part: None,
        };
        // What never matches by itself needs no other rule for that.
        if dead.contains(&(policy.name().clone(), rule.name.index())) && !effort.is_spent() {
            continue;
        }
        let line = entry::line_of(policy, rule.name.index());
        let others = candidates.of(rule);
        let others = others.iter().filter_map(|number| rules.get(*number as usize));
        if let Some(found) = shadow(rule, others, root, effort) {
            findings.push(Diagnostic::new(policy, line, field.clone(), found));
        }
        if effort.is_spent() {
            let rules = rules.len() - at;
            findings.push(Diagnostic::new(policy, line, field, Finding::Unfinished { rules }));
            return;
        }
    }
}

/// What leaves a rule without effect, if one of the others does.
fn shadow<'v, 's: 'v>(
    rule: &RuleView<'_>,
    others: impl Iterator<Item = &'v RuleView<'s>> + Clone,
    root: &str,
    effort: &Effort,
) -> Option<Finding> {
    let policy = rule.name.policy();
    let mut others = others.filter(|other| {
        effort.spend()
            && other.reference != rule.reference
            && policy.is_dry_run() == other.name.policy().is_dry_run()
            && reaches_all_of(other.name.policy(), policy, root)
    });
    let overrules =
        |other: &&RuleView<'_>| *policy.action() == Action::Allow && *other.name.policy().action() == Action::Deny;
    let mut denying = others.clone().filter(overrules);
    if let Some(deny) = denying.find(|deny| rule.is_covered_by(deny, effort)) {
        let (policy, rule) = place(&deny.name);
        return Some(Finding::Overruled { policy, rule });
    }
    let shadow = others.find(|other| {
        *policy.action() == *other.name.policy().action()
            && rule.is_covered_by(other, effort)
            // Of two that match the same, the first counts.
            && (comes_before(&other.name, &rule.name) || !other.is_covered_by(rule, effort) && !effort.is_spent())
    });
    let (policy, rule) = place(&shadow?.name);
    Some(Finding::Shadowed { policy, rule })
}

fn place(name: &RuleName<'_>) -> (Box<str>, usize) {
    (name.policy().name().to_string().into(), name.index())
}

fn comes_before(one: &RuleName<'_>, other: &RuleName<'_>) -> bool {
    (one.policy().name(), one.index()) < (other.policy().name(), other.index())
}

/// Whether a policy applies wherever the other does.
fn reaches_all_of(policy: &AuthorizationPolicy, other: &AuthorizationPolicy, root: &str) -> bool {
    let same = policy.name().namespace == other.name().namespace;
    let reaches = same || *policy.name().namespace == *root;
    match (policy.target(), other.target()) {
        (Target::Namespace, Target::Namespace | Target::Selector(_)) => reaches,
        (Target::Selector(wanted), Target::Selector(labels)) => reaches && selects(wanted, labels),
        (Target::Selector(wanted), Target::Namespace) => reaches && wanted.is_empty(),
        (Target::Refs(refs), Target::Refs(others)) => same && others.iter().all(|target| refs.contains(target)),
        (Target::Namespace | Target::Selector(_), Target::Refs(_))
        | (Target::Refs(_), Target::Namespace | Target::Selector(_)) => false,
    }
}
