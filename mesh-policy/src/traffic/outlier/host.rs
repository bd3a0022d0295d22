use std::{
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
    time::Duration,
};

use super::{detection::Detection, outcome::Outcome};
use crate::{chance::Draws, traffic::moment::nanos};

/// The state of an endpoint that gets requests.
const IN_SERVICE: u64 = 0;
/// The state of an endpoint that is no longer there, and so cannot be ejected.
const GONE: u64 = u64::MAX;

/// Why an endpoint was ejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cause {
    /// Errors in a row.
    ConsecutiveErrors,
    /// Gateway errors in a row.
    ConsecutiveGatewayErrors,
    /// Failures without a response in a row.
    ConsecutiveLocalFailures,
    /// A success rate that is an outlier.
    SuccessRate,
    /// A part of failures above the threshold.
    FailurePercentage,
}

/// An endpoint was ejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ejection {
    /// Why.
    pub cause: Cause,
    /// From when on a sweep brings it back.
    pub until: Duration,
}

/// What is known about an endpoint.
#[derive(Debug, Default)]
pub(super) struct Host {
    errors: AtomicU32,
    gateway_errors: AtomicU32,
    local_failures: AtomicU32,
    requests: AtomicU32,
    successes: AtomicU32,
    /// [`IN_SERVICE`], [`GONE`], or the moment until when it is ejected.
    state: AtomicU64,
    /// How many base times the next ejection lasts, less one.
    times: AtomicU32,
    returned: AtomicU64,
}

/// Requests of one interval.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tally {
    pub(super) requests: u32,
    pub(super) successes: u32,
}

/// How many endpoints there are, and how many are ejected.
#[derive(Debug, Default)]
pub(super) struct Census {
    all: AtomicU32,
    ejected: AtomicU32,
}

impl Host {
    /// Counts a request's end; a rule that it breaks is the answer.
    pub(super) fn count(&self, detection: &Detection, outcome: Outcome) -> Option<Cause> {
        let is_local = outcome == Outcome::LocalFailure;
        if detection.split_local {
            if is_local {
                let limit = detection.consecutive_local_failures;
                return grown(&self.local_failures, limit).then_some(Cause::ConsecutiveLocalFailures);
            }
            clear(&self.local_failures);
        }
        self.requests.fetch_add(1, Ordering::Relaxed);
        if outcome.is_success() {
            self.successes.fetch_add(1, Ordering::Relaxed);
            clear(&self.errors);
            clear(&self.gateway_errors);
            return None;
        }
        let errors = grown(&self.errors, detection.consecutive_errors);
        let gateway_errors = if outcome == Outcome::ServerError {
            clear(&self.gateway_errors);
            false
        } else {
            grown(&self.gateway_errors, detection.consecutive_gateway_errors)
        };
        match (errors, gateway_errors) {
            (true, _) => Some(Cause::ConsecutiveErrors),
            (false, true) => Some(Cause::ConsecutiveGatewayErrors),
            (false, false) => None,
        }
    }

    /// Takes the endpoint out of service, unless it is already, or too many are.
    pub(super) fn eject(
        &self,
        detection: &Detection,
        census: &Census,
        cause: Cause,
        now: Duration,
        random: u64,
    ) -> Option<Ejection> {
        if self.state.load(Ordering::SeqCst) != IN_SERVICE || !census.admit_one_more(detection) {
            return None;
        }
        let times = self.times.load(Ordering::Relaxed).saturating_add(1);
        let jitter = detection.jitter.mul_f64(Draws::new(random).share());
        let until = now
            .saturating_add(detection.ejection_time(times))
            .saturating_add(jitter);
        let word = nanos(until).clamp(IN_SERVICE + 1, GONE - 1);
        if self
            .state
            .compare_exchange(IN_SERVICE, word, Ordering::SeqCst, Ordering::SeqCst)
            .is_err()
        {
            census.one_less();
            return None;
        }
        // An ejection that already lasts as long as any may is not made to last longer.
        if detection.ejection_time(times) < detection.ejection_time(times.saturating_add(1)) {
            self.times.store(times, Ordering::Relaxed);
        }
        Some(Ejection { cause, until })
    }

    /// Brings the endpoint back if its time is up; the counters begin anew.
    pub(super) fn bring_back(&self, census: &Census, now: Duration) -> bool {
        let state = self.state.load(Ordering::SeqCst);
        if state == IN_SERVICE || state == GONE || nanos(now) < state {
            return false;
        }
        for counter in [&self.errors, &self.gateway_errors, &self.local_failures] {
            clear(counter);
        }
        self.take_tally();
        self.returned.store(nanos(now), Ordering::Relaxed);
        let is_back = self
            .state
            .compare_exchange(state, IN_SERVICE, Ordering::SeqCst, Ordering::SeqCst);
        if is_back.is_ok() {
            census.one_less();
        }
        is_back.is_ok()
    }

    /// An interval in service makes the next ejection one base time shorter.
    pub(super) fn forgive(&self, detection: &Detection, now: Duration) {
        let times = self.times.load(Ordering::Relaxed);
        let since = nanos(now).saturating_sub(self.returned.load(Ordering::Relaxed));
        if times > 0 && !self.is_ejected() && since >= nanos(detection.interval) {
            self.times.store(times - 1, Ordering::Relaxed);
        }
    }

    /// The endpoint is there no more, and whatever is still recorded about it ejects nobody.
    pub(super) fn leave(&self, census: &Census) {
        if !matches!(self.state.swap(GONE, Ordering::SeqCst), IN_SERVICE | GONE) {
            census.one_less();
        }
    }

    pub(super) fn is_ejected(&self) -> bool {
        !matches!(self.state.load(Ordering::SeqCst), IN_SERVICE | GONE)
    }

    pub(super) fn take_tally(&self) -> Tally {
        let successes = self.successes.swap(0, Ordering::Relaxed);
        let requests = self.requests.swap(0, Ordering::Relaxed);
        Tally {
            requests,
            successes: successes.min(requests),
        }
    }
}

impl Census {
    pub(super) fn set_all(&self, all: u32) {
        self.all.store(all, Ordering::SeqCst);
    }

    pub(super) fn ejected(&self) -> u32 {
        self.ejected.load(Ordering::SeqCst)
    }

    fn admit_one_more(&self, detection: &Detection) -> bool {
        let all = self.all.load(Ordering::SeqCst);
        let more = |ejected: u32| detection.allows(ejected + 1, all).then_some(ejected + 1);
        self.ejected
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, more)
            .is_ok()
    }

    fn one_less(&self) {
        self.ejected.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Adds one; whether that reaches a limit, after which counting begins anew.
fn grown(counter: &AtomicU32, limit: u32) -> bool {
    if limit == 0 {
        return false;
    }
    let reached = counter.fetch_add(1, Ordering::Relaxed) + 1 >= limit;
    if reached {
        clear(counter);
    }
    reached
}

/// Not written to when there is nothing to clear: most requests succeed.
fn clear(counter: &AtomicU32) {
    if counter.load(Ordering::Relaxed) != 0 {
        counter.store(0, Ordering::Relaxed);
    }
}
