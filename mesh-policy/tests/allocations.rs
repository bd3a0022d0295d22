//! Deciding allocates nothing, in any dialect, whatever the policies ask for.
#![allow(clippy::unwrap_used, missing_docs, reason = "test code")]

use mesh_policy::authz::Compiler;
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
