use std::borrow::Borrow;
use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::iter::once;
use std::ops::ControlFlow;
use std::sync::Arc;

/// Bits of the hash that choose a place in one node. One more makes changes three times as dear, and
/// lookups no cheaper.
const BITS: u32 = 5;

/// Levels that the hash lasts for. Keys that agree in all of it lie in one node below.
const LEVELS: u32 = u64::BITS / BITS;

/// A hash map whose copies share what they have in common.
///
/// A copy costs a reference count. A change copies the nodes on the way to its place, and only those
/// that another copy still uses, so that many changes in a row cost little more than one. (A hash
/// array mapped trie, as Bagwell describes it.) What a node needs to be searched lies in the entry
/// above it: each level of a lookup is one place in memory.
pub(crate) struct Map<K, V> {
    root: Node<K, V>,
    len: usize,
    hasher: RandomState,
}

#[derive(Clone)]
struct Node<K, V> {
    /// The places that are taken, in the order of the entries.
    places: u32,
    entries: Arc<[Entry<K, V>]>,
}

#[derive(Clone)]
enum Entry<K, V> {
    Pair(K, V),
    Branch(Node<K, V>),
    /// What is moved away.
    Vacant,
}

impl<K: Hash + Eq + Clone, V: Clone> Map<K, V> {
    pub(crate) fn new() -> Self {
        Self {
            root: Node::new(),
            len: 0,
            hasher: RandomState::new(),
        }
    }

    /// Sets the value of a key, and answers the one that it had.
    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<V> {
        let hash = self.hasher.hash_one(&key);
        let old = self.root.insert(&self.hasher, hash, 0, key, value);
        self.len += usize::from(old.is_none());
        old
    }

    pub(crate) fn remove<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        // A miss must not copy the way to where the key would be.
        self.get(key)?;
        let hash = self.hasher.hash_one(key);
        let old = self.root.remove(hash, 0, key)?;
        self.len -= 1;
        Some(old)
    }

    pub(crate) fn get<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        let mut hash = self.hasher.hash_one(key);
        let mut node = &self.root;
        for _ in 0..LEVELS {
            match node.entries.get(node.index_of(place(hash))?)? {
                Entry::Pair(known, value) => return (known.borrow() == key).then_some(value),
                Entry::Branch(branch) => node = branch,
                Entry::Vacant => return None,
            }
            hash >>= BITS;
        }
        node.entries.iter().find_map(|entry| match entry {
            Entry::Pair(known, value) if known.borrow() == key => Some(value),
            _ => None,
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Visits all pairs, in an order of the map's own, until told to stop.
    pub(crate) fn visit<'a, B>(&'a self, mut visitor: impl FnMut(&'a K, &'a V) -> ControlFlow<B>) -> Option<B> {
        match self.root.visit(&mut visitor) {
            ControlFlow::Break(found) => Some(found),
            ControlFlow::Continue(()) => None,
        }
    }
}

impl<K: Hash + Eq + Clone, V: Clone> Node<K, V> {
    fn new() -> Self {
        Self {
            places: 0,
            entries: Arc::default(),
        }
    }

    fn insert(&mut self, hasher: &RandomState, hash: u64, level: u32, key: K, value: V) -> Option<V> {
        let place = place(hash);
        let found = if level == LEVELS {
            self.entries.iter().position(|entry| entry.is_of(&key))
        } else {
            self.index_of(place)
        };
        let Some(index) = found else {
            self.put(place, Entry::Pair(key, value));
            return None;
        };
        let entry = Arc::make_mut(&mut self.entries).get_mut(index)?;
        match entry {
            Entry::Branch(branch) => branch.insert(hasher, hash >> BITS, level + 1, key, value),
            Entry::Pair(known, old) if *known == key => Some(std::mem::replace(old, value)),
            Entry::Pair(..) | Entry::Vacant => {
                let mut branch = Self::new();
                if let Entry::Pair(other, its_value) = std::mem::replace(entry, Entry::Vacant) {
                    let its_hash = hasher.hash_one(&other) >> (BITS * (level + 1));
                    branch.insert(hasher, its_hash, level + 1, other, its_value);
                }
                branch.insert(hasher, hash >> BITS, level + 1, key, value);
                *entry = Entry::Branch(branch);
                None
            }
        }
    }

    fn remove<Q: Hash + Eq + ?Sized>(&mut self, hash: u64, level: u32, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let place = place(hash);
        if level == LEVELS {
            let index = self.entries.iter().position(|entry| entry.is_of(key))?;
            return self.take(index);
        }
        let index = self.index_of(place)?;
        if self.entries.get(index)?.is_of(key) {
            self.places &= !place;
            return self.take(index);
        }
        let entry = Arc::make_mut(&mut self.entries).get_mut(index)?;
        let Entry::Branch(branch) = entry else { return None };
        let removed = branch.remove(hash >> BITS, level + 1, key)?;
        // A pair by itself belongs further up. There was one beside what is gone.
        if let [last @ Entry::Pair(..)] = &*branch.entries {
            *entry = last.clone();
        }
        Some(removed)
    }

    fn visit<'a, B>(&'a self, visitor: &mut impl FnMut(&'a K, &'a V) -> ControlFlow<B>) -> ControlFlow<B> {
        for entry in self.entries.iter() {
            match entry {
                Entry::Pair(key, value) => visitor(key, value)?,
                Entry::Branch(branch) => branch.visit(visitor)?,
                Entry::Vacant => {}
            }
        }
        ControlFlow::Continue(())
    }

    /// Where the entry of a place is, if it has one.
    fn index_of(&self, place: u32) -> Option<usize> {
        (self.places & place != 0).then(|| rank(self.places, place))
    }

    /// Adds the entry of a place that has none. Below the last level, places mean nothing.
    fn put(&mut self, place: u32, entry: Entry<K, V>) {
        let (index, added) = (rank(self.places, place).min(self.entries.len()), once(entry));
        self.places |= place;
        // Most nodes are small and there are many, so their lists have no room to spare.
        self.entries = if let Some(own) = Arc::get_mut(&mut self.entries) {
            let (before, after) = own.split_at_mut(index);
            let before = before.iter_mut().map(Entry::leave);
            before.chain(added).chain(after.iter_mut().map(Entry::leave)).collect()
        } else {
            let (before, after) = self.entries.split_at(index);
            before
                .iter()
                .cloned()
                .chain(added)
                .chain(after.iter().cloned())
                .collect()
        };
    }

    /// Takes the pair at an index out.
    fn take(&mut self, index: usize) -> Option<V> {
        let entry = Arc::make_mut(&mut self.entries).get_mut(index)?.leave();
        let left = self.entries.iter().filter(|entry| !matches!(entry, Entry::Vacant));
        self.entries = left.cloned().collect();
        match entry {
            Entry::Pair(_, value) => Some(value),
            Entry::Branch(_) | Entry::Vacant => None,
        }
    }
}

impl<K, V> Entry<K, V> {
    fn is_of<Q: Eq + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        matches!(self, Self::Pair(known, _) if known.borrow() == key)
    }

    fn leave(&mut self) -> Self {
        std::mem::replace(self, Self::Vacant)
    }
}

impl<K, V> Clone for Map<K, V> {
    fn clone(&self) -> Self {
        Self {
            root: Node {
                places: self.root.places,
                entries: Arc::clone(&self.root.entries),
            },
            len: self.len,
            hasher: self.hasher.clone(),
        }
    }
}

impl<K, V> fmt::Debug for Map<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Map").field("len", &self.len).finish_non_exhaustive()
    }
}

/// The place that the lowest bits of a hash choose, as a bit.
fn place(hash: u64) -> u32 {
    1 << (hash & ((1 << BITS) - 1))
}

/// How many of `places` lie below a place.
fn rank(places: u32, place: u32) -> usize {
    (places & (place - 1)).count_ones() as usize
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::hash::Hasher;

    use proptest::prelude::*;

    use super::*;

    /// A key of which most hash alike, in whole or in part.
    #[derive(Clone, Debug, PartialEq, Eq)]
    struct Clashing(u8);

    impl Hash for Clashing {
        fn hash<H: Hasher>(&self, state: &mut H) {
            (self.0 % 3).hash(state);
        }
    }

    fn pairs<K: Clone + Hash + Eq, V: Clone>(map: &Map<K, V>) -> HashMap<K, V> {
        let mut pairs = HashMap::new();
        map.visit(|key, value| {
            pairs.insert(key.clone(), value.clone());
            ControlFlow::<()>::Continue(())
        });
        pairs
    }

    proptest! {
        #[test]
        fn copies_behave_like_hash_maps_of_their_own(
            steps in prop::collection::vec((any::<u8>(), prop::option::of(any::<u16>()), prop::bool::weighted(0.1)), 0..400),
        ) {
            let (mut map, mut model) = (Map::new(), HashMap::new());
            let (mut clashing, mut clashing_model) = (Map::new(), HashMap::new());
            let mut kept = Vec::new();
            for (key, value, keep) in steps {
                let clash = Clashing(key % 32);
                if let Some(value) = value {
                    prop_assert_eq!(map.insert(key, value), model.insert(key, value));
                    prop_assert_eq!(clashing.insert(clash.clone(), value), clashing_model.insert(clash, value));
                } else {
                    prop_assert_eq!(map.remove(&key), model.remove(&key));
                    prop_assert_eq!(clashing.remove(&clash), clashing_model.remove(&clash));
                }
                prop_assert_eq!((map.len(), clashing.len()), (model.len(), clashing_model.len()));
                prop_assert_eq!(map.get(&key), model.get(&key));
                if keep {
                    kept.push((map.clone(), model.clone()));
                }
            }
            kept.push((map, model));
            for (map, model) in kept {
                prop_assert_eq!(pairs(&map), model);
            }
            prop_assert_eq!(pairs(&clashing), clashing_model);
        }
    }
}
