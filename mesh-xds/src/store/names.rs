use std::collections::HashMap;
use std::sync::Arc;

/// Which workload or service.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Key {
    Workload(Arc<str>),
    Service(Arc<str>),
}

/// The names that workloads and services were sent under.
///
/// A client on demand is told of a workload under the name that it asked by, perhaps under several,
/// and each can be taken back. Nearly all are known under their keys alone, so it is only those with
/// other names that take room.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// What the names that are not keys stand for.
    aliases: HashMap<Box<str>, Key>,
    /// How often each occurs in `aliases`, and whether it goes by its key, too.
    holders: HashMap<Key, (u32, bool)>,
}

impl Names {
    /// A name that is not the key's own text stands for it from now on. `is_known` tells that the
    /// key was there before. Answers what the name stood for, if that has no other name left.
    pub(super) fn hold(&mut self, name: &str, key: Key, is_known: bool) -> Option<Key> {
        if self.aliases.get(name) == Some(&key) {
            return None;
        }
        let before = self.release_alias(name);
        self.holders.entry(key.clone()).or_insert((0, is_known)).0 += 1;
        self.aliases.insert(name.into(), key);
        before
    }

    /// A key goes by its own text from now on, if it has other names.
    pub(super) fn hold_key(&mut self, key: &Key) {
        if let Some((_, by_key)) = self.holders.get_mut(key) {
            *by_key = true;
        }
    }

    /// An alias stands for nothing any more. Answers what it stood for, if that has no other name.
    pub(super) fn release_alias(&mut self, name: &str) -> Option<Key> {
        let key = self.aliases.remove(name)?;
        let (aliases, by_key) = self.holders.get_mut(&key)?;
        *aliases -= 1;
        if *aliases > 0 {
            return None;
        }
        let by_key = *by_key;
        self.holders.remove(&key);
        (!by_key).then_some(key)
    }

    /// A key does not go by its own text any more. Answers it unless it has other names.
    pub(super) fn release_key(&mut self, key: Key) -> Option<Key> {
        match self.holders.get_mut(&key) {
            Some((_, by_key)) => {
                *by_key = false;
                None
            }
            None => Some(key),
        }
    }

    /// Whether a name is one that is not a key.
    pub(super) fn is_alias(&self, name: &str) -> bool {
        self.aliases.contains_key(name)
    }
}
