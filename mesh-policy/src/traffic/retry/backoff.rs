use std::time::Duration;

use crate::chance::Draws;

/// How long to wait before a retry: Envoy's exponential back-off with full jitter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    base: Duration,
    longest: Duration,
    floor: Duration,
}

impl Backoff {
    /// Up to 25 ms before the first retry, 75 ms before the second and 250 ms before later ones:
    /// Envoy's and Istio's default.
    pub fn new() -> Self {
        Self::from(Duration::from_millis(25))
    }

    /// The n-th wait is anything up to 2^n - 1 times this, and never longer than ten times
    /// (`backoff` of Istio's retries, Envoy's `base_interval`).
    pub fn from(base: Duration) -> Self {
        Self {
            base,
            longest: base.saturating_mul(10),
            floor: Duration::ZERO,
        }
    }

    /// The longest wait, by default ten times the base (Envoy's `max_interval`).
    #[must_use]
    pub fn longest(mut self, longest: Duration) -> Self {
        self.longest = longest;
        self
    }

    /// What every wait has at least: chance comes on top. Default 0. What the Gateway API calls
    /// `backoff` is this.
    #[must_use]
    pub fn at_least(mut self, floor: Duration) -> Self {
        self.floor = floor;
        self
    }

    /// The wait before the n-th retry, of which there is no zeroth.
    pub fn wait(&self, retry: u32, random: u64) -> Duration {
        let times = (1_u32 << retry.clamp(1, 31)) - 1;
        let span = self.base.saturating_mul(times).min(self.longest);
        self.floor.saturating_add(part(span, random))
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self::new()
    }
}

/// What a server asked for, and up to half of it by chance, so that clients do not all come back at
/// the same moment: Envoy's jitter for rate limits.
pub(super) fn after(asked: Duration, random: u64) -> Duration {
    asked.saturating_add(part(asked / 2, random))
}

/// Any part of a time, short of all of it.
fn part(time: Duration, random: u64) -> Duration {
    let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let drawn = (u128::from(nanos) * u128::from(Draws::new(random).next())) >> 64;
    Duration::from_nanos(drawn as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn longest(backoff: Backoff, retry: u32) -> Duration {
        (0..2_000).map(|random| backoff.wait(retry, random)).max().unwrap()
    }

    #[test]
    fn waits_grow_to_ten_times_the_base() {
        for (retry, millis) in [(1, 25), (2, 75), (3, 175), (4, 250), (5, 250), (u32::MAX, 250)] {
            let (waited, most) = (longest(Backoff::new(), retry), Duration::from_millis(millis));
            assert!(waited < most && waited > most * 9 / 10, "{retry}: {waited:?}");
        }
    }

    #[test]
    fn a_floor_is_under_every_wait() {
        let floor = Duration::from_millis(100);
        let backoff = Backoff::new().at_least(floor).longest(Duration::from_millis(30));
        assert!((0..100).all(|random| backoff.wait(9, random) >= floor));
        assert!(longest(backoff, 9) < Duration::from_millis(130));
        assert_eq!(Backoff::from(Duration::ZERO).wait(3, 7), Duration::ZERO);
        assert_eq!(after(Duration::MAX, 1), Duration::MAX);
    }

    #[test]
    fn what_a_server_asks_for_is_no_less() {
        let asked = Duration::from_secs(2);
        assert!((0..100).all(|random| (asked..asked * 3 / 2).contains(&after(asked, random))));
    }
}
