use std::collections::HashMap;

use crate::{authorize::PeerPolicy, spiffe_id::SpiffeId};

/// A bounded number of things made for an identity and a policy. When it is full, the one that was
/// not asked for the longest goes.
#[derive(Debug)]
pub(super) struct Shelf<T> {
    things: HashMap<SpiffeId, HashMap<PeerPolicy, Kept<T>>>,
    len: usize,
    /// Counts what was asked for and kept.
    turn: u64,
}

#[derive(Debug)]
struct Kept<T> {
    thing: T,
    last_turn: u64,
}

impl<T: Clone> Shelf<T> {
    pub(super) fn get(&mut self, id: &SpiffeId, policy: &PeerPolicy) -> Option<T> {
        self.turn += 1;
        let kept = self.things.get_mut(id)?.get_mut(policy)?;
        kept.last_turn = self.turn;
        Some(kept.thing.clone())
    }

    pub(super) fn keep(&mut self, id: &SpiffeId, policy: &PeerPolicy, thing: T, capacity: usize) {
        if self.get(id, policy).is_none() {
            if self.len >= capacity {
                self.drop_oldest();
            }
            self.len += 1;
        }
        let kept = Kept {
            thing,
            last_turn: self.turn,
        };
        self.things.entry(id.clone()).or_default().insert(policy.clone(), kept);
    }

    /// Looks at everything: it is called when something was made, which costs far more.
    fn drop_oldest(&mut self) {
        let all = self
            .things
            .iter()
            .flat_map(|(id, things)| things.iter().map(move |(policy, kept)| (kept.last_turn, id, policy)));
        let Some((_, id, policy)) = all.min_by_key(|(turn, ..)| *turn) else {
            return;
        };
        let (id, policy) = (id.clone(), policy.clone());
        if let Some(things) = self.things.get_mut(&id) {
            things.remove(&policy);
            if things.is_empty() {
                self.things.remove(&id);
            }
            self.len -= 1;
        }
    }
}

impl<T> Default for Shelf<T> {
    fn default() -> Self {
        Self {
            things: HashMap::new(),
            len: 0,
            turn: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(path: u32) -> SpiffeId {
        format!("spiffe://td/{path}").parse().unwrap()
    }

    fn policy(path: u32) -> PeerPolicy {
        PeerPolicy::exact(id(path))
    }

    #[test]
    fn what_was_not_asked_for_the_longest_goes_first() {
        let mut shelf = Shelf::default();
        for n in 0..3 {
            shelf.keep(&id(n), &policy(n), n, 3);
        }
        assert_eq!(shelf.get(&id(0), &policy(0)), Some(0));
        shelf.keep(&id(0), &policy(9), 9, 3);
        assert_eq!(shelf.get(&id(1), &policy(1)), None);
        for n in [0, 2] {
            assert_eq!(shelf.get(&id(n), &policy(n)), Some(n));
        }
        assert_eq!(shelf.get(&id(0), &policy(9)), Some(9));
    }

    #[test]
    fn the_bound_holds_whatever_is_kept() {
        let mut shelf = Shelf::default();
        for n in 0..100 {
            shelf.keep(&id(n % 7), &policy(n % 11), n, 5);
            assert!(shelf.len <= 5);
            assert_eq!(shelf.things.values().map(HashMap::len).sum::<usize>(), shelf.len);
        }
    }
}
