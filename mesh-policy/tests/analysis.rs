//! What an analysis says about rules, held against how the rules answer.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "test code"
)]

use std::cell::Cell;

use mesh_policy::{
    Facts,
    authz::{
        AuthorizationPolicy, Compiler, Explanation, FieldPath, PolicyName, Truth,
        analyze::{Analysis, Finding},
    },
};
use mesh_testkit::policy::generate::{DIALECTS, cases, meshes, policies};
use proptest::{collection::vec, prelude::*, test_runner::TestRunner};

/// How many sets are made for each dialect; `POLICY_SETS` asks for more.
fn sets() -> u32 {
    let asked = std::env::var("POLICY_SETS").ok().and_then(|sets| sets.parse().ok());
    asked.unwrap_or(60)
}

/// Whether the peer has no more than one name, and that of Istio's form: what findings are about.
fn is_ordinary(facts: &Facts<'_>) -> bool {
    facts.peer().present().is_none_or(|peer| {
        let parts = |name: &[u8]| name.split(|byte| *byte == b'/').count();
        matches!(peer.names(), [name] if name.text().starts_with(b"spiffe://") && parts(name.text()) == 7)
    })
}

fn truth(explanation: &Explanation<'_>, policy: &str, rule: usize) -> Option<Truth> {
    let mut rules = explanation.rules().iter();
    let found = rules.find(|answer| answer.policy().name().to_string() == policy && answer.index() == rule);
    found.map(|answer| answer.truth())
}

#[test]
fn findings_about_rules_are_true() {
    let (dead, shadowed, overruled) = (Cell::new(0), Cell::new(0), Cell::new(0));
    for dialect in DIALECTS {
        let config = ProptestConfig {
            cases: sets(),
            failure_persistence: None,
            ..ProptestConfig::default()
        };
        let inputs = (meshes(dialect), policies(dialect), vec(cases(), 60));
        let result = TestRunner::new(config).run(&inputs, |(mesh, policies, cases)| {
            let compiler = Compiler::new(dialect).trust_domains(mesh.trust_domains);
            let set = compiler.clone().compile(policies.clone()).unwrap();
            let report = Analysis::new(compiler).root_namespace("root").run(policies).unwrap();
            for found in report.findings() {
                let FieldPath::Rule { rule, part: None } = found.field else {
                    continue;
                };
                let policy = found.policy.to_string();
                for case in &cases {
                    let (explanation, ordinary) = case.with(|facts| (set.explain(facts), is_ordinary(&facts)));
                    let Some(answer) = truth(&explanation, &policy, rule) else {
                        continue;
                    };
                    match &found.note {
                        Finding::NeverMatches if ordinary => {
                            assert_ne!(
                                answer,
                                Truth::Yes,
                                "{found}\n{case:?}\n{:?}",
                                set.policies().collect::<Vec<_>>()
                            );
                            dead.set(dead.get() + 1);
                        }
                        Finding::Shadowed { policy, rule } => {
                            assert!(
                                truth(&explanation, policy, *rule).unwrap() >= answer,
                                "{found}\n{case:?}"
                            );
                            shadowed.set(shadowed.get() + 1);
                        }
                        Finding::Overruled { policy, rule } => {
                            assert!(
                                truth(&explanation, policy, *rule).unwrap() >= answer,
                                "{found}\n{case:?}"
                            );
                            overruled.set(overruled.get() + 1);
                        }
                        _ => {}
                    }
                }
            }
            Ok(())
        });
        result.unwrap_or_else(|failure| panic!("{dialect:?}: {failure}"));
    }
    for (what, count) in [("dead", dead), ("shadowed", shadowed), ("overruled", overruled)] {
        assert!(count.get() > 50, "{what}: {}", count.get());
    }
}

#[test]
fn an_analysis_takes_whatever_a_policy_may_hold() {
    let text = proptest::string::string_regex("[a-zA-Z*/{}\\[\\]:.?#@ \u{e9}]{0,12}").unwrap();
    let config = ProptestConfig::with_cases(400);
    let inputs = (vec(text, 12), any::<bool>());
    let result = TestRunner::new(config).run(&inputs, |(values, deny)| {
        let policy = policy_of(&values, deny);
        for dialect in DIALECTS {
            let report = Analysis::new(Compiler::new(dialect)).run([policy.clone()]).unwrap();
            assert!(report.findings().iter().all(|found| !found.to_string().contains('\n')));
        }
        Ok(())
    });
    result.unwrap();
}

/// A policy with one rule for each field, which has one of the values.
fn policy_of(values: &[String], deny: bool) -> AuthorizationPolicy {
    use mesh_policy::authz::{
        Action,
        model::{Operation, OperationField, Rule, Source, SourceField},
    };
    let action = if deny { Action::Deny } else { Action::Allow };
    let policy = AuthorizationPolicy::new(PolicyName::new("n", "p"), action);
    let sources = SourceField::ALL.into_iter().zip(values).map(|(field, value)| {
        let source = Source::new().any_of(field, [value.as_str()]);
        Rule::new().from(source.none_of(field, [value.as_str()]))
    });
    let operations = OperationField::ALL.into_iter().zip(values.iter().rev());
    let operations = operations.map(|(field, value)| Rule::new().to(Operation::new().any_of(field, [value.as_str()])));
    sources.chain(operations).fold(policy, AuthorizationPolicy::rule)
}
