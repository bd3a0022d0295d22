use std::sync::Arc;

/// Entries in one part of a list. A change copies a part and the list of parts.
const MAX_PART: usize = 64;

/// What is kept in the order of a workload's uid.
pub(super) trait ByUid {
    fn uid(&self) -> &str;
}

/// A list in the order of uids, in parts that copies share.
#[derive(Clone, Debug)]
pub(super) struct Parts<T> {
    parts: Arc<Vec<Arc<Vec<T>>>>,
}

impl<T> Default for Parts<T> {
    fn default() -> Self {
        Self { parts: Arc::default() }
    }
}

impl<T: ByUid + Clone> Parts<T> {
    /// Adds an entry, in the place of the one with its uid if there is one.
    pub(super) fn insert(&mut self, entry: T) {
        let index = self.part_of(entry.uid());
        let parts = Arc::make_mut(&mut self.parts);
        let Some(part) = parts.get_mut(index) else {
            parts.reserve_exact(1);
            parts.push(Arc::new(vec![entry]));
            return;
        };
        let part = Arc::make_mut(part);
        match place_of(part, entry.uid()) {
            Ok(place) => {
                if let Some(known) = part.get_mut(place) {
                    *known = entry;
                }
            }
            Err(place) => {
                // Most lists are short and there are many: room to spare would double them.
                part.reserve_exact(1);
                part.insert(place, entry);
            }
        }
        if part.len() > MAX_PART {
            let upper = part.split_off(MAX_PART / 2);
            parts.insert(index + 1, Arc::new(upper));
        }
    }

    pub(super) fn remove(&mut self, uid: &str) {
        let index = self.part_of(uid);
        let parts = Arc::make_mut(&mut self.parts);
        let Some(part) = parts.get_mut(index) else {
            return;
        };
        let Ok(place) = place_of(part, uid) else {
            return;
        };
        let part = Arc::make_mut(part);
        part.remove(place);
        if part.is_empty() {
            parts.remove(index);
        }
    }

    pub(super) fn get(&self, uid: &str) -> Option<&T> {
        let part = self.parts.get(self.part_of(uid))?;
        part.get(place_of(part, uid).ok()?)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.parts.iter().flat_map(|part| part.iter())
    }

    pub(super) fn len(&self) -> usize {
        self.parts.iter().map(|part| part.len()).sum()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// The part that a uid belongs in: the last one that begins no later than it.
    fn part_of(&self, uid: &str) -> usize {
        let begins_later = |part: &Arc<Vec<T>>| part.first().is_some_and(|first| *first.uid() > *uid);
        self.parts.partition_point(|part| !begins_later(part)).saturating_sub(1)
    }
}

fn place_of<T: ByUid>(part: &[T], uid: &str) -> Result<usize, usize> {
    part.binary_search_by(|entry| entry.uid().cmp(uid))
}
