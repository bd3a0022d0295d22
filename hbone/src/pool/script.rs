//! Runs a pool's state through events that bytes spell, and holds it to its promises.
//!
//! Three bytes make an event: which, and two numbers that choose its key, its connection, or
//! whatever it needs. Whoever acts on the state's actions is played by [`World`], which knows only
//! what was answered to whom.
#![expect(clippy::panic, clippy::indexing_slicing, reason = "a broken promise ends the run")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::action::{Acquired, Action, Place, Refusal};
use super::config::PoolConfig;
use super::group::{GroupId, WaiterId};
use super::state::State;
use crate::slot::ConnId;

/// Runs the events of `script`, and then brings everything to its end.
///
/// # Panics
///
/// If the state breaks a promise.
pub(crate) fn run(script: &[u8]) {
    let (head, events) = script.split_at(script.len().min(4));
    let mut world = World::new(head);
    for event in events.chunks_exact(3) {
        if let [event, a, b] = event {
            world.act(*event, *a, *b);
            world.check();
        }
    }
    world.finish();
}

struct World {
    state: State<u8, (), u32, u8>,
    max_connections: usize,
    now: Instant,
    /// Calls that wait, by their number.
    waiting: BTreeMap<u32, WaiterId>,
    calls: u32,
    dials: Vec<GroupId>,
    conns: BTreeMap<ConnId, Conn>,
    held: Vec<ConnId>,
}

/// A connection, from its making until its end was told and all its places were given back.
struct Conn {
    /// What the peer allows, until the connection ends.
    limit: usize,
    ended: bool,
}

impl World {
    #[expect(clippy::disallowed_methods, reason = "only a place to count from")]
    fn new(head: &[u8]) -> Self {
        let number = |at: usize| head.get(at).map_or(0, |byte| usize::from(*byte));
        let max_connections = 1 + number(0) % 8;
        let mut config = PoolConfig::default();
        config
            .set_max_connections(max_connections)
            .set_max_connections_per_key(1 + number(1) % 4)
            .set_spread_above(1 + number(2) % 4)
            .set_max_waiters_per_key(number(3) % 8)
            .set_idle_timeout(Duration::from_secs(20))
            .set_max_age(Some(Duration::from_secs(100)))
            .set_backoff(Duration::from_secs(1), Duration::from_secs(8));
        Self {
            state: State::new(config, 7),
            max_connections,
            now: Instant::now(),
            waiting: BTreeMap::new(),
            calls: 0,
            dials: Vec::new(),
            conns: BTreeMap::new(),
            held: Vec::new(),
        }
    }

    fn act(&mut self, event: u8, a: u8, b: u8) {
        let now = self.now;
        match event % 12 {
            0..=2 => self.acquire(a % 6, b),
            3 => self.release(a),
            4 => self.connect(a, b),
            5 if !self.dials.is_empty() => {
                let group = self.dials.remove(usize::from(a) % self.dials.len());
                self.state.dial_failed(group, b, now);
            }
            6 => self.cancel(a),
            7 => self.with_conn(a, |state, id, conn| {
                conn.limit = usize::from(b % 5);
                state.limited(id, conn.limit, now);
            }),
            8 => self.with_conn(a, |state, id, _| state.proven(id, now)),
            9 => self.with_conn(a, |state, id, _| state.gone(id, b, now)),
            10 => self.with_conn(a, |state, id, conn| {
                conn.ended = true;
                state.ended(id, b, now);
            }),
            _ => self.pass(Duration::from_millis(u64::from(a) * u64::from(b))),
        }
        self.obey();
    }

    fn acquire(&mut self, key: u8, avoid: u8) {
        // Now and then a call that was refused on one connection.
        let refused_by = self.conns.keys().nth(usize::from(avoid) % 16).copied();
        self.calls += 1;
        let call = self.calls;
        let acquired = self.state.acquire(&key, refused_by.as_slice(), || call, self.now);
        match acquired {
            Acquired::Ready(place) => self.hold(&place),
            Acquired::Waiting(waiter) => {
                self.waiting.insert(call, waiter);
            }
            Acquired::Refused(Refusal::HeldOff { retry_at, .. }) => assert!(retry_at > self.now),
            Acquired::Refused(Refusal::Crowded) => {}
            Acquired::Refused(refusal) => panic!("{refusal:?} of a call that did not wait"),
        }
    }

    fn release(&mut self, which: u8) {
        if !self.held.is_empty() {
            let conn = self.held.remove(usize::from(which) % self.held.len());
            self.state.release(conn, self.now);
        }
    }

    fn connect(&mut self, which: u8, limit: u8) {
        if !self.dials.is_empty() {
            let group = self.dials.remove(usize::from(which) % self.dials.len());
            let limit = usize::from(limit % 5);
            let conn = self.state.connected(group, (), limit, self.now);
            let new = self.conns.insert(conn, Conn { limit, ended: false });
            assert!(new.is_none(), "{conn:?} was made twice");
        }
    }

    fn cancel(&mut self, which: u8) {
        let nth = usize::from(which) % self.waiting.len().max(1);
        if let Some((&call, &waiter)) = self.waiting.iter().nth(nth) {
            assert_eq!(self.state.cancel(waiter), Some(call));
            assert_eq!(self.state.cancel(waiter), None);
            self.waiting.remove(&call);
        }
    }

    fn with_conn(&mut self, which: u8, act: impl FnOnce(&mut State<u8, (), u32, u8>, ConnId, &mut Conn)) {
        let live = self.conns.iter_mut().filter(|(_, conn)| !conn.ended);
        let mut live: Vec<_> = live.collect();
        let nth = usize::from(which) % live.len().max(1);
        if let Some((id, conn)) = live.get_mut(nth) {
            act(&mut self.state, **id, conn);
        }
    }

    /// Lets time pass as the worker does, which wakes for what is due.
    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(at) = self.state.wake_at().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            self.state.tick(self.now);
            assert!(
                self.state.wake_at().is_none_or(|next| next > self.now),
                "due again at once"
            );
            self.obey();
        }
        self.now = until;
    }

    fn obey(&mut self) {
        for action in self.state.take_actions() {
            match action {
                Action::Dial { group, .. } => {
                    assert!(!self.dials.contains(&group), "two dials of one key");
                    self.dials.push(group);
                }
                Action::Grant { call, place } => {
                    assert!(self.waiting.remove(&call).is_some(), "call {call} did not wait");
                    self.hold(&place);
                }
                Action::Fail { call, .. } => {
                    assert!(self.waiting.remove(&call).is_some(), "call {call} did not wait");
                }
                Action::Close(()) | Action::Observe(_) | Action::Rearm => {}
            }
        }
    }

    fn hold(&mut self, place: &Place<()>) {
        self.held.push(place.conn);
        let tunnels = self.held.iter().filter(|held| **held == place.conn).count();
        let conn = &self.conns[&place.conn];
        assert!(!conn.ended, "a place on a connection that ended");
        assert!(tunnels <= conn.limit, "{tunnels} tunnels of {}", conn.limit);
    }

    fn check(&mut self) {
        let stats = self.state.stats();
        let held: BTreeSet<ConnId> = self.held.iter().copied().collect();
        self.conns.retain(|id, conn| !conn.ended || held.contains(id));
        assert_eq!(stats.tunnels, self.held.len());
        assert_eq!(stats.waiting, self.waiting.len());
        assert_eq!(stats.dialing, self.dials.len());
        assert_eq!(
            stats.connections,
            self.conns.values().filter(|conn| !conn.ended).count()
        );
        assert!(stats.connections + stats.dialing <= self.max_connections);
    }

    /// Everything ends; nothing may be left, and nobody may wait.
    fn finish(&mut self) {
        while !self.dials.is_empty() || !self.held.is_empty() || !self.conns.is_empty() {
            self.act(5, 0, 0);
            self.act(3, 0, 0);
            self.act(10, 0, 0);
            self.check();
        }
        self.pass(Duration::from_secs(1_000));
        self.obey();
        self.check();
        let stats = self.state.stats();
        if self.dials.is_empty() {
            assert_eq!(self.waiting, BTreeMap::new(), "nobody dials for them");
            assert_eq!((stats.keys, self.state.wake_at()), (0, None));
        } else {
            self.finish();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn promises_hold_whatever_happens(script in prop::collection::vec(any::<u8>(), 0..1_200)) {
            super::run(&script);
        }
    }
}
