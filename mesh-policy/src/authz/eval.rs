//! Decisions. Nothing here allocates or locks.

use super::{
    compile::{
        PolicySet,
        segment::{Field, Finder, Layer, Segment, Values},
        span::Span,
    },
    decision::{Admission, AllowReason, Decision, DenyReason, DryRun, Permit, Verdict},
    model::Action,
    rule_ref::{Origin, RuleRef},
    truth::Truth,
};
use crate::facts::Facts;

/// The first rules of a class by their names: one that matches, and one that may.
#[derive(Clone, Copy, Default)]
struct Matches {
    yes: Option<RuleRef>,
    unknown: Option<RuleRef>,
}

impl PolicySet {
    /// Decides about a connection or a request: DENY before ALLOW, with what is not known here
    /// counted against it. AUDIT, CUSTOM and what is only tried out are evaluated beside.
    ///
    /// Takes time that hardly depends on the number of policies, and allocates nothing.
    pub fn decide<'f>(&self, facts: impl Into<Facts<'f>>) -> Decision {
        let facts = facts.into();
        let layer = if facts.is_request() {
            Layer::Request
        } else {
            Layer::Connection
        };
        let (mut allow, mut deny, mut audit) = (Matches::default(), Matches::default(), Matches::default());
        let (mut dry_allow, mut dry_deny) = (Matches::default(), Matches::default());
        let mut custom = 0;
        for (origin, segment) in self.parts() {
            for finder in segment.finders(layer) {
                let found = self.search(origin, segment, finder, &facts);
                let matches = match (&finder.class.action, finder.class.dry_run) {
                    (Action::Allow, false) => &mut allow,
                    (Action::Allow, true) => &mut dry_allow,
                    (Action::Deny, false) => &mut deny,
                    (Action::Deny, true) => &mut dry_deny,
                    (Action::Audit, false) => &mut audit,
                    (Action::Custom { provider }, false) if found.any().is_some() => {
                        custom |= self.provider_bit(provider);
                        continue;
                    }
                    // Istio tries out ALLOW and DENY only.
                    (Action::Audit | Action::Custom { .. }, _) => continue,
                };
                matches.merge(found, self);
            }
        }
        let dry_run = DryRun {
            denied_by: dry_deny.any(),
            allowed_by: dry_allow.yes,
            has_allow: self.has_dry_run_allow,
        };
        Decision::new(self.version(), self.verdict(allow, deny), custom, audit.any(), dry_run)
    }

    /// Asks again whether what a permit was granted for may go on: for live connections, after the
    /// policies changed. A permit that is current is granted again without a look at the facts.
    pub fn renew<'f>(&self, permit: Permit, facts: impl Into<Facts<'f>>) -> Admission {
        if permit.is_current(self) {
            Admission::Granted(permit)
        } else {
            self.decide(facts).admission()
        }
    }

    fn verdict(&self, allow: Matches, deny: Matches) -> Verdict {
        match (deny.yes, deny.unknown, allow.yes) {
            (Some(rule), _, _) => Verdict::Deny(DenyReason::Matched(rule)),
            (None, Some(rule), _) => Verdict::Deny(DenyReason::Unavailable(rule)),
            (None, None, Some(rule)) => Verdict::Allow(AllowReason::Matched(rule)),
            (None, None, None) if self.has_allow => Verdict::Deny(DenyReason::NoAllowMatched),
            (None, None, None) => Verdict::Allow(AllowReason::NoAllowPolicies),
        }
    }

    fn search(&self, origin: Origin, segment: &Segment, finder: &Finder, facts: &Facts<'_>) -> Matches {
        let mut search = Search {
            set: self,
            origin,
            segment,
            facts,
            yes: None,
            unknown: None,
        };
        search.consider(&finder.always);
        finder.index.find(facts, |rules| search.consider(rules));
        if finder.class.counts_unknown() && search.yes.is_none() {
            for (attribute, rules) in &finder.lacking {
                if segment
                    .attributes
                    .get(*attribute as usize)
                    .is_some_and(|attribute| facts.lacks(attribute))
                {
                    search.consider_unknown(rules);
                }
            }
        }
        let refer = |number: u32| RuleRef::new(origin, number);
        Matches {
            yes: search.yes.map(refer),
            unknown: search.unknown.filter(|_| finder.class.counts_unknown()).map(refer),
        }
    }
}

impl Matches {
    fn any(self) -> Option<RuleRef> {
        self.yes.or(self.unknown)
    }

    fn merge(&mut self, other: Self, set: &PolicySet) {
        let first = |one: Option<RuleRef>, other: Option<RuleRef>| match (one, other) {
            (Some(one), Some(other)) => Some(set.first_of(one, other)),
            (one, other) => one.or(other),
        };
        self.yes = first(self.yes, other.yes);
        self.unknown = first(self.unknown, other.unknown);
    }
}

/// A search for the rule of the lowest number, which is the first by its name.
struct Search<'s, 'f> {
    set: &'s PolicySet,
    origin: Origin,
    segment: &'s Segment,
    facts: &'s Facts<'f>,
    yes: Option<u32>,
    unknown: Option<u32>,
}

impl Search<'_, '_> {
    /// `rules` are sorted, so the first that matches ends it.
    fn consider(&mut self, rules: &[u32]) {
        for rule in rules {
            if self.yes.is_some_and(|best| best <= *rule) {
                return;
            }
            match self.truth(*rule) {
                Truth::Yes => {
                    self.yes = Some(*rule);
                    return;
                }
                Truth::Unknown => self.unknown = Some(self.unknown.map_or(*rule, |first| first.min(*rule))),
                Truth::No => {}
            }
        }
    }

    /// For rules that turn on something that is unavailable: the first that is not out counts.
    fn consider_unknown(&mut self, rules: &[u32]) {
        for rule in rules {
            if self.unknown.is_some_and(|first| first <= *rule) {
                return;
            }
            if self.truth(*rule) == Truth::Unknown {
                self.unknown = Some(*rule);
                return;
            }
        }
    }

    fn truth(&self, number: u32) -> Truth {
        let Some(rule) = self.segment.rules.get(number as usize) else {
            return Truth::No;
        };
        if self.origin == Origin::Base && self.set.is_replaced(rule.policy as usize) {
            return Truth::No;
        }
        let mut truth = self.segment.all(rule.when, self.facts);
        for entries in [rule.from, rule.to] {
            if truth == Truth::No {
                return Truth::No;
            }
            if !entries.is_empty() {
                truth = truth.min(self.segment.one_of(entries, self.facts));
            }
        }
        truth
    }
}

impl Segment {
    fn one_of(&self, entries: Span, facts: &Facts<'_>) -> Truth {
        let mut best = Truth::No;
        for fields in entries.of(&self.entries) {
            best = best.max(self.all(*fields, facts));
            if best == Truth::Yes {
                break;
            }
        }
        best
    }

    fn all(&self, fields: Span, facts: &Facts<'_>) -> Truth {
        let mut worst = Truth::Yes;
        for field in fields.of(&self.fields) {
            worst = worst.min(self.field(field, facts));
            if worst == Truth::No {
                break;
            }
        }
        worst
    }

    pub(super) fn field(&self, field: &Field, facts: &Facts<'_>) -> Truth {
        let Some(attribute) = self.attributes.get(field.attribute as usize) else {
            return Truth::Unknown;
        };
        if facts.lacks(attribute) {
            return Truth::Unknown;
        }
        let passes = |values: Values| {
            let passes = |number: &u32| {
                let test = self.tests.get(*number as usize);
                test.is_some_and(|test| test.passes(attribute, facts))
            };
            match values.list.and_then(|list| self.lists.get(list as usize)) {
                None => values.span.of(&self.values).iter().any(passes),
                Some(list) => {
                    let mut found = false;
                    list.find(facts, |numbers| found = found || numbers.iter().any(passes));
                    found
                }
            }
        };
        if field.any.is_none_or(passes) && !passes(field.none) {
            Truth::Yes
        } else {
            Truth::No
        }
    }
}
