//! Outlier detection against a model of it that is written down as it is told.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "test code"
)]

use std::{sync::Arc, time::Duration};

use mesh_policy::traffic::{
    balance::Health,
    outlier::{Accrual, Cause, Change, Detection, Detector, FailurePercentage, Gate, Outcome, SuccessRate},
};
use proptest::prelude::*;

const SECOND: Duration = Duration::from_secs(1);

#[derive(Clone, Debug)]
enum Step {
    Ends(usize, Outcome),
    Passes(u64),
    Sweeps,
}

#[derive(Clone, Debug, Default)]
struct Model {
    /// What happened since the endpoint came into service, for each rule since it last broke it.
    errors: Vec<Outcome>,
    gateway: Vec<Outcome>,
    local: Vec<Outcome>,
    interval: Vec<Outcome>,
    ejected_until: Option<Duration>,
    times: u32,
    returned: Option<Duration>,
}

/// How many at the end of a history are of a kind, where others may be passed over.
fn in_a_row(history: &[Outcome], counts: impl Fn(Outcome) -> bool, passed_over: impl Fn(Outcome) -> bool) -> u32 {
    let relevant = history.iter().rev().filter(|outcome| !passed_over(**outcome));
    relevant.take_while(|outcome| counts(**outcome)).count() as u32
}

struct Rules {
    split: bool,
    errors: u32,
    gateway: u32,
    local: u32,
    percent: u32,
    always_one: bool,
}

impl Rules {
    fn detection(&self) -> Detection {
        let detection = Detection::new()
            .consecutive_errors(self.errors)
            .consecutive_gateway_errors(self.gateway)
            .max_ejection_percent(self.percent)
            .always_eject_one(self.always_one)
            .max_ejection_time(SECOND * 80)
            .success_rate(SuccessRate::new().minimum_hosts(3).request_volume(5).deviations(1.03))
            .failure_percentage(
                FailurePercentage::new()
                    .minimum_hosts(2)
                    .request_volume(4)
                    .threshold(60),
            );
        if self.split {
            detection.split_local_failures(self.local)
        } else {
            detection
        }
    }

    fn broken(&self, model: &mut Model, outcome: Outcome) -> Option<Cause> {
        let passed_over = |outcome| self.split && outcome == Outcome::LocalFailure;
        let reached = |count: u32, limit: u32| limit != 0 && count >= limit;
        for history in [
            &mut model.errors,
            &mut model.gateway,
            &mut model.local,
            &mut model.interval,
        ] {
            history.push(outcome);
        }
        if passed_over(outcome) {
            let broken = reached(
                in_a_row(&model.local, |o| o == Outcome::LocalFailure, |_| false),
                self.local,
            );
            return broken.then(|| {
                model.local.clear();
                Cause::ConsecutiveLocalFailures
            });
        }
        if outcome == Outcome::Success {
            return None;
        }
        let is_gateway = |o| matches!(o, Outcome::GatewayError | Outcome::LocalFailure);
        let errors = reached(
            in_a_row(&model.errors, |o| o != Outcome::Success, passed_over),
            self.errors,
        );
        let gateway = reached(in_a_row(&model.gateway, is_gateway, passed_over), self.gateway);
        if errors {
            model.errors.clear();
        }
        if gateway {
            model.gateway.clear();
        }
        match (errors, gateway) {
            (true, _) => Some(Cause::ConsecutiveErrors),
            (_, true) => Some(Cause::ConsecutiveGatewayErrors),
            _ => None,
        }
    }

    fn may_eject(&self, models: &[Model]) -> bool {
        let ejected = models.iter().filter(|model| model.ejected_until.is_some()).count() as u32;
        (ejected + 1) * 100 <= self.percent * models.len() as u32 || (self.always_one && ejected == 0)
    }

    fn eject(&self, models: &mut [Model], at: usize, now: Duration) -> bool {
        if models[at].ejected_until.is_some() || !self.may_eject(models) {
            return false;
        }
        let model = &mut models[at];
        model.ejected_until = Some(now + (SECOND * 30 * (model.times + 1)).min(SECOND * 80));
        if model.times < 2 {
            model.times += 1;
        }
        true
    }

    fn sweep(&self, models: &mut [Model], now: Duration) {
        for model in models.iter_mut() {
            if model.ejected_until.is_some_and(|until| until <= now) {
                let times = model.times;
                *model = Model {
                    times,
                    returned: Some(now),
                    ..Model::default()
                };
            }
        }
        let counts = |o: &&Outcome| !(self.split && **o == Outcome::LocalFailure);
        let rates: Vec<(usize, usize, f64)> = models
            .iter_mut()
            .enumerate()
            .filter(|(_, model)| model.ejected_until.is_none())
            .map(|(at, model)| {
                let requests = model.interval.iter().filter(counts).count();
                let successes = model.interval.iter().filter(|o| **o == Outcome::Success).count();
                model.interval.clear();
                (at, requests, successes as f64 / requests as f64)
            })
            .collect();
        let with = |volume: usize| rates.iter().filter(move |(_, requests, _)| *requests >= volume);
        let count = with(5).count();
        if count >= 3 {
            let mean = with(5).map(|(.., rate)| rate).sum::<f64>() / count as f64;
            let variance = with(5).map(|(.., rate)| (rate - mean) * (rate - mean)).sum::<f64>() / count as f64;
            for (at, _, rate) in with(5) {
                if *rate < mean - 1.03 * variance.sqrt() {
                    self.eject(models, *at, now);
                }
            }
        }
        if with(4).count() >= 2 {
            for (at, _, rate) in with(4) {
                if 1.0 - rate >= 0.6 - 1e-9 {
                    self.eject(models, *at, now);
                }
            }
        }
        for model in models.iter_mut() {
            let rested = model.returned.map_or(now, |returned| now - returned) >= SECOND * 10;
            if model.ejected_until.is_none() && rested {
                model.times = model.times.saturating_sub(1);
            }
        }
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let outcome = prop_oneof![
        3 => Just(Outcome::Success),
        2 => Just(Outcome::ServerError),
        3 => Just(Outcome::GatewayError),
        3 => Just(Outcome::LocalFailure),
    ];
    let step = prop_oneof![
        20 => (0_usize..5, outcome).prop_map(|(host, outcome)| Step::Ends(host, outcome)),
        1 => (1_u64..40).prop_map(Step::Passes),
        1 => Just(Step::Sweeps),
    ];
    prop::collection::vec(step, 1..200)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn equals_the_model(
        steps in steps(),
        split in any::<bool>(),
        limits in (0_u32..4, 0_u32..4, 0_u32..4),
        percent in prop_oneof![Just(10_u32), Just(20), Just(50), Just(100)],
        always_one in any::<bool>(),
    ) {
        let (errors, gateway, local) = limits;
        let rules = Rules { split, errors, gateway, local, percent, always_one };
        let detector = Detector::new(rules.detection(), ["0", "1", "2", "3", "4"]);
        let monitors: Vec<_> = (0..5).map(|host| detector.monitor(&host.to_string()).unwrap()).collect();
        let mut models = vec![Model::default(); 5];
        let mut now = SECOND * 1_000;
        for step in steps {
            match step {
                Step::Ends(host, outcome) => {
                    let cause = rules.broken(&mut models[host], outcome);
                    let ejected = cause.is_some() && rules.eject(&mut models, host, now);
                    let ejection = monitors[host].record(outcome, now, 0);
                    prop_assert_eq!(ejection.map(|ejection| ejection.cause), cause.filter(|_| ejected));
                    if let Some(ejection) = ejection {
                        prop_assert_eq!(Some(ejection.until), models[host].ejected_until);
                    }
                }
                Step::Passes(seconds) => now += SECOND * seconds as u32,
                Step::Sweeps => {
                    rules.sweep(&mut models, now);
                    detector.sweep(now, 0);
                }
            }
            for (monitor, model) in monitors.iter().zip(&models) {
                prop_assert_eq!(monitor.is_ejected(), model.ejected_until.is_some());
            }
            prop_assert_eq!(detector.ejected() as usize, models.iter().filter(|model| model.ejected_until.is_some()).count());
        }
    }
}

#[test]
fn who_leaves_makes_room_and_who_stays_stays_ejected() {
    let detector = Detector::new(
        Detection::new().consecutive_errors(1).max_ejection_percent(50),
        ["a", "b", "c", "d"],
    );
    let fail = |detector: &Detector, key: &str| {
        let monitor = detector.monitor(key).unwrap();
        monitor.record(Outcome::GatewayError, SECOND, 1).is_some()
    };
    let leaver = detector.monitor("b").unwrap();
    assert!(fail(&detector, "a") && fail(&detector, "b") && !fail(&detector, "c"));
    let detector = detector.with_endpoints(["a", "c", "d", "e"]);
    assert_eq!(
        (detector.ejected(), detector.health("a"), detector.health("b")),
        (1, Health::Unhealthy, Health::Healthy)
    );
    assert!(leaver.record(Outcome::GatewayError, SECOND, 1).is_none() && detector.ejected() == 1);
    assert!(fail(&detector, "e") && !fail(&detector, "d"));
    let changes = detector.sweep(SECOND * 31, 1);
    assert_eq!(changes, ["a", "e"].map(|key| Change::Returned { key: key.into() }));
    assert!(detector.monitor("b").is_none());
}

#[test]
fn jitter_makes_an_ejection_longer_by_no_more_than_itself() {
    for random in 0..100 {
        let detection = Detection::new()
            .consecutive_errors(1)
            .max_ejection_percent(100)
            .jitter(SECOND * 5);
        let monitor = Detector::new(detection, ["a"]).monitor("a").unwrap();
        let until = monitor.record(Outcome::ServerError, SECOND, random).unwrap().until;
        assert!((SECOND * 31..SECOND * 36).contains(&until));
    }
}

#[test]
fn threads_eject_no_more_than_are_allowed() {
    let keys: Vec<String> = (0..20).map(|key| key.to_string()).collect();
    let detection = Detection::new().consecutive_errors(2).max_ejection_percent(25);
    let detector = Detector::new(detection, keys.iter().map(String::as_str));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for key in keys.iter().cycle().take(2_000) {
                    detector.monitor(key).unwrap().record(Outcome::LocalFailure, SECOND, 1);
                    assert!(detector.ejected() <= 5);
                }
            });
        }
    });
    assert_eq!(detector.ejected(), 5);
    assert_eq!(
        keys.iter()
            .filter(|key| detector.health(key) == Health::Unhealthy)
            .count(),
        5
    );
}

#[test]
fn one_thread_of_many_gets_the_probe() {
    let gate = Gate::new(Arc::new(Accrual::new().failures(1)));
    gate.admit(SECOND).unwrap().fail(SECOND, 1);
    let probes: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| gate.admit(SECOND * 3))).collect();
        threads
            .into_iter()
            .filter_map(|thread| thread.join().unwrap())
            .collect()
    });
    assert_eq!(probes.len(), 1);
}
