use std::time::Duration;

use rustls_pki_types::UnixTime;

/// The least time between two calls for one identity.
pub(super) const PAUSE: Duration = Duration::from_millis(500);
/// The least time between a certificate and its renewal, however short it lives.
const LEAST_REST: Duration = Duration::from_secs(1);
/// The longest wait after failures. ztunnel has the same.
const MOST_BACK_OFF: Duration = Duration::from_secs(150);
/// Certificates are given up after this time, whatever they say, so that sums cannot overflow.
const FOREVER: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// How long a certificate is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::source::istio_ca) struct Lifetime {
    pub(in crate::source::istio_ca) renew_in: Duration,
    pub(in crate::source::istio_ca) expires_in: Duration,
}

impl Lifetime {
    /// The lifetime of a certificate that came `now`. It is renewed when between 45 and 55 percent
    /// of what remained then are over, by `random`, so that proxies that started together do not
    /// call together for ever. What was before it came does not count: authorities date back.
    pub(in crate::source::istio_ca) fn of(not_after: UnixTime, now: UnixTime, random: u64) -> Self {
        let remaining = Duration::from_secs(not_after.as_secs().saturating_sub(now.as_secs())).min(FOREVER);
        Self {
            renew_in: permille(remaining, 450, 550, random).max(LEAST_REST),
            expires_in: remaining,
        }
    }
}

/// The wait after so many failures in a row: half a second, doubled by each, up to 150 s; by
/// `random` up to a fifth shorter or longer.
pub(super) fn back_off(failures: u32, random: u64) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    let span = PAUSE.saturating_mul(1 << doublings).min(MOST_BACK_OFF);
    permille(span, 800, 1200, random)
}

/// Between `least` and `most` thousandths of `span`.
fn permille(span: Duration, least: u64, most: u64, random: u64) -> Duration {
    let thousandths = least + random % (most - least + 1);
    // At most 1,200, which fits.
    span.saturating_mul(u32::try_from(thousandths).unwrap_or(1000)) / 1000
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(seconds))
    }

    #[test]
    fn waits_double_up_to_a_bound() {
        let waits: Vec<_> = (1..=11).map(|failures| back_off(failures, 200).as_millis()).collect();
        assert_eq!(
            waits,
            [
                500, 1000, 2000, 4000, 8000, 16_000, 32_000, 64_000, 128_000, 150_000, 150_000
            ]
        );
    }

    #[test]
    fn chance_makes_waits_up_to_a_fifth_shorter_or_longer() {
        for (random, milliseconds) in [(0, 400), (100, 450), (400, 600), (401, 400)] {
            assert_eq!(back_off(1, random), Duration::from_millis(milliseconds), "{random}");
        }
    }

    #[test]
    fn chance_makes_renewal_up_to_a_tenth_sooner_or_later() {
        for (random, seconds) in [(0, 450), (50, 500), (100, 550), (101, 450)] {
            let lifetime = Lifetime::of(at(2000), at(1000), random);
            assert_eq!(lifetime.renew_in, Duration::from_secs(seconds), "{random}");
        }
    }

    #[test]
    fn an_expired_certificate_is_not_used_and_renewed_after_a_rest() {
        let lifetime = Lifetime::of(at(10), at(20), 0);
        assert_eq!(lifetime.expires_in, Duration::ZERO);
        assert_eq!(lifetime.renew_in, LEAST_REST);
    }

    proptest! {
        #[test]
        fn renewal_is_about_half_way(seconds in 10..100_000_000u64, random: u64) {
            let lifetime = Lifetime::of(at(1000 + seconds), at(1000), random);
            let share = lifetime.renew_in.as_secs_f64() / lifetime.expires_in.as_secs_f64();
            prop_assert!((0.4499..=0.5501).contains(&share), "{}", share);
        }

        #[test]
        fn any_moment_gives_spans_that_can_be_added(not_after: u64, now: u64, failures: u32, random: u64) {
            let lifetime = Lifetime::of(at(not_after), at(now), random);
            prop_assert!(lifetime.expires_in <= FOREVER && lifetime.renew_in <= FOREVER);
            let wait = back_off(failures, random);
            prop_assert!(wait >= PAUSE * 4 / 5 && wait <= MOST_BACK_OFF * 6 / 5);
        }
    }
}
