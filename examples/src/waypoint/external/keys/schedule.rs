//! When which place is called. No clock, no I/O.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use super::{PlaceName, Wanted};

/// The time between two calls that succeed, as Istio has it.
const INTERVAL: Duration = Duration::from_secs(5 * 60);
/// The time after a first failure, which doubles with each further one.
const FIRST_BACKOFF: Duration = Duration::from_secs(1);
/// No failure is waited for longer.
const MOST_BACKOFF: Duration = Duration::from_secs(60);
/// Keys that could not be fetched again for so long are believed no more: their issuer may long have
/// withdrawn them.
const STALE: Duration = Duration::from_secs(24 * 3600);

/// The places, each with when it is due.
#[derive(Default)]
pub(super) struct Schedule {
    places: HashMap<PlaceName, Plan>,
}

struct Plan {
    timeout: Duration,
    /// `None` while it is called.
    due: Option<Instant>,
    failures: u32,
    /// When it last succeeded.
    fetched: Option<Instant>,
}

/// What a call says about a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    /// It succeeded.
    Fetched,
    /// It failed for the first time.
    Failed,
    /// It failed as before.
    Again,
    /// It has failed for so long that what is held of it must not be believed any more.
    Stale,
}

impl Schedule {
    /// These are the places from now on. Those that were not tried yet are due at once, also if they
    /// are known here: who wants a place no more, and then again, has kept nothing of it.
    pub(super) fn follow(&mut self, places: Vec<Wanted>, now: Instant) {
        let wanted: HashSet<_> = places.iter().map(|place| &place.name).collect();
        self.places.retain(|name, _| wanted.contains(name));
        for Wanted {
            name,
            timeout,
            is_tried,
        } in places
        {
            let plan = self.places.entry(name).or_insert(Plan {
                timeout,
                due: Some(now),
                failures: 0,
                fetched: None,
            });
            plan.timeout = timeout;
            if !is_tried {
                plan.due = plan.due.map(|due| due.min(now));
            }
        }
    }

    /// The place that is due for longest, which is to be called, and how long that may take.
    pub(super) fn next(&mut self, now: Instant) -> Option<(PlaceName, Duration)> {
        let due = self
            .places
            .iter_mut()
            .filter(|(_, plan)| plan.due.is_some_and(|due| due <= now));
        let (name, plan) = due.min_by_key(|(_, plan)| plan.due)?;
        plan.due = None;
        Some((name.clone(), plan.timeout))
    }

    /// When the next place is due.
    pub(super) fn due(&self) -> Option<Instant> {
        self.places.values().filter_map(|plan| plan.due).min()
    }

    /// A call is over. The next one follows up to a tenth sooner than it might, or after a failure
    /// up to a half, by `random`, so that those who started together do not call together for ever.
    pub(super) fn called(&mut self, name: &PlaceName, is_fetched: bool, now: Instant, random: u64) -> After {
        let Some(plan) = self.places.get_mut(name) else {
            return After::Again;
        };
        let share = u32::try_from(random % 101).unwrap_or(0);
        if is_fetched {
            plan.failures = 0;
            plan.fetched = Some(now);
            plan.due = Some(now + (INTERVAL - INTERVAL / 1000 * share));
            return After::Fetched;
        }
        let backoff = FIRST_BACKOFF
            .saturating_mul(1 << plan.failures.min(6))
            .min(MOST_BACKOFF);
        plan.failures = plan.failures.saturating_add(1);
        plan.due = Some(now + (backoff - backoff / 200 * share));
        if plan
            .fetched
            .is_some_and(|fetched| now.saturating_duration_since(fetched) >= STALE)
        {
            plan.fetched = None;
            return After::Stale;
        }
        match plan.failures {
            1 => After::Failed,
            _ => After::Again,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::disallowed_methods, reason = "an instant has no constructor but a clock")]
    fn start() -> Instant {
        Instant::now()
    }

    fn place(issuer: &str) -> PlaceName {
        PlaceName {
            issuer: issuer.into(),
            uri: None,
        }
    }

    fn wanted(issuers: &[&str], is_tried: bool) -> Vec<Wanted> {
        let wanted = issuers.iter().map(|issuer| Wanted {
            name: place(issuer),
            timeout: INTERVAL,
            is_tried,
        });
        wanted.collect()
    }

    fn schedule(issuers: &[&str], now: Instant) -> Schedule {
        let mut schedule = Schedule::default();
        schedule.follow(wanted(issuers, false), now);
        schedule
    }

    #[test]
    fn who_is_wanted_again_is_called_again_at_once() {
        let now = start();
        let mut schedule = schedule(&["a"], now);
        schedule.next(now);
        schedule.follow(wanted(&["a"], false), now);
        assert_eq!(schedule.due(), None, "it is being called");
        schedule.called(&place("a"), true, now, 0);
        schedule.follow(wanted(&["a"], true), now);
        assert_eq!(schedule.due(), Some(now + INTERVAL));
        let later = now + Duration::from_secs(1);
        schedule.follow(wanted(&["a"], false), later);
        assert_eq!(schedule.due(), Some(later));
    }

    #[test]
    fn new_places_are_due_at_once_and_each_is_called_by_itself() {
        let now = start();
        let mut schedule = schedule(&["a", "b"], now);
        let mut called = [0; 2].map(|_| schedule.next(now).unwrap().0);
        called.sort_by(|one, other| one.issuer.cmp(&other.issuer));
        assert_eq!(called, [place("a"), place("b")]);
        assert!(schedule.next(now).is_none() && schedule.due().is_none());
        schedule.follow(wanted(&["b", "c"], false), now);
        assert_eq!(
            schedule.next(now).unwrap().0,
            place("c"),
            "b is being called, a is not wanted"
        );
        assert_eq!(schedule.called(&place("a"), true, now, 0), After::Again);
        assert_eq!(schedule.due(), None);
    }

    #[test]
    fn chance_takes_up_to_a_tenth_of_an_interval() {
        for (random, seconds) in [(0, 300), (50, 285), (100, 270), (101, 300)] {
            let now = start();
            let mut schedule = schedule(&["a"], now);
            schedule.next(now);
            assert_eq!(schedule.called(&place("a"), true, now, random), After::Fetched);
            assert_eq!(schedule.due(), Some(now + Duration::from_secs(seconds)), "{random}");
        }
    }

    #[test]
    fn failures_are_followed_by_ever_longer_waits() {
        let mut now = start();
        let mut schedule = schedule(&["a"], now);
        for (failure, seconds) in [1, 2, 4, 8, 16, 32, 60, 60].into_iter().enumerate() {
            schedule.next(now);
            let after = schedule.called(&place("a"), false, now, 0);
            assert_eq!(after == After::Failed, failure == 0);
            assert_eq!(schedule.due(), Some(now + Duration::from_secs(seconds)));
            now += Duration::from_secs(seconds);
        }
        schedule.next(now);
        schedule.called(&place("a"), false, now, 100);
        assert_eq!(schedule.due(), Some(now + Duration::from_secs(30)));
        schedule.next(now + MOST_BACKOFF);
        schedule.called(&place("a"), true, now, 0);
        schedule.next(now + INTERVAL);
        schedule.called(&place("a"), false, now, 0);
        assert_eq!(schedule.due(), Some(now + FIRST_BACKOFF), "a success forgets failures");
    }

    #[test]
    fn keys_are_dropped_once_after_a_day_of_failures() {
        let now = start();
        let mut schedule = schedule(&["a"], now);
        let mut call = |is_fetched, after| schedule.called(&place("a"), is_fetched, now + after, 0);
        assert_eq!(call(true, Duration::ZERO), After::Fetched);
        assert_eq!(call(false, STALE - Duration::from_secs(1)), After::Failed);
        assert_eq!(call(false, STALE), After::Stale);
        assert_eq!(call(false, STALE * 2), After::Again);
    }
}
