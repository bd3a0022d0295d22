use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Instant;

/// Names one waiter of a [`Client`](super::Client), to take it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WaiterId {
    deadline: Instant,
    serial: u64,
}

/// Those who wait for names, any number for each.
#[derive(Debug)]
pub(super) struct Waiters<W> {
    /// By name, in the order of their arrival.
    waiting: HashMap<Arc<str>, Vec<(WaiterId, W)>>,
    /// What each waits for, the most urgent first.
    names: BTreeMap<WaiterId, Arc<str>>,
    /// The latest serial number.
    serial: u64,
}

impl<W> Waiters<W> {
    pub(super) fn new() -> Self {
        Self {
            waiting: HashMap::new(),
            names: BTreeMap::new(),
            serial: 0,
        }
    }

    pub(super) fn add(&mut self, name: Arc<str>, deadline: Instant, waiter: W) -> WaiterId {
        self.serial += 1;
        let id = WaiterId {
            deadline,
            serial: self.serial,
        };
        self.waiting.entry(Arc::clone(&name)).or_default().push((id, waiter));
        self.names.insert(id, name);
        id
    }

    pub(super) fn take(&mut self, id: WaiterId) -> Option<W> {
        let name = self.names.remove(&id)?;
        let waiting = self.waiting.get_mut(&name)?;
        let place = waiting.iter().position(|(other, _)| *other == id)?;
        let (_, waiter) = waiting.remove(place);
        if waiting.is_empty() {
            self.waiting.remove(&name);
        }
        Some(waiter)
    }

    pub(super) fn take_all(&mut self, name: &str) -> Vec<W> {
        let waiting = self.waiting.remove(name).unwrap_or_default();
        let mut waiters = Vec::with_capacity(waiting.len());
        for (id, waiter) in waiting {
            self.names.remove(&id);
            waiters.push(waiter);
        }
        waiters
    }

    pub(super) fn take_expired(&mut self, now: Instant) -> Option<W> {
        let (id, _) = self.names.first_key_value()?;
        let id = *id;
        if id.deadline <= now { self.take(id) } else { None }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.names.first_key_value().map(|(id, _)| id.deadline)
    }

    pub(super) fn len(&self) -> usize {
        self.names.len()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mesh_testkit::clock::ManualClock;

    use super::*;

    #[test]
    fn waiters_leave_by_name_by_deadline_and_by_choice() {
        let now = ManualClock::new().now();
        let after = |seconds| now + Duration::from_secs(seconds);
        let mut waiters = Waiters::new();
        waiters.add("a".into(), after(2), 1);
        let second = waiters.add("a".into(), after(1), 2);
        waiters.add("b".into(), after(3), 3);
        waiters.add("a".into(), after(4), 4);

        assert_eq!(waiters.take_expired(now), None);
        assert_eq!(waiters.deadline(), Some(after(1)));
        assert_eq!(waiters.take(second), Some(2));
        assert_eq!(waiters.take(second), None);
        assert_eq!(waiters.take_expired(after(2)), Some(1));
        assert_eq!(waiters.take_all("a"), [4]);
        assert!(waiters.take_all("a").is_empty());
        assert_eq!((waiters.len(), waiters.deadline()), (1, Some(after(3))));
    }
}
