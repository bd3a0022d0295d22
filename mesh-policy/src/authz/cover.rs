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

/// How many pairs, of rules, fields or values, may still be held against each other. What is left
/// open for want of it counts as not so.
pub(super) struct Effort(Cell<u64>);

impl Effort {
    pub(super) fn new(pairs: u64) -> Self {
        Self(Cell::new(pairs))
    }

    pub(super) fn is_spent(&self) -> bool {
        self.0.get() == 0
    }

    /// Whether one of the items passes; each that is looked at takes effort.
    pub(super) fn any<T>(&self, items: impl IntoIterator<Item = T>, mut passes: impl FnMut(T) -> bool) -> bool {
        for item in items {
            if !self.spend() {
                return false;
            }
            if passes(item) {
                return true;
            }
        }
        false
    }

    /// Whether all of the items pass, if there is effort enough for all of them.
    pub(super) fn all<T>(&self, items: impl IntoIterator<Item = T>, mut passes: impl FnMut(T) -> bool) -> bool {
        items.into_iter().all(|item| self.spend() && passes(item))
    }

    /// Whether there was enough for one pair more.
    pub(super) fn spend(&self) -> bool {
        self.spend_many(1)
    }

    /// Whether there was enough for so many; if not, nothing is left.
    pub(super) fn spend_many(&self, pairs: u64) -> bool {
        let left = self.0.get();
        self.0.set(left.saturating_sub(pairs));
        left >= pairs
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
        let covered = |rule: &RuleView<'_>| effort.any(others, |other| rule.is_covered_by(other, effort));
        covered(self) || self.parts(effort).is_some_and(|parts| effort.all(&parts, covered))
    }

    /// What the rule asks about.
    pub(super) fn attributes(&self) -> impl Iterator<Item = &'s Attribute> {
        let entries = self.from.iter().chain(&self.to).flatten();
        entries.chain(&self.when).map(|field| field.attribute)
    }

    /// Rules of one source, one operation and one value for each field, one of which is as true as
    /// this rule; none if that takes too many.
    fn parts(&self, effort: &Effort) -> Option<Vec<Self>> {
        // Each part is a copy of most of the rule.
        let parts = self.count_parts();
        if parts > MAX_PARTS || !effort.spend_many((parts * self.count_tests()) as u64) {
            return None;
        }
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
            });
            let fields = parts
                .iter_mut()
                .map(|part| clause(part).first().map_or(0, Vec::len))
                .max();
            for at in 0..fields.unwrap_or(0) {
                parts = split(parts, |part| {
                    by_value(part, |part| clause(part).first_mut()?.get_mut(at))
                });
            }
        }
        for at in 0..self.when.len() {
            parts = split(parts, |part| by_value(part, |part| part.when.get_mut(at)));
        }
        Some(parts)
    }

    /// How many [`parts`](Self::parts) the rule has.
    fn count_parts(&self) -> usize {
        let values = |field: &FieldView<'_>| field.any.as_ref().map_or(1, |any| any.len().max(1));
        let entry = |fields: &Vec<FieldView<'_>>| fields.iter().map(values).fold(1, usize::saturating_mul);
        let entries = |entries: &[Vec<FieldView<'_>>]| entries.iter().map(entry).fold(0, usize::saturating_add).max(1);
        [entries(&self.from), entries(&self.to), entry(&self.when)]
            .into_iter()
            .fold(1, usize::saturating_mul)
    }

    fn count_tests(&self) -> usize {
        let fields = self.from.iter().chain(&self.to).flatten().chain(&self.when);
        fields
            .map(|field| 1 + field.any.as_ref().map_or(0, Vec::len) + field.none.len())
            .sum()
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
        let from = || alternatives(&self.from, &self.when);
        let to = || alternatives(&self.to, &self.when);
        let conditions = effort.all(&other.when, |condition| {
            effort.all(from(), |fields| one_implies(fields, condition, effort))
                || effort.all(to(), |fields| one_implies(fields, condition, effort))
        });
        conditions && each_in(from(), &other.from, effort) && each_in(to(), &other.to, effort)
    }
}

/// Takes each of the parts apart.
fn split<'s>(
    mut parts: Vec<RuleView<'s>>,
    take_apart: impl FnMut(&mut RuleView<'s>) -> Vec<RuleView<'s>>,
) -> Vec<RuleView<'s>> {
    parts.iter_mut().flat_map(take_apart).collect()
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
    let one = values.into_iter().map(|value| {
        let mut part = rule.clone();
        if let Some(field) = field(&mut part) {
            field.any = Some(vec![value]);
        }
        part
    });
    one.collect()
}

/// What each entry asks together with the conditions.
fn alternatives<'v, 's>(
    entries: &'v [Vec<FieldView<'s>>],
    when: &'v [FieldView<'s>],
) -> impl Iterator<Item = impl Iterator<Item = &'v FieldView<'s>> + Clone> {
    let fields = |at| entries.get(at).map_or(&[][..], Vec::as_slice);
    (0..entries.len().max(1)).map(move |at| fields(at).iter().chain(when))
}

/// Whether each alternative asks all that one of the entries does, if there are any.
fn each_in<'v, 's: 'v>(
    mut alternatives: impl Iterator<Item = impl Iterator<Item = &'v FieldView<'s>> + Clone>,
    entries: &[Vec<FieldView<'_>>],
    effort: &Effort,
) -> bool {
    entries.is_empty()
        || alternatives.all(|fields| {
            effort.any(entries, |entry| {
                effort.all(entry, |wider| one_implies(fields.clone(), wider, effort))
            })
        })
}

fn one_implies<'v, 's: 'v>(
    fields: impl Iterator<Item = &'v FieldView<'s>>,
    wider: &FieldView<'_>,
    effort: &Effort,
) -> bool {
    effort.any(fields, |field| field.implies(wider, effort))
}

impl FieldView<'_> {
    fn implies(&self, wider: &FieldView<'_>, effort: &Effort) -> bool {
        if self.attribute != wider.attribute {
            return false;
        }
        let positive = match (&self.any, &wider.any) {
            (_, None) => true,
            (None, Some(_)) => false,
            (Some(narrow), Some(wide)) => narrow.iter().all(|test| effort.any(wide, |other| test.implies(other))),
        };
        let keeps_out = |excluded: &&Test| {
            let apart = |positives: &Vec<&Test>| effort.all(positives, |mine| mine.excludes(excluded));
            effort.any(&self.none, |mine| excluded.implies(mine))
                || (has_one_value(self.attribute) && self.any.as_ref().is_some_and(apart))
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
