//! What belongs to each key of a pool.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::Arc;
use std::time::Instant;

use slab::Slab;

use super::backoff::Backoff;
use crate::slot::ConnId;

/// A call that waits for a place. Serial numbers grow, so a group's waiters are in order of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct WaiterId {
    pub(super) group: GroupId,
    pub(super) serial: u64,
}

/// A key's group. Stays what it is for as long as the group dials, or has waiters or connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct GroupId(usize);

/// The groups of all keys.
#[derive(Debug)]
pub(super) struct Groups<K, W, E> {
    ids: HashMap<Arc<K>, GroupId>,
    groups: Slab<Group<K, W, E>>,
}

impl<K: Hash + Eq + Clone, W, E> Groups<K, W, E> {
    pub(super) fn new() -> Self {
        Self {
            ids: HashMap::new(),
            groups: Slab::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.groups.len()
    }

    pub(super) fn get(&self, id: GroupId) -> Option<&Group<K, W, E>> {
        self.groups.get(id.0)
    }

    pub(super) fn get_mut(&mut self, id: GroupId) -> Option<&mut Group<K, W, E>> {
        self.groups.get_mut(id.0)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (GroupId, &Group<K, W, E>)> {
        self.groups.iter().map(|(index, group)| (GroupId(index), group))
    }

    /// The group of a key, made if there is none.
    pub(super) fn of(&mut self, key: &K) -> GroupId {
        if let Some(id) = self.ids.get(key) {
            return *id;
        }
        let key = Arc::new(key.clone());
        let id = GroupId(self.groups.insert(Group::new(Arc::clone(&key))));
        self.ids.insert(key, id);
        id
    }

    /// All groups, in the order of their first waiters.
    pub(super) fn in_order(&self) -> Vec<GroupId> {
        let mut groups: Vec<_> = self.iter().collect();
        groups.sort_by_key(|(_, group)| group.waiters.front().map(|waiter| waiter.serial));
        groups.into_iter().map(|(id, _)| id).collect()
    }

    /// Removes a group of which nothing is left.
    pub(super) fn remove_if_empty(&mut self, id: GroupId) {
        let empty = |group: &&Group<K, W, E>| group.is_deserted() && group.backoff.is_none();
        if self.get(id).filter(empty).is_some() {
            let group = self.groups.remove(id.0);
            self.ids.remove(&group.key);
        }
    }

    /// Forgets the failures that would be forgotten next, as long as only failures are left of more
    /// than `max` groups.
    pub(super) fn forget_beyond(&mut self, max: usize) {
        while self.len() > max {
            let deserted = || self.iter().filter(|(_, group)| group.is_deserted());
            let forget_at = |group: &Group<K, W, E>| group.backoff.as_ref().map(Backoff::forget_at);
            let oldest = deserted().min_by_key(|(_, group)| forget_at(group));
            let Some((id, _)) = oldest.filter(|_| deserted().count() > max) else {
                return;
            };
            if let Some(group) = self.get_mut(id) {
                group.backoff = None;
            }
            self.remove_if_empty(id);
        }
    }
}

/// What belongs to one key.
#[derive(Debug)]
pub(super) struct Group<K, W, E> {
    pub(super) key: Arc<K>,
    /// The connections that take new tunnels, the oldest first.
    pub(super) usable: Vec<ConnId>,
    pub(super) waiters: VecDeque<Waiter<W>>,
    /// A dial is under way.
    pub(super) dialing: bool,
    /// A dial waits for room in the pool.
    pub(super) blocked: bool,
    pub(super) backoff: Option<Backoff<E>>,
}

#[derive(Debug)]
pub(super) struct Waiter<W> {
    pub(super) serial: u64,
    pub(super) call: W,
    /// Connections that refused the tunnel before.
    pub(super) avoid: Vec<ConnId>,
}

impl<K, W, E> Group<K, W, E> {
    pub(super) fn new(key: Arc<K>) -> Self {
        Self {
            key,
            usable: Vec::new(),
            waiters: VecDeque::new(),
            dialing: false,
            blocked: false,
            backoff: None,
        }
    }

    /// The failures that forbid a dial.
    pub(super) fn barred(&self, now: Instant) -> Option<&Backoff<E>> {
        self.backoff.as_ref().filter(|backoff| backoff.holds(now))
    }

    /// The failures that forbid a dial, if there is nothing else to wait for.
    pub(super) fn hopeless(&self, now: Instant) -> Option<&Backoff<E>> {
        self.barred(now).filter(|_| self.usable.is_empty() && !self.dialing)
    }

    /// Whether nothing but past failures is left of it.
    pub(super) fn is_deserted(&self) -> bool {
        self.usable.is_empty() && self.waiters.is_empty() && !self.dialing
    }
}
