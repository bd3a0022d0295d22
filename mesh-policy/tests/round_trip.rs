//! What is written and read again decides as before: as filters of Envoy, as messages, as YAML.
#![cfg(all(feature = "envoy", feature = "k8s", feature = "xds"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "test code"
)]

use mesh_policy::{
    Budget,
    authz::{
        AuthorizationPolicy, Compiler, Decision, Dialect, Fault, PolicySet, Verdict,
        compare::{Answer, Comparison},
        envoy::{self, PeerSource},
        k8s, xds,
    },
};
use mesh_testkit::policy::{
    Mesh,
    generate::{Case, DIALECTS, cases, meshes, policies},
};
use proptest::{collection::vec, prelude::*, sample::select, test_runner::TestRunner};

/// How many sets are made for each law; `POLICY_SETS` asks for more.
fn config() -> ProptestConfig {
    let sets = std::env::var("POLICY_SETS").ok().and_then(|sets| sets.parse().ok());
    ProptestConfig {
        cases: sets.unwrap_or(300),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

fn compile(mesh: &Mesh, policies: Vec<AuthorizationPolicy>) -> PolicySet {
    let compiler = Compiler::new(mesh.dialect).trust_domains(mesh.trust_domains.clone());
    compiler.compile(policies).unwrap()
}

/// What a decision comes to, with policies and not rules for reasons: what is left out renumbers
/// rules, and of policies that lose all rules the name is lost, too.
fn decided(decision: &Decision, set: &PolicySet) -> impl PartialEq + std::fmt::Debug {
    let policy = |rule| set.rule(rule).unwrap().policy().name().to_string();
    let dry_run = decision.dry_run();
    let providers: Vec<_> = decision.providers(set).map(str::to_owned).collect();
    (
        matches!(decision.verdict(), Verdict::Allow(_)),
        decision.rule().map(policy),
        providers,
        decision.audit().map(policy),
        (dry_run.denied_by().map(policy), dry_run.allowed_by().map(policy)),
        dry_run.would_allow(),
    )
}

/// Two sets are shown to be the same, and decide cases alike.
fn agree(before: &PolicySet, after: &PolicySet, cases: &[Case]) -> Result<(), TestCaseError> {
    for case in cases {
        let (one, other) = case.with(|facts| (before.decide(facts), after.decide(facts)));
        prop_assert_eq!(decided(&one, before), decided(&other, after), "{:?}", case);
    }
    let answer = Comparison::new(before, after).candidates(200).is_same();
    prop_assert!(!matches!(answer, Answer::Refuted(_)), "{:?}", answer);
    Ok(())
}

#[test]
fn filters_become_policies_that_decide_alike() {
    let dialect = select(vec![Dialect::EnvoyHttp, Dialect::EnvoyTcp]);
    let inputs = dialect.prop_flat_map(|dialect| {
        let peer = select(vec![PeerSource::Certificate, PeerSource::FilterState]);
        (meshes(dialect), policies(dialect), peer, vec(cases(), 12))
    });
    let result = TestRunner::new(config()).run(&inputs, |(mesh, policies, peer, cases)| {
        let is_mixed = |policy: &AuthorizationPolicy| {
            let mut faults = policy.validate(&Budget::new()).into_iter();
            faults.any(|invalid| invalid.fault == Fault::MixedIdentity)
        };
        let is_mixed = policies.iter().any(is_mixed);
        let before = compile(&mesh, policies);
        let text = serde_json::to_string(&envoy::export(&before, peer).unwrap()).unwrap();
        let read = match envoy::read("filters.json", &text, &Budget::new()) {
            // Nothing becomes a policy that the webhook would refuse.
            Err(error) if is_mixed && matches!(error.fault, envoy::ReadFault::Combination { .. }) => return Ok(()),
            read => read.unwrap_or_else(|error| panic!("{error}\n{text}")),
        };
        let after = compile(&mesh, read);
        agree(&before, &after, &cases)
    });
    result.unwrap_or_else(|failure| panic!("{failure}"));
}

fn manifests(policies: &[AuthorizationPolicy]) -> serde_json::Value {
    serde_json::to_value(policies.iter().map(k8s::write).collect::<Vec<_>>()).unwrap()
}

#[test]
fn yaml_becomes_the_same_policies() {
    let dialect = select(DIALECTS.to_vec());
    let inputs = dialect.prop_flat_map(|dialect| (meshes(dialect), policies(dialect), vec(cases(), 12)));
    let result = TestRunner::new(config()).run(&inputs, |(mesh, policies, cases)| {
        let written = manifests(&policies);
        let list = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": written});
        let read = k8s::read("list.json", &list.to_string(), &Budget::new())
            .unwrap()
            .authorization;
        prop_assert_eq!(&manifests(&read), &written);
        agree(&compile(&mesh, policies), &compile(&mesh, read), &cases)
    });
    result.unwrap_or_else(|failure| panic!("{failure}"));
}

#[test]
fn messages_become_policies_that_become_yaml() {
    let inputs = (meshes(Dialect::Ztunnel), policies(Dialect::Ztunnel), vec(cases(), 12));
    let result = TestRunner::new(config()).run(&inputs, |(mesh, mut policies, cases)| {
        // What is only tried out is not sent.
        policies.retain(|policy| !policy.is_dry_run());
        let sent = policies.iter().filter_map(|policy| xds::write(policy, "root"));
        let received: Vec<_> = sent.map(|message| xds::read(message).unwrap().policy).collect();
        let list = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": manifests(&received)});
        let read = k8s::read("list.json", &list.to_string(), &Budget::new())
            .unwrap()
            .authorization;
        agree(&compile(&mesh, policies), &compile(&mesh, read), &cases)
    });
    result.unwrap_or_else(|failure| panic!("{failure}"));
}
