use super::*;
use crate::authz::{
    compile::Compiler,
    dialect::Dialect,
    model::{AuthorizationPolicy, Condition, Operation, OperationField, Rule, Source, SourceField},
};

fn set(dialect: Dialect, policies: impl IntoIterator<Item = AuthorizationPolicy>) -> PolicySet {
    Compiler::new(dialect).compile(policies).unwrap()
}

fn allow(rule: Rule) -> AuthorizationPolicy {
    AuthorizationPolicy::allow("n", "p").rule(rule)
}

fn from(field: SourceField, values: &[&str]) -> Rule {
    Rule::new().from(Source::new().any_of(field, values.iter().copied()))
}

fn to(field: OperationField, values: &[&str]) -> Rule {
    Rule::new().to(Operation::new().any_of(field, values.iter().copied()))
}

fn when(key: &str, values: &[&str]) -> Rule {
    Rule::new().when(Condition::new(key.parse().unwrap()).any_of(values.iter().copied()))
}

/// Pairs of rules that match different requests.
fn different() -> Vec<(Rule, Rule)> {
    let values = |field, one: &[&str], other: &[&str]| (to(field, one), to(field, other));
    let sources = |field, one: &[&str], other: &[&str]| (from(field, one), from(field, other));
    let conditions = |key, one: &[&str], other: &[&str]| (when(key, one), when(key, other));
    vec![
        values(OperationField::Ports, &["80"], &["80", "81"]),
        values(OperationField::Methods, &["GET"], &["G*"]),
        values(OperationField::Paths, &["/a/*"], &["/a*"]),
        values(OperationField::Paths, &["/a/{*}"], &["/a/{**}"]),
        values(OperationField::Paths, &["*.json"], &["/x.json"]),
        values(OperationField::Hosts, &["a.example"], &["a.example", "a.example:*"]),
        sources(SourceField::Namespaces, &["a"], &["a*"]),
        sources(SourceField::Principals, &["td/ns/a/sa/x"], &["td/ns/a/*"]),
        sources(SourceField::Principals, &["*/sa/x"], &["*/sa/y"]),
        sources(SourceField::ServiceAccounts, &["a/x"], &["x"]),
        sources(SourceField::TrustDomains, &["one"], &["two"]),
        sources(SourceField::IpBlocks, &["10.0.0.0/8"], &["10.0.0.0/9"]),
        sources(SourceField::RemoteIpBlocks, &["fd00::/8"], &["::/0"]),
        sources(SourceField::RequestPrincipals, &["i/s"], &["i/*"]),
        conditions("request.auth.claims[g]", &["admin"], &["dev"]),
        conditions("request.auth.claims[o][g]", &["admin"], &["adm*"]),
        conditions("request.auth.audiences", &["a"], &["b"]),
        conditions("request.headers[x-h]", &["a"], &["*"]),
        conditions("connection.sni", &["a.example"], &["*.example"]),
        conditions("destination.ip", &["10.0.0.0/8"], &["10.1.0.0/16"]),
        conditions("experimental.envoy.filters.f[k]", &["v"], &["w"]),
        conditions("experimental.envoy.filters.f[k]", &["v"], &["[v]"]),
    ]
}

#[test]
fn every_kind_of_value_has_witnesses() {
    for (one, other) in different() {
        for make in [allow, |rule| AuthorizationPolicy::deny("n", "p").rule(rule)] {
            let [before, after] = [&one, &other].map(|rule| set(Dialect::EnvoyHttp, [make(rule.clone())]));
            let answer = Comparison::new(&before, &after).candidates(5_000).is_same();
            let Answer::Refuted(witness) = answer else {
                panic!("{answer:?} for {one:?} and {other:?}")
            };
            let allowed = |decision: Decision| matches!(decision.verdict(), Verdict::Allow(_));
            let both = witness
                .sample()
                .with(|facts| (before.decide(facts), after.decide(facts)));
            assert_eq!(both, (witness.before(), witness.after()));
            assert_ne!(allowed(both.0), allowed(both.1), "{witness:?}");
        }
    }
}

#[test]
fn a_rule_is_found_among_many() {
    let many = |changed: &str| {
        let rules = (0..300).map(|at| {
            let path = if at == 200 {
                changed.to_owned()
            } else {
                format!("/service-{at}/*")
            };
            let namespace = format!("ns-{at}");
            from(SourceField::Namespaces, &[&namespace]).to(Operation::new().any_of(OperationField::Paths, [path]))
        });
        set(
            Dialect::EnvoyHttp,
            [rules.fold(AuthorizationPolicy::allow("n", "p"), AuthorizationPolicy::rule)],
        )
    };
    let (before, after) = (many("/service-200/*"), many("/service-200/a*"));
    let Answer::Refuted(witness) = Comparison::new(&before, &after).candidates(2_000).is_same() else {
        panic!()
    };
    let request = witness.sample().request.clone().unwrap();
    assert_eq!(request.path.present().unwrap().borrowed().path(), b"/service-200/x");
    let narrower = Comparison::new(&before, &after).is_no_wider();
    assert!(matches!(narrower, Answer::Proven));
}

#[test]
fn what_hides_behind_a_denial_takes_two_steps() {
    let deny = AuthorizationPolicy::deny("n", "deny").rule(to(OperationField::Methods, &["GET"]));
    let before = set(
        Dialect::EnvoyHttp,
        [allow(from(SourceField::Namespaces, &["a"])), deny.clone()],
    );
    let after = set(Dialect::EnvoyHttp, [allow(from(SourceField::Namespaces, &["b"])), deny]);
    let answer = Comparison::new(&before, &after).candidates(2_000).is_same();
    assert!(matches!(answer, Answer::Refuted(_)), "{answer:?}");
}

#[test]
fn equal_sets_are_proven_so() {
    let rules = [
        to(OperationField::Ports, &["80", "81"]),
        from(SourceField::Namespaces, &["a"]),
    ];
    let [one, other] = rules;
    let before = set(Dialect::Strict, [allow(one.clone()).rule(other.clone())]);
    let reordered = AuthorizationPolicy::allow("n", "a").rule(other);
    let after = set(
        Dialect::Strict,
        [reordered, AuthorizationPolicy::allow("n", "b").rule(one)],
    );
    assert!(matches!(Comparison::new(&before, &after).is_same(), Answer::Proven));
}

#[test]
fn no_policy_and_no_rule_are_not_the_same() {
    let (before, after) = (
        set(Dialect::Strict, []),
        set(Dialect::Strict, [AuthorizationPolicy::allow("n", "p")]),
    );
    assert!(matches!(Comparison::new(&before, &after).is_same(), Answer::Refuted(_)));
    assert!(matches!(Comparison::new(&before, &after).is_no_wider(), Answer::Proven));
    assert!(matches!(
        Comparison::new(&after, &before).is_no_wider(),
        Answer::Refuted(_)
    ));
}

#[test]
fn providers_count() {
    let custom = |name: &str| AuthorizationPolicy::custom("n", "p", name).rule(to(OperationField::Ports, &["80"]));
    let (opa, other) = (
        set(Dialect::EnvoyHttp, [custom("opa")]),
        set(Dialect::EnvoyHttp, [custom("other")]),
    );
    let none = set(Dialect::EnvoyHttp, []);
    assert!(matches!(Comparison::new(&opa, &other).is_same(), Answer::Refuted(_)));
    assert!(matches!(Comparison::new(&none, &opa).is_no_wider(), Answer::Proven));
    assert!(matches!(Comparison::new(&opa, &none).is_no_wider(), Answer::Refuted(_)));
}

#[test]
fn one_policy_differs_between_planes() {
    let policy = AuthorizationPolicy::deny("n", "p").rule(to(OperationField::Methods, &["DELETE"]));
    let (sidecar, ambient) = (
        set(Dialect::EnvoyHttp, [policy.clone()]),
        set(Dialect::Ztunnel, [policy]),
    );
    let Answer::Refuted(witness) = Comparison::new(&sidecar, &ambient).is_no_wider() else {
        panic!()
    };
    assert_eq!(&*witness.sample().request.clone().unwrap().method, b"DELETE");
}

#[test]
fn what_several_rules_say_together_is_proven() {
    let one = to(OperationField::Ports, &["80", "81"]).from(Source::new().any_of(SourceField::Namespaces, ["a", "b"]));
    let parts = [("80", "a"), ("81", "a"), ("80", "b"), ("81", "b")].map(|(port, namespace)| {
        to(OperationField::Ports, &[port]).from(Source::new().any_of(SourceField::Namespaces, [namespace]))
    });
    let all = parts
        .into_iter()
        .fold(AuthorizationPolicy::allow("n", "p"), AuthorizationPolicy::rule);
    let (before, after) = (set(Dialect::Strict, [allow(one)]), set(Dialect::Strict, [all]));
    let answer = Comparison::new(&before, &after).candidates(500).is_same();
    assert!(matches!(answer, Answer::Proven), "{answer:?}");
}

#[test]
fn what_is_neither_proven_nor_refuted_is_open() {
    // The same, but said in a way that no rule by itself shows.
    let [low, high] = ["0.0.0.0/1", "128.0.0.0/1"].map(|half| from(SourceField::IpBlocks, &[half]));
    let (before, after) = (
        set(Dialect::Strict, [allow(from(SourceField::IpBlocks, &["0.0.0.0/0"]))]),
        set(Dialect::Strict, [allow(low).rule(high)]),
    );
    let answer = Comparison::new(&before, &after).candidates(500).is_same();
    assert!(matches!(answer, Answer::Open { candidates: 500 }), "{answer:?}");
}

#[test]
fn a_proof_takes_no_more_than_its_effort() {
    let of_port = |port: u16| {
        let name = format!("p{port}");
        AuthorizationPolicy::allow("n", &name).rule(to(OperationField::Ports, &[&port.to_string()]))
    };
    let set = set(Dialect::Strict, (1..300).map(of_port));
    let views = rules(&set);
    let gaps = |effort: &Effort| proof::gaps(&set, &views, &set, &views, effort).len();
    assert_eq!(gaps(&Effort::new(MAX_PAIRS)), 0);
    let little = Effort::new(1000);
    assert!(gaps(&little) > 200 && little.is_spent());
}

/// A rule that no request matches, with so many values that trying them all would take days.
#[test]
fn a_request_that_matches_is_sought_within_the_effort() {
    let paths = |letter: char| (0..20_000).map(move |n| format!("/{letter}{n}"));
    let operation = Operation::new()
        .any_of(OperationField::Paths, paths('a'))
        .none_of(OperationField::Paths, paths('b').chain(["/a*".to_owned()]));
    let set = set(Dialect::EnvoyHttp, [allow(Rule::new().to(operation))]);
    let effort = Effort::new(100_000);
    for view in rules(&set) {
        assert_eq!(branch::matches(&view, &effort).len(), 1);
    }
    assert!(effort.is_spent());
}
