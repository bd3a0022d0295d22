//! What a pool decides, without connections, tasks or a clock.
//!
//! Events go in with their instant, and [`Action`]s come out. A connection's driver and whoever
//! asks for tunnels act on their own, so each event may find that things have changed: an
//! identifier of something that is gone is ignored.
//!
//! Between two events, for each key: no call waits while a connection has a place for it, and if
//! calls wait then a dial is under way, or there is a reason that none can be.

use std::collections::VecDeque;
use std::hash::Hash;
use std::mem;
use std::sync::Arc;
use std::time::Instant;

use super::action::{Acquired, Action, Place, Refusal};
use super::backoff::{Backoff, Random};
use super::config::PoolConfig;
use super::conns::{Conn, Conns, Phase};
use super::group::{Group, GroupId, Groups, Waiter, WaiterId};
use super::stats::PoolStats;
use crate::observe::{Event, Eviction};
use crate::slot::ConnId;

/// Keys of which only failures are remembered.
const MAX_DESERTED: usize = 1024;

/// The state of a pool with keys `K`, where `H` is a connection's handle, `W` a waiting call and
/// `E` the reason that a dial failed.
#[derive(Debug)]
pub(super) struct State<K, H, W, E> {
    config: PoolConfig,
    random: Random,
    groups: Groups<K, W, E>,
    conns: Conns<H>,
    /// The latest serial number.
    serial: u64,
    /// Groups that wait for room to dial, the first first.
    blocked: VecDeque<GroupId>,
    /// Connections that were told to close, and have not ended.
    closing: usize,
    closed: bool,
    /// When something is due that is not an event.
    wake_at: Option<Instant>,
    stats: PoolStats,
    actions: Vec<Action<K, H, W, E>>,
}

impl<K: Hash + Eq + Clone, H: Clone, W, E: Clone> State<K, H, W, E> {
    pub(super) fn new(config: PoolConfig, seed: u64) -> Self {
        Self {
            config,
            random: Random::new(seed),
            groups: Groups::new(),
            conns: Conns::new(),
            serial: 0,
            blocked: VecDeque::new(),
            closing: 0,
            closed: false,
            wake_at: None,
            stats: PoolStats::default(),
            actions: Vec::new(),
        }
    }

    /// A call asks for a place, if there may be one on another connection than those to `avoid`.
    /// `call` makes what stands for it while it waits.
    pub(super) fn acquire(
        &mut self,
        key: &K,
        avoid: &[ConnId],
        call: impl FnOnce() -> W,
        now: Instant,
    ) -> Acquired<H, E> {
        if self.closed {
            return Acquired::Refused(Refusal::Closed);
        }
        self.stats.retries += u64::from(!avoid.is_empty());
        let id = self.groups.of(key);
        if let Some(conn) = self.choose(id, avoid) {
            self.stats.hits += 1;
            self.spread(id, conn, now);
            if let Some(place) = self.take(conn) {
                return Acquired::Ready(place);
            }
        }
        let acquired = match self.refusal(id, now) {
            Some(refusal) => Acquired::Refused(refusal),
            None => Acquired::Waiting(self.wait(id, avoid, call())),
        };
        self.serve(id, now);
        acquired
    }

    /// A waiting call is given up. Answers what stood for it, unless it has got its answer.
    pub(super) fn cancel(&mut self, waiter: WaiterId) -> Option<W> {
        let group = self.groups.get_mut(waiter.group)?;
        let at = group
            .waiters
            .binary_search_by_key(&waiter.serial, |waiter| waiter.serial)
            .ok()?;
        let cancelled = group.waiters.remove(at)?;
        self.stats.waiting -= 1;
        self.stats.waits_given_up += 1;
        self.settle(waiter.group);
        self.make_room();
        Some(cancelled.call)
    }

    /// A dial led to a connection, on which `limit` tunnels may be open.
    pub(super) fn connected(&mut self, id: GroupId, handle: H, limit: usize, now: Instant) -> ConnId {
        let serial = self.next_serial();
        let max_age = self.config.max_age;
        let expires_at = max_age.map(|age| now + self.random.shorten(age, 8));
        let conn = Conn {
            group: id,
            handle,
            phase: Phase::Usable,
            limit,
            tunnels: 0,
            idle_since: now,
            expires_at,
            proven: false,
        };
        let conn = self.conns.insert(serial, conn);
        self.stats.dialing -= 1;
        self.stats.connections += 1;
        if let Some(group) = self.groups.get_mut(id) {
            group.dialing = false;
            group.usable.push(conn);
        }
        self.due(now + self.config.idle_timeout);
        expires_at.into_iter().for_each(|at| self.due(at));
        if self.closed {
            self.retire(conn);
        }
        self.serve(id, now);
        conn
    }

    /// A dial failed.
    pub(super) fn dial_failed(&mut self, id: GroupId, error: E, now: Instant) {
        self.stats.dialing -= 1;
        self.stats.dial_failures += 1;
        if let Some(group) = self.groups.get_mut(id) {
            group.dialing = false;
        }
        if self.groups.get(id).is_some_and(|group| group.usable.is_empty()) {
            self.fail_waiters(id, &Refusal::Dial(error.clone()));
        }
        self.hold_off(id, error, false, now);
        self.unblock(now);
        self.serve(id, now);
    }

    /// The peer changed the tunnels that may be open on a connection.
    pub(super) fn limited(&mut self, conn: ConnId, limit: usize, now: Instant) {
        let Some(entry) = self.conns.get_mut(conn) else { return };
        let before = mem::replace(&mut entry.limit, limit);
        let id = entry.group;
        if entry.phase == Phase::Usable && before != limit {
            self.serve(id, now);
        }
    }

    /// The peer answered a request on a connection: it is good for something, and past failures
    /// are past.
    pub(super) fn proven(&mut self, conn: ConnId, now: Instant) {
        let Some(entry) = self.conns.get_mut(conn) else { return };
        entry.proven = true;
        let id = entry.group;
        if entry.phase == Phase::Usable
            && let Some(group) = self.groups.get_mut(id)
            && group.backoff.take().is_some()
        {
            self.serve(id, now);
        }
    }

    /// A place is given back.
    pub(super) fn release(&mut self, conn: ConnId, now: Instant) {
        let Some(entry) = self.conns.get_mut(conn) else { return };
        entry.tunnels -= 1;
        entry.idle_since = now;
        let (left, phase, id) = (entry.tunnels, entry.phase, entry.group);
        self.stats.tunnels -= 1;
        match phase {
            Phase::Usable => {
                self.serve(id, now);
                self.due(now + self.config.idle_timeout);
            }
            Phase::Retired if left == 0 => self.close_conn(conn),
            Phase::Ended if left == 0 => self.conns.remove(conn),
            Phase::Retired | Phase::Closing | Phase::Ended => {}
        }
    }

    /// A connection takes no more tunnels, by the peer's will or because it failed. If it was
    /// good for nothing, that counts as a failure of its dial, with `error` as the reason.
    pub(super) fn gone(&mut self, conn: ConnId, error: E, now: Instant) {
        let Some(entry) = self.conns.get_mut(conn) else { return };
        let (phase, id, proven) = (entry.phase, entry.group, entry.proven);
        if phase == Phase::Usable {
            self.retire(conn);
            self.lost(id, proven, error, now);
            self.serve(id, now);
        }
    }

    /// A connection has ended; `error` as for [`gone`](Self::gone).
    pub(super) fn ended(&mut self, conn: ConnId, error: E, now: Instant) {
        let Some(entry) = self.conns.get_mut(conn) else { return };
        let before = mem::replace(&mut entry.phase, Phase::Ended);
        let (id, proven, over) = (entry.group, entry.proven, entry.tunnels == 0);
        if over {
            self.conns.remove(conn);
        }
        match before {
            Phase::Ended => return,
            Phase::Closing => self.closing -= 1,
            Phase::Usable => self.leave_group(id, conn),
            Phase::Retired => {}
        }
        self.stats.connections -= 1;
        if before == Phase::Usable {
            self.lost(id, proven, error, now);
        }
        // Those who waited for room come first.
        self.unblock(now);
        if before == Phase::Usable {
            self.serve(id, now);
        }
    }

    /// The instant of [`wake_at`](Self::wake_at) has come, or another.
    pub(super) fn tick(&mut self, now: Instant) {
        let idle_timeout = self.config.idle_timeout;
        let reason = |conn: &Conn<H>| {
            let aged = conn.expires_at.is_some_and(|at| at <= now);
            let idle = conn.is_idle() && conn.idle_since + idle_timeout <= now;
            aged.then_some(Eviction::Age).or(idle.then_some(Eviction::Idle))
        };
        let old = self.conns.usable().filter_map(|(id, conn)| Some((id, reason(conn)?)));
        for (conn, reason) in old.collect::<Vec<_>>() {
            self.evict(conn, reason);
        }
        for id in self.groups.in_order() {
            if let Some(group) = self.groups.get_mut(id) {
                group.backoff = group.backoff.take().filter(|backoff| now < backoff.forget_at());
            }
            self.serve(id, now);
        }
        self.wake_at = self.next_wake(now);
    }

    /// Grants nothing more. Answers the handles of all connections that have not ended.
    pub(super) fn close(&mut self) -> Vec<H> {
        self.closed = true;
        for id in self.groups.in_order() {
            let usable = self.groups.get_mut(id).map(|group| mem::take(&mut group.usable));
            usable.into_iter().flatten().for_each(|conn| self.retire(conn));
            self.fail_waiters(id, &Refusal::Closed);
            self.settle(id);
        }
        let conns = self.conns.iter().map(|(_, conn)| conn);
        let live = conns.filter(|conn| conn.phase != Phase::Ended);
        live.map(|conn| conn.handle.clone()).collect()
    }

    /// The handle of a connection that has not ended.
    pub(super) fn handle(&self, id: ConnId) -> Option<&H> {
        let conn = self.conns.get(id)?;
        (conn.phase != Phase::Ended).then_some(&conn.handle)
    }

    /// When [`tick`](Self::tick) is due.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        self.wake_at
    }

    pub(super) fn stats(&self) -> PoolStats {
        let keys = self.groups.len();
        PoolStats { keys, ..self.stats }
    }

    /// What has to be done because of the events so far.
    pub(super) fn take_actions(&mut self) -> Vec<Action<K, H, W, E>> {
        mem::take(&mut self.actions)
    }

    fn next_serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    /// The least loaded connection with a place, the oldest of several.
    fn choose(&self, id: GroupId, avoid: &[ConnId]) -> Option<ConnId> {
        let usable = self.groups.get(id)?.usable.iter();
        let loads = usable.filter_map(|conn| Some((conn, self.conns.get(*conn)?)));
        let fit = loads.filter(|(id, conn)| conn.has_room() && !avoid.contains(id));
        fit.min_by_key(|(_, conn)| conn.tunnels).map(|(id, _)| *id)
    }

    fn take(&mut self, id: ConnId) -> Option<Place<H>> {
        let conn = self.conns.get_mut(id)?;
        conn.tunnels += 1;
        let place = Place {
            conn: id,
            handle: conn.handle.clone(),
            proven: conn.proven,
        };
        self.stats.tunnels += 1;
        Some(place)
    }

    /// Whether a call must not even wait.
    fn refusal(&mut self, id: GroupId, now: Instant) -> Option<Refusal<E>> {
        let group = self.groups.get(id)?;
        if let Some(backoff) = group.hopeless(now) {
            self.stats.held_off += 1;
            return Some(backoff.into());
        }
        let crowded = group.waiters.len() >= self.config.max_waiters_per_key;
        self.stats.crowded_out += u64::from(crowded);
        crowded.then_some(Refusal::Crowded)
    }

    fn wait(&mut self, id: GroupId, avoid: &[ConnId], call: W) -> WaiterId {
        let serial = self.next_serial();
        let avoid = avoid.to_vec();
        if let Some(group) = self.groups.get_mut(id) {
            group.waiters.push_back(Waiter { serial, call, avoid });
        }
        self.stats.waits += 1;
        self.stats.waiting += 1;
        WaiterId { group: id, serial }
    }

    /// Does what a group's waiters need: gives them places, dials, or gives them up.
    fn serve(&mut self, id: GroupId, now: Instant) {
        self.grant(id, |waiter| &waiter.avoid);
        let Some(group) = self.groups.get(id) else { return };
        if !group.waiters.is_empty() && self.may_dial(group, now) {
            self.dial_or_block(id);
        } else {
            self.forgo_room(id);
        }
        let Some(group) = self.groups.get(id) else { return };
        if !group.dialing {
            // There is no other connection to wait for.
            self.grant(id, |_| &[]);
        }
        let Some(group) = self.groups.get(id) else { return };
        if let Some(backoff) = group.hopeless(now) {
            let refusal = backoff.into();
            self.fail_waiters(id, &refusal);
        } else if let Some(backoff) = group.barred(now).filter(|_| !group.waiters.is_empty()) {
            self.due(backoff.retry_at());
        }
        self.settle(id);
        self.make_room();
    }

    /// Gives places to waiters, in their order, but not those that they `avoid`.
    fn grant(&mut self, id: GroupId, avoid: impl Fn(&Waiter<W>) -> &[ConnId]) {
        while let Some(group) = self.groups.get(id).filter(|group| !group.waiters.is_empty())
            && self.choose(id, &[]).is_some()
        {
            let mut choices = group
                .waiters
                .iter()
                .map(|waiter| self.choose(id, avoid(waiter)))
                .enumerate();
            let Some((at, conn)) = choices.find_map(|(at, choice)| Some((at, choice?))) else {
                return;
            };
            let Some(place) = self.take(conn) else { return };
            let granted = self.groups.get_mut(id).and_then(|group| group.waiters.remove(at));
            let Some(Waiter { call, .. }) = granted else { return };
            self.actions.push(Action::Grant { call, place });
            self.stats.waiting -= 1;
        }
    }

    fn fail_waiters(&mut self, id: GroupId, refusal: &Refusal<E>) {
        let Some(group) = self.groups.get_mut(id) else { return };
        let waiters = mem::take(&mut group.waiters);
        self.stats.waiting -= waiters.len();
        self.actions.extend(waiters.into_iter().map(|waiter| Action::Fail {
            call: waiter.call,
            refusal: refusal.clone(),
        }));
    }

    /// Whether another connection of a group may be dialled, if there is room in the pool.
    fn may_dial(&self, group: &Group<K, W, E>, now: Instant) -> bool {
        // A peer that allows no tunnel on one connection allows none on the next.
        let shut = |conn: &ConnId| self.conns.get(*conn).is_some_and(|conn| conn.limit == 0);
        !self.closed
            && !group.dialing
            && group.barred(now).is_none()
            && group.usable.len() < self.config.max_connections_per_key
            && !group.usable.iter().any(shut)
    }

    /// Dials another connection if even the least loaded, which is `conn`, is busy.
    fn spread(&mut self, id: GroupId, conn: ConnId, now: Instant) {
        let above = self.config.spread_above;
        let busy = self.conns.get_mut(conn).is_some_and(|conn| conn.tunnels >= above);
        let Some(group) = self.groups.get(id) else { return };
        if busy && self.has_room() && self.may_dial(group, now) {
            self.dial(id);
        }
    }

    fn has_room(&self) -> bool {
        self.stats.connections + self.stats.dialing < self.config.max_connections
    }

    fn dial_or_block(&mut self, id: GroupId) {
        if self.has_room() {
            return self.dial(id);
        }
        if let Some(group) = self.groups.get_mut(id)
            && !mem::replace(&mut group.blocked, true)
        {
            self.blocked.push_back(id);
        }
    }

    /// A group waits for room no longer.
    fn forgo_room(&mut self, id: GroupId) {
        if let Some(group) = self.groups.get_mut(id)
            && mem::take(&mut group.blocked)
        {
            self.blocked.retain(|blocked| *blocked != id);
        }
    }

    fn dial(&mut self, id: GroupId) {
        let Some(group) = self.groups.get_mut(id) else { return };
        group.dialing = true;
        let key = Arc::clone(&group.key);
        self.stats.dials += 1;
        self.stats.dialing += 1;
        self.actions.push(Action::Dial { group: id, key });
    }

    /// Closes as many idle connections as groups wait for room, those first that were idle for
    /// the longest time; but none of a group with waiters, which would only dial again.
    fn make_room(&mut self) {
        while self.closing < self.blocked.len() {
            let spare = |conn: &Conn<H>| {
                let group = self.groups.get(conn.group);
                conn.is_idle() && group.is_some_and(|group| group.waiters.is_empty())
            };
            let idle = self.conns.iter().filter(|(_, conn)| spare(conn));
            let Some((id, conn)) = idle.min_by_key(|(id, conn)| (conn.idle_since, id.serial)) else {
                return;
            };
            let group = conn.group;
            self.evict(id, Eviction::Room);
            self.settle(group);
        }
    }

    /// Lets groups dial that waited for room.
    fn unblock(&mut self, now: Instant) {
        while self.has_room() {
            let Some(id) = self.blocked.pop_front() else { return };
            if let Some(group) = self.groups.get_mut(id) {
                group.blocked = false;
            }
            self.serve(id, now);
        }
    }

    /// A group has lost a connection that was in use.
    fn lost(&mut self, id: GroupId, proven: bool, error: E, now: Instant) {
        self.stats.lost += 1;
        if !proven {
            self.hold_off(id, error, true, now);
        }
    }

    /// Notes that a dial of a group failed.
    fn hold_off(&mut self, id: GroupId, error: E, lenient: bool, now: Instant) {
        let Some(group) = self.groups.get_mut(id).filter(|_| !self.closed) else {
            return;
        };
        let times = (self.config.first_backoff, self.config.max_backoff);
        let backoff = Backoff::after(group.backoff.take(), error, lenient, times, &mut self.random, now);
        let (failures, retry_at, forget_at) = (backoff.failures(), backoff.retry_at(), backoff.forget_at());
        group.backoff = Some(backoff);
        let retry_in = retry_at - now;
        self.actions
            .push(Action::Observe(Event::PoolDialFailed { failures, retry_in }));
        self.due(forget_at);
        self.groups.forget_beyond(MAX_DESERTED);
    }

    fn evict(&mut self, conn: ConnId, reason: Eviction) {
        let count = match reason {
            Eviction::Idle => &mut self.stats.evicted_idle,
            Eviction::Age => &mut self.stats.evicted_aged,
            Eviction::Room => &mut self.stats.evicted_for_room,
        };
        *count += 1;
        let tunnels = self.conns.get_mut(conn).map_or(0, |conn| conn.tunnels);
        self.actions
            .push(Action::Observe(Event::PoolEvicted { reason, tunnels }));
        self.retire(conn);
    }

    /// Takes a connection out of use; it closes once no place on it is taken.
    fn retire(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        conn.phase = Phase::Retired;
        let (group, idle) = (conn.group, conn.tunnels == 0);
        self.leave_group(group, id);
        if idle {
            self.close_conn(id);
        }
    }

    fn leave_group(&mut self, group: GroupId, id: ConnId) {
        if let Some(group) = self.groups.get_mut(group) {
            group.usable.retain(|conn| *conn != id);
        }
    }

    fn close_conn(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        conn.phase = Phase::Closing;
        let handle = conn.handle.clone();
        self.closing += 1;
        self.actions.push(Action::Close(handle));
    }

    /// Forgets what a group no longer needs, and then the group.
    fn settle(&mut self, id: GroupId) {
        if self.groups.get(id).is_some_and(|group| group.waiters.is_empty()) {
            self.forgo_room(id);
        }
        self.groups.remove_if_empty(id);
    }

    /// Something is due at `at`.
    fn due(&mut self, at: Instant) {
        if self.wake_at.is_none_or(|wake_at| at < wake_at) {
            self.wake_at = Some(at);
            self.actions.push(Action::Rearm);
        }
    }

    fn next_wake(&self, now: Instant) -> Option<Instant> {
        let ends = self.conns.usable().flat_map(|(_, conn)| {
            let idle = conn.is_idle().then(|| conn.idle_since + self.config.idle_timeout);
            idle.into_iter().chain(conn.expires_at)
        });
        let failed = self.groups.iter().filter_map(|(_, group)| group.backoff.as_ref());
        let retries = failed.flat_map(|backoff| [backoff.retry_at(), backoff.forget_at()]);
        ends.chain(retries).filter(|at| now < *at).min()
    }
}

#[cfg(test)]
mod tests;
