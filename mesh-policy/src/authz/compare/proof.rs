use crate::authz::{
    compile::PolicySet,
    cover::{Effort, RuleView},
    model::Action,
};

/// What a proof lacks: where to look for a witness first.
pub(super) enum Gap<'v> {
    /// A rule that no rule of the other set is seen to cover.
    Rule(&'v RuleView<'v>),
    /// One set has policies that allow, so that all else is denied, and the other has none.
    Default,
}

/// What keeps it from following from the rules alone that the set `after` admits nothing that the
/// set `before` does not. None, and it follows.
///
/// Each rule that denies, and each that asks a provider, must be covered by one of `after`, and
/// each rule of `after` that allows by one of `before`, or by one that denies anyway.
pub(super) fn gaps<'v>(
    before: &PolicySet,
    rules_before: &'v [RuleView<'v>],
    after: &PolicySet,
    rules_after: &'v [RuleView<'v>],
    effort: &Effort,
) -> Vec<Gap<'v>> {
    let mut gaps = Vec::new();
    let covered = |rule: &RuleView<'_>, others: &[RuleView<'_>], action: &Action| {
        let others = others
            .iter()
            .filter(|other| counts(other) && other.name.policy().action() == action);
        rule.is_covered_by_any(&others.collect::<Vec<_>>(), effort)
    };
    for rule in rules_before.iter().filter(|rule| counts(rule)) {
        let action = rule.name.policy().action();
        if matches!(action, Action::Deny | Action::Custom { .. }) && !covered(rule, rules_after, action) {
            gaps.push(Gap::Rule(rule));
        }
    }
    if before.has_allow {
        if !after.has_allow {
            gaps.push(Gap::Default);
        }
        for rule in rules_after.iter().filter(|rule| counts(rule)) {
            let allows = *rule.name.policy().action() == Action::Allow;
            if allows && !covered(rule, rules_before, &Action::Allow) && !covered(rule, rules_after, &Action::Deny) {
                gaps.push(Gap::Rule(rule));
            }
        }
    }
    gaps
}

fn counts(rule: &RuleView<'_>) -> bool {
    !rule.name.policy().is_dry_run()
}
