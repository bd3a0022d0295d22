use std::{
    ops::RangeInclusive,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use crate::traffic::moment::nanos;

/// Parts of the interval, each counted by itself.
const SLOTS: u32 = 10;

/// How many retries a service gets for its requests: Linkerd's retry budget, and that of the Gateway
/// API's XBackendTrafficPolicy.
///
/// Within the interval there may be as many retries as a percentage of its requests, and some more so
/// that services with few requests have any. The interval moves by tenths of itself. Any number of
/// threads may use a budget; together they never get more than it has.
#[derive(Debug)]
pub struct Budget {
    percent: u32,
    at_least: u32,
    every: Duration,
    interval: Duration,
    requests: Window,
    retries: Window,
}

impl Budget {
    /// Which intervals can be counted in.
    pub(in crate::traffic) const INTERVALS: RangeInclusive<Duration> =
        Duration::from_millis(10)..=Duration::from_secs(3_600);

    /// For every hundred requests of 10 s 20 retries, and 10 each second: Linkerd's and the Gateway
    /// API's defaults.
    pub fn new() -> Self {
        Self {
            percent: 20,
            at_least: 10,
            every: Duration::from_secs(1),
            interval: Duration::from_secs(10),
            requests: Window::default(),
            retries: Window::default(),
        }
    }

    /// How many retries for a hundred requests, 0 to 1,000. Default 20 (`budget.percent`).
    #[must_use]
    pub fn percent(mut self, percent: u32) -> Self {
        self.percent = percent.min(1_000);
        self
    }

    /// In which interval requests and retries are counted, 10 ms to an hour. Default 10 s
    /// (`budget.interval`, Linkerd's `ttl`).
    #[must_use]
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval.clamp(*Self::INTERVALS.start(), *Self::INTERVALS.end());
        self
    }

    /// How many retries there are without any requests, in which time. Default 10 in 1 s, so that
    /// there are 100 in an interval of 10 s (`minRetryRate`, Linkerd's `minRetriesPerSecond`).
    #[must_use]
    pub fn at_least(mut self, retries: u32, every: Duration) -> Self {
        self.at_least = retries;
        self.every = every.max(Duration::from_millis(1));
        self
    }

    /// A request was sent for the first time.
    pub fn request(&self, now: Duration) {
        self.requests.add(self.slot(now));
    }

    /// Takes a retry out of the budget; whether there was one.
    #[must_use]
    pub fn retry(&self, now: Duration) -> bool {
        let slot = self.slot(now);
        // Counted before the look at the others: two that take the last one see each other.
        self.retries.add(slot);
        let is_within = self.retries.sum(slot) <= self.allowed(slot);
        if !is_within {
            self.retries.take_back(slot);
        }
        is_within
    }

    /// How many retries are left.
    pub fn left(&self, now: Duration) -> u64 {
        let slot = self.slot(now);
        self.allowed(slot).saturating_sub(self.retries.sum(slot))
    }

    fn allowed(&self, slot: u32) -> u64 {
        let reserve = u128::from(self.at_least) * self.interval.as_nanos() / self.every.as_nanos().max(1);
        let part = self.requests.sum(slot) * u64::from(self.percent) / 100;
        part.saturating_add(u64::try_from(reserve).unwrap_or(u64::MAX))
    }

    /// The number of the tenth of an interval that a moment is in. It begins anew after 2^32, where
    /// some of the last ten share their places.
    fn slot(&self, now: Duration) -> u32 {
        nanos(now).checked_div(nanos(self.interval / SLOTS)).unwrap_or(0) as u32
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self::new()
    }
}

/// Slots by which somebody may be late who counts. Who is further away is of another time.
const LATE: u32 = 1 << 16;

/// Counts by slots: each word holds the number of a slot, and below it how many there were in it.
#[derive(Debug, Default)]
struct Window {
    slots: [AtomicU64; SLOTS as usize],
}

impl Window {
    fn add(&self, slot: u32) {
        self.change(slot, |count| count.saturating_add(1));
    }

    fn take_back(&self, slot: u32) {
        self.change(slot, |count| count.saturating_sub(1));
    }

    fn sum(&self, slot: u32) -> u64 {
        let live = |word: u64| slot.wrapping_sub((word >> 32) as u32) < SLOTS;
        let words = self.slots.iter().map(|word| word.load(Ordering::SeqCst));
        words
            .filter(|word| live(*word))
            .map(|word| u64::from(word as u32))
            .sum()
    }

    fn change(&self, slot: u32, count: impl Fn(u32) -> u32) {
        let Some(place) = self.slots.get((slot % SLOTS) as usize) else {
            return;
        };
        let mut word = place.load(Ordering::SeqCst);
        loop {
            let (held, counted) = ((word >> 32) as u32, word as u32);
            let ahead = held.wrapping_sub(slot);
            let next = if ahead == 0 || (counted > 0 && ahead <= LATE) {
                // Who is late counts for the present.
                (u64::from(held) << 32) | u64::from(count(counted))
            } else {
                (u64::from(slot) << 32) | u64::from(count(0))
            };
            match place.compare_exchange_weak(word, next, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => return,
                Err(current) => word = current,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[derive(Clone, Debug)]
    enum Step {
        Request,
        Retry,
        Passes(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => Just(Step::Request),
            4 => Just(Step::Retry),
            2 => (1_u64..3_000).prop_map(Step::Passes),
        ];
        prop::collection::vec(step, 1..400)
    }

    proptest! {
        #[test]
        fn equals_a_list_of_what_happened(steps in steps(), percent in 0_u32..150, reserve in 0_u32..3) {
            let budget = Budget::new().percent(percent).at_least(reserve, 5 * SECOND);
            let (mut requests, mut retries) = (Vec::new(), Vec::new());
            let mut now = 1_000_000_u64;
            for step in steps {
                let moment = Duration::from_millis(now);
                let within = |happened: &[u64]| happened.iter().filter(|then| *then / 1_000 + 10 > now / 1_000).count();
                match step {
                    Step::Passes(millis) => now += millis,
                    Step::Request => {
                        budget.request(moment);
                        requests.push(now);
                    }
                    Step::Retry => {
                        let allowed = within(&requests) * percent as usize / 100 + 2 * reserve as usize;
                        let granted = within(&retries) < allowed;
                        prop_assert_eq!(budget.left(moment) as usize, allowed.saturating_sub(within(&retries)));
                        prop_assert_eq!(budget.retry(moment), granted);
                        if granted {
                            retries.push(now);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_service_without_requests_has_its_reserve() {
        let budget = Budget::new();
        assert_eq!((0..200).filter(|_| budget.retry(SECOND)).count(), 100);
        assert!(!budget.retry(SECOND * 10) && budget.retry(SECOND * 11));
    }

    #[test]
    fn who_is_late_counts_all_the_same() {
        let budget = Budget::new().percent(100).at_least(0, SECOND);
        budget.request(SECOND * 30);
        budget.request(SECOND * 20);
        assert_eq!(budget.left(SECOND * 30), 2);
    }

    #[test]
    fn threads_get_no_more_than_there_is() {
        let budget = Budget::new().percent(20).at_least(0, SECOND);
        (0..500).for_each(|_| budget.request(SECOND));
        let granted: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| (0..1_000).filter(|_| budget.retry(SECOND)).count()))
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert!(granted <= 100, "{granted}");
        assert!(granted == 100 || budget.left(SECOND) > 0);
    }

    #[test]
    fn the_epoch_may_be_long_ago_and_so_may_the_last_call() {
        let budget = Budget::new().percent(0).at_least(1, 10 * SECOND).interval(5 * SECOND);
        let mut now = Duration::from_secs(1_795_000_000);
        for _ in 0..3 {
            let granted = (0..100).filter(|_| budget.retry(now)).count();
            assert!(granted <= 1, "{granted}");
            now += SECOND * (1 << 31);
        }
        let budget = Budget::new().percent(0).at_least(2, SECOND).interval(SECOND);
        for now in [1_u64, 1 << 29, 3 << 28].map(Duration::from_secs) {
            assert_eq!((0..100).filter(|_| budget.retry(now)).count(), 2);
        }
    }
}
