//! Comparisons of sets, held against the slow and obvious evaluator.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "test code"
)]

use mesh_policy::authz::{
    AuthorizationPolicy, Compiler, PolicySet,
    compare::{Answer, Comparison},
};
use mesh_testkit::policy::{
    Mesh, Outcome, decide,
    generate::{Case, DIALECTS, cases, meshes, policies, policy},
};
use proptest::{collection::vec, prelude::*, sample::Index, test_runner::TestRunner};

/// How many pairs of sets are made for each dialect; `POLICY_SETS` asks for more.
fn pairs() -> u32 {
    let asked = std::env::var("POLICY_SETS").ok().and_then(|sets| sets.parse().ok());
    asked.unwrap_or(40)
}

fn compile(mesh: &Mesh, policies: &[AuthorizationPolicy]) -> PolicySet {
    let compiler = Compiler::new(mesh.dialect).trust_domains(mesh.trust_domains.clone());
    compiler.compile(policies.to_vec()).unwrap()
}

/// What a comparison looks at: whether it passes, and whom to ask.
fn admission(outcome: Outcome) -> Option<Vec<String>> {
    outcome.is_allowed().then_some(outcome.providers)
}

/// Hands each property two sets of which one is made of the other: rules were left out, put into
/// another order or another policy, or a policy was added.
fn for_all(property: impl Fn(&Mesh, &[AuthorizationPolicy], &[AuthorizationPolicy], &[Case])) {
    for dialect in DIALECTS {
        let config = ProptestConfig {
            cases: pairs(),
            failure_persistence: None,
            ..ProptestConfig::default()
        };
        let inputs = (
            meshes(dialect),
            policies(dialect),
            policy(dialect),
            any::<[Index; 2]>(),
            vec(cases(), 100),
        );
        let result = TestRunner::new(config).run(&inputs, |(mesh, policies, other, [change, at], cases)| {
            property(&mesh, &policies, &changed(&policies, other, &change, &at), &cases);
            Ok(())
        });
        result.unwrap_or_else(|failure| panic!("{dialect:?}: {failure}"));
    }
}

fn changed(
    policies: &[AuthorizationPolicy],
    other: AuthorizationPolicy,
    change: &Index,
    at: &Index,
) -> Vec<AuthorizationPolicy> {
    let mut changed = policies.to_vec();
    match (change.index(4), changed.is_empty()) {
        (0, _) | (_, true) => {
            changed.retain(|policy| policy.name() != other.name());
            changed.push(other);
        }
        (1, false) => drop(changed.remove(at.index(policies.len()))),
        (2, false) => changed.reverse(),
        (_, false) => {
            let policy = &mut changed[at.index(policies.len())];
            let empty = AuthorizationPolicy::new(policy.name().clone(), policy.action().clone());
            let empty = empty.dry_run(policy.is_dry_run());
            // What denies needs a rule.
            let skipped = usize::from(policy.rules().len() > 1);
            let rules = policy.rules().iter().rev().skip(skipped).cloned();
            *policy = rules.fold(empty, AuthorizationPolicy::rule);
        }
    }
    changed
}

#[test]
fn answers_are_true() {
    for_all(|mesh, before, after, cases| {
        let (set, changed) = (compile(mesh, before), compile(mesh, after));
        let naive = |policies: &[AuthorizationPolicy], case: &Case| {
            admission(case.with(|facts| decide(policies, mesh, &facts)))
        };
        match Comparison::new(&set, &changed).candidates(1_500).is_same() {
            Answer::Refuted(witness) => {
                let of = |policies| witness.sample().with(|facts| admission(decide(policies, mesh, &facts)));
                assert_ne!(of(before), of(after), "{:?}", witness.sample());
            }
            Answer::Proven => {
                for case in cases {
                    assert_eq!(naive(before, case), naive(after, case), "{case:?}");
                }
            }
            Answer::Open { .. } => {}
        }
        match Comparison::new(&set, &changed).candidates(1_500).is_no_wider() {
            Answer::Refuted(witness) => {
                let of = |policies| witness.sample().with(|facts| admission(decide(policies, mesh, &facts)));
                let asked = |policies| of(policies).unwrap_or_default();
                let fewer = !asked(before).iter().all(|name| asked(after).contains(name));
                let wider = of(after).is_some() && (of(before).is_none() || fewer);
                assert!(wider, "{:?}", witness.sample());
            }
            Answer::Proven => {
                for case in cases {
                    let (before, after) = (naive(before, case), naive(after, case));
                    assert!(after.is_none() || before.is_some(), "{case:?}");
                }
            }
            Answer::Open { .. } => {}
        }
    });
}

/// What a search misses where random cases find a difference would be an embarrassment.
#[test]
fn what_chance_finds_the_search_finds() {
    let (mut missed, mut differ) = (0_u32, 0_u32);
    let counts = std::cell::RefCell::new((&mut missed, &mut differ));
    for_all(|mesh, before, after, cases| {
        let (set, changed) = (compile(mesh, before), compile(mesh, after));
        let of = |set: &PolicySet, case: &Case| admission(case.with(|facts| Outcome::of(&set.decide(facts), set)));
        if cases.iter().any(|case| of(&set, case) != of(&changed, case)) {
            let answer = Comparison::new(&set, &changed).candidates(10_000).is_same();
            let mut counts = counts.borrow_mut();
            *counts.1 += 1;
            *counts.0 += u32::from(!matches!(answer, Answer::Refuted(_)));
        }
    });
    assert!(differ > 10, "only {differ} pairs differ");
    assert!(missed * 20 <= differ, "{missed} of {differ} differences were missed");
}
