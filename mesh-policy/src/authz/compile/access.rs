//! By which of its fields a rule is found.
//!
//! A rule can only match if one of its sources, one of its operations and all of its conditions do.
//! So it is enough to file it under the values of one of these: the one that fewest other rules
//! share. For a request that has none of these values, the rule is never looked at.

use std::collections::BTreeMap;

use super::{
    index::{Handle, IndexBuilder},
    segment::{Class, Field, Filed, Finder, Layer, Rule, Segment},
    span::Span,
};
use crate::facts::Attribute;

/// The ways to the rules of a segment.
pub(super) struct Access<'s> {
    segment: &'s Segment,
    /// Of each test: how it is found, and how often it occurs.
    tests: Vec<(Option<Handle<'s>>, u32)>,
}

impl<'s> Access<'s> {
    pub(super) fn new(segment: &'s Segment) -> Self {
        let mut tests: Vec<_> = segment.tests.iter().map(|test| (Handle::of(test), 0)).collect();
        for number in &segment.values {
            if let Some((_, popularity)) = tests.get_mut(*number as usize) {
                *popularity += 1;
            }
        }
        Self { segment, tests }
    }

    pub(super) fn finder(&self, layer: Layer) -> Finder {
        let search = Search { access: self, layer };
        let mut filing = Filing::default();
        for (number, rule) in self.segment.rules.iter().enumerate() {
            let policy = self.segment.policies.get(rule.policy as usize);
            let Some(class) = policy.and_then(|compiled| Class::of(&compiled.policy)) else {
                continue;
            };
            if !class.counts_unknown() && search.never_matches(rule) {
                continue;
            }
            let filed = Filed::new(class, number as u32);
            filing.file(self, filed, search.cheapest(rule).as_deref());
        }
        filing.finder()
    }

    fn attribute(&self, field: &Field) -> Option<&'s Attribute> {
        self.segment.attributes.get(field.attribute as usize)
    }
}

struct Search<'a, 's> {
    access: &'a Access<'s>,
    layer: Layer,
}

impl<'s> Search<'_, 's> {
    /// The fields to find a rule by: one of each source, or one of each operation, or a condition.
    fn cheapest(&self, rule: &Rule) -> Option<Vec<&'s Field>> {
        let lists = [rule.from, rule.to].into_iter().filter(|entries| !entries.is_empty());
        let by_entries = lists.filter_map(|entries| {
            let mut total = 0;
            let mut chosen = Vec::new();
            for fields in entries.of(&self.access.segment.entries) {
                let (cost, field) = self.cheapest_field(*fields)?;
                total += cost;
                chosen.push(field);
            }
            Some((total, chosen))
        });
        let by_condition = self.cheapest_field(rule.when).map(|(cost, field)| (cost, vec![field]));
        let (_, fields) = by_entries.chain(by_condition).min_by_key(|(cost, _)| *cost)?;
        Some(fields)
    }

    fn cheapest_field(&self, fields: Span) -> Option<(u64, &'s Field)> {
        let fields = fields.of(&self.access.segment.fields).iter();
        fields
            .filter_map(|field| Some((self.cost(field)?, field)))
            .min_by_key(|(cost, _)| *cost)
    }

    /// How many rules a look at facts can be expected to find beside this one.
    fn cost(&self, field: &Field) -> Option<u64> {
        if self.is_beyond(self.access.attribute(field)?) {
            return None;
        }
        let mut cost = 0;
        for number in field.any?.span.of(&self.access.segment.values) {
            let (handle, popularity) = self.access.tests.get(*number as usize)?;
            cost += u64::from(*popularity) * (8 + u64::from(handle.as_ref()?.width()));
        }
        Some(cost)
    }

    /// A rule that allows matches nothing as long as something that it needs is unknown.
    fn never_matches(&self, rule: &Rule) -> bool {
        let unknown = |fields: &Span| {
            let mut fields = fields.of(&self.access.segment.fields).iter();
            fields.any(|field| {
                let attribute = self.access.attribute(field);
                attribute.is_some_and(|attribute| self.is_beyond(attribute))
            })
        };
        let entries =
            |entries: Span| !entries.is_empty() && entries.of(&self.access.segment.entries).iter().all(unknown);
        unknown(&rule.when) || entries(rule.from) || entries(rule.to)
    }

    fn is_beyond(&self, attribute: &Attribute) -> bool {
        self.layer == Layer::Connection && attribute.is_http_only()
    }
}

#[derive(Default)]
struct Filing<'s> {
    index: IndexBuilder<'s>,
    always: Vec<u32>,
    lacking: BTreeMap<u32, Vec<u32>>,
}

impl<'s> Filing<'s> {
    fn file(&mut self, access: &Access<'s>, filed: Filed, fields: Option<&[&'s Field]>) {
        let rule = filed.posting();
        let handles = |field: &&'s Field| {
            let values = field
                .any
                .map(|values| values.span.of(&access.segment.values))
                .unwrap_or_default();
            let tests = values.iter().filter_map(|number| access.tests.get(*number as usize));
            let handles = tests.filter_map(|(handle, _)| handle.as_ref());
            access
                .attribute(field)
                .into_iter()
                .flat_map(move |attribute| handles.clone().map(move |handle| (attribute, handle)))
        };
        let fields = fields.filter(|fields| {
            let mut handles = fields.iter().flat_map(handles);
            handles.all(|(attribute, handle)| self.index.has_room(attribute, handle))
        });
        let Some(fields) = fields else {
            self.always.push(rule);
            return;
        };
        for (attribute, handle) in fields.iter().flat_map(handles) {
            self.index.file(attribute, handle, rule);
        }
        if filed.class().counts_unknown() {
            for field in fields {
                let rules = self.lacking.entry(field.attribute).or_default();
                if rules.last() != Some(&rule) {
                    rules.push(rule);
                }
            }
        }
    }

    fn finder(mut self) -> Finder {
        self.always.sort_unstable();
        self.always.shrink_to_fit();
        for rules in self.lacking.values_mut() {
            rules.sort_unstable();
            rules.shrink_to_fit();
        }
        Finder {
            index: self.index.build(),
            always: self.always,
            lacking: self.lacking.into_iter().collect(),
        }
    }
}
