//! Which rules match no more than others, as far as that can be seen without asking them.

use std::cell::Cell;

use super::{
    compile::{
        PolicySet, RuleName,
        segment::{Field, Segment},
        span::Span,
        test::Test,
    },
    rule_ref::RuleRef,
};
use crate::facts::Attribute;

/// A rule of a set, with what it asks.
pub(super) struct RuleView<'s> {
    pub(super) reference: RuleRef,
    pub(super) name: RuleName<'s>,
    /// One of which must match; none ask for nothing.
    pub(super) from: Vec<Vec<FieldView<'s>>>,
    pub(super) to: Vec<Vec<FieldView<'s>>>,
    pub(super) when: Vec<FieldView<'s>>,
}

#[derive(Clone)]
pub(super) struct FieldView<'s> {
    pub(super) attribute: &'s Attribute,
    /// Of which one must pass, if there is such a requirement.
    pub(super) any: Option<Vec<&'s Test>>,
    pub(super) none: Vec<&'s Test>,
}

/// How many pairs of values may still be held against each other. What is left open for want of
/// it counts as not covered.
pub(super) struct Effort(Cell<u64>);

impl Effort {
    pub(super) fn new(pairs: u64) -> Self {
        Self(Cell::new(pairs))
    }

    pub(super) fn is_spent(&self) -> bool {
        self.0.get() == 0
    }

    fn spend(&self) -> bool {
        let left = self.0.get();
        self.0.set(left.saturating_sub(1));
        left > 0
    }
}

/// The rules of a set that its dialect has, with what they ask.
pub(super) fn rules(set: &PolicySet) -> Vec<RuleView<'_>> {
    let mut views = Vec::new();
    for (origin, segment) in set.parts() {
        for (number, rule) in segment.rules.iter().enumerate() {
            let reference = RuleRef::new(origin, number as u32);
            let Some(name) = set.rule(reference) else { continue };
            if origin.is_base() && set.is_replaced(rule.policy as usize) {
                continue;
            }
            let entries = |span: Span| span.of(&segment.entries).iter().map(|fields| segment.views(*fields));
            views.push(RuleView {
                reference,
                name,
                from: entries(rule.from).collect(),
                to: entries(rule.to).collect(),
                when: segment.views(rule.when),
            });
        }
    }
    views
}

impl RuleView<'_> {
    /// Whether the other rule is at least as true as this one, whatever the facts. `false` is no
    /// proof of the contrary.
    pub(super) fn is_covered_by(&self, other: &RuleView<'_>, effort: &Effort) -> bool {
        let from = alternatives(&self.from, &self.when);
        let to = alternatives(&self.to, &self.when);
        let each_in = |alternatives: &[Vec<&FieldView<'_>>], wider: &[Vec<FieldView<'_>>]| {
            wider.is_empty()
                || alternatives
                    .iter()
                    .all(|fields| wider.iter().any(|entry| all_covered(fields, entry, effort)))
        };
        let conditions = other.when.iter().all(|condition| {
            let covers = |fields: &Vec<&FieldView<'_>>| fields.iter().any(|field| field.implies(condition, effort));
            from.iter().all(covers) || to.iter().all(covers)
        });
        conditions && each_in(&from, &other.from) && each_in(&to, &other.to)
    }
}

/// What each entry asks together with the conditions.
fn alternatives<'v, 's>(entries: &'v [Vec<FieldView<'s>>], when: &'v [FieldView<'s>]) -> Vec<Vec<&'v FieldView<'s>>> {
    if entries.is_empty() {
        return vec![when.iter().collect()];
    }
    let entries = entries.iter();
    entries.map(|fields| fields.iter().chain(when).collect()).collect()
}

fn all_covered(fields: &[&FieldView<'_>], entry: &[FieldView<'_>], effort: &Effort) -> bool {
    entry
        .iter()
        .all(|wider| fields.iter().any(|field| field.implies(wider, effort)))
}

impl FieldView<'_> {
    fn implies(&self, wider: &FieldView<'_>, effort: &Effort) -> bool {
        if self.attribute != wider.attribute {
            return false;
        }
        let positive = match (&self.any, &wider.any) {
            (_, None) => true,
            (None, Some(_)) => false,
            (Some(narrow), Some(wide)) => narrow.iter().all(|test| {
                let covers = |other: &&Test| effort.spend() && test.implies(other);
                wide.iter().any(covers)
            }),
        };
        let keeps_out = |excluded: &&Test| {
            let negated = self.none.iter().any(|mine| effort.spend() && excluded.implies(mine));
            let positives = self.any.as_deref().unwrap_or_default();
            let apart = has_one_value(self.attribute)
                && self.any.is_some()
                && positives.iter().all(|mine| effort.spend() && mine.excludes(excluded));
            negated || apart
        };
        positive && wider.none.iter().all(keeps_out)
    }
}

/// Whether no facts have several values of it, or tests that look at different ones.
pub(super) fn has_one_value(attribute: &Attribute) -> bool {
    matches!(
        attribute,
        Attribute::SourceIp
            | Attribute::RemoteIp
            | Attribute::DestinationIp
            | Attribute::DestinationPort
            | Attribute::Host
            | Attribute::Method
            | Attribute::Path
            | Attribute::Sni
    )
}

impl Segment {
    fn views(&self, fields: Span) -> Vec<FieldView<'_>> {
        let fields = fields.of(&self.fields).iter();
        fields.filter_map(|field| self.view(field)).collect()
    }

    fn view(&self, field: &Field) -> Option<FieldView<'_>> {
        let tests = |span: Span| {
            let numbers = span.of(&self.values).iter();
            numbers.filter_map(|number| self.tests.get(*number as usize)).collect()
        };
        Some(FieldView {
            attribute: self.attributes.get(field.attribute as usize)?,
            any: field.any.map(|values| tests(values.span)),
            none: tests(field.none.span),
        })
    }
}
