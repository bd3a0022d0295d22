use std::{collections::HashMap, ops::Range, sync::Arc};

use super::{
    access,
    index::{Index, IndexBuilder},
    lower::{Entry as LoweredEntry, LoweredField, LoweredRule},
    test::Test,
};
use crate::{
    authz::model::{Action, AuthorizationPolicy},
    facts::Attribute,
};

/// Lists of values longer than this have an index of their own.
const SHORT_LIST: usize = 16;

/// Compiled policies that never change: flat arrays, in which things are numbers.
#[derive(Debug, Default)]
pub(crate) struct Segment {
    /// Sorted by the names of their rules.
    pub(crate) policies: Vec<Compiled>,
    /// Sorted by policy and then by name, so that a rule's number is its rank.
    pub(crate) rules: Vec<Rule>,
    pub(crate) entries: Vec<Span>,
    pub(crate) fields: Vec<Field>,
    pub(crate) values: Vec<u32>,
    pub(crate) attributes: Vec<Attribute>,
    pub(crate) tests: Vec<Test>,
    pub(crate) lists: Vec<Index>,
    pub(crate) connection: Vec<Finder>,
    pub(crate) request: Vec<Finder>,
}

/// A range in one of a segment's arrays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    start: u32,
    len: u32,
}

impl Span {
    pub(super) const EMPTY: Self = Self { start: 0, len: 0 };

    /// What exceeds 32 bits is cut off, and lies beyond any budget.
    pub(super) fn between(start: usize, end: usize) -> Self {
        Self {
            start: start as u32,
            len: end.saturating_sub(start) as u32,
        }
    }

    pub(super) fn start(self) -> usize {
        self.start as usize
    }

    pub(crate) fn is_empty(self) -> bool {
        self.len == 0
    }

    pub(crate) fn range(self) -> Range<usize> {
        self.start as usize..self.start as usize + self.len as usize
    }

    pub(crate) fn of<T>(self, array: &[T]) -> &[T] {
        array.get(self.range()).unwrap_or_default()
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Compiled {
    pub(crate) policy: Arc<AuthorizationPolicy>,
    /// `false` if the plane knows nothing of it.
    pub(crate) exists: bool,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Rule {
    pub(crate) policy: u32,
    /// In the policy.
    pub(crate) index: u32,
    /// In `entries`, one of which must match; empty asks for nothing.
    pub(crate) from: Span,
    pub(crate) to: Span,
    /// In `fields`.
    pub(crate) when: Span,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Field {
    pub(crate) attribute: u32,
    pub(crate) any: Option<Values>,
    pub(crate) none: Values,
}

/// A list of values.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Values {
    /// In `values`, which are numbers of tests.
    pub(crate) span: Span,
    /// In `lists`, if the list is long.
    pub(crate) list: Option<u32>,
}

/// What kind of rules a finder finds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Class {
    pub(crate) action: Action,
    pub(crate) dry_run: bool,
}

impl Class {
    pub(super) fn of(policy: &AuthorizationPolicy) -> Self {
        Self {
            action: policy.action().clone(),
            dry_run: policy.is_dry_run(),
        }
    }

    /// Whether a rule that may or may not match counts as one that does.
    pub(crate) fn counts_unknown(&self) -> bool {
        self.action != Action::Allow
    }
}

/// What facts are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layer {
    Connection,
    Request,
}

/// Finds the rules of a class that may match.
#[derive(Clone, Debug)]
pub(crate) struct Finder {
    pub(crate) class: Class,
    pub(crate) index: Index,
    /// Rules that no index finds, sorted.
    pub(crate) always: Vec<u32>,
    /// Rules that are found by an attribute, for facts that lack it, sorted.
    pub(crate) lacking: Vec<(u32, Vec<u32>)>,
}

impl Segment {
    /// `policies` are sorted by name.
    pub(super) fn new(policies: impl IntoIterator<Item = (Compiled, Vec<LoweredRule>)>) -> Self {
        let mut builder = Builder::default();
        for (policy, mut rules) in policies {
            // As Envoy sorts the names of its rules, in which a bracket follows the number.
            rules.sort_by_cached_key(|rule| format!("{}]", rule.index));
            for rule in rules {
                builder.rule(rule);
            }
            builder.segment.policies.push(policy);
        }
        let mut segment = builder.segment;
        segment.connection = access::finders(&segment, Layer::Connection);
        if segment.attributes.iter().any(Attribute::is_http_only) {
            segment.request = access::finders(&segment, Layer::Request);
        }
        segment.index_long_lists();
        segment
    }

    pub(crate) fn finders(&self, layer: Layer) -> &[Finder] {
        // Without fields about requests, both layers are the same.
        if layer == Layer::Request && self.attributes.iter().any(Attribute::is_http_only) {
            &self.request
        } else {
            &self.connection
        }
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
            let test = self.tests.get(*number as usize)?;
            super::index::width(test)?;
            if !index.has_room(attribute, test) {
                return None;
            }
            index.file(attribute, test, *number);
        }
        Some(index.build())
    }
}

#[derive(Default)]
struct Builder {
    segment: Segment,
    attributes: HashMap<Attribute, u32>,
    tests: HashMap<Test, u32>,
}

impl Builder {
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

    fn entries(&mut self, entries: Vec<LoweredEntry>) -> Span {
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
            let number = match self.tests.get(&test) {
                Some(number) => *number,
                None => {
                    let number = self.segment.tests.len() as u32;
                    self.segment.tests.push(test.clone());
                    self.tests.insert(test, number);
                    number
                }
            };
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
