use std::{collections::HashMap, hash::BuildHasherDefault};

use super::{
    access,
    index::{self, Index, IndexBuilder},
    lower::{Entry, LoweredField, LoweredRule},
    segment::{Compiled, Field, Layer, Rule, Segment, Values},
    span::Span,
    test::Test,
};
use crate::{facts::Attribute, fingerprint::Mixing};

/// Lists of values longer than this have an index of their own.
const SHORT_LIST: usize = 16;

impl Segment {
    fn index_long_lists(&mut self) {
        let mut lists = Vec::new();
        let mut fields = std::mem::take(&mut self.fields);
        for field in &mut fields {
            let Some(attribute) = self.attributes.get(field.attribute as usize) else {
                continue;
            };
            for values in field.any.iter_mut().chain([&mut field.none]) {
                if values.span.range().len() > SHORT_LIST
                    && let Some(index) = self.index_list(attribute, *values)
                {
                    values.list = Some(lists.len() as u32);
                    lists.push(index);
                }
            }
        }
        self.fields = fields;
        self.lists = lists;
    }

    /// An index of a list's tests, if all of them can be found by one.
    fn index_list(&self, attribute: &Attribute, values: Values) -> Option<Index> {
        let mut index = IndexBuilder::default();
        for number in values.span.of(&self.values) {
            let test = self.tests.get(*number as usize)?;
            index::width(test)?;
            if !index.has_room(attribute, test) {
                return None;
            }
            index.file(attribute, test, *number);
        }
        Some(index.build())
    }
}

/// Gathers policies into the arrays of a [`Segment`].
#[derive(Default)]
pub(super) struct Builder {
    segment: Segment,
    attributes: HashMap<Attribute, u32>,
    tests: HashMap<Test, u32, BuildHasherDefault<Mixing>>,
}

impl Builder {
    /// Policies are added in the order of their names.
    pub(super) fn add(&mut self, policy: Compiled, mut rules: Vec<LoweredRule>) {
        // As Envoy sorts the names of its rules, in which a bracket follows the number.
        if rules.len() > 1 {
            rules.sort_by_cached_key(|rule| format!("{}]", rule.index));
        }
        for rule in rules {
            self.rule(rule);
        }
        self.segment.policies.push(policy);
    }

    pub(super) fn build(self) -> Segment {
        let mut segment = self.segment;
        // Each test is put in the place of its number; what was there in the meantime counts nowhere.
        segment.tests = vec![Test::Port(0); self.tests.len()];
        for (test, number) in self.tests {
            if let Some(place) = segment.tests.get_mut(number as usize) {
                *place = test;
            }
        }
        segment.has_http = segment.attributes.iter().any(Attribute::is_http_only);
        segment.connection = access::finder(&segment, Layer::Connection);
        if segment.has_http {
            segment.request = access::finder(&segment, Layer::Request);
        }
        segment.index_long_lists();
        segment
    }

    fn rule(&mut self, rule: LoweredRule) {
        let from = self.entries(rule.from);
        let to = self.entries(rule.to);
        let when = self.fields(rule.when);
        self.segment.rules.push(Rule {
            policy: self.segment.policies.len() as u32,
            index: rule.index as u32,
            from,
            to,
            when,
        });
    }

    fn entries(&mut self, entries: Vec<Entry>) -> Span {
        let start = self.segment.entries.len();
        for entry in entries {
            let fields = self.fields(entry.fields);
            self.segment.entries.push(fields);
        }
        Span::between(start, self.segment.entries.len())
    }

    fn fields(&mut self, fields: Vec<LoweredField>) -> Span {
        let start = self.segment.fields.len();
        for field in fields {
            let attribute = self.attribute(field.attribute);
            let any = field.any.map(|tests| self.values(tests));
            let none = self.values(field.none);
            self.segment.fields.push(Field { attribute, any, none });
        }
        Span::between(start, self.segment.fields.len())
    }

    fn values(&mut self, tests: Vec<Test>) -> Values {
        let start = self.segment.values.len();
        for test in tests {
            let next = self.tests.len() as u32;
            let number = *self.tests.entry(test).or_insert(next);
            self.segment.values.push(number);
        }
        Values {
            span: Span::between(start, self.segment.values.len()),
            list: None,
        }
    }

    fn attribute(&mut self, attribute: Attribute) -> u32 {
        match self.attributes.get(&attribute) {
            Some(number) => *number,
            None => {
                let number = self.segment.attributes.len() as u32;
                self.segment.attributes.push(attribute.clone());
                self.attributes.insert(attribute, number);
                number
            }
        }
    }
}
