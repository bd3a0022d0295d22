//! The compiled evaluator against the slow and obvious one, and laws that both obey.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "test code"
)]

use mesh_policy::authz::{Action, AuthorizationPolicy, Compiler, PolicyName, PolicySet, model::Rule};
use mesh_testkit::policy::{
    Mesh, Outcome, decide,
    generate::{Case, DIALECTS, cases, meshes, policies, policy},
};
use proptest::{collection::vec, prelude::*, test_runner::TestRunner};

/// How many sets of policies are made for each dialect and test; `POLICY_SETS` asks for more.
fn sets() -> u32 {
    std::env::var("POLICY_SETS")
        .ok()
        .and_then(|sets| sets.parse().ok())
        .unwrap_or(40)
}

/// How many cases are put to each set.
const CASES: usize = 24;

fn compile(mesh: &Mesh, policies: &[AuthorizationPolicy]) -> PolicySet {
    let compiler = Compiler::new(mesh.dialect).trust_domains(mesh.trust_domains.clone());
    compiler
        .compile(policies.to_vec())
        .unwrap_or_else(|error| panic!("{error}\n{policies:#?}"))
}

fn outcome(set: &PolicySet, case: &Case) -> Outcome {
    case.with(|facts| Outcome::of(&set.decide(facts), set))
}

/// Puts generated policies and cases to a property, for one dialect after the other.
fn for_all(property: impl Fn(&Mesh, Vec<AuthorizationPolicy>, AuthorizationPolicy, Vec<Case>)) {
    for dialect in DIALECTS {
        let config = ProptestConfig {
            cases: sets(),
            failure_persistence: None,
            ..ProptestConfig::default()
        };
        let inputs = (meshes(dialect), policies(dialect), policy(dialect), vec(cases(), CASES));
        let result = TestRunner::new(config).run(&inputs, |(mesh, policies, other, cases)| {
            property(&mesh, policies, other, cases);
            Ok(())
        });
        result.unwrap_or_else(|failure| panic!("{dialect:?}: {failure}"));
    }
}

#[test]
fn compiled_and_naive_decide_alike() {
    for_all(|mesh, policies, _, cases| {
        let set = compile(mesh, &policies);
        for case in &cases {
            let naive = case.with(|facts| decide(&policies, mesh, &facts));
            assert_eq!(outcome(&set, case), naive, "{case:?}\n{:?}", mesh.trust_domains);
        }
    });
}

#[test]
fn what_is_decided_is_explained() {
    for_all(|mesh, policies, other, cases| {
        let set = compile(mesh, &policies).with([other]).unwrap();
        for case in &cases {
            let (decided, explained) = case.with(|facts| (set.decide(facts).verdict(), set.explain(facts).verdict()));
            assert_eq!(decided, explained, "{case:?}");
        }
    });
}

#[test]
fn updated_and_fresh_sets_decide_alike() {
    for_all(|mesh, policies, other, cases| {
        let updated = compile(mesh, &policies).with([other.clone()]).unwrap();
        let mut all: Vec<_> = policies
            .iter()
            .filter(|policy| policy.name() != other.name())
            .cloned()
            .collect();
        let removed = compile(mesh, &policies).with([other.clone()]).unwrap();
        let removed = removed.without(&[other.name().clone()]).unwrap();
        let fresh_without = compile(mesh, &all);
        all.push(other);
        let fresh = compile(mesh, &all);
        for case in &cases {
            assert_eq!(outcome(&updated, case), outcome(&fresh, case), "{case:?}");
            assert_eq!(outcome(&removed, case), outcome(&fresh_without, case), "{case:?}");
        }
    });
}

/// A generated policy's rules in a policy that is in force and that no other has the name of.
fn added(other: &AuthorizationPolicy, action: Action) -> AuthorizationPolicy {
    let empty = AuthorizationPolicy::new(PolicyName::new("n", "added"), action);
    if other.rules().is_empty() {
        return empty.rule(Rule::new());
    }
    other.rules().iter().cloned().fold(empty, AuthorizationPolicy::rule)
}

#[test]
fn adding_a_deny_never_admits_more() {
    for_all(|mesh, mut policies, other, cases| {
        let before = compile(mesh, &policies);
        policies.push(added(&other, Action::Deny));
        let after = compile(mesh, &policies);
        for case in &cases {
            assert!(
                outcome(&before, case).is_allowed() || !outcome(&after, case).is_allowed(),
                "{case:?}"
            );
        }
    });
}

#[test]
fn adding_an_allow_to_others_never_denies_more() {
    for_all(|mesh, mut policies, other, cases| {
        // One that allows nothing, so that there is always another.
        policies.push(AuthorizationPolicy::allow("n", "nothing"));
        let before = compile(mesh, &policies);
        policies.push(added(&other, Action::Allow));
        let after = compile(mesh, &policies);
        for case in &cases {
            assert!(
                !outcome(&before, case).is_allowed() || outcome(&after, case).is_allowed(),
                "{case:?}"
            );
        }
    });
}

#[test]
fn the_order_of_rules_and_policies_is_irrelevant() {
    for_all(|mesh, mut policies, _, cases| {
        let before = compile(mesh, &policies);
        policies.reverse();
        let reversed: Vec<_> = policies
            .iter()
            .map(|policy| {
                let empty = AuthorizationPolicy::new(policy.name().clone(), policy.action().clone());
                let empty = empty.dry_run(policy.is_dry_run());
                let empty = match policy.target() {
                    mesh_policy::authz::Target::Refs(refs) => empty.target_refs(refs.clone()),
                    _ => empty,
                };
                policy
                    .rules()
                    .iter()
                    .rev()
                    .cloned()
                    .fold(empty, AuthorizationPolicy::rule)
            })
            .collect();
        let after = compile(mesh, &reversed);
        for case in &cases {
            let (before, after) = (outcome(&before, case), outcome(&after, case));
            assert_eq!(before.is_allowed(), after.is_allowed(), "{case:?}");
            assert_eq!(
                (before.providers, before.dry_would_allow),
                (after.providers, after.dry_would_allow)
            );
        }
    });
}
