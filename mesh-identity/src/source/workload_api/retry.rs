use std::time::Duration;

/// The pause after the first failure, before jitter.
const FIRST: Duration = Duration::from_millis(250);
/// The longest pause: an agent that comes back is found within it.
const LONGEST: Duration = Duration::from_secs(15);

/// How long to pause before the next attempt: twice as long after each failure in a row, and
/// shortened at random by up to half, so that a node's workloads do not all return at once.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The pause after one more failure. `random` is any number.
    pub(super) fn pause(&mut self, random: u32) -> Duration {
        let longest = FIRST.saturating_mul(1 << self.failures.min(16)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        longest / 2 + (longest / 2).mul_f64(f64::from(random) / f64::from(u32::MAX))
    }

    /// Forgets the failures.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let mut backoff = Backoff::default();
        let pauses: Vec<u128> = (0..9).map(|_| backoff.pause(u32::MAX).as_millis()).collect();
        assert_eq!(pauses, [250, 500, 1000, 2000, 4000, 8000, 15_000, 15_000, 15_000]);
        backoff.reset();
        assert_eq!(backoff.pause(0), FIRST / 2);
    }

    proptest! {
        #[test]
        fn jitter_takes_at_most_half(failures in 0u32..40, random: u32) {
            let (mut low, mut any, mut high) = (Backoff { failures }, Backoff { failures }, Backoff { failures });
            let (low, any, high) = (low.pause(0), any.pause(random), high.pause(u32::MAX));
            prop_assert!(low <= any && any <= high && high == low * 2 && high <= LONGEST);
        }
    }
}
