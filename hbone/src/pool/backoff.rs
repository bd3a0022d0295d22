//! When a key may be dialled again after its dials failed, and the randomness for that.

use std::time::{Duration, Instant};

/// The failures of a key's dials, in a row.
#[derive(Debug)]
pub(super) struct Backoff<E> {
    failures: u32,
    /// The latest failure.
    error: E,
    /// From when on there may be another dial.
    retry_at: Instant,
    /// From when on the failures no longer matter.
    forget_at: Instant,
}

impl<E> Backoff<E> {
    /// A failure at `now`, after those of `before`. If `lenient`, the first costs no time.
    pub(super) fn after(
        before: Option<Self>,
        error: E,
        lenient: bool,
        (first, max): (Duration, Duration),
        random: &mut Random,
        now: Instant,
    ) -> Self {
        let failures = before.map_or(0, |before| before.failures).saturating_add(1);
        let delay = match failures - 1 {
            0 if lenient => Duration::ZERO,
            doublings => first.saturating_mul(1 << doublings.min(31)).min(max),
        };
        let retry_at = now + random.shorten(delay, 2);
        Self {
            failures,
            error,
            retry_at,
            forget_at: retry_at + max,
        }
    }

    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    pub(super) fn error(&self) -> &E {
        &self.error
    }

    pub(super) fn retry_at(&self) -> Instant {
        self.retry_at
    }

    pub(super) fn forget_at(&self) -> Instant {
        self.forget_at
    }

    /// Whether a dial has to wait.
    pub(super) fn holds(&self, now: Instant) -> bool {
        now < self.retry_at
    }
}

/// A sequence of numbers from a seed, to keep pools from acting in step. Not for secrets.
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// `time`, less a random share of its `part`th part.
    pub(super) fn shorten(&mut self, time: Duration, part: u32) -> Duration {
        let share = f64::from(self.next()) / f64::from(u32::MAX);
        time - (time / part).mul_f64(share)
    }

    /// The next number of the SplitMix64 sequence, its upper half.
    fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 32) as u32
    }
}
