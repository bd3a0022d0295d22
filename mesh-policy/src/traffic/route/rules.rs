use std::{collections::HashMap, hash::BuildHasherDefault};

use crate::{
    fingerprint::Mixing,
    traffic::{
        matching::{PathMatch, RouteMatch},
        model::RouteKind,
        request::RouteRequest,
    },
};

/// A kind of requests that a rule takes.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) kind: RouteKind,
    /// The number of the route.
    pub(super) route: u32,
    /// The number of the rule in it.
    pub(super) rule: u32,
    pub(super) asked: RouteMatch,
}

/// The rules for some hosts, found by path.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    /// In the order in which they are asked.
    entries: Vec<Entry>,
    exact: Table,
    segments: Prefixes,
    bytes: Prefixes,
    /// Those that no table finds.
    others: Vec<u32>,
    is_last: bool,
}

/// The places of the entries that share a path, in their order.
type Table = HashMap<Box<[u8]>, Vec<u32>, BuildHasherDefault<Mixing>>;

/// Entries by the beginnings of paths.
#[derive(Clone, Debug, Default)]
struct Prefixes {
    table: Table,
    /// The lengths of the beginnings, the longest first, each once.
    lengths: Vec<usize>,
}

impl Rules {
    pub(super) fn new(entries: Vec<Entry>) -> Self {
        let (mut exact, mut segments, mut bytes) = (Table::default(), Prefixes::default(), Prefixes::default());
        let mut others = Vec::new();
        for (place, entry) in entries.iter().enumerate() {
            let list = match &entry.asked.path {
                Some(PathMatch::Exact(path)) => exact.entry(path.as_bytes().into()).or_default(),
                Some(PathMatch::Segments(prefix)) => segments.list(prefix.as_str()),
                Some(PathMatch::Prefix(prefix)) => bytes.list(prefix),
                Some(PathMatch::Grpc(call)) => match call.names() {
                    (Some(service), Some(method)) => {
                        let path = format!("/{service}/{method}");
                        exact.entry(path.into_bytes().into()).or_default()
                    }
                    (Some(service), None) => segments.list(&format!("/{service}")),
                    (None, _) => &mut others,
                },
                Some(PathMatch::ExactInAnyCase(_) | PathMatch::PrefixInAnyCase(_) | PathMatch::Regex(_)) | None => {
                    &mut others
                }
            };
            list.push(place as u32);
        }
        for list in [&mut exact, &mut segments.table, &mut bytes.table]
            .into_iter()
            .flat_map(Table::values_mut)
        {
            list.shrink_to_fit();
        }
        others.shrink_to_fit();
        Self {
            is_last: entries.iter().any(|entry| entry.kind == RouteKind::VirtualService),
            entries,
            exact,
            segments,
            bytes,
            others,
        }
    }

    /// The first entry that takes a request. Each list is left where it could find no earlier one.
    pub(super) fn find(&self, request: &RouteRequest<'_>) -> Option<&Entry> {
        let mut first = Found {
            entries: &self.entries,
            request,
            place: u32::MAX,
            entry: None,
        };
        if let Some(path) = request.path() {
            if let Some(list) = self.exact.get(path) {
                first.look(list);
            }
            self.segments
                .visit(path, |rest| matches!(rest, [] | [b'/', ..]), &mut first);
            self.bytes.visit(path, |_| true, &mut first);
        }
        first.look(&self.others);
        first.entry
    }

    /// Whether no rules of less specific hosts are asked after these.
    pub(super) fn is_last(&self) -> bool {
        self.is_last
    }
}

impl Prefixes {
    fn list(&mut self, prefix: &str) -> &mut Vec<u32> {
        let at = self.lengths.binary_search_by(|length| prefix.len().cmp(length));
        if let Err(at) = at {
            self.lengths.insert(at, prefix.len());
        }
        self.table.entry(prefix.as_bytes().into()).or_default()
    }

    fn visit(&self, path: &[u8], is_end: impl Fn(&[u8]) -> bool, first: &mut Found<'_, '_>) {
        for length in &self.lengths {
            let Some((head, rest)) = path.split_at_checked(*length) else {
                continue;
            };
            if let Some(list) = is_end(rest).then(|| self.table.get(head)).flatten() {
                first.look(list);
            }
        }
    }
}

/// The first entry so far that takes a request.
struct Found<'t, 'q> {
    entries: &'t [Entry],
    request: &'q RouteRequest<'q>,
    place: u32,
    entry: Option<&'t Entry>,
}

impl Found<'_, '_> {
    fn look(&mut self, list: &[u32]) {
        for place in list.iter().take_while(|place| **place < self.place) {
            let entry = self.entries.get(*place as usize);
            if let Some(entry) = entry.filter(|entry| entry.asked.matches(self.request)) {
                (self.place, self.entry) = (*place, Some(entry));
                return;
            }
        }
    }
}
