//! A service whose endpoints fail, slow down and flap, behind all deciders at once, in virtual time.
//! What happens follows from a seed; a seed that breaks a promise is named by the failure.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "test code"
)]

use std::time::Duration;

use self::{
    endpoint::{Illness, Phase},
    proxy::{Guard, Proxy},
    random::Random,
};

mod endpoint;
mod proxy;
mod random;

const SEEDS: u64 = 1_000;

/// When every endpoint is well for good.
const HEALED: Duration = Duration::from_secs(6);

fn illnesses(random: &mut Random) -> Vec<Illness> {
    let phases = [
        Phase::Well,
        Phase::Dead,
        Phase::Refusing,
        Phase::Failing,
        Phase::Resetting,
        Phase::Slow,
        Phase::Breaking,
    ];
    let endpoints = 2 + random.below(9);
    (0..endpoints)
        .map(|_| {
            let mut illness = Illness::none();
            let mut at = Duration::ZERO;
            while at < HEALED {
                let is_flapping = random.below(4) == 0;
                let lasts = Duration::from_millis(if is_flapping { 100 } else { 500 } + random.below(1_500));
                illness.push(at, phases[random.below(phases.len() as u64) as usize]);
                at += lasts;
            }
            illness.push(HEALED, Phase::Well);
            illness
        })
        .collect()
}

#[test]
fn promises_hold_whatever_endpoints_do() {
    let (mut retries, mut stopped, mut ejections, mut probes) = (0, 0, 0, 0);
    for seed in 0..SEEDS {
        let mut random = Random::new(seed);
        let guard = match seed % 3 {
            0 => Guard::Detector,
            1 => Guard::Gates,
            _ => Guard::Both,
        };
        let illnesses = illnesses(&mut random);
        let mut proxy = Proxy::new(seed, guard, illnesses, random);
        proxy.run(HEALED + Proxy::RECOVERY + Duration::from_secs(2));
        proxy.check_end(HEALED + Proxy::RECOVERY);
        retries += proxy.counts.retries;
        stopped += proxy.counts.over_budget;
        ejections += proxy.counts.ejections;
        probes += proxy.counts.probes;
    }
    // A world in which nothing happens keeps every promise.
    assert!(
        retries > 10_000 && stopped > 1_000 && ejections > 1_000 && probes > 1_000,
        "{retries} {stopped} {ejections} {probes}"
    );
}

#[test]
fn beside_a_dead_endpoint_everything_succeeds_and_happens_once() {
    for seed in 0..50 {
        let mut dead = Illness::none();
        dead.push(Duration::ZERO, Phase::Dead);
        let guard = if seed % 2 == 0 { Guard::Detector } else { Guard::Gates };
        let mut proxy = Proxy::new(seed, guard, vec![dead, Illness::none()], Random::new(seed));
        proxy.run(Duration::from_secs(20));
        assert_eq!(proxy.counts.failed, 0, "seed {seed}");
        proxy.check_everything_happened_once();
    }
}

#[test]
fn the_same_seed_is_the_same_world() {
    let run = || {
        let mut random = Random::new(7);
        let illnesses = illnesses(&mut random);
        let mut proxy = Proxy::new(7, Guard::Both, illnesses, random);
        proxy.run(HEALED);
        proxy.counts
    };
    assert_eq!(run(), run());
}
