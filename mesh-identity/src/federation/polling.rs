//! When which bundle is fetched. No clock, no I/O.

use std::time::{Duration, Instant};

/// The time between two fetches where the bundle gives no hint (SPIFFE Trust Domain and Bundle
/// §4.1.2).
const DEFAULT_INTERVAL: Duration = Duration::from_secs(5 * 60);
/// No hint makes fetches more frequent than this.
const LEAST_INTERVAL: Duration = Duration::from_secs(30);
/// No hint makes fetches rarer than this, so that a hint that was a mistake is not kept for ever.
const MOST_INTERVAL: Duration = Duration::from_secs(24 * 3600);

/// What is to be done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Fetch the bundle with this place, and tell when it is done.
    Fetch(usize),
    /// Nothing until this moment, or until something happens.
    Wait(Option<Instant>),
}

/// Of each bundle, when it is due; none while it is being fetched.
pub(super) struct Polling {
    due: Vec<Option<Instant>>,
}

impl Polling {
    /// So many bundles, all of them due.
    pub(super) fn new(bundles: usize, now: Instant) -> Self {
        Self {
            due: vec![Some(now); bundles],
        }
    }

    pub(super) fn next(&mut self, now: Instant) -> Step {
        let next = self
            .due
            .iter_mut()
            .enumerate()
            .filter_map(|(place, due)| Some(((*due)?, place, due)))
            .min_by_key(|(at, place, _)| (*at, *place));
        match next {
            Some((at, place, due)) if at <= now => {
                *due = None;
                Step::Fetch(place)
            }
            Some((at, ..)) => Step::Wait(Some(at)),
            None => Step::Wait(None),
        }
    }

    /// A fetch is over, well or not: the next one follows the hint of the bundle that is held,
    /// by `random` up to a tenth sooner. A failure is no reason for haste.
    pub(super) fn fetched(&mut self, place: usize, hint: Option<Duration>, now: Instant, random: u64) {
        let interval = hint.unwrap_or(DEFAULT_INTERVAL).clamp(LEAST_INTERVAL, MOST_INTERVAL);
        let sooner = interval / 1000 * u32::try_from(random % 101).unwrap_or(0);
        if let Some(due) = self.due.get_mut(place) {
            *due = Some(now + (interval - sooner).max(LEAST_INTERVAL));
        }
    }

    /// What a fetch was lacking has come.
    pub(super) fn hasten(&mut self, place: usize, now: Instant) {
        if let Some(Some(due)) = self.due.get_mut(place) {
            *due = now.min(*due);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[expect(clippy::disallowed_methods, reason = "an instant has no constructor but a clock")]
    fn start() -> Instant {
        Instant::now()
    }

    #[test]
    fn the_longest_due_comes_first_and_each_once() {
        let now = start();
        let mut polling = Polling::new(3, now);
        assert_eq!([0; 3].map(|_| polling.next(now)), [0, 1, 2].map(Step::Fetch));
        assert_eq!(polling.next(now), Step::Wait(None));
        polling.fetched(2, Some(Duration::from_secs(60)), now, 0);
        polling.fetched(0, None, now, 0);
        assert_eq!(polling.next(now), Step::Wait(Some(now + Duration::from_secs(60))));
        let later = now + DEFAULT_INTERVAL;
        assert_eq!([0; 2].map(|_| polling.next(later)), [2, 0].map(Step::Fetch));
    }

    #[test]
    fn what_was_lacking_makes_due_at_once_unless_it_is_under_way() {
        let now = start();
        let mut polling = Polling::new(1, now);
        assert_eq!(polling.next(now), Step::Fetch(0));
        polling.hasten(0, now);
        assert_eq!(polling.next(now), Step::Wait(None));
        polling.fetched(0, None, now, 0);
        polling.hasten(0, now);
        assert_eq!(polling.next(now), Step::Fetch(0));
    }

    /// So that those who started together do not ask together for ever.
    #[test]
    fn chance_takes_up_to_a_tenth_of_an_interval() {
        let hint = Duration::from_secs(1000);
        for (random, seconds) in [(0, 1000), (1, 999), (50, 950), (100, 900), (101, 1000)] {
            let now = start();
            let mut polling = Polling::new(1, now);
            polling.next(now);
            polling.fetched(0, Some(hint), now, random);
            let at = now + Duration::from_secs(seconds);
            assert_eq!(polling.next(now), Step::Wait(Some(at)), "{random}");
        }
    }

    proptest! {
        #[test]
        fn intervals_follow_the_hint_within_bounds(hint: Option<u64>, random: u64) {
            let now = start();
            let mut polling = Polling::new(1, now);
            polling.next(now);
            polling.fetched(0, hint.map(Duration::from_secs), now, random);
            let Step::Wait(Some(at)) = polling.next(now) else { panic!() };
            let hinted = hint.map_or(DEFAULT_INTERVAL, Duration::from_secs).clamp(LEAST_INTERVAL, MOST_INTERVAL);
            prop_assert!(at - now <= hinted && at - now >= (hinted * 9 / 10).max(LEAST_INTERVAL));
        }
    }
}
