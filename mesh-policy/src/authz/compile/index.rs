use std::{collections::HashMap, hash::BuildHasherDefault, net::IpAddr};

use super::{
    span::Span,
    test::{Test, any_text},
    trie::{End, Trie},
};
use crate::{
    facts::{Attribute, Facts, PeerName},
    fingerprint::{self, Fingerprinted},
    matcher::{
        ip::{Cidr, mask},
        principal::{NamespacePattern, Part, Reading},
        text::{Case, TextPattern},
    },
};

/// Finds what is filed under the values that facts have, in time that hardly depends on how much is
/// filed.
///
/// Exact values are found by their fingerprints, beginnings and ends by a trie each, blocks of
/// addresses by one probe for each prefix length in use. All that is found must be checked: the
/// index passes over no match, and may find more.
#[derive(Clone, Debug, Default)]
pub(crate) struct Index {
    columns: Vec<Column>,
    exact: HashMap<u64, Posted, BuildHasherDefault<Fingerprinted>>,
    /// What is filed, sorted within each span.
    postings: Vec<u32>,
}

/// What is filed under an exact value. Most often that is one thing, which lies here and needs no
/// look into the postings.
#[derive(Clone, Copy, Debug)]
struct Posted {
    only_or_start: u32,
    len: u32,
}

/// What an index asks of facts: one attribute under one reading.
#[derive(Clone, Debug)]
struct Column {
    attribute: Attribute,
    view: View,
    has_exact: bool,
    prefixes: Option<Trie>,
    suffixes: Option<Trie>,
    /// The prefix lengths of IPv4 and IPv6 blocks, longest first.
    lengths: Lengths,
}

#[derive(Clone, Debug, Default)]
struct Lengths {
    v4: Vec<u8>,
    v6: Vec<u8>,
}

/// What of an attribute is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum View {
    Text(Case),
    Principal(Reading),
    Namespace(Reading),
    ServiceAccount(Reading),
    TrustDomain(Reading),
    /// Issuer and subject of a token.
    RequestPrincipal,
    /// The issuer alone.
    Issuer,
    Address,
    Port,
}

/// How a test is found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Handle<'t> {
    view: View,
    key: Key<'t>,
}

#[derive(Clone, Copy, Debug)]
enum Key<'t> {
    Exact(u64),
    /// The fingerprints of both.
    Account {
        namespace: u64,
        account: u64,
    },
    Prefix(&'t [u8]),
    Suffix(&'t [u8]),
    Block(Cidr),
}

/// Columns beyond this many are not made: each costs every decision a look at the facts.
const MAX_COLUMNS: usize = 24;

impl<'t> Handle<'t> {
    /// None for a test that no index finds.
    pub(super) fn of(test: &'t Test) -> Option<Self> {
        let (view, key) = view_and_key(test)?;
        Some(Self { view, key })
    }

    /// The better the shorter: how many values of its attribute pass beside the one that it names.
    pub(super) fn width(&self) -> u32 {
        match self.key {
            Key::Exact(_) | Key::Account { .. } => 0,
            Key::Prefix(text) | Key::Suffix(text) => 256 >> text.len().min(8),
            Key::Block(block) => {
                let most: u8 = if block.first().is_ipv4() { 32 } else { 128 };
                u32::from(most.saturating_sub(block.bits())).min(32)
            }
        }
    }
}

#[derive(Default)]
pub(super) struct IndexBuilder<'t> {
    columns: Vec<(&'t Attribute, View)>,
    filed: Vec<(usize, Key<'t>, u32)>,
}

impl<'t> IndexBuilder<'t> {
    /// Whether there is room for a test of this attribute.
    pub(super) fn has_room(&self, attribute: &Attribute, Handle { view, .. }: &Handle<'_>) -> bool {
        self.columns.len() < MAX_COLUMNS || self.columns.contains(&(attribute, *view))
    }

    /// Files `id` under a test.
    pub(super) fn file(&mut self, attribute: &'t Attribute, Handle { view, key }: &Handle<'t>, id: u32) {
        let column = self.columns.iter().position(|column| *column == (attribute, *view));
        let column = column.unwrap_or_else(|| {
            self.columns.push((attribute, *view));
            self.columns.len() - 1
        });
        self.filed.push((column, *key, id));
    }

    pub(super) fn build(self) -> Index {
        let mut index = Index {
            columns: Vec::with_capacity(self.columns.len()),
            ..Index::default()
        };
        let (mut exact, mut accounts) = (Vec::new(), Vec::new());
        let mut texts = vec![[Vec::new(), Vec::new()]; self.columns.len()];
        for (attribute, view) in &self.columns {
            index.columns.push(Column {
                attribute: (*attribute).clone(),
                view: *view,
                has_exact: false,
                prefixes: None,
                suffixes: None,
                lengths: Lengths::default(),
            });
        }
        for (at, key, id) in self.filed {
            let (Some(column), Some([prefixes, suffixes])) = (index.columns.get_mut(at), texts.get_mut(at)) else {
                continue;
            };
            let case = match column.view {
                View::Text(case) => case,
                _ => Case::Counts,
            };
            let fold = |byte: &u8| case.fold(*byte);
            match key {
                Key::Exact(key) => {
                    column.has_exact = true;
                    exact.push((fingerprint::pair(at as u64, key), id));
                }
                Key::Account { namespace, account } => {
                    let key = fingerprint::pair(namespace, account);
                    exact.push((fingerprint::pair(at as u64, key), id));
                    accounts.push(fingerprint::pair(at as u64, account));
                }
                Key::Block(block) => {
                    let Lengths { v4, v6 } = &mut column.lengths;
                    let lengths = if block.first().is_ipv4() { v4 } else { v6 };
                    if !lengths.contains(&block.bits()) {
                        lengths.push(block.bits());
                    }
                    exact.push((fingerprint::pair(at as u64, block_key(block.first(), block.bits())), id));
                }
                Key::Prefix(text) => prefixes.push((text.iter().map(fold).collect::<Vec<_>>(), id)),
                Key::Suffix(text) => suffixes.push((text.iter().rev().map(fold).collect::<Vec<_>>(), id)),
            }
        }
        exact.sort_unstable();
        exact.dedup();
        index.exact.reserve(exact.len());
        for group in exact.chunk_by(|one, other| one.0 == other.0) {
            if let Some((key, _)) = group.first() {
                let posted = Posted::new(&mut index.postings, group);
                index.exact.insert(*key, posted);
            }
        }
        // Nothing is filed under an account alone: it only says that some namespace has it.
        for account in accounts {
            index.exact.entry(account).or_insert(Posted::NOTHING);
        }
        for (column, [prefixes, suffixes]) in index.columns.iter_mut().zip(texts) {
            column.prefixes = trie(&mut index.postings, prefixes);
            column.suffixes = trie(&mut index.postings, suffixes);
            let Lengths { v4, v6 } = &mut column.lengths;
            v4.sort_unstable_by(|one, other| other.cmp(one));
            v6.sort_unstable_by(|one, other| other.cmp(one));
        }
        index.postings.shrink_to_fit();
        index
    }
}

impl Index {
    /// Visits what is filed under the values of these facts, in sorted lists.
    pub(crate) fn find(&self, facts: &Facts<'_>, mut visit: impl FnMut(&[u32])) {
        for (at, column) in self.columns.iter().enumerate() {
            match column.view {
                View::Text(case) => {
                    any_text(&column.attribute, facts, |text| {
                        self.find_text(at, column, text, case, &mut visit);
                        false
                    });
                }
                View::Principal(reading)
                | View::Namespace(reading)
                | View::ServiceAccount(reading)
                | View::TrustDomain(reading) => {
                    let names = facts.peer().present().map(|peer| reading.names(peer));
                    for name in names.unwrap_or_default() {
                        self.find_name(at, column, name, &mut visit);
                    }
                }
                View::RequestPrincipal | View::Issuer => self.find_token(at, column.view, facts, &mut visit),
                View::Address => self.find_address(at, column, facts, &mut visit),
                View::Port => {
                    if let Some(port) = facts.destination_port().present() {
                        self.probe(at, u64::from(port), &mut visit);
                    }
                }
            }
        }
    }

    fn find_name(&self, at: usize, column: &Column, name: &PeerName, visit: &mut impl FnMut(&[u32])) {
        match column.view {
            View::Namespace(_) => name.namespace_fingerprints().for_each(|key| self.probe(at, key, visit)),
            View::ServiceAccount(_) => {
                let is_sought = |account| self.exact.contains_key(&fingerprint::pair(at as u64, account));
                name.account_fingerprints(is_sought)
                    .for_each(|key| self.probe(at, key, visit));
            }
            View::TrustDomain(_) => {
                if let Some(domain) = name.trust_domain() {
                    self.probe(at, fingerprint::of(domain), visit);
                }
            }
            _ => {
                if let Some(text) = name.principal() {
                    if column.has_exact {
                        self.probe(at, name.principal_fingerprint(), visit);
                    }
                    self.find_ends(column, text, Case::Counts, visit);
                }
            }
        }
    }

    fn find_token(&self, at: usize, view: View, facts: &Facts<'_>, visit: &mut impl FnMut(&[u32])) {
        let Some(claims) = facts.claims().present() else { return };
        let Some(issuer) = claims.text("iss") else { return };
        let issuer = fingerprint::of(issuer.as_bytes());
        if view == View::Issuer {
            self.probe(at, issuer, visit);
        } else if let Some(subject) = claims.text("sub") {
            self.probe(
                at,
                fingerprint::pair(issuer, fingerprint::of(subject.as_bytes())),
                visit,
            );
        }
    }

    fn find_address(&self, at: usize, column: &Column, facts: &Facts<'_>, visit: &mut impl FnMut(&[u32])) {
        let address = match column.attribute {
            Attribute::SourceIp => facts.source_ip(),
            Attribute::RemoteIp => facts.remote_ip(),
            _ => facts.destination_ip(),
        };
        let Some(address) = address.present() else { return };
        let Lengths { v4, v6 } = &column.lengths;
        for bits in if address.is_ipv4() { v4 } else { v6 } {
            self.probe(at, block_key(mask(address, *bits), *bits), visit);
        }
    }

    fn find_text(&self, at: usize, column: &Column, text: &[u8], case: Case, visit: &mut impl FnMut(&[u32])) {
        if column.has_exact {
            let key = match case {
                Case::Counts => fingerprint::of(text),
                Case::Ignored => fingerprint::of_folded(text),
            };
            self.probe(at, key, visit);
        }
        self.find_ends(column, text, case, visit);
    }

    fn probe(&self, column: usize, key: u64, visit: &mut impl FnMut(&[u32])) {
        if let Some(posted) = self.exact.get(&fingerprint::pair(column as u64, key)) {
            visit(posted.of(&self.postings));
        }
    }

    fn find_ends(&self, column: &Column, text: &[u8], case: Case, visit: &mut impl FnMut(&[u32])) {
        for (trie, end) in [(&column.prefixes, End::First), (&column.suffixes, End::Last)] {
            if let Some(trie) = trie {
                trie.walk(text, end, case, |span| visit(span.of(&self.postings)));
            }
        }
    }
}

impl Posted {
    const NOTHING: Self = Self {
        only_or_start: 0,
        len: 0,
    };

    fn new(postings: &mut Vec<u32>, group: &[(u64, u32)]) -> Self {
        if let [(_, only)] = group {
            return Self {
                only_or_start: *only,
                len: 1,
            };
        }
        let start = postings.len() as u32;
        postings.extend(group.iter().map(|(_, id)| *id));
        Self {
            only_or_start: start,
            len: group.len() as u32,
        }
    }

    fn of<'p>(&'p self, postings: &'p [u32]) -> &'p [u32] {
        if self.len == 1 {
            return std::slice::from_ref(&self.only_or_start);
        }
        let start = self.only_or_start as usize;
        postings.get(start..start + self.len as usize).unwrap_or_default()
    }
}

fn view_and_key(test: &Test) -> Option<(View, Key<'_>)> {
    Some(match test {
        Test::Text { pattern, case, .. } => (View::Text(*case), text_key(pattern, *case)?),
        Test::Principal(pattern, reading) => (View::Principal(*reading), text_key(pattern, Case::Counts)?),
        Test::Namespace(NamespacePattern::Name(name), reading) => {
            (View::Namespace(*reading), Key::Exact(fingerprint::of(name)))
        }
        Test::Namespace(..) | Test::Listed(_) => return None,
        Test::ServiceAccount {
            namespace,
            account,
            reading,
        } => {
            let (namespace, account) = (fingerprint::of(namespace), fingerprint::of(account));
            (View::ServiceAccount(*reading), Key::Account { namespace, account })
        }
        Test::TrustDomain(TextPattern::Exact(domain), reading) => {
            (View::TrustDomain(*reading), Key::Exact(fingerprint::of(domain)))
        }
        Test::TrustDomain(..) => return None,
        Test::RequestPrincipal(principal) => match (&principal.issuer, &principal.subject) {
            (Part::Text(TextPattern::Exact(issuer)), Part::Text(TextPattern::Exact(subject))) => {
                let key = fingerprint::pair(fingerprint::of(issuer), fingerprint::of(subject));
                (View::RequestPrincipal, Key::Exact(key))
            }
            (Part::Text(TextPattern::Exact(issuer)), _) => (View::Issuer, Key::Exact(fingerprint::of(issuer))),
            _ => return None,
        },
        Test::Ip(block) => (View::Address, Key::Block(*block)),
        Test::Port(port) => (View::Port, Key::Exact(u64::from(*port))),
        Test::Template(template, _) => (View::Text(Case::Counts), Key::Prefix(template.literal_prefix())),
    })
}

fn text_key(pattern: &TextPattern, case: Case) -> Option<Key<'_>> {
    Some(match pattern {
        TextPattern::Exact(text) => Key::Exact(match case {
            Case::Counts => fingerprint::of(text),
            Case::Ignored => fingerprint::of_folded(text),
        }),
        TextPattern::Prefix(text) => Key::Prefix(text),
        TextPattern::Suffix(text) => Key::Suffix(text),
        TextPattern::Present => return None,
    })
}

fn block_key(first: IpAddr, bits: u8) -> u64 {
    let address = match first {
        IpAddr::V4(v4) => u64::from(v4.to_bits()),
        IpAddr::V6(v6) => {
            let bits = v6.to_bits();
            fingerprint::pair((bits >> 64) as u64, bits as u64)
        }
    };
    fingerprint::pair(u64::from(bits) << 1 | u64::from(first.is_ipv6()), address)
}

fn post(postings: &mut Vec<u32>, ids: impl Iterator<Item = u32>) -> Span {
    let start = postings.len();
    postings.extend(ids);
    Span::between(start, postings.len())
}

fn trie(postings: &mut Vec<u32>, mut texts: Vec<(Vec<u8>, u32)>) -> Option<Trie> {
    if texts.is_empty() {
        return None;
    }
    texts.sort_unstable();
    texts.dedup();
    let mut different = Vec::with_capacity(texts.len());
    for group in texts.chunk_by_mut(|one, other| one.0 == other.0) {
        let span = post(postings, group.iter().map(|(_, id)| *id));
        if let Some((text, _)) = group.first_mut() {
            different.push((std::mem::take(text), span));
        }
    }
    Some(Trie::new(&different))
}
