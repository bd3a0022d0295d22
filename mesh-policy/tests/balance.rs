//! Picks against what the documentation of a balance promises.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "test code"
)]

use std::{collections::BTreeMap, time::Duration};

use mesh_policy::traffic::balance::{
    Algorithm, Ask, Balance, Endpoint, EndpointId, EndpointSet, Health, InvalidSet, Locality, NoEndpoint,
};
use proptest::prelude::*;

const NOW: Duration = Duration::from_secs(100);

fn set(balance: Balance, count: usize) -> EndpointSet<usize> {
    EndpointSet::new(
        balance,
        (0..count).map(|number| Endpoint::new(number.to_string(), number)),
    )
    .unwrap()
}

fn of(algorithm: Algorithm) -> Balance {
    Balance::new().algorithm(algorithm)
}

fn all_algorithms() -> [Algorithm; 5] {
    [
        Algorithm::PeakEwma,
        Algorithm::LeastRequest,
        Algorithm::RoundRobin,
        Algorithm::Random,
        Algorithm::Affinity { slots: 4096 },
    ]
}

fn random(number: u64) -> u64 {
    number.wrapping_mul(0x2545_f491_4f6c_dd1d)
}

fn times(set: &EndpointSet<usize>, picks: u64, ask: impl Fn(u64) -> Option<u64>) -> BTreeMap<usize, u64> {
    let mut times = BTreeMap::new();
    for number in 0..picks {
        let ask = Ask::new().hash(ask(number));
        let picked = set.pick(ask, NOW, random(number)).unwrap();
        *times.entry(*picked.endpoint().target()).or_default() += 1;
    }
    times
}

#[derive(Clone, Debug)]
struct Made {
    weight: u32,
    zone: usize,
    health: Health,
}

fn made() -> impl Strategy<Value = Vec<Made>> {
    let health = prop_oneof![4 => Just(Health::Healthy), 1 => Just(Health::Degraded), 1 => Just(Health::Unhealthy)];
    let one = (1_u32..6, 0_usize..3, health).prop_map(|(weight, zone, health)| Made { weight, zone, health });
    prop::collection::vec(one, 1..14)
}

/// What each of one level's endpoints may expect, in the words of the documentation.
fn expected(endpoints: &[Made], shares: Option<[u32; 3]>, threshold: u32) -> Option<Vec<f64>> {
    let count = |health| endpoints.iter().filter(|made| made.health == health).count() as f64;
    let all = endpoints.len() as f64;
    let available = |part: f64| (140.0 * part / all).floor().min(100.0);
    let (healthy, degraded) = (available(count(Health::Healthy)), available(count(Health::Degraded)));
    let well = (count(Health::Healthy) + count(Health::Degraded)) / all;
    let panics = healthy + degraded < 100.0 && well * 100.0 < f64::from(threshold);
    if healthy + degraded == 0.0 && !panics {
        return None;
    }
    let total = (healthy + degraded).min(100.0);
    let to_healthy = (healthy * 100.0 / total).floor().min(100.0);
    let to_degraded = (degraded * 100.0 / total).floor().min(100.0 - to_healthy);
    let rest = 100.0 - to_healthy - to_degraded;
    let percents = match panics {
        true => vec![(None, 100.0)],
        false if healthy > 0.0 => vec![
            (Some(Health::Healthy), to_healthy + rest),
            (Some(Health::Degraded), to_degraded),
        ],
        false => vec![(Some(Health::Degraded), 100.0)],
    };
    let mut expected = vec![0.0; endpoints.len()];
    for (health, percent) in percents {
        let serves = |made: &Made| health.is_none_or(|health| made.health == health);
        let zone_weight = |zone: usize| {
            let of_zone: Vec<&Made> = endpoints.iter().filter(|made| made.zone == zone).collect();
            let serving = of_zone.iter().filter(|made| serves(made)).count() as f64;
            if of_zone.is_empty() {
                0.0
            } else {
                (140.0 * serving / of_zone.len() as f64).floor().min(100.0)
            }
        };
        let weight_of_zone = |zone: usize| shares.map_or(1.0, |shares| f64::from(shares[zone]) * zone_weight(zone));
        let zones: f64 = if shares.is_some() {
            (0..3).map(weight_of_zone).sum()
        } else {
            1.0
        };
        for (number, made) in endpoints.iter().enumerate().filter(|(_, made)| serves(made)) {
            let peers = endpoints
                .iter()
                .filter(|other| serves(other) && (shares.is_none() || other.zone == made.zone));
            let weights: f64 = peers.map(|peer| f64::from(peer.weight)).sum();
            expected[number] += percent / 100.0 * weight_of_zone(made.zone) / zones * f64::from(made.weight) / weights;
        }
    }
    Some(expected)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn requests_are_divided_by_weight_health_and_place(
        endpoints in made(),
        shares in prop::option::of([1_u32..5, 1_u32..5, 1_u32..5]),
        threshold in prop_oneof![Just(0_u32), Just(50)],
        affinity in any::<bool>(),
    ) {
        let algorithm = if affinity { Algorithm::Affinity { slots: 65_536 } } else { Algorithm::Random };
        let balance = of(algorithm).panic_threshold(threshold);
        let built = endpoints.iter().enumerate().map(|(number, made)| {
            Endpoint::new(number.to_string(), number)
                .weight(made.weight)
                .health(made.health)
                .locality(Locality::new("r", made.zone.to_string(), ""))
                .locality_share(shares.map(|shares| shares[made.zone]))
        });
        let set = EndpointSet::new(balance, built).unwrap();
        let Some(expected) = expected(&endpoints, shares, threshold) else {
            prop_assert_eq!(set.pick(Ask::new(), NOW, 1).unwrap_err(), NoEndpoint::Unhealthy);
            return Ok(());
        };
        const PICKS: u64 = 20_000;
        let times = times(&set, PICKS, |number| affinity.then(|| random(number ^ 0xabcd).rotate_left(17)));
        for (number, expected) in expected.into_iter().enumerate() {
            let picked = times.get(&number).copied().unwrap_or(0) as f64 / PICKS as f64;
            let tolerance = 6.0 * (expected * (1.0 - expected) / PICKS as f64).sqrt() + 0.01;
            prop_assert!((picked - expected).abs() <= tolerance, "{number}: {picked} instead of {expected}");
        }
    }

    #[test]
    fn neither_who_failed_nor_who_is_refused_is_picked_while_another_is_left(
        count in 2_usize..12,
        failed in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        refused in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        seed in any::<u64>(),
    ) {
        for algorithm in all_algorithms() {
            let set = set(of(algorithm), count);
            let ids: Vec<EndpointId> = set.endpoints().map(|(id, _)| id).collect();
            let avoided: Vec<EndpointId> = failed.iter().map(|at| ids[at.index(count)]).collect();
            let refused: Vec<usize> = refused.iter().map(|at| at.index(count)).collect();
            let admits = |endpoint: &Endpoint<usize>| !refused.contains(endpoint.target());
            let left = (0..count).filter(|number| !refused.contains(number));
            let fresh = left.clone().filter(|number| !avoided.contains(&ids[*number])).count();
            let mut asked = Vec::new();
            let ask = Ask::new().avoid(&avoided).hash(Some(seed));
            let picked = set.pick_if(ask, NOW, seed, |endpoint| {
                asked.push(*endpoint.target());
                admits(endpoint)
            });
            match picked {
                Err(error) => {
                    prop_assert_eq!(error, NoEndpoint::Refused);
                    prop_assert_eq!(left.count(), 0);
                }
                Ok(picked) => {
                    let target = *picked.endpoint().target();
                    prop_assert!(!refused.contains(&target));
                    prop_assert!(fresh == 0 || !avoided.contains(&picked.id()));
                    prop_assert_eq!(asked.last(), Some(&target));
                    prop_assert_eq!(asked.iter().filter(|asked| admits(&Endpoint::new("", **asked))).count(), 1);
                }
            }
        }
    }

    #[test]
    fn of_two_the_one_with_less_under_way_is_picked(under_way in [0_usize..6, 0_usize..6], seed in any::<u64>()) {
        for algorithm in [Algorithm::LeastRequest, Algorithm::PeakEwma] {
            let set = set(of(algorithm), 2);
            let mut begun = Vec::new();
            for (number, count) in under_way.into_iter().enumerate() {
                for _ in 0..count {
                    let picked = set.pick_if(Ask::new(), NOW, 0, |endpoint| *endpoint.target() == number).unwrap();
                    begun.push(picked.begin(NOW));
                }
            }
            let idle = (0..2).min_by_key(|number| under_way[*number]).unwrap();
            let picked = set.pick(Ask::new(), NOW, seed).unwrap();
            prop_assert!(under_way[0] == under_way[1] || *picked.endpoint().target() == idle);
        }
    }
}

/// Requests in flight stay in proportion to weights, when all take equally long.
#[test]
fn weights_count_where_requests_under_way_do() {
    for algorithm in [Algorithm::LeastRequest, Algorithm::PeakEwma] {
        let endpoints = [3, 1, 2, 6].map(|weight| Endpoint::new(weight.to_string(), weight as usize).weight(weight));
        let set = EndpointSet::new(of(algorithm), endpoints).unwrap();
        let mut under_way = std::collections::VecDeque::new();
        let mut begun = BTreeMap::from([(3, 0_usize), (1, 0), (2, 0), (6, 0)]);
        for number in 0..24_000 {
            let now = NOW + Duration::from_micros(100) * number;
            let picked = set.pick(Ask::new(), now, random(number.into())).unwrap();
            *begun.get_mut(picked.endpoint().target()).unwrap() += 1;
            under_way.push_back(picked.begin(now));
            if under_way.len() > 48 {
                under_way.pop_front().unwrap().measure(now, Duration::ZERO);
            }
        }
        for (weight, begun) in begun {
            let fair = 24_000 / 12 * weight;
            assert!(begun.abs_diff(fair) < fair / 5, "{algorithm:?}: {weight} got {begun}");
        }
    }
}

#[test]
fn a_slow_endpoint_gets_little_and_comes_back() {
    let set = set(Balance::new(), 10);
    let mut now = Duration::from_secs(1);
    let (mut early, mut late) = ([0; 10], [0; 10]);
    for number in 0..120_000 {
        now += Duration::from_millis(2);
        let picked = set.pick(Ask::new(), now, random(number)).unwrap();
        let target = *picked.endpoint().target();
        let took = match target {
            0 if now < Duration::from_secs(60) => Duration::from_millis(200),
            _ => Duration::from_micros(1_000 + random(number + 7) % 3_000),
        };
        picked.begin(now).measure(now + took, Duration::ZERO);
        match now.as_secs() {
            10..60 => early[target] += 1,
            150.. => late[target] += 1,
            _ => {}
        }
    }
    assert!(early[0] < 50, "{early:?}");
    assert!(late[0] > 2_000, "{late:?}");
}

#[test]
fn affinities_stay_while_their_endpoint_is_well_and_return_to_it() {
    let set = set(of(Algorithm::Affinity { slots: 65_536 }), 50);
    let target = |set: &EndpointSet<usize>, hash: u64| {
        *set.pick(Ask::new().hash(Some(hash)), NOW, random(hash))
            .unwrap()
            .endpoint()
            .target()
    };
    let hashes: Vec<u64> = (1..4_000).map(|number| random(number).rotate_left(23)).collect();
    let ill = set.with_health(|endpoint| match endpoint.target() {
        7 => Health::Unhealthy,
        _ => Health::Healthy,
    });
    let again = ill.with_health(|_| Health::Healthy);
    for hash in hashes {
        let first = target(&set, hash);
        assert_ne!(target(&ill, hash), 7);
        assert!(first == 7 || target(&ill, hash) == first);
        assert_eq!(target(&again, hash), first);
    }
}

#[test]
fn who_stays_keeps_what_was_measured() {
    let first = set(Balance::new(), 3);
    let picked = first
        .pick_if(Ask::new(), NOW, 1, |endpoint| *endpoint.target() == 1)
        .unwrap();
    let (id, request) = (picked.id(), picked.begin(NOW));
    let second = first
        .with_endpoints([Endpoint::new("1", 10).weight(7), Endpoint::new("9", 9)])
        .unwrap();
    assert_eq!(second.requests_under_way(id), Some(1));
    let ids: Vec<EndpointId> = second.endpoints().map(|(id, _)| id).collect();
    assert_eq!(ids[0], id);
    assert!(first.endpoints().all(|(old, _)| old != ids[1]));
    request.measure(NOW, Duration::ZERO);
    drop(request);
    assert_eq!(second.requests_under_way(id), Some(0));
    assert_eq!(first.requests_under_way(ids[1]), None);
}

#[test]
fn turns_go_on_where_health_stays_as_it_was() {
    let set = set(of(Algorithm::RoundRobin), 3);
    let first = times(&set, 1, |_| None);
    let same = set.with_health(|_| Health::Healthy);
    let others = times(&same, 2, |_| None);
    assert!(first.keys().all(|target| !others.contains_key(target)));
}

#[test]
fn turns_are_taken_by_all() {
    let set = set(of(Algorithm::RoundRobin), 7);
    assert!(times(&set, 70, |_| None).values().all(|times| *times == 10));
}

#[test]
fn sets_that_cannot_be_are_refused() {
    let twice = EndpointSet::new(Balance::new(), ["a", "b", "a"].map(|key| Endpoint::new(key, ())));
    let error = twice.unwrap_err();
    assert_eq!(error, InvalidSet::Duplicate { key: "a".into() });
    assert_eq!(error.to_string(), "two endpoints have the key `a`");
    let many = (0..65_536).map(|number| Endpoint::new(number.to_string(), ()));
    assert_eq!(
        EndpointSet::new(Balance::new(), many).unwrap_err(),
        InvalidSet::TooMany { limit: 65_535 }
    );
    let nobody = set(Balance::new(), 0);
    assert_eq!(nobody.pick(Ask::new(), NOW, 1).unwrap_err(), NoEndpoint::Empty);
}

#[test]
fn threads_lose_no_request() {
    let set = set(Balance::new(), 4);
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let set = &set;
            scope.spawn(move || {
                for number in 0..10_000 {
                    let request = set
                        .pick(Ask::new(), NOW, random(number + thread * 99_991))
                        .unwrap()
                        .begin(NOW);
                    request.measure(NOW + Duration::from_millis(number % 10), Duration::ZERO);
                }
            });
        }
    });
    assert!(set.endpoints().all(|(id, _)| set.requests_under_way(id) == Some(0)));
}

/// Endpoints by their level and health.
fn levels(endpoints: &[(u32, Health)]) -> EndpointSet<usize> {
    let endpoints = endpoints.iter().enumerate();
    let endpoints = endpoints.map(|(number, (level, health))| {
        Endpoint::new(number.to_string(), number)
            .priority(*level)
            .health(*health)
    });
    EndpointSet::new(Balance::new(), endpoints).unwrap()
}

fn ids(set: &EndpointSet<usize>, numbers: &[usize]) -> Vec<EndpointId> {
    let all: Vec<_> = set.endpoints().map(|(id, _)| id).collect();
    numbers.iter().map(|number| all[*number]).collect()
}

#[test]
fn who_has_failed_at_all_of_a_level_goes_to_the_next() {
    use Health::{Degraded, Healthy, Unhealthy};
    let set = levels(&[
        (0, Healthy),
        (0, Healthy),
        (3, Degraded),
        (3, Healthy),
        (7, Healthy),
        (7, Unhealthy),
    ]);
    let picked = |failed: &[usize], seed| {
        let ids = ids(&set, failed);
        *set.pick(Ask::new().avoid(&ids), NOW, random(seed))
            .unwrap()
            .endpoint()
            .target()
    };
    for seed in 0..50 {
        assert_eq!(picked(&[0], seed), 1);
        assert_eq!(picked(&[0, 1], seed), 3);
        assert_eq!(picked(&[0, 1, 3], seed), 4);
        assert_eq!(picked(&[0, 1, 3, 4], seed), 2);
        // Whoever is ill comes after those who have failed the request.
        assert!([0, 1].contains(&picked(&[0, 1, 2, 3, 4], seed)));
    }
    assert_eq!(times(&set, 100, |_| None).into_keys().collect::<Vec<_>>(), [0, 1]);
}

#[test]
fn a_level_is_left_before_all_of_it_has_failed_if_that_is_wanted() {
    use Health::Healthy;
    let set = levels(&[(0, Healthy), (0, Healthy), (1, Healthy)]);
    let failed = ids(&set, &[0]);
    let ask = Ask::new().avoid(&failed).leave_levels(true);
    for seed in 0..50 {
        assert_eq!(*set.pick(ask, NOW, random(seed)).unwrap().endpoint().target(), 2);
        let only_near = set
            .pick_if(ask, NOW, random(seed), |endpoint| *endpoint.target() != 2)
            .unwrap();
        assert_eq!(*only_near.endpoint().target(), 1);
    }
    // Nobody has failed: there is no level to leave.
    let first = set.pick(Ask::new().leave_levels(true), NOW, 1).unwrap();
    assert_ne!(*first.endpoint().target(), 2);
}

#[test]
fn who_has_no_other_level_to_go_to_is_given_to_localities_by_their_shares() {
    let endpoint = |number: usize, zone: &str, share| {
        let endpoint = Endpoint::new(number.to_string(), number).locality(Locality::new("r", zone, ""));
        endpoint.locality_share(Some(share))
    };
    let of_level = || {
        (0..6).map(|number| {
            if number < 2 {
                endpoint(number, "a", 10)
            } else {
                endpoint(number, "b", 90)
            }
        })
    };
    let ill = endpoint(6, "c", 0).priority(1).health(Health::Unhealthy);
    for endpoints in [of_level().collect::<Vec<_>>(), of_level().chain([ill]).collect()] {
        let set = EndpointSet::new(of(Algorithm::Random), endpoints).unwrap();
        let failed = ids(&set, &[0, 2]);
        let picks = |leaves| {
            let ask = Ask::new().avoid(&failed).leave_levels(leaves);
            let picks = (0..1_000).map(|seed| *set.pick(ask, NOW, random(seed)).unwrap().endpoint().target());
            picks.collect::<Vec<_>>()
        };
        assert!(picks(true) == picks(false));
        assert!(picks(true).iter().filter(|number| **number > 1).count() > 800);
    }
}

#[test]
fn localities_without_a_share_get_nothing_of_those_that_failed() {
    let endpoint = |number: usize, zone: &str, share| {
        let endpoint = Endpoint::new(number.to_string(), number).locality(Locality::new("r", zone, ""));
        endpoint.locality_share(share)
    };
    let set = EndpointSet::new(Balance::new(), [endpoint(0, "a", Some(100)), endpoint(1, "b", None)]).unwrap();
    let failed = ids(&set, &[0]);
    for leaves in [false, true] {
        let ask = Ask::new().avoid(&failed).leave_levels(leaves);
        assert_eq!(*set.pick(ask, NOW, 1).unwrap().endpoint().target(), 0);
    }
}
