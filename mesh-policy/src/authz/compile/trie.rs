use std::collections::VecDeque;

use super::span::Span;
use crate::matcher::text::Case;

/// Finds which of many texts another text begins with, in time that depends on its own length.
///
/// A radix tree in three flat arrays. The children of a node lie side by side, with their first
/// bytes in an array of their own, so that choosing one touches a single cache line.
#[derive(Clone, Debug, Default)]
pub(super) struct Trie {
    nodes: Vec<Node>,
    firsts: Vec<u8>,
    labels: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    /// What follows the byte by which the node was chosen.
    label: Span,
    children: Span,
    /// Empty for a node that is no text.
    postings: Span,
}

impl Trie {
    /// `texts` are sorted and different.
    pub(super) fn new(texts: &[(Vec<u8>, Span)]) -> Self {
        let mut trie = Self::default();
        trie.push(0, &[]);
        let mut open = VecDeque::from([(0, texts, 0)]);
        while let Some((node, texts, depth)) = open.pop_front() {
            let (own, below) = match texts.split_first() {
                Some(((text, postings), below)) if text.len() == depth => (*postings, below),
                _ => (Span::EMPTY, texts),
            };
            let first_child = trie.nodes.len();
            for group in below.chunk_by(|(one, _), (other, _)| one.get(depth) == other.get(depth)) {
                let [(shortest, _), ..] = group else { continue };
                let first = shortest.get(depth).copied().unwrap_or_default();
                let end = common_prefix(group).max(depth + 1);
                open.push_back((trie.nodes.len(), group, end));
                trie.push(first, shortest.get(depth + 1..end).unwrap_or_default());
            }
            let children = Span::between(first_child, trie.nodes.len());
            if let Some(node) = trie.nodes.get_mut(node) {
                node.children = children;
                node.postings = own;
            }
        }
        trie.nodes.shrink_to_fit();
        trie.firsts.shrink_to_fit();
        trie.labels.shrink_to_fit();
        trie
    }

    /// Visits the postings of each text that the bytes have at this end, the shortest first. Texts
    /// that are to be found at the end were given reversed, and those without case in lower case.
    pub(super) fn walk(&self, bytes: &[u8], end: End, case: Case, mut visit: impl FnMut(Span)) {
        let (mut node, mut rest) = (self.nodes.first(), bytes);
        while let Some(current) = node {
            let label = current.label.of(&self.labels);
            let Some(after) = end.strip(rest, label, case) else {
                return;
            };
            if !current.postings.is_empty() {
                visit(current.postings);
            }
            let Some((next, after)) = end.split(after) else { return };
            let next = case.fold(next);
            let firsts = current.children.of(&self.firsts);
            rest = after;
            node = firsts
                .iter()
                .position(|first| *first == next)
                .and_then(|child| self.nodes.get(current.children.start() + child));
        }
    }

    fn push(&mut self, first: u8, label: &[u8]) {
        let start = self.labels.len();
        self.labels.extend_from_slice(label);
        self.firsts.push(first);
        self.nodes.push(Node {
            label: Span::between(start, self.labels.len()),
            children: Span::EMPTY,
            postings: Span::EMPTY,
        });
    }
}

/// An end of a text, from which it is read towards the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    First,
    Last,
}

impl End {
    fn strip<'t>(self, text: &'t [u8], label: &[u8], case: Case) -> Option<&'t [u8]> {
        match self {
            Self::First => {
                let (head, rest) = text.split_at_checked(label.len())?;
                case.equal(head, label).then_some(rest)
            }
            Self::Last => {
                let (rest, tail) = text.split_at_checked(text.len().checked_sub(label.len())?)?;
                let mut reversed = tail.iter().rev().zip(label);
                reversed
                    .all(|(byte, expected)| case.fold(*byte) == *expected)
                    .then_some(rest)
            }
        }
    }

    fn split(self, text: &[u8]) -> Option<(u8, &[u8])> {
        match self {
            Self::First => text.split_first(),
            Self::Last => text.split_last(),
        }
        .map(|(byte, rest)| (*byte, rest))
    }
}

/// How many bytes all texts of a sorted group have in common.
fn common_prefix(group: &[(Vec<u8>, Span)]) -> usize {
    match (group.first(), group.last()) {
        (Some((first, _)), Some((last, _))) => first.iter().zip(last).take_while(|(one, other)| one == other).count(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn found(trie: &Trie, text: &str, end: End) -> Vec<usize> {
        let mut found = Vec::new();
        trie.walk(text.as_bytes(), end, Case::Ignored, |span| found.push(span.start()));
        found
    }

    proptest! {
        #[test]
        fn finds_exactly_the_texts_that_begin(
            texts in proptest::collection::btree_set("[ab]{0,6}", 0..12),
            probes in proptest::collection::vec("[abc]{0,8}", 8),
        ) {
            let texts: BTreeSet<String> = texts;
            let numbered: Vec<_> = texts
                .iter()
                .enumerate()
                .map(|(at, text)| (text.clone().into_bytes(), Span::between(at, at + 1)))
                .collect();
            let trie = Trie::new(&numbered);
            for probe in probes {
                let expected: Vec<_> = texts
                    .iter()
                    .enumerate()
                    .filter(|(_, text)| probe.starts_with(text.as_str()))
                    .map(|(at, _)| at)
                    .collect();
                prop_assert_eq!(found(&trie, &probe.to_ascii_uppercase(), End::First), expected.clone());
                let reversed: String = probe.chars().rev().collect();
                prop_assert_eq!(found(&trie, &reversed, End::Last), expected);
            }
        }
    }
}
