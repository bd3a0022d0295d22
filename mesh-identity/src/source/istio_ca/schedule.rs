//! When which identity is asked for. No clock, no I/O: events go in with `now`, and what to do comes
//! out.

mod span;
#[cfg(test)]
mod tests;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap},
    num::NonZeroUsize,
    time::{Duration, Instant},
};

pub(super) use self::span::Lifetime;
use self::span::{PAUSE, back_off};
use crate::spiffe_id::SpiffeId;

/// How urgent a certificate is. While calls wait for their turn, the more urgent go first, and among
/// equals the one that has waited longest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// Nobody waits. Renewals have this priority.
    Background,
    /// It will be needed soon, for a workload that is about to start, say.
    Warmup,
    /// A connection waits for it.
    RealTime,
}

/// One identity for as long as somebody wants it. Wanted again later, it has another number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Number(u64);

#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) identities: usize,
    pub(super) concurrent: NonZeroUsize,
}

/// What is to be done next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Ask for a certificate, and tell how it went.
    Call { number: Number, id: SpiffeId },
    /// Its certificate is not to be used any longer: it has expired, or nobody wants it.
    Withdraw(Number),
    /// Nothing until this moment, or until something happens.
    Wait(Option<Instant>),
}

pub(super) struct Schedule {
    limits: Limits,
    next_number: u64,
    identities: BTreeMap<Number, Identity>,
    numbers: HashMap<SpiffeId, Number>,
    /// Who waits for a turn. Numbers follow the order of arrival only at first, so each waiter has a
    /// place besides.
    queue: BTreeSet<(Reverse<Priority>, u64, Number)>,
    next_place: u64,
    timers: BTreeSet<(Instant, Number, Timer)>,
    calls: usize,
    forsaken: Vec<Number>,
}

struct Identity {
    id: SpiffeId,
    wanted_by: usize,
    /// The most that somebody asked for since the last certificate.
    priority: Priority,
    stage: Stage,
    failures: u32,
    failed_at: Option<Instant>,
    expires_at: Option<Instant>,
}

#[derive(Clone, Copy)]
enum Stage {
    Queued { place: u64 },
    Called,
    Resting { until: Instant },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Expiry,
    Call,
}

impl Schedule {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            next_number: 0,
            identities: BTreeMap::new(),
            numbers: HashMap::new(),
            queue: BTreeSet::new(),
            next_place: 0,
            timers: BTreeSet::new(),
            calls: 0,
            forsaken: Vec::new(),
        }
    }

    /// Somebody more wants this identity; none if there are too many others.
    pub(super) fn want(&mut self, id: &SpiffeId, priority: Priority, now: Instant) -> Option<Number> {
        if let Some(&number) = self.numbers.get(id) {
            if let Some(identity) = self.identities.get_mut(&number) {
                identity.wanted_by += 1;
            }
            self.urge(number, priority, now);
            return Some(number);
        }
        if self.identities.len() >= self.limits.identities {
            return None;
        }
        let number = Number(self.next_number);
        self.next_number += 1;
        self.numbers.insert(id.clone(), number);
        let identity = Identity {
            id: id.clone(),
            wanted_by: 1,
            priority,
            stage: Stage::Called,
            failures: 0,
            failed_at: None,
            expires_at: None,
        };
        self.identities.insert(number, identity);
        self.enqueue(number, priority);
        Some(number)
    }

    /// Somebody who wants the identity wants it with this priority. Without a certificate, a wait
    /// after a failure ends for whoever needs one at once, though not before a short pause.
    pub(super) fn urge(&mut self, number: Number, priority: Priority, now: Instant) {
        let Some(identity) = self.identities.get_mut(&number) else {
            return;
        };
        let queued = match identity.stage {
            Stage::Queued { place } => Some(place),
            _ => None,
        };
        if priority > identity.priority && (queued.is_some() || identity.expires_at.is_none()) {
            if let Some(place) = queued {
                self.queue.remove(&(Reverse(identity.priority), place, number));
                self.queue.insert((Reverse(priority), place, number));
            }
            identity.priority = priority;
        }
        if let (Stage::Resting { until }, None, Priority::RealTime) = (identity.stage, identity.expires_at, priority) {
            let earliest = identity.failed_at.map_or(now, |failed_at| failed_at + PAUSE).max(now);
            if earliest < until {
                identity.stage = Stage::Resting { until: earliest };
                self.timers.remove(&(until, number, Timer::Call));
                self.timers.insert((earliest, number, Timer::Call));
            }
        }
    }

    /// Somebody wants the identity no more.
    pub(super) fn release(&mut self, number: Number) {
        let Some(identity) = self.identities.get_mut(&number) else {
            return;
        };
        identity.wanted_by = identity.wanted_by.saturating_sub(1);
        if identity.wanted_by > 0 {
            return;
        }
        if let Some(identity) = self.identities.remove(&number) {
            self.numbers.remove(&identity.id);
            match identity.stage {
                Stage::Queued { place } => {
                    self.queue.remove(&(Reverse(identity.priority), place, number));
                }
                Stage::Resting { until } => {
                    self.timers.remove(&(until, number, Timer::Call));
                }
                Stage::Called => {}
            }
            if let Some(expires_at) = identity.expires_at {
                self.timers.remove(&(expires_at, number, Timer::Expiry));
            }
            self.forsaken.push(number);
        }
    }

    /// A call brought a certificate. Answers whether anybody still wants it.
    pub(super) fn issued(&mut self, number: Number, lifetime: Lifetime, now: Instant) -> bool {
        self.calls = self.calls.saturating_sub(1);
        let Some(identity) = self.identities.get_mut(&number) else {
            return false;
        };
        if let Some(expires_at) = identity.expires_at {
            self.timers.remove(&(expires_at, number, Timer::Expiry));
        }
        let (until, expires_at) = (now + lifetime.renew_in, now + lifetime.expires_in);
        identity.stage = Stage::Resting { until };
        identity.priority = Priority::Background;
        identity.failures = 0;
        identity.failed_at = None;
        identity.expires_at = Some(expires_at);
        self.timers.insert((until, number, Timer::Call));
        self.timers.insert((expires_at, number, Timer::Expiry));
        true
    }

    /// A call failed. Answers whether anybody still cares.
    pub(super) fn failed(&mut self, number: Number, now: Instant, random: u64) -> bool {
        self.calls = self.calls.saturating_sub(1);
        let Some(identity) = self.identities.get_mut(&number) else {
            return false;
        };
        identity.failures = identity.failures.saturating_add(1);
        identity.failed_at = Some(now);
        let until = now + back_off(identity.failures, random);
        identity.stage = Stage::Resting { until };
        self.timers.insert((until, number, Timer::Call));
        true
    }

    /// So much time has passed that `now` does not show, as it is while a machine sleeps: all
    /// certificates are nearer to their end.
    pub(super) fn skip(&mut self, span: Duration, now: Instant) {
        let sooner = |at: Instant| at.checked_sub(span).map_or(now, |at| at.max(now));
        for (&number, identity) in &mut self.identities {
            let Some(expires_at) = identity.expires_at else {
                continue;
            };
            self.timers.remove(&(expires_at, number, Timer::Expiry));
            self.timers.insert((sooner(expires_at), number, Timer::Expiry));
            identity.expires_at = Some(sooner(expires_at));
            if let Stage::Resting { until } = identity.stage {
                self.timers.remove(&(until, number, Timer::Call));
                self.timers.insert((sooner(until), number, Timer::Call));
                identity.stage = Stage::Resting { until: sooner(until) };
            }
        }
    }

    /// Whether anybody wants the identity.
    pub(super) fn knows(&self, number: Number) -> bool {
        self.identities.contains_key(&number)
    }

    /// What to do now. To be asked again after each answer but `Wait`, and then after each event.
    pub(super) fn next(&mut self, now: Instant) -> Step {
        if let Some(number) = self.forsaken.pop() {
            return Step::Withdraw(number);
        }
        while let Some(&(at, number, timer)) = self.timers.first() {
            if at > now {
                break;
            }
            self.timers.pop_first();
            match timer {
                Timer::Expiry => {
                    if let Some(identity) = self.identities.get_mut(&number) {
                        identity.expires_at = None;
                    }
                    return Step::Withdraw(number);
                }
                Timer::Call => {
                    let priority = self.identities.get(&number).map(|identity| identity.priority);
                    self.enqueue(number, priority.unwrap_or(Priority::Background));
                }
            }
        }
        if self.calls < self.limits.concurrent.get()
            && let Some((_, _, number)) = self.queue.pop_first()
            && let Some(identity) = self.identities.get_mut(&number)
        {
            identity.stage = Stage::Called;
            self.calls += 1;
            let id = identity.id.clone();
            return Step::Call { number, id };
        }
        Step::Wait(self.timers.first().map(|(at, _, _)| *at))
    }

    fn enqueue(&mut self, number: Number, priority: Priority) {
        let place = self.next_place;
        self.next_place += 1;
        if let Some(identity) = self.identities.get_mut(&number) {
            identity.stage = Stage::Queued { place };
            self.queue.insert((Reverse(priority), place, number));
        }
    }
}
