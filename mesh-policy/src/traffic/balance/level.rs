//! How the requests of a service are divided among levels of endpoints: Envoy's rules, in whole
//! percents.

/// How many endpoints of a level are how.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) healthy: u32,
    pub(super) degraded: u32,
    pub(super) all: u32,
}

/// What a level gets of a hundred requests, and who in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Share {
    pub(super) healthy: u32,
    pub(super) degraded: u32,
    /// Health does not matter.
    pub(super) panics: bool,
}

/// The shares of levels, the best first. Together they are a hundred, or nothing if nobody may be
/// asked.
pub(super) fn shares(levels: &[Counts], overprovisioning: u32, panic_threshold: u32) -> Vec<Share> {
    let available: Vec<Share> = levels
        .iter()
        .map(|level| Share {
            healthy: availability(level.healthy, level.all, overprovisioning),
            degraded: availability(level.degraded, level.all, overprovisioning),
            panics: (level.healthy + level.degraded) * 100 < panic_threshold * level.all,
        })
        .collect();
    let total = available
        .iter()
        .map(|level| level.healthy + level.degraded)
        .sum::<u32>()
        .min(100);
    if total < 100
        && levels
            .iter()
            .zip(&available)
            .all(|(level, share)| share.panics || level.all == 0)
    {
        return in_total_panic(levels);
    }
    divided(&available, total)
}

/// How much of all requests a part of a level can take, with what it has more than it needs.
pub(super) fn availability(part: u32, all: u32, overprovisioning: u32) -> u32 {
    let percent = (u64::from(overprovisioning) * u64::from(part)).checked_div(u64::from(all));
    percent.map_or(0, |percent| percent.min(100) as u32)
}

/// Health decides: all healthy parts first, then the degraded ones, each in the order of levels.
fn divided(available: &[Share], total: u32) -> Vec<Share> {
    let mut left = 100;
    let mut take = |part: u32| {
        let taken = (part * 100).checked_div(total).unwrap_or(0).min(left);
        left -= taken;
        taken
    };
    let healthy: Vec<u32> = available.iter().map(|level| take(level.healthy)).collect();
    let degraded: Vec<u32> = available.iter().map(|level| take(level.degraded)).collect();
    let mut shares: Vec<Share> = available
        .iter()
        .zip(healthy.into_iter().zip(degraded))
        .map(|(level, (healthy, degraded))| Share {
            healthy,
            degraded,
            panics: level.panics && total < 100,
        })
        .collect();

    // What rounding left over goes to the first that can take anything.
    if let Some(first) = available.iter().position(|level| level.healthy > 0) {
        shares
            .iter_mut()
            .skip(first)
            .take(1)
            .for_each(|share| share.healthy += left);
    } else if let Some(first) = available.iter().position(|level| level.degraded > 0) {
        shares
            .iter_mut()
            .skip(first)
            .take(1)
            .for_each(|share| share.degraded += left);
    }
    shares
}

/// Only numbers decide, when every level is in panic.
fn in_total_panic(levels: &[Counts]) -> Vec<Share> {
    let all: u64 = levels.iter().map(|level| u64::from(level.all)).sum();
    let mut shares: Vec<Share> = levels
        .iter()
        .map(|level| Share {
            healthy: (u64::from(level.all) * 100).checked_div(all).unwrap_or(0) as u32,
            degraded: 0,
            panics: true,
        })
        .collect();
    let left = 100 - shares.iter().map(|share| share.healthy).sum::<u32>();
    if let Some(first) = shares.iter_mut().find(|share| share.healthy > 0) {
        first.healthy += left;
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(levels: &[(u32, u32, u32)], threshold: u32) -> Vec<Share> {
        let counts: Vec<Counts> = levels
            .iter()
            .map(|&(healthy, degraded, all)| Counts { healthy, degraded, all })
            .collect();
        shares(&counts, 140, threshold)
    }

    fn healthy(levels: &[(u32, u32, u32)], threshold: u32) -> Vec<u32> {
        of(levels, threshold).iter().map(|share| share.healthy).collect()
    }

    #[test]
    fn the_next_level_helps_as_in_the_tables_of_envoy() {
        for (first, expected) in [(100, 100), (72, 100), (71, 99), (50, 70), (25, 35), (0, 0)] {
            let shares = healthy(&[(first, 0, 100), (100, 0, 100)], 50);
            assert_eq!(shares, [expected, 100 - expected], "{first} %");
        }
        for (counts, expected) in [
            ([100, 100, 100], [100, 0, 0]),
            ([72, 72, 100], [100, 0, 0]),
            ([71, 71, 100], [99, 1, 0]),
            ([50, 60, 100], [70, 30, 0]),
            ([25, 100, 100], [35, 65, 0]),
            ([25, 25, 100], [35, 35, 30]),
            ([25, 25, 20], [36, 35, 28]),
        ] {
            let levels = counts.map(|healthy| (healthy, 0, 100));
            let shares = healthy_exactly(&levels);
            assert!(
                shares
                    .iter()
                    .zip(expected)
                    .all(|(share, expected)| share.abs_diff(expected) <= 1),
                "{counts:?}: {shares:?}"
            );
        }
    }

    fn healthy_exactly(levels: &[(u32, u32, u32)]) -> Vec<u32> {
        let shares = healthy(levels, 0);
        assert_eq!(shares.iter().sum::<u32>(), 100);
        shares
    }

    #[test]
    fn degraded_endpoints_get_what_healthy_ones_leave() {
        let shares = of(&[(10, 20, 100), (20, 10, 100), (10, 0, 100)], 0);
        let pairs: Vec<_> = shares.iter().map(|share| (share.healthy, share.degraded)).collect();
        assert_eq!(pairs, [(16, 28), (28, 14), (14, 0)]);
    }

    #[test]
    fn a_level_panics_only_if_all_together_cannot_take_the_load() {
        let shares = of(&[(1, 0, 10), (10, 0, 10)], 50);
        assert!(shares.iter().all(|share| !share.panics));
        let shares = of(&[(1, 0, 10), (6, 0, 10)], 50);
        assert_eq!(
            shares.iter().map(|share| share.panics).collect::<Vec<_>>(),
            [true, false]
        );
    }

    #[test]
    fn in_total_panic_numbers_decide() {
        let shares = of(&[(0, 0, 3), (0, 0, 1)], 50);
        assert_eq!(shares.iter().map(|share| share.healthy).collect::<Vec<_>>(), [75, 25]);
        assert!(shares.iter().all(|share| share.panics));
    }

    #[test]
    fn without_panic_nobody_is_asked_when_nobody_is_well() {
        assert_eq!(of(&[(0, 0, 3), (0, 0, 1)], 0), [Share::default(); 2]);
        assert!(of(&[], 50).is_empty());
    }
}
