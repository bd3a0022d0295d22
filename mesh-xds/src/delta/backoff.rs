use std::time::{Duration, Instant};

/// When a client may connect again.
#[derive(Debug)]
pub(super) struct Backoff {
    first: Duration,
    max: Duration,
    /// Streams in a row that came to nothing.
    failures: u32,
}

impl Backoff {
    pub(super) fn new(first: Duration, max: Duration) -> Self {
        Self {
            first,
            max,
            failures: 0,
        }
    }

    /// The moment of the next attempt. `jitter` is a random number; it takes away up to half of the
    /// wait, so that the clients of a lost server do not come back in step.
    pub(super) fn next(&mut self, now: Instant, jitter: u32) -> Instant {
        let wait = self.first.saturating_mul(1 << self.failures.min(31)).min(self.max);
        self.failures = self.failures.saturating_add(1);
        now + wait - (wait / 2).mul_f64(f64::from(jitter) / f64::from(u32::MAX))
    }

    /// A stream brought something: the next wait is the first one again.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_millis(10);
    const MAX: Duration = Duration::from_secs(15);

    #[test]
    fn waits_double_up_to_the_limit_and_begin_anew_after_a_success() {
        let now = mesh_testkit::clock::ManualClock::new().now();
        let mut backoff = Backoff::new(FIRST, MAX);
        let waits: Vec<_> = (0..12).map(|_| (backoff.next(now, 0) - now).as_millis()).collect();
        assert_eq!(waits, [10, 20, 40, 80, 160, 320, 640, 1280, 2560, 5120, 10240, 15000]);
        backoff.reset();
        assert_eq!(backoff.next(now, 0), now + FIRST);
    }

    #[test]
    fn jitter_takes_at_most_half() {
        let now = mesh_testkit::clock::ManualClock::new().now();
        let mut backoff = Backoff::new(FIRST, MAX);
        assert_eq!(backoff.next(now, u32::MAX), now + FIRST / 2);
    }
}
