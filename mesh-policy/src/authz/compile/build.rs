use std::{
    collections::HashMap,
    hash::{BuildHasher, BuildHasherDefault, Hash},
};

use super::{
    access::Access,
    index::{Handle, Index, IndexBuilder},
    lower::{Entry, LoweredField, LoweredRule},
    segment::{Compiled, Field, Layer, Rule, Segment, Values},
    span::Span,
    test::Test,
};
use crate::{
    facts::Attribute,
    fingerprint::{Fingerprinted, Mixing},
};

/// Lists of values longer than this have an index of their own.
const SHORT_LIST: usize = 16;

impl Segment {
    /// Gives back what was taken in advance: there may be many sets of few policies.
    fn shrink(&mut self) {
        self.policies.shrink_to_fit();
        self.rules.shrink_to_fit();
        self.entries.shrink_to_fit();
        self.fields.shrink_to_fit();
        self.values.shrink_to_fit();
        self.attributes.shrink_to_fit();
        self.tests.shrink_to_fit();
        self.lists.shrink_to_fit();
    }

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
            let handle = Handle::of(self.tests.get(*number as usize)?)?;
            if !index.has_room(attribute, &handle) {
                return None;
            }
            index.file(attribute, &handle, *number);
        }
        Some(index.build())
    }
}

/// Gathers policies into the arrays of a [`Segment`].
#[derive(Default)]
pub(super) struct Builder {
    segment: Segment,
    attributes: Interner<Attribute>,
    tests: Interner<Test>,
}

/// Numbers equal things alike.
struct Interner<T> {
    things: Vec<T>,
    /// By their fingerprints. Of two with the same, one is not found here, and is then kept as often
    /// as it occurs.
    numbers: HashMap<u64, u32, BuildHasherDefault<Fingerprinted>>,
}

impl Builder {
    /// Policies are added in the order of their names.
    pub(super) fn add(&mut self, policy: Compiled, mut rules: Vec<LoweredRule>) {
        rules.sort_unstable_by_key(|rule| rank(rule.index));
        for rule in rules {
            self.rule(rule);
        }
        self.segment.policies.push(policy);
    }

    pub(super) fn build(self) -> Segment {
        let mut segment = self.segment;
        segment.attributes = self.attributes.things;
        segment.tests = self.tests.things;
        segment.has_http = segment.attributes.iter().any(Attribute::is_http_only);
        let access = Access::new(&segment);
        let connection = access.finder(Layer::Connection);
        let request = segment.has_http.then(|| access.finder(Layer::Request));
        segment.connection = connection;
        segment.request = request.unwrap_or_default();
        segment.index_long_lists();
        segment.shrink();
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
            let attribute = self.attributes.number(field.attribute);
            let any = field.any.map(|tests| self.values(tests));
            let none = self.values(field.none);
            self.segment.fields.push(Field { attribute, any, none });
        }
        Span::between(start, self.segment.fields.len())
    }

    fn values(&mut self, tests: Vec<Test>) -> Values {
        let start = self.segment.values.len();
        for test in tests {
            let number = self.tests.number(test);
            self.segment.values.push(number);
        }
        Values {
            span: Span::between(start, self.segment.values.len()),
            list: None,
        }
    }
}

impl<T> Default for Interner<T> {
    fn default() -> Self {
        Self {
            things: Vec::new(),
            numbers: HashMap::default(),
        }
    }
}

impl<T: Eq + Hash> Interner<T> {
    fn number(&mut self, thing: T) -> u32 {
        let next = self.things.len() as u32;
        let fingerprint = BuildHasherDefault::<Mixing>::default().hash_one(&thing);
        let number = *self.numbers.entry(fingerprint).or_insert(next);
        if self.things.get(number as usize) == Some(&thing) {
            return number;
        }
        self.things.push(thing);
        next
    }
}

/// What sorts rules as Envoy sorts their names: the digits of an index, and a bracket behind them.
fn rank(index: usize) -> u128 {
    let (mut rank, mut rest) = (u128::from(b']') << 120, index as u32);
    loop {
        // Each digit pushes what follows it to the right.
        rank = rank >> 8 | u128::from(b'0' + (rest % 10) as u8) << 120;
        rest /= 10;
        if rest == 0 {
            return rank;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_ranked_by_the_text_of_their_names() {
        let mut indexes: Vec<_> = (0..1200).chain([u32::MAX as usize]).collect();
        indexes.sort_unstable_by_key(|index| rank(*index));
        assert!(indexes.is_sorted_by_key(|index| format!("{index}]")));
    }
}
