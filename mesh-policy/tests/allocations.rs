//! Deciding allocates nothing: in any dialect, whatever the policies ask for, and for any endpoint.
#![allow(clippy::unwrap_used, missing_docs, reason = "test code")]

use std::time::Duration;

use mesh_policy::{
    authz::Compiler,
    traffic::balance::{Algorithm, Ask, Balance, Endpoint, EndpointSet},
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
                set.pick(ask, now, number).unwrap().begin(now).finish(now);
                set.pick(ask.avoid(&avoided), now, number)
                    .unwrap()
                    .begin(now)
                    .finish(now);
            }
        });
        assert_eq!(allocations.count_total, 0, "{algorithm:?}");
    }
}
