use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::traffic::moment::nanos;

/// Bits that a moment of measurement is shortened by: its unit is 16 µs, and it begins anew every
/// 19 hours. Who was not measured for longer is at worst taken for measured lately.
const UNIT: u32 = 14;

/// A response time below which nothing is told apart, in nanoseconds.
const FLOOR: f64 = 1_000.0;

/// What is measured about an endpoint, for as long as it is in a set.
#[derive(Debug)]
pub(super) struct Load {
    under_way: AtomicU32,
    /// The average response time in nanoseconds as the bits of an `f32`, and below them when it was
    /// measured. All zero before the first response.
    average: AtomicU64,
    /// In units of measurement.
    decay: f64,
}

impl Load {
    pub(super) fn new(decay: Duration) -> Self {
        Self {
            under_way: AtomicU32::new(0),
            average: AtomicU64::new(0),
            decay: (decay.as_nanos() >> UNIT).max(1) as f64,
        }
    }

    pub(super) fn begin(self: &Arc<Self>, now: Duration) -> InFlight {
        self.under_way.fetch_add(1, Ordering::Relaxed);
        InFlight {
            load: Arc::clone(self),
            began: now,
        }
    }

    /// Requests under way and another one.
    pub(super) fn requests(&self) -> u64 {
        u64::from(self.under_way.load(Ordering::Relaxed)) + 1
    }

    /// The average response time in nanoseconds, less what was forgotten since; `None` before the
    /// first response.
    pub(super) fn response_time(&self, now: Duration) -> Option<f64> {
        let word = self.average.load(Ordering::Relaxed);
        (word != 0).then(|| {
            let (average, measured) = parts(word);
            (average * self.remains(measured, stamp(now))).max(FLOOR)
        })
    }

    fn measure(&self, now: Duration, sample: Duration) {
        let (stamp, sample) = (stamp(now), nanos(sample) as f64);
        let mut word = self.average.load(Ordering::Relaxed);
        loop {
            let (average, measured) = parts(word);
            let new = if word == 0 || sample > average {
                sample
            } else {
                let old = self.remains(measured, stamp);
                average * old + sample * (1.0 - old)
            };
            // A measured average is never all zero.
            let next = (u64::from((new as f32).max(1.0).to_bits()) << 32) | u64::from(stamp);
            match self
                .average
                .compare_exchange_weak(word, next, Ordering::Relaxed, Ordering::Relaxed)
            {
                Ok(_) => return,
                Err(current) => word = current,
            }
        }
    }

    /// The part of an average that is not yet forgotten.
    fn remains(&self, measured: u32, now: u32) -> f64 {
        let passed = now.wrapping_sub(measured);
        // A moment that another thread has overtaken.
        if passed > u32::MAX / 2 {
            return 1.0;
        }
        (-f64::from(passed) / self.decay).exp()
    }
}

fn parts(word: u64) -> (f64, u32) {
    (f64::from(f32::from_bits((word >> 32) as u32)), word as u32)
}

fn stamp(now: Duration) -> u32 {
    (nanos(now) >> UNIT) as u32
}

/// A request under way to an endpoint: it counts until this is dropped, in all sets that the
/// endpoint is in.
#[must_use = "the request counts for as long as this lives"]
#[derive(Debug)]
pub struct InFlight {
    load: Arc<Load>,
    began: Duration,
}

impl InFlight {
    /// The response has begun, or the request was given up: the time that took is measured, and the
    /// request goes on counting until this is dropped. Linkerd takes the time until the first byte of
    /// the response. What is dropped without this ends uncounted among response times.
    ///
    /// A request counts as one that took no less than `penalty`, however soon its response came: an
    /// endpoint that fails quickly is not a quick one. Linkerd has 5 s for responses that are 429, 503
    /// or any other 5xx, or what their `retry-after` asks for; zero is none.
    pub fn measure(&self, now: Duration, penalty: Duration) {
        let took = now.saturating_sub(self.began);
        self.load.measure(now, took.max(penalty));
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.load.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn measured(samples: &[(u64, u64)]) -> Arc<Load> {
        let load = Arc::new(Load::new(10 * SECOND));
        for (second, millis) in samples {
            let now = SECOND * *second as u32;
            end(&load, now, Duration::from_millis(*millis));
        }
        load
    }

    fn end(load: &Arc<Load>, began: Duration, took: Duration) {
        load.begin(began).measure(began + took, Duration::ZERO);
    }

    fn millis(load: &Load, now: Duration) -> f64 {
        load.response_time(now).unwrap() / 1e6
    }

    #[test]
    fn slower_counts_at_once_and_faster_over_time() {
        let load = measured(&[(1, 100)]);
        assert!((millis(&load, SECOND) - 100.0).abs() < 0.1);
        end(&load, 2 * SECOND, Duration::from_millis(500));
        assert!((millis(&load, 2 * SECOND) - 500.0).abs() < 0.1);
        end(&load, 12 * SECOND, Duration::from_millis(100));
        let (old, expected) = ((-0.96_f64).exp(), 500.0 * (-0.96_f64).exp());
        assert!((millis(&load, 12_100 * SECOND / 1_000) - (expected + 100.0 * (1.0 - old))).abs() < 0.5);
    }

    #[test]
    fn silence_is_forgotten() {
        let load = measured(&[(1, 100)]);
        let later = 11 * SECOND + Duration::from_millis(100);
        assert!((millis(&load, later) - 100.0 / std::f64::consts::E).abs() < 0.1);
        assert!((millis(&load, 1_000 * SECOND) - 0.001).abs() < 1e-6);
        assert_eq!(Load::new(SECOND).response_time(SECOND), None);
    }

    #[test]
    fn a_moment_of_before_forgets_nothing() {
        let load = measured(&[(100, 100)]);
        assert!((millis(&load, SECOND) - 100.0).abs() < 0.1);
    }

    #[test]
    fn requests_count_until_they_are_dropped() {
        let load = Arc::new(Load::new(SECOND));
        let (one, other) = (load.begin(SECOND), load.begin(SECOND));
        assert_eq!(load.requests(), 3);
        drop(one);
        other.measure(SECOND, SECOND);
        assert_eq!(load.requests(), 2);
        other.measure(SECOND, 5 * SECOND);
        drop(other);
        assert_eq!(load.requests(), 1);
        assert!((millis(&load, SECOND) - 5_000.0).abs() < 1.0);
    }
}
