//! What principals and trust domains mean in a mesh with other names, from Istio's documentation of
//! trust domains and of moving from one to another. The compiled evaluator and the naive one are
//! held against what is written here, and not against each other.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "test code"
)]

use mesh_policy::{
    ConnectionFacts, Facts, Known, Peer,
    authz::{
        AuthorizationPolicy, Compiler, Dialect, Fault, TrustDomains, Verdict,
        model::{Condition, Operation, OperationField, Rule, Source, SourceField},
    },
};
use mesh_testkit::policy::{Mesh, decide};

/// The mesh's own trust domain and its aliases, a value, and the trust domains of those that it
/// means, with the workload behind them.
type Row = (&'static [&'static str], &'static str, &'static [&'static str]);

/// Of a workload in one of these trust domains, each value means exactly those that are listed.
const DOMAINS: [&str; 6] = ["cluster.local", "old-td", "new-td", "other-td", "td", "partner.example"];

const WORKLOAD: &str = "ns/sleep-allow/sa/sleep";

const PRINCIPALS: &[Row] = &[
    // One trust domain: a principal is what it says, but for the pointer.
    (
        &["cluster.local"],
        "cluster.local/ns/sleep-allow/sa/sleep",
        &["cluster.local"],
    ),
    (&["old-td"], "old-td/ns/sleep-allow/sa/sleep", &["old-td"]),
    (&["old-td"], "new-td/ns/sleep-allow/sa/sleep", &["new-td"]),
    // `cluster.local` points to the mesh's own trust domain, and is none of its own.
    (&["old-td"], "cluster.local/ns/sleep-allow/sa/sleep", &["old-td"]),
    (
        &["new-td", "old-td"],
        "cluster.local/ns/sleep-allow/sa/sleep",
        &["new-td", "old-td"],
    ),
    // The mesh moved: whatever name a policy has, the workload is meant under each.
    (
        &["new-td", "old-td"],
        "old-td/ns/sleep-allow/sa/sleep",
        &["new-td", "old-td"],
    ),
    (
        &["new-td", "old-td"],
        "new-td/ns/sleep-allow/sa/sleep",
        &["new-td", "old-td"],
    ),
    (&["new-td", "old-td"], "other-td/ns/sleep-allow/sa/sleep", &["other-td"]),
    (
        &["new-td", "cluster.local"],
        "cluster.local/ns/sleep-allow/sa/sleep",
        &["new-td", "cluster.local"],
    ),
    // A star in the trust domain stands for all that end so, and for the others of the mesh.
    (
        &["td", "new-td"],
        "*-td/ns/sleep-allow/sa/sleep",
        &["td", "new-td", "old-td", "other-td"],
    ),
    (
        &["td"],
        "*-td/ns/sleep-allow/sa/sleep",
        &["new-td", "old-td", "other-td"],
    ),
    (&["td", "old-td"], "new*/ns/sleep-allow/sa/sleep", &[]),
    (&["td", "old-td"], "old*/ns/sleep-allow/sa/sleep", &["td", "old-td"]),
    (&["td"], "*/ns/sleep-allow/sa/sleep", &DOMAINS),
    (&["td"], "*", &DOMAINS),
    // What is not of five parts is left as it is.
    (&["new-td", "old-td"], "cluster.local/*", &["cluster.local"]),
    (&["new-td", "old-td"], "old-td/*", &["old-td"]),
    (&["new-td", "old-td"], "*/sa/sleep", &DOMAINS),
    (&["new-td", "old-td"], "old-td/ns/sleep-allow/sa/sleep/more", &[]),
    (&["new-td", "old-td"], "old-td/ns/sleep-allow/*", &["old-td"]),
    // A star in the last of five parts changes nothing about that.
    (
        &["new-td", "old-td"],
        "old-td/ns/sleep-allow/sa/sl*",
        &["new-td", "old-td"],
    ),
];

const TRUST_DOMAINS: &[Row] = &[
    (&["new-td", "old-td"], "old-td", &["new-td", "old-td"]),
    (&["new-td", "old-td"], "new-td", &["new-td", "old-td"]),
    (&["new-td", "old-td"], "other-td", &["other-td"]),
    // It is a pointer in principals only, and a star replaces nothing.
    (&["new-td", "old-td"], "cluster.local", &["cluster.local"]),
    (&["td", "old-td"], "*-td", &["new-td", "old-td", "other-td"]),
    (&["td", "old-td"], "old*", &["old-td"]),
    (&["td"], "*", &DOMAINS),
];

fn mesh(dialect: Dialect, names: &[&str]) -> Mesh {
    let trust_domains = TrustDomains::new(names[0]);
    let aliases = names[1..].iter();
    Mesh {
        dialect,
        trust_domains: aliases.fold(trust_domains, |domains, name| domains.alias(name)),
    }
}

/// Both evaluators' answers, where the policy is all there is.
fn answers(mesh: &Mesh, policy: &AuthorizationPolicy, facts: &Facts<'_>) -> [bool; 2] {
    let compiler = Compiler::new(mesh.dialect).trust_domains(mesh.trust_domains.clone());
    let set = compiler.compile([policy.clone()]).unwrap();
    let compiled = matches!(set.decide(*facts).verdict(), Verdict::Allow(_));
    [compiled, decide(std::slice::from_ref(policy), mesh, facts).is_allowed()]
}

fn check(rows: &[Row], rule: impl Fn(&str) -> Rule) {
    for dialect in [Dialect::EnvoyTcp, Dialect::EnvoyHttp] {
        for (names, value, meant) in rows {
            let mesh = mesh(dialect, names);
            let allow = AuthorizationPolicy::allow("n", "p").rule(rule(value));
            let deny = AuthorizationPolicy::deny("n", "p").rule(rule(value));
            for domain in DOMAINS {
                let peer = Peer::from(&format!("spiffe://{domain}/{WORKLOAD}").parse().unwrap());
                let connection = ConnectionFacts::new().peer(Known::Present(&peer));
                let (facts, is_meant) = (Facts::from(&connection), meant.contains(&domain));
                let context = format!("{dialect:?} {names:?}: `{value}` and {domain}");
                assert_eq!(answers(&mesh, &allow, &facts), [is_meant; 2], "{context}");
                assert_eq!(answers(&mesh, &deny, &facts), [!is_meant; 2], "{context}");
            }
        }
    }
}

#[test]
fn principals_follow_the_names_of_the_mesh() {
    check(PRINCIPALS, |value| {
        Rule::new().from(Source::new().any_of(SourceField::Principals, [value]))
    });
}

#[test]
fn conditions_on_principals_are_the_same() {
    check(PRINCIPALS, |value| {
        Rule::new().when(Condition::new("source.principal".parse().unwrap()).any_of([value]))
    });
}

#[test]
fn trust_domains_are_replaced_only_by_name() {
    check(TRUST_DOMAINS, |value| {
        Rule::new().from(Source::new().any_of(SourceField::TrustDomains, [value]))
    });
}

/// ztunnel is told nothing of the names of a mesh.
#[test]
fn ztunnel_takes_principals_as_they_are() {
    let policy = |value: &str| {
        let from = Source::new().any_of(SourceField::Principals, [value]);
        AuthorizationPolicy::allow("n", "p").rule(Rule::new().from(from))
    };
    let peer = Peer::from(&format!("spiffe://old-td/{WORKLOAD}").parse().unwrap());
    let connection = ConnectionFacts::new().peer(Known::Present(&peer));
    let mesh = mesh(Dialect::Ztunnel, &["new-td", "old-td"]);
    for (domain, is_meant) in [("old-td", true), ("new-td", false), ("cluster.local", false)] {
        let policy = policy(&format!("{domain}/{WORKLOAD}"));
        assert_eq!(
            answers(&mesh, &policy, &Facts::from(&connection)),
            [is_meant; 2],
            "{domain}"
        );
    }
}

/// Values that are none: what allows by them allows nothing, what denies does without.
#[test]
fn invalid_values_are_the_same_for_both() {
    let ports = |value: &str| Rule::new().to(Operation::new().any_of(OperationField::Ports, [value, "80"]));
    let paths = |value: &str| Rule::new().to(Operation::new().any_of(OperationField::Paths, [value]));
    let blocks = |value: &str| Rule::new().from(Source::new().any_of(SourceField::IpBlocks, [value, "10.0.0.1"]));
    let accounts = |value: &str| Rule::new().from(Source::new().any_of(SourceField::ServiceAccounts, [value, "a/b"]));
    let long = format!("n/{}", "a".repeat(320));
    let cases = [
        (ports("80"), true),
        (ports("0"), true),
        (ports("65536"), false),
        (ports("+80"), false),
        (ports("-1"), false),
        (ports(""), false),
        (ports("http"), false),
        (blocks("10.0.0.0/8"), true),
        (blocks("::1"), true),
        (blocks("10.0.0.0/33"), false),
        (blocks("10.0.0.0/+8"), false),
        (blocks("10.0.0.0/"), false),
        (blocks("10.0.0"), false),
        (blocks("::/129"), false),
        (accounts("a"), true),
        (accounts("a/b/c"), false),
        (accounts("a/"), false),
        (accounts("/a"), false),
        (accounts("a/*"), false),
        (accounts(&long), false),
        (paths("/a/{*}/b/{**}"), true),
        (paths("/v{*}.x"), true),
        (paths("a/{*}"), false),
        (paths("/{**}/{*}"), false),
        (paths("/{*}{*}"), false),
        (paths("/{*}{**}"), false),
        (paths("/{*}/a*"), false),
        (paths("/{*}/{name}"), false),
        (paths("/{*}/[a]"), false),
        (paths("/{*}/\u{e9}"), false),
    ];
    for (rule, is_valid) in cases {
        let policy = AuthorizationPolicy::allow("n", "p").rule(rule.clone());
        let invalid = policy.validate(&mesh_policy::Budget::new());
        assert_eq!(invalid.is_empty(), is_valid, "{rule:?}");
        assert!(
            invalid
                .iter()
                .all(|invalid| !matches!(invalid.fault, Fault::OverBudget(_)))
        );
        // A rule that matches all the same shows by its absence that the value was refused.
        let connection = ConnectionFacts::new()
            .destination_port(80)
            .source_ip([10, 0, 0, 1].into());
        let peer = Peer::from(&"spiffe://td/ns/a/sa/b".parse().unwrap());
        let connection = connection.peer(Known::Present(&peer));
        let facts = Facts::from(&connection);
        let is_path = !rule.operations().is_empty() && rule.operations()[0].fields()[0].attribute().is_http_only();
        if !is_path {
            let mesh = mesh(Dialect::EnvoyHttp, &["td"]);
            assert_eq!(answers(&mesh, &policy, &facts), [is_valid; 2], "{rule:?}");
        }
    }
}
