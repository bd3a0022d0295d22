use std::collections::BTreeMap;

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
    let (by_action_before, by_action_after) = (by_action(rules_before), by_action(rules_after));
    let covered = |rule: &RuleView<'_>, others: &ByAction<'_>, action: &Action| {
        let others = others.get(action).map_or(&[][..], Vec::as_slice);
        rule.is_covered_by_any(others, effort)
    };
    for rule in rules_before.iter().filter(|rule| counts(rule)) {
        let action = rule.name.policy().action();
        if matches!(action, Action::Deny | Action::Custom { .. }) && !covered(rule, &by_action_after, action) {
            gaps.push(Gap::Rule(rule));
        }
    }
    if before.has_allow {
        if !after.has_allow {
            gaps.push(Gap::Default);
        }
        for rule in rules_after.iter().filter(|rule| counts(rule)) {
            let allows = *rule.name.policy().action() == Action::Allow;
            if allows
                && !covered(rule, &by_action_before, &Action::Allow)
                && !covered(rule, &by_action_after, &Action::Deny)
            {
                gaps.push(Gap::Rule(rule));
            }
        }
    }
    gaps
}

type ByAction<'v> = BTreeMap<&'v Action, Vec<&'v RuleView<'v>>>;

fn by_action<'v>(rules: &'v [RuleView<'v>]) -> ByAction<'v> {
    let mut all = ByAction::new();
    for rule in rules.iter().filter(|rule| counts(rule)) {
        all.entry(rule.name.policy().action()).or_default().push(rule);
    }
    all
}

fn counts(rule: &RuleView<'_>) -> bool {
    !rule.name.policy().is_dry_run()
}
