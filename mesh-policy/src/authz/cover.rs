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

/// So many parts a rule is taken apart into.
const MAX_PARTS: usize = 256;

/// A rule of a set, with what it asks.
#[derive(Clone)]
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

/// How many pairs of rules and of values may still be held against each other. What is left open
/// for want of it counts as not covered.
pub(super) struct Effort(Cell<u64>);

impl Effort {
    pub(super) fn new(pairs: u64) -> Self {
        Self(Cell::new(pairs))
    }

    pub(super) fn is_spent(&self) -> bool {
        self.0.get() == 0
    }

    pub(super) fn spend(&self) -> bool {
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

impl<'s> RuleView<'s> {
    /// Whether, whatever the facts, one of the others is at least as true as this one. `false` is
    /// no proof of the contrary.
    pub(super) fn is_covered_by_any(&self, others: &[&RuleView<'_>], effort: &Effort) -> bool {
        let covered = |rule: &RuleView<'_>| others.iter().any(|other| rule.is_covered_by(other, effort));
        covered(self) || self.parts().is_some_and(|parts| parts.iter().all(covered))
    }

    /// What the rule asks about.
    pub(super) fn attributes(&self) -> impl Iterator<Item = &'s Attribute> {
        let entries = self.from.iter().chain(&self.to).flatten();
        entries.chain(&self.when).map(|field| field.attribute)
    }

    /// Rules of one source, one operation and one value for each field, one of which is as true as
    /// this rule; none if that takes too many.
    fn parts(&self) -> Option<Vec<Self>> {
        let mut parts = vec![self.clone()];
        for clause in [Self::sources, Self::operations] {
            parts = split(parts, |part| {
                let entries = std::mem::take(clause(part));
                let or_none = entries.is_empty().then(Vec::new);
                let one = entries.into_iter().map(|entry| vec![entry]);
                one.chain(or_none)
                    .map(|entries| {
                        let mut part = part.clone();
                        *clause(&mut part) = entries;
                        part
                    })
                    .collect()
            })?;
            let fields = parts
                .iter_mut()
                .map(|part| clause(part).first().map_or(0, Vec::len))
                .max()?;
            for at in 0..fields {
                parts = split(parts, |part| {
                    by_value(part, |part| clause(part).first_mut()?.get_mut(at))
                })?;
            }
        }
        for at in 0..self.when.len() {
            parts = split(parts, |part| by_value(part, |part| part.when.get_mut(at)))?;
        }
        Some(parts)
    }

    fn sources(&mut self) -> &mut Vec<Vec<FieldView<'s>>> {
        &mut self.from
    }

    fn operations(&mut self) -> &mut Vec<Vec<FieldView<'s>>> {
        &mut self.to
    }

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

/// Takes each of the parts apart, unless that makes too many.
fn split<'s>(
    parts: Vec<RuleView<'s>>,
    mut take_apart: impl FnMut(&mut RuleView<'s>) -> Vec<RuleView<'s>>,
) -> Option<Vec<RuleView<'s>>> {
    let mut all = Vec::with_capacity(parts.len());
    for mut part in parts {
        all.extend(take_apart(&mut part));
        if all.len() > MAX_PARTS {
            return None;
        }
    }
    Some(all)
}

/// The rule once for each value of one of its fields.
fn by_value<'s>(
    rule: &mut RuleView<'s>,
    field: impl for<'r> Fn(&'r mut RuleView<'s>) -> Option<&'r mut FieldView<'s>>,
) -> Vec<RuleView<'s>> {
    let values = field(rule).and_then(|field| field.any.clone()).unwrap_or_default();
    if values.len() < 2 {
        return vec![rule.clone()];
    }
    let one = values.into_iter().take(MAX_PARTS + 1).map(|value| {
        let mut part = rule.clone();
        if let Some(field) = field(&mut part) {
            field.any = Some(vec![value]);
        }
        part
    });
    one.collect()
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
