use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use thiserror::Error;

use crate::traffic::moment::nanos;

/// How large a bucket may be, in time: what overflows later than in 146 years never does.
const LONGEST: u64 = 1 << 62;

/// So many requests in a time, and so many at once: a token bucket.
///
/// It fills continuously and not in steps, as Envoy's have since 1.32. One token's time is rounded up
/// to a nanosecond, so that a limit is met and never exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Nanoseconds in which a token comes in.
    each: u64,
    tokens: u32,
}

impl Limit {
    /// So many requests in a time; all of them may come at once. Zero requests are none, ever.
    pub fn new(requests: u32, every: Duration) -> Self {
        Self::token_bucket(requests, requests, every)
    }

    /// A bucket that holds `tokens` and gets `fill` of them in a time: Envoy's `token_bucket` with
    /// `max_tokens`, `tokens_per_fill` and `fill_interval`. Without a fill it is used up once.
    pub fn token_bucket(tokens: u32, fill: u32, every: Duration) -> Self {
        let each = match nanos(every).checked_div(fill.into()) {
            None => LONGEST / u64::from(tokens.max(1)),
            Some(each) => each + u64::from(each * u64::from(fill) != nanos(every)),
        };
        let each = each.clamp(1, LONGEST);
        Self { each, tokens }
    }

    /// The most that may come at once (`x-ratelimit-limit`).
    pub fn tokens(&self) -> u32 {
        self.tokens
    }

    /// What is in a bucket that is full.
    fn capacity(&self) -> u64 {
        self.each.saturating_mul(self.tokens.into()).min(LONGEST)
    }

    /// Takes tokens out of a bucket that is told by when it will be full again: GCRA. That moment
    /// never moves back.
    pub(super) fn take(&self, full_at: &AtomicU64, cost: u32, now: Duration) -> Result<Allowance, Limited> {
        let (now, capacity) = (nanos(now), self.capacity());
        let cost = self.each.saturating_mul(cost.into());
        let mut before = full_at.load(Ordering::Relaxed);
        loop {
            let missing = before.saturating_sub(now).saturating_add(cost);
            if missing > capacity {
                let retry_after = (cost <= capacity).then(|| Duration::from_nanos(missing - capacity));
                return Err(Limited { retry_after });
            }
            let after = now.saturating_add(missing);
            match full_at.compare_exchange_weak(before, after, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => {
                    return Ok(Allowance {
                        remaining: u32::try_from((capacity - missing) / self.each).unwrap_or(u32::MAX),
                        full_in: Duration::from_nanos(missing),
                    });
                }
                Err(current) => before = current,
            }
        }
    }

    /// Whether so much could be taken now.
    pub(super) fn would_take(&self, full_at: u64, cost: u32, now: Duration) -> bool {
        let cost = self.each.saturating_mul(cost.into());
        full_at.saturating_sub(nanos(now)).saturating_add(cost) <= self.capacity()
    }
}

/// A limit with its bucket, for any number of threads.
#[derive(Debug)]
pub struct Bucket {
    limit: Limit,
    full_at: AtomicU64,
}

impl Bucket {
    /// A full bucket.
    pub fn new(limit: Limit) -> Self {
        Self {
            limit,
            full_at: AtomicU64::new(0),
        }
    }

    /// Takes as many tokens as a request costs: 1, unless it counts for several.
    ///
    /// # Errors
    ///
    /// There are too few: a 429, or RESOURCE_EXHAUSTED in gRPC. None is taken.
    pub fn check(&self, cost: u32, now: Duration) -> Result<Allowance, Limited> {
        self.limit.take(&self.full_at, cost, now)
    }

    /// The limit.
    pub fn limit(&self) -> Limit {
        self.limit
    }
}

/// A request may pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Allowance {
    /// How many more may pass at once (`x-ratelimit-remaining`).
    pub remaining: u32,
    /// When the bucket is full, if nothing more comes (`x-ratelimit-reset`, there in whole seconds).
    pub full_in: Duration,
}

/// A request is one too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("too many requests")]
#[non_exhaustive]
pub struct Limited {
    /// After which time it could pass, if nothing else came (`retry-after`, there in whole seconds,
    /// rounded up). `None` for a request that costs more than the bucket holds.
    pub retry_after: Option<Duration>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Tokens, counted in the nanoseconds that they take to come in.
    struct Naive {
        each: u64,
        most: u64,
        level: u64,
        at: u64,
    }

    impl Naive {
        fn take(&mut self, cost: u32, now: u64) -> bool {
            self.level = self.most.min(self.level + now.saturating_sub(self.at));
            self.at = self.at.max(now);
            let cost = u64::from(cost) * self.each;
            let is_enough = cost <= self.level;
            if is_enough {
                self.level -= cost;
            }
            is_enough
        }
    }

    proptest! {
        #[test]
        fn equals_a_bucket_that_is_filled(
            (tokens, fill, millis) in (0_u32..20, 1_u32..20, 1_u64..2_000),
            steps in prop::collection::vec((0_u64..900, 0_u32..4), 1..100),
        ) {
            let limit = Limit::token_bucket(tokens, fill, Duration::from_millis(millis));
            let bucket = Bucket::new(limit);
            let each = (millis * 1_000_000).div_ceil(fill.into());
            let most = each * u64::from(tokens);
            let mut naive = Naive { each, most, level: most, at: 0 };
            let mut now = 1_000_000_000_u64;
            for (passed, cost) in steps {
                now += passed * 1_000_000;
                let moment = Duration::from_nanos(now);
                let expected = naive.take(cost, now);
                match bucket.check(cost, moment) {
                    Ok(allowance) => {
                        prop_assert!(expected);
                        prop_assert_eq!(u64::from(allowance.remaining), naive.level / each);
                        prop_assert_eq!(allowance.full_in, Duration::from_nanos(most - naive.level));
                    }
                    Err(limited) => {
                        prop_assert!(!expected);
                        let missing = u64::from(cost) * each - naive.level;
                        prop_assert_eq!(limited.retry_after, (cost <= tokens).then(|| Duration::from_nanos(missing)));
                    }
                }
            }
        }
    }

    #[test]
    fn limits_at_the_edges_hold() {
        let second = Duration::from_secs(1);
        let never = Bucket::new(Limit::new(0, second));
        assert_eq!(never.check(1, second).unwrap_err().retry_after, None);
        let once = Bucket::new(Limit::token_bucket(2, 0, second));
        let passes = [0, 1, 60, 1_000_000].map(|passed| once.check(1, second * passed).is_ok());
        assert_eq!(passes, [true, true, false, false]);
        assert_eq!(once.limit().tokens(), 2);
        let free = Bucket::new(Limit::new(u32::MAX, Duration::ZERO));
        assert!((0..1_000).all(|_| free.check(1, second).is_ok()));
        let huge = Bucket::new(Limit::token_bucket(u32::MAX, 1, Duration::MAX));
        assert!(huge.check(1, Duration::MAX).is_ok());
        assert_eq!(never.check(1, second).unwrap_err().to_string(), "too many requests");
    }

    #[test]
    fn threads_get_no_more_than_the_limit() {
        let bucket = Bucket::new(Limit::new(1_000, Duration::from_secs(1)));
        let now = Duration::from_secs(5);
        let passed: usize = std::thread::scope(|scope| {
            let count = || (0..1_000).filter(|_| bucket.check(1, now).is_ok()).count();
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(count)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(passed, 1_000);
    }
}
