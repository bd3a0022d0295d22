use std::iter::once;
use std::ops::Deref;
use std::slice::{from_mut, from_ref};
use std::sync::Arc;

/// Entries in one part of a list. A change copies a part and the list of parts.
const MAX_PART: usize = 64;

/// What is kept in the order of a workload's uid.
pub(super) trait ByUid {
    fn uid(&self) -> &str;

    /// Whether whoever chooses among many need not tell this one from another.
    fn is_like(&self, other: &Self) -> bool;
}

/// A list in the order of uids, in parts that copies share.
#[derive(Clone, Debug)]
pub(super) struct Parts<T> {
    parts: Few<Part<T>>,
}

/// Mostly it is one, which then lies where its owner does.
#[derive(Clone, Debug)]
enum Few<P> {
    One(P),
    Other(Arc<[P]>),
}

/// Entries that follow each other. There is at least one.
#[derive(Clone, Debug)]
struct Part<T> {
    entries: Arc<[T]>,
    /// Whether all of them are like each other.
    is_alike: bool,
}

impl<T> Default for Parts<T> {
    fn default() -> Self {
        Self {
            parts: Few::Other(Arc::default()),
        }
    }
}

impl<T: ByUid + Clone> Parts<T> {
    /// Adds an entry, in the place of the one with its uid if there is one.
    pub(super) fn insert(&mut self, entry: T) {
        let index = self.part_of(entry.uid());
        let Some(part) = self.parts.make_mut().get_mut(index) else {
            self.parts = Few::One(Part::new([entry].into()));
            return;
        };
        let (before, after) = match place_of(&part.entries, entry.uid()) {
            Ok(place) => (place, place + 1),
            Err(place) => (place, place),
        };
        let (before, after) = (part.entries.iter().take(before), part.entries.iter().skip(after));
        let entries: Vec<T> = before.cloned().chain(once(entry)).chain(after.cloned()).collect();
        let Some((lower, upper)) = entries
            .split_at_checked(MAX_PART / 2)
            .filter(|_| entries.len() > MAX_PART)
        else {
            *part = Part::new(entries.into());
            return;
        };
        let halves = [lower, upper].map(|half| Part::new(half.into()));
        let (before, after) = (self.parts.iter().take(index), self.parts.iter().skip(index + 1));
        self.parts = before.cloned().chain(halves).chain(after.cloned()).collect();
    }

    pub(super) fn remove(&mut self, uid: &str) {
        let index = self.part_of(uid);
        if self.get(uid).is_none() {
            return;
        }
        let Some(part) = self.parts.make_mut().get_mut(index) else {
            return;
        };
        let left: Arc<[T]> = part
            .entries
            .iter()
            .filter(|entry| entry.uid() != uid)
            .cloned()
            .collect();
        if left.is_empty() {
            let (before, after) = (self.parts.iter().take(index), self.parts.iter().skip(index + 1));
            self.parts = before.chain(after).cloned().collect();
        } else {
            *part = Part::new(left);
        }
    }

    pub(super) fn get(&self, uid: &str) -> Option<&T> {
        let part = self.parts.get(self.part_of(uid))?;
        part.entries.get(place_of(&part.entries, uid).ok()?)
    }

    /// The entries, by stretches that follow each other, and whether those in one are all alike.
    pub(super) fn stretches(&self) -> impl Iterator<Item = (&[T], bool)> {
        self.parts.iter().map(|part| (&*part.entries, part.is_alike))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.parts.iter().flat_map(|part| part.entries.iter())
    }

    pub(super) fn len(&self) -> usize {
        self.parts.iter().map(|part| part.entries.len()).sum()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// The part that a uid belongs in: the last one that begins no later than it.
    fn part_of(&self, uid: &str) -> usize {
        let begins_later = |part: &Part<T>| part.entries.first().is_some_and(|first| *first.uid() > *uid);
        self.parts.partition_point(|part| !begins_later(part)).saturating_sub(1)
    }
}

impl<T: ByUid> Part<T> {
    fn new(entries: Arc<[T]>) -> Self {
        let is_alike = entries.is_sorted_by(|one, other| one.is_like(other));
        Self { entries, is_alike }
    }
}

impl<P: Clone> Few<P> {
    fn make_mut(&mut self) -> &mut [P] {
        match self {
            Self::One(one) => from_mut(one),
            Self::Other(all) => Arc::make_mut(all),
        }
    }
}

impl<P> Deref for Few<P> {
    type Target = [P];

    fn deref(&self) -> &[P] {
        match self {
            Self::One(one) => from_ref(one),
            Self::Other(all) => all,
        }
    }
}

impl<P> FromIterator<P> for Few<P> {
    fn from_iter<I: IntoIterator<Item = P>>(all: I) -> Self {
        let mut all: Vec<P> = all.into_iter().collect();
        match all.pop() {
            Some(one) if all.is_empty() => Self::One(one),
            last => Self::Other(all.into_iter().chain(last).collect()),
        }
    }
}

fn place_of<T: ByUid>(part: &[T], uid: &str) -> Result<usize, usize> {
    part.binary_search_by(|entry| entry.uid().cmp(uid))
}
