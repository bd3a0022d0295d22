//! Which rules may match all that another matches, without a look at each.

use std::{
    collections::{BTreeSet, HashMap},
    hash::{Hash, Hasher},
};

use crate::{
    authz::{
        compile::test::Test,
        cover::{FieldView, RuleView},
    },
    facts::Attribute,
    fingerprint::{self, Mixing},
    matcher::{
        ip::{Cidr, mask},
        principal::NamespacePattern,
        text::TextPattern,
    },
};

/// Rules by what they ask for.
///
/// Each rule is filed under the values of one of its fields, the one that fewest others share. A
/// rule is covered by another only if what it asks of that field is as narrow: so the others are
/// among those that are filed under a value as wide as the rule's own. All that is found must be
/// checked: no rule that covers is passed over, and more may be found.
#[derive(Default)]
pub(super) struct Candidates {
    filed: HashMap<u64, Vec<u32>>,
    /// How long the beginnings and ends are, and the prefixes of blocks, that rules are filed under.
    lengths: HashMap<(u64, Kind), BTreeSet<usize>>,
    /// Rules that ask for nothing by which they could be filed.
    always: Vec<u32>,
}

/// How a value is wider than others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Kind {
    /// It is as wide as itself.
    Same,
    First,
    Last,
    V4,
    V6,
    /// Every value of the attribute may be narrower.
    Any,
}

impl Candidates {
    pub(super) fn new(rules: &[RuleView<'_>]) -> Self {
        let mut popularity = HashMap::<u64, u64>::new();
        for rule in rules {
            let fields = rule.from.iter().chain(&rule.to).flatten().chain(&rule.when);
            for key in fields.flat_map(keys) {
                *popularity.entry(key.hash).or_default() += 1;
            }
        }
        let mut candidates = Self::default();
        for (number, rule) in rules.iter().enumerate() {
            let number = number as u32;
            let Some(keys) = cheapest(rule, &popularity) else {
                candidates.always.push(number);
                continue;
            };
            for key in keys {
                let rules = candidates.filed.entry(key.hash).or_default();
                if rules.last() != Some(&number) {
                    rules.push(number);
                }
                if let Some(length) = key.length {
                    candidates
                        .lengths
                        .entry((key.attribute, key.kind))
                        .or_default()
                        .insert(length);
                }
            }
        }
        candidates
    }

    /// The numbers of the rules that may cover this one, sorted.
    pub(super) fn of(&self, rule: &RuleView<'_>) -> Vec<u32> {
        let mut found = self.always.clone();
        // What covers the rule covers the first of its alternatives.
        let entries = [rule.from.first(), rule.to.first()].into_iter().flatten().flatten();
        for field in entries.chain(&rule.when) {
            let Some(test) = field.any.as_ref().and_then(|any| any.first()) else {
                continue;
            };
            self.wider(field.attribute, test, |rules| found.extend_from_slice(rules));
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    /// Visits the rules that are filed under what this value may be as narrow as.
    fn wider(&self, attribute: &Attribute, test: &Test, mut visit: impl FnMut(&[u32])) {
        let attribute = number_of(attribute);
        let mut probe = |kind, bytes: &[u8]| {
            if let Some(rules) = self.filed.get(&hash(attribute, kind, bytes)) {
                visit(rules);
            }
        };
        let lengths = |kind| self.lengths.get(&(attribute, kind)).into_iter().flatten().copied();
        probe(Kind::Any, &[]);
        if let Test::Ip(block) = test {
            let kind = kind_of(*block);
            let bits = usize::from(block.bits());
            for bits in lengths(kind).take_while(|length| *length <= bits) {
                probe(kind, &block_bytes(*block, bits as u8));
            }
            return;
        }
        let (kind, bytes) = shape(test);
        probe(kind, &bytes);
        if kind != Kind::Last {
            for length in lengths(Kind::First) {
                bytes
                    .get(..length)
                    .into_iter()
                    .for_each(|start| probe(Kind::First, start));
            }
        }
        if kind != Kind::First {
            for length in lengths(Kind::Last) {
                let end = bytes.len().checked_sub(length).and_then(|at| bytes.get(at..));
                end.into_iter().for_each(|end| probe(Kind::Last, end));
            }
        }
    }
}

/// What a rule is filed under.
struct Key {
    attribute: u64,
    kind: Kind,
    length: Option<usize>,
    hash: u64,
}

/// The keys of one field of each source, or of each operation, or of a condition: of those that
/// fewest rules share.
fn cheapest(rule: &RuleView<'_>, popularity: &HashMap<u64, u64>) -> Option<Vec<Key>> {
    let of_field = |field: &FieldView<'_>| {
        let keys = keys(field);
        let shared = keys
            .iter()
            .map(|key| popularity.get(&key.hash).copied().unwrap_or_default());
        let cost: u64 = shared.sum();
        (!keys.is_empty()).then_some((cost, keys))
    };
    let of_entry = |fields: &Vec<FieldView<'_>>| fields.iter().filter_map(of_field).min_by_key(|(cost, _)| *cost);
    let of_clause = |entries: &Vec<Vec<FieldView<'_>>>| {
        let entries: Option<Vec<_>> = entries.iter().map(of_entry).collect();
        let (costs, keys): (Vec<_>, Vec<_>) = entries?.into_iter().unzip();
        let keys: Vec<_> = keys.into_iter().flatten().collect();
        (!keys.is_empty()).then(|| (costs.iter().sum::<u64>(), keys))
    };
    let clauses = [of_clause(&rule.from), of_clause(&rule.to), of_entry(&rule.when)];
    let cheapest = clauses.into_iter().flatten().min_by_key(|(cost, _)| *cost);
    cheapest.map(|(_, keys)| keys)
}

/// None for a field that has no positive values.
fn keys(field: &FieldView<'_>) -> Vec<Key> {
    let attribute = number_of(field.attribute);
    let tests = field.any.iter().flatten();
    tests
        .map(|test| {
            let (kind, bytes) = match test {
                Test::Ip(block) => (kind_of(*block), block_bytes(*block, block.bits())),
                test => shape(test),
            };
            let length = match (test, kind) {
                (Test::Ip(block), _) => Some(usize::from(block.bits())),
                (_, Kind::First | Kind::Last) => Some(bytes.len()),
                _ => None,
            };
            let hash = hash(attribute, kind, &bytes);
            Key {
                attribute,
                kind,
                length,
                hash,
            }
        })
        .collect()
}

/// A value that is no block of addresses, without what it says about case and names of peers.
fn shape(test: &Test) -> (Kind, Vec<u8>) {
    match test {
        Test::Text { pattern, .. }
        | Test::Principal(pattern, _)
        | Test::TrustDomain(pattern, _)
        | Test::Listed(pattern) => match pattern {
            TextPattern::Exact(text) => (Kind::Same, text.to_ascii_lowercase()),
            TextPattern::Prefix(text) => (Kind::First, text.to_ascii_lowercase()),
            TextPattern::Suffix(text) => (Kind::Last, text.to_ascii_lowercase()),
            TextPattern::Present => (Kind::Any, Vec::new()),
        },
        Test::Namespace(NamespacePattern::Name(name), _) => (Kind::Same, name.to_ascii_lowercase()),
        Test::Namespace(..) => (Kind::Any, Vec::new()),
        Test::ServiceAccount { namespace, account, .. } => (Kind::Same, [&**namespace, b"/", account].concat()),
        // A template is as wide as itself, and as paths that it matches.
        Test::Template(template, _) => (Kind::First, template.literal_prefix().to_ascii_lowercase()),
        Test::RequestPrincipal(_) | Test::Port(_) | Test::Ip(_) => {
            let mut hasher = Mixing::default();
            test.hash(&mut hasher);
            (Kind::Same, hasher.finish().to_le_bytes().to_vec())
        }
    }
}

fn kind_of(block: Cidr) -> Kind {
    if block.first().is_ipv4() { Kind::V4 } else { Kind::V6 }
}

fn block_bytes(block: Cidr, bits: u8) -> Vec<u8> {
    let address = mask(block.first(), bits);
    let mut bytes = match address {
        std::net::IpAddr::V4(v4) => v4.octets().to_vec(),
        std::net::IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    bytes.push(bits);
    bytes
}

fn number_of(attribute: &Attribute) -> u64 {
    let mut hasher = Mixing::default();
    attribute.hash(&mut hasher);
    hasher.finish()
}

fn hash(attribute: u64, kind: Kind, bytes: &[u8]) -> u64 {
    fingerprint::pair(fingerprint::pair(attribute, kind as u64), fingerprint::of(bytes))
}
