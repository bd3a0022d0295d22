//! Deciding allocates nothing: in any dialect, whatever the policies ask for, and whatever becomes of
//! the request.
#![allow(clippy::unwrap_used, missing_docs, reason = "test code")]

use std::{sync::Arc, time::Duration};

use mesh_policy::{
    ConnectionFacts, Known, Peer, RequestFacts,
    authz::{Compiler, TargetRef},
    traffic::{
        balance::{Algorithm, Ask, Balance, Endpoint, EndpointSet},
        breaker::{Breaker, Limits, Resource},
        outlier::{Accrual, Detection, Detector, Gate, Outcome},
        rate::{
            Bucket, KeyedBuckets, Limit, LimitKey, LimitTable, LimitTarget, Limiter, LocalLimit, RateLimitPolicy,
            TargetLimits,
        },
        retry::{self, Budget, Call, Failure, Policy},
    },
};
use mesh_testkit::policy::generate::{DIALECTS, cases, meshes, policies, policy};
use proptest::{strategy::Strategy, strategy::ValueTree, test_runner::TestRunner};

#[test]
fn decide_allocates_nothing() {
    let mut runner = TestRunner::deterministic();
    for dialect in DIALECTS {
        for _ in 0..40 {
            let mesh = meshes(dialect).new_tree(&mut runner).unwrap().current();
            let policies = policies(dialect).new_tree(&mut runner).unwrap().current();
            let other = policy(dialect).new_tree(&mut runner).unwrap().current();
            let set = Compiler::new(dialect)
                .trust_domains(mesh.trust_domains)
                .compile(policies)
                .unwrap();
            let updated = set.with([other]).unwrap();
            for set in [&set, &updated].repeat(8) {
                let case = cases().new_tree(&mut runner).unwrap().current();
                let mut decision = None;
                let allocations = case.with(|facts| {
                    allocation_counter::measure(|| {
                        decision = Some(set.decide(facts));
                    })
                });
                assert!(decision.is_some());
                assert_eq!(allocations.count_total, 0, "{dialect:?} {case:?}");
            }
        }
    }
}

#[test]
fn picks_allocate_nothing() {
    let now = Duration::from_secs(1);
    for algorithm in [
        Algorithm::PeakEwma,
        Algorithm::LeastRequest,
        Algorithm::RoundRobin,
        Algorithm::Random,
        Algorithm::Affinity { slots: 1024 },
    ] {
        let endpoints = (1..100).map(|number| Endpoint::new(number.to_string(), ()).weight(number));
        let set = EndpointSet::new(Balance::new().algorithm(algorithm), endpoints).unwrap();
        let avoided: Vec<_> = set.endpoints().map(|(id, _)| id).skip(1).collect();
        let allocations = allocation_counter::measure(|| {
            for number in 0..100 {
                let ask = Ask::new().hash(Some(number << 50));
                set.pick(ask, now, number)
                    .unwrap()
                    .begin(now)
                    .measure(now, Duration::ZERO);
                set.pick(ask.avoid(&avoided), now, number)
                    .unwrap()
                    .begin(now)
                    .measure(now, Duration::ZERO);
            }
        });
        assert_eq!(allocations.count_total, 0, "{algorithm:?}");
    }
}

#[test]
fn limits_of_policies_allocate_nothing() {
    let second = Duration::from_secs(1);
    let keys = 64;
    let header = LimitKey::Header {
        name: "x-user".into(),
        keys,
    };
    let limits = [LimitKey::Everyone, LimitKey::Identity { keys }, header].map(|by| LocalLimit {
        name: None,
        limit: Limit::new(50, second),
        by,
    });
    let mut policy = RateLimitPolicy::new("n", "p");
    policy.limits = limits.to_vec();
    let target = LimitTarget {
        object: TargetRef::service("s"),
        rule: None,
    };
    let table = LimitTable::new([(&policy, &target)], None, 1);
    let peer = Peer::from(&"spiffe://t/ns/n/sa/s".parse().unwrap());
    let headers = [("X-User", "ann")];
    let connection = ConnectionFacts::new().peer(Known::Present(&peer));
    let facts = RequestFacts::new(connection, b"GET", &headers);
    let mut passed = 0;
    let allocations = allocation_counter::measure(|| {
        for _ in 0..100 {
            let limits = table.of("Service", "n", "s", Some("rule")).map(TargetLimits::limiter);
            passed += u32::from(Limiter::check_all(limits, &facts, second).is_ok());
        }
    });
    assert_eq!((allocations.count_total, passed), (0, 50));
}

#[test]
fn resilience_allocates_nothing() {
    let second = Duration::from_secs(1);
    let breaker = Breaker::new(Limits::new());
    let (policy, budget) = (Policy::new(), Budget::new());
    let detection = Detection::new().consecutive_errors(3).always_eject_one(true);
    let monitor = Detector::new(detection, ["a"]).monitor("a").unwrap();
    let gate = Gate::new(Arc::new(Accrual::new().failures(2)));
    let bucket = Bucket::new(Limit::new(50, second));
    let clients = KeyedBuckets::new(Limit::new(3, second), 64, 1);
    let outcome = retry::Outcome::Failure(Failure::Connect);
    let mut passed = 0;
    let allocations = allocation_counter::measure(|| {
        for number in 0..1_000_u32 {
            let now = second + Duration::from_millis(10) * number;
            passed += u32::from(bucket.check(1, now).is_ok());
            let key = clients.key_of(b"client", &number.to_le_bytes());
            passed += u32::from(clients.check(key, 1, now).is_ok());
            budget.request(now);
            let permit = breaker.acquire(Resource::Requests);
            if let Some(admission) = gate.admit(now) {
                if number % 5 == 0 {
                    admission.succeed();
                } else {
                    admission.fail(now, number.into());
                }
            }
            monitor.record(Outcome::LocalFailure, now, number.into());
            let admit = || {
                budget
                    .retry(now)
                    .then(|| breaker.acquire(Resource::Retries).ok())
                    .flatten()
            };
            drop(policy.decide(&Call::new(b"GET"), &outcome, now, number.into(), admit));
            drop(permit);
        }
    });
    assert_eq!(allocations.count_total, 0);
    assert!((200..2_000).contains(&passed), "{passed}");
}
