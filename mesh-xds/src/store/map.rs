use std::borrow::Borrow;
use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::{BuildHasher, Hash};
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
/// array mapped trie with values and branches apart, as Steindorfer and Vinju describe it.)
pub(crate) struct Map<K, V> {
    root: Arc<Node<K, V>>,
    len: usize,
    hasher: RandomState,
}

#[derive(Clone)]
struct Node<K, V> {
    /// Which places hold a pair, and which a branch; no place holds both.
    pair_places: u32,
    branch_places: u32,
    pairs: Box<[(K, V)]>,
    branches: Box<[Arc<Self>]>,
}

impl<K: Hash + Eq + Clone, V: Clone> Map<K, V> {
    pub(crate) fn new() -> Self {
        Self {
            root: Arc::new(Node::new()),
            len: 0,
            hasher: RandomState::new(),
        }
    }

    /// Sets the value of a key, and answers the one that it had.
    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<V> {
        let hash = self.hasher.hash_one(&key);
        let old = Arc::make_mut(&mut self.root).insert(&self.hasher, hash, 0, key, value);
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
        let (_, old) = Arc::make_mut(&mut self.root).remove(hash, 0, key)?;
        self.len -= 1;
        Some(old)
    }

    pub(crate) fn get<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        let mut hash = self.hasher.hash_one(key);
        let mut node = &*self.root;
        for _ in 0..LEVELS {
            let place = place(hash);
            if node.pair_places & place != 0 {
                let (known, value) = node.pairs.get(rank(node.pair_places, place))?;
                return (known.borrow() == key).then_some(value);
            }
            if node.branch_places & place == 0 {
                return None;
            }
            node = node.branches.get(rank(node.branch_places, place))?;
            hash >>= BITS;
        }
        node.pairs
            .iter()
            .find(|(known, _)| known.borrow() == key)
            .map(|(_, value)| value)
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
            pair_places: 0,
            branch_places: 0,
            pairs: Box::default(),
            branches: Box::default(),
        }
    }

    fn insert(&mut self, hasher: &RandomState, hash: u64, level: u32, key: K, value: V) -> Option<V> {
        let place = place(hash);
        if level == LEVELS {
            if let Some((_, known)) = self.pairs.iter_mut().find(|(known, _)| *known == key) {
                return Some(std::mem::replace(known, value));
            }
            insert_at(&mut self.pairs, 0, (key, value));
        } else if self.branch_places & place != 0 {
            let branch = self.branches.get_mut(rank(self.branch_places, place))?;
            return Arc::make_mut(branch).insert(hasher, hash >> BITS, level + 1, key, value);
        } else if self.pair_places & place != 0 {
            let index = rank(self.pair_places, place);
            let (known, old) = self.pairs.get_mut(index)?;
            if *known == key {
                return Some(std::mem::replace(old, value));
            }
            let (other, its_value) = remove_at(&mut self.pairs, index);
            self.pair_places &= !place;
            let its_hash = hasher.hash_one(&other) >> (BITS * (level + 1));
            let mut branch = Self::new();
            branch.insert(hasher, its_hash, level + 1, other, its_value);
            branch.insert(hasher, hash >> BITS, level + 1, key, value);
            self.put_branch(place, Arc::new(branch));
        } else {
            self.put_pair(place, (key, value));
        }
        None
    }

    fn remove<Q: Hash + Eq + ?Sized>(&mut self, hash: u64, level: u32, key: &Q) -> Option<(K, V)>
    where
        K: Borrow<Q>,
    {
        let place = place(hash);
        if level == LEVELS {
            let index = self.pairs.iter().position(|(known, _)| known.borrow() == key)?;
            return Some(remove_at(&mut self.pairs, index));
        }
        if self.pair_places & place != 0 {
            let index = rank(self.pair_places, place);
            self.pairs.get(index).filter(|(known, _)| known.borrow() == key)?;
            self.pair_places &= !place;
            return Some(remove_at(&mut self.pairs, index));
        }
        let index = rank(self.branch_places, place);
        let branch = self
            .branches
            .get_mut(index)
            .filter(|_| self.branch_places & place != 0)?;
        let branch = Arc::make_mut(branch);
        let removed = branch.remove(hash >> BITS, level + 1, key)?;
        // A pair by itself belongs further up, and an empty node nowhere.
        if branch.branches.is_empty() && branch.pairs.len() < 2 {
            let last = std::mem::take(&mut branch.pairs).into_vec().pop();
            remove_at(&mut self.branches, index);
            self.branch_places &= !place;
            if let Some(pair) = last {
                self.put_pair(place, pair);
            }
        }
        Some(removed)
    }

    fn visit<'a, B>(&'a self, visitor: &mut impl FnMut(&'a K, &'a V) -> ControlFlow<B>) -> ControlFlow<B> {
        for (key, value) in self.pairs.iter() {
            visitor(key, value)?;
        }
        for branch in self.branches.iter() {
            branch.visit(visitor)?;
        }
        ControlFlow::Continue(())
    }

    fn put_pair(&mut self, place: u32, pair: (K, V)) {
        insert_at(&mut self.pairs, rank(self.pair_places, place), pair);
        self.pair_places |= place;
    }

    fn put_branch(&mut self, place: u32, branch: Arc<Self>) {
        insert_at(&mut self.branches, rank(self.branch_places, place), branch);
        self.branch_places |= place;
    }
}

impl<K, V> Clone for Map<K, V> {
    fn clone(&self) -> Self {
        Self {
            root: Arc::clone(&self.root),
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

/// Most nodes are small and there are many, so their lists have no room to spare.
fn insert_at<T>(list: &mut Box<[T]>, index: usize, entry: T) {
    let mut entries = std::mem::take(list).into_vec();
    entries.reserve_exact(1);
    entries.insert(index, entry);
    *list = entries.into();
}

fn remove_at<T>(list: &mut Box<[T]>, index: usize) -> T {
    let mut entries = std::mem::take(list).into_vec();
    let entry = entries.remove(index);
    *list = entries.into();
    entry
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
