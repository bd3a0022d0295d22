//! Decisions. Nothing here allocates or locks.

use super::{
    compile::{
        PolicySet,
        segment::{Class, Field, Filed, Layer, Segment, Values},
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

/// What a search has found.
#[derive(Clone, Copy, Default)]
struct Found {
    of_class: [Matches; Class::COUNT],
    /// The providers of CUSTOM rules that match.
    custom: u64,
}

impl PolicySet {
    /// Decides about a connection or a request: DENY before ALLOW, with what is not known here
    /// counted against it. AUDIT, CUSTOM and what is only tried out are evaluated beside.
    ///
    /// Takes time that hardly depends on the number of policies, and allocates nothing.
    pub fn decide<'f>(&self, facts: impl Into<Facts<'f>>) -> Decision {
        let facts = facts.into();
        let mut found = Search::run(self, Origin::Base, &facts);
        // As a rule nothing has changed since the set was compiled as a whole.
        if self.has_changed() {
            found.merge(&Search::run(self, Origin::Changed, &facts), self);
        }
        // CUSTOM has left its providers, and no rule.
        let Found {
            of_class: [allow, deny, audit, dry_allow, dry_deny, _],
            custom,
        } = found;
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
}

impl Matches {
    fn any(self) -> Option<RuleRef> {
        self.yes.or(self.unknown)
    }

    fn merge(&mut self, other: &Self, set: &PolicySet) {
        let first = |one: Option<RuleRef>, other: Option<RuleRef>| match (one, other) {
            (Some(one), Some(other)) => Some(set.first_of(one, other)),
            (one, other) => one.or(other),
        };
        self.yes = first(self.yes, other.yes);
        self.unknown = first(self.unknown, other.unknown);
    }
}

impl Found {
    fn merge(&mut self, other: &Self, set: &PolicySet) {
        self.custom |= other.custom;
        for (class, of_other) in self.of_class.iter_mut().zip(&other.of_class) {
            class.merge(of_other, set);
        }
    }

    fn of(&mut self, class: Class) -> &mut Matches {
        #[expect(clippy::indexing_slicing, reason = "there is one entry for each class")]
        &mut self.of_class[class as usize]
    }
}

/// A search in one part of a set. Within a part, the lower of two rules is the first by its name.
struct Search<'s, 'f> {
    set: &'s PolicySet,
    origin: Origin,
    segment: &'s Segment,
    facts: &'s Facts<'f>,
    found: Found,
}

impl<'s, 'f> Search<'s, 'f> {
    fn run(set: &'s PolicySet, origin: Origin, facts: &'s Facts<'f>) -> Found {
        let segment = set.segment(origin);
        let mut search = Self {
            set,
            origin,
            segment,
            facts,
            found: Found::default(),
        };
        let layer = if facts.is_request() {
            Layer::Request
        } else {
            Layer::Connection
        };
        let finder = segment.finder(layer);
        search.consider(&finder.always);
        finder.index.find(facts, |rules| search.consider(rules));
        for (attribute, rules) in &finder.lacking {
            let attribute = segment.attributes.get(*attribute as usize);
            if attribute.is_some_and(|attribute| facts.lacks(attribute)) {
                search.consider_unknown(rules);
            }
        }
        search.found
    }

    /// `rules` are sorted, so of each class the first that matches ends it.
    fn consider(&mut self, mut rules: &[u32]) {
        while let Some((first, rest)) = rules.split_first() {
            let filed = Filed::from_posting(*first);
            let (class, number) = (filed.class(), filed.number());
            let rule = RuleRef::new(self.origin, number);
            if self.found.of(class).yes.is_some_and(|best| best <= rule) {
                rules = behind(class, rest);
                continue;
            }
            rules = match self.truth(number) {
                Truth::Yes if class == Class::Custom => {
                    self.found.custom |= self.provider(number);
                    rest
                }
                Truth::Yes => {
                    self.found.of(class).yes = Some(rule);
                    behind(class, rest)
                }
                Truth::Unknown => {
                    self.may_match(class, number);
                    rest
                }
                Truth::No => rest,
            };
        }
    }

    /// For rules that turn on something that is unavailable: of each class the first that is not
    /// out counts, unless one matches.
    fn consider_unknown(&mut self, mut rules: &[u32]) {
        while let Some((first, rest)) = rules.split_first() {
            let filed = Filed::from_posting(*first);
            let (class, number) = (filed.class(), filed.number());
            let rule = RuleRef::new(self.origin, number);
            let Matches { yes, unknown } = *self.found.of(class);
            if yes.is_some() || unknown.is_some_and(|first| first <= rule) {
                rules = behind(class, rest);
                continue;
            }
            let may_match = self.truth(number) == Truth::Unknown;
            if may_match {
                self.may_match(class, number);
            }
            rules = if may_match && class != Class::Custom {
                behind(class, rest)
            } else {
                rest
            };
        }
    }

    fn may_match(&mut self, class: Class, number: u32) {
        if class == Class::Custom {
            self.found.custom |= self.provider(number);
        } else if class.counts_unknown() {
            let rule = RuleRef::new(self.origin, number);
            let unknown = &mut self.found.of(class).unknown;
            *unknown = Some(unknown.map_or(rule, |first| first.min(rule)));
        }
    }

    /// The bit of the provider that a CUSTOM rule asks.
    fn provider(&self, number: u32) -> u64 {
        let rule = self.segment.rules.get(number as usize);
        let policy = rule.and_then(|rule| self.segment.policies.get(rule.policy as usize));
        match policy.map(|compiled| compiled.policy.action()) {
            Some(Action::Custom { provider }) => self.set.provider_bit(provider),
            _ => 0,
        }
    }

    fn truth(&self, number: u32) -> Truth {
        let Some(rule) = self.segment.rules.get(number as usize) else {
            return Truth::No;
        };
        if self.origin.is_base() && self.set.is_replaced(rule.policy as usize) {
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

/// What comes behind the rules of a class.
fn behind(class: Class, rules: &[u32]) -> &[u32] {
    let at = rules.partition_point(|posting| Filed::from_posting(*posting).class() <= class);
    rules.get(at..).unwrap_or_default()
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
