//! What the planes of Istio make of the same policy, and what the strict dialect makes of it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "test code"
)]

use mesh_policy::{
    ConnectionFacts, Facts, Known, PathNormalization, Peer, RequestFacts,
    authz::{
        Action, Admission, AuthorizationPolicy, CompileError, Compiler, Dialect, PolicyName, PolicySet, TrustDomains,
        Verdict,
        model::{
            Condition, Operation,
            OperationField::{Methods, Ports},
            Rule, Source,
            SourceField::{self, IpBlocks, Namespaces, Principals, RequestPrincipals, ServiceAccounts},
        },
    },
};

const NO_HEADERS: [(&str, &str); 0] = [];

fn rule() -> Rule {
    Rule::new()
}

fn deny(rule: Rule) -> AuthorizationPolicy {
    AuthorizationPolicy::deny("n", "p").rule(rule)
}

fn allow(rule: Rule) -> AuthorizationPolicy {
    AuthorizationPolicy::allow("n", "p").rule(rule)
}

fn methods(values: &[&str]) -> Operation {
    Operation::new().any_of(Methods, values.iter().copied())
}

fn namespaces(values: &[&str]) -> Source {
    Source::new().any_of(Namespaces, values.iter().copied())
}

fn when(key: &str, value: &str) -> Condition {
    Condition::new(key.parse().unwrap()).any_of([value])
}

fn set(dialect: Dialect, policy: &AuthorizationPolicy) -> PolicySet {
    Compiler::new(dialect)
        .trust_domains(TrustDomains::new("td"))
        .compile([policy.clone()])
        .unwrap()
}

fn allows(set: &PolicySet, facts: Facts<'_>) -> bool {
    matches!(set.decide(facts).verdict(), Verdict::Allow(_))
}

/// A peer by its URI names.
fn peer(uris: &[&str]) -> Peer {
    let uris: Vec<_> = uris.iter().map(|uri| uri.as_bytes()).collect();
    Peer::from_certificate(&uris, &[], b"").unwrap()
}

fn connection(peer: &Peer, port: u16) -> ConnectionFacts<'_> {
    ConnectionFacts::new()
        .peer(Known::Present(peer))
        .source_ip("10.0.0.1".parse().unwrap())
        .remote_ip("10.0.0.1".parse().unwrap())
        .destination_ip("10.0.0.2".parse().unwrap())
        .destination_port(port)
        .sni(Known::Present(b"a.example"))
}

/// Whether a connection gets through under a dialect.
fn connects(dialect: Dialect, policy: &AuthorizationPolicy, peer: &Peer, port: u16) -> bool {
    allows(&set(dialect, policy), Facts::from(&connection(peer, port)))
}

/// Whether a request gets through under a dialect.
fn requests(dialect: Dialect, policy: &AuthorizationPolicy, peer: &Peer, method: &str) -> bool {
    let mut buffer = Vec::new();
    let path = PathNormalization::Base.normalize(b"/", &mut buffer).unwrap();
    let facts = RequestFacts::new(connection(peer, 80), method.as_bytes(), &NO_HEADERS)
        .authority(Known::Present(b"a.example"))
        .path(Known::Present(path))
        .claims(Known::Absent);
    allows(&set(dialect, policy), Facts::from(&facts))
}

/// What the planes that see connections only let through: Envoy, ztunnel, and the strict dialect.
fn l4(policy: &AuthorizationPolicy, peer: &Peer, port: u16) -> [bool; 3] {
    [Dialect::EnvoyTcp, Dialect::Ztunnel, Dialect::Strict].map(|dialect| connects(dialect, policy, peer, port))
}

/// What is let through where requests are seen: by Envoy, and by the strict dialect.
fn l7(policy: &AuthorizationPolicy, peer: &Peer, method: &str) -> [bool; 2] {
    [Dialect::EnvoyHttp, Dialect::Strict].map(|dialect| requests(dialect, policy, peer, method))
}

fn a() -> Peer {
    peer(&["spiffe://td/ns/a/sa/x"])
}

fn b() -> Peer {
    peer(&["spiffe://td/ns/b/sa/x"])
}

#[test]
fn row_1_deny_by_method_alone() {
    let policy = deny(rule().to(methods(&["GET"])));
    assert_eq!(l4(&policy, &a(), 80), [false, true, false]);
    assert_eq!(l7(&policy, &a(), "GET"), [false, false]);
    assert_eq!(l7(&policy, &a(), "POST"), [true, true]);
}

#[test]
fn row_2_deny_by_namespace_and_method() {
    let policy = deny(rule().from(namespaces(&["a"])).to(methods(&["GET"])));
    assert_eq!(l4(&policy, &a(), 80), [false, true, false]);
    assert_eq!(l4(&policy, &b(), 80), [true, true, true]);
    assert_eq!(l7(&policy, &a(), "GET"), [false, false]);
    assert_eq!(l7(&policy, &a(), "POST"), [true, true]);
}

#[test]
fn row_3_deny_by_namespace_or_token() {
    let token = Source::new().any_of(RequestPrincipals, ["x/y"]);
    let policy = deny(rule().from(namespaces(&["a"])).from(token));
    assert_eq!(l4(&policy, &a(), 80), [false, false, false]);
    assert_eq!(l4(&policy, &b(), 80), [false, true, false]);
    assert_eq!(l7(&policy, &b(), "GET"), [true, true]);
}

#[test]
fn row_4_deny_by_port_or_method() {
    let policy = deny(rule().to(Operation::new().any_of(Ports, ["80"])).to(methods(&["GET"])));
    assert_eq!(l4(&policy, &a(), 80), [false, false, false]);
    assert_eq!(l4(&policy, &a(), 81), [false, true, false]);
}

#[test]
fn row_5_deny_by_server_name_and_namespace() {
    let policy = deny(
        rule()
            .from(namespaces(&["a"]))
            .when(when("connection.sni", "a.example")),
    );
    assert_eq!(l4(&policy, &a(), 80), [false, true, false]);
    let policy = deny(rule().from(namespaces(&["a"])).when(when("connection.sni", "other")));
    assert_eq!(l4(&policy, &a(), 80), [true, true, true]);
    // A plane that does not know the name denies.
    let facts = ConnectionFacts::new().peer(Known::Absent);
    assert!(allows(&set(Dialect::Strict, &policy), Facts::from(&facts)));
    let peer = a();
    let facts = ConnectionFacts::new().peer(Known::Present(&peer));
    assert!(!allows(&set(Dialect::Strict, &policy), Facts::from(&facts)));
}

#[test]
fn row_6_allow_by_what_ztunnel_takes_for_http() {
    for (key, value) in [
        ("connection.sni", "a.example"),
        ("remote.ip", "10.0.0.1"),
        ("source.serviceAccount", "a/x"),
    ] {
        assert_eq!(
            l4(&allow(rule().when(when(key, value))), &a(), 80),
            [true, false, true],
            "{key}"
        );
    }
}

#[test]
fn row_7_allow_by_namespace_and_trust_domain() {
    let policy = allow(rule().from(namespaces(&["a"]).any_of(SourceField::TrustDomains, ["other"])));
    assert_eq!(l4(&policy, &a(), 80), [false, true, false]);
}

#[test]
fn row_8_trust_domains_alone() {
    let other = || Source::new().any_of(SourceField::TrustDomains, ["td"]);
    assert_eq!(l4(&allow(rule().from(other())), &a(), 80), [true, false, true]);
    assert_eq!(l4(&deny(rule().from(other())), &a(), 80), [false, true, false]);
}

#[test]
fn row_9_trust_domain_pointers_and_aliases() {
    let principal = |value: &str| Source::new().any_of(Principals, [value]);
    let pointer = "cluster.local/ns/a/sa/x";
    assert_eq!(
        l4(&allow(rule().from(principal(pointer))), &a(), 80),
        [true, false, false]
    );
    assert_eq!(
        l4(&deny(rule().from(principal(pointer))), &a(), 80),
        [false, true, false]
    );
    let mesh = TrustDomains::new("td").alias("old");
    let alias = peer(&["spiffe://old/ns/a/sa/x"]);
    for (dialect, allowed) in [
        (Dialect::EnvoyTcp, true),
        (Dialect::Ztunnel, false),
        (Dialect::Strict, false),
    ] {
        let policy = allow(rule().from(principal("td/ns/a/sa/x")));
        let set = Compiler::new(dialect)
            .trust_domains(mesh.clone())
            .compile([policy])
            .unwrap();
        assert_eq!(
            allows(&set, Facts::from(&connection(&alias, 80))),
            allowed,
            "{dialect:?}"
        );
    }
}

#[test]
fn row_10_stars_within_a_namespace() {
    let axb = peer(&["spiffe://td/ns/axb/sa/x"]);
    assert_eq!(
        l4(&allow(rule().from(namespaces(&["a*b"]))), &axb, 80),
        [true, false, false]
    );
    assert_eq!(
        l4(&deny(rule().from(namespaces(&["a*b"]))), &axb, 80),
        [false, true, false]
    );
}

#[test]
fn row_11_spiffe_ids_with_more_segments() {
    let long = peer(&["spiffe://td/ns/a/sa/x/k/v"]);
    let account = Source::new().any_of(ServiceAccounts, ["a/x"]);
    for source in [namespaces(&["a"]), account] {
        assert_eq!(l4(&allow(rule().from(source.clone())), &long, 80), [true, false, false]);
        assert_eq!(l4(&deny(rule().from(source)), &long, 80), [false, true, false]);
    }
}

#[test]
fn row_12_certificates_without_a_spiffe_id() {
    let dns = Peer::from_certificate(&[], &[b"a.example"], b"CN=a").unwrap();
    let any = || Source::new().any_of(Principals, ["*"]);
    assert_eq!(l4(&allow(rule().from(any())), &dns, 80), [true, false, false]);
    assert_eq!(l4(&deny(rule().from(any())), &dns, 80), [false, true, false]);
}

#[test]
fn row_13_entries_without_fields() {
    let policies = [deny(rule().from(Source::new())), allow(rule().to(Operation::new()))];
    let l4 = |policy| [Dialect::EnvoyTcp, Dialect::Ztunnel].map(|dialect| connects(dialect, policy, &a(), 80));
    assert_eq!(l4(&policies[0]), [false, true]);
    assert_eq!(l4(&policies[1]), [true, false]);
    for policy in policies {
        assert!(matches!(
            Compiler::new(Dialect::Strict).compile([policy]),
            Err(CompileError::Invalid(_))
        ));
    }
}

#[test]
fn row_14_a_bad_address() {
    let blocks = |values: &[&str]| Source::new().any_of(IpBlocks, values.iter().copied());
    let one_bad = allow(rule().from(blocks(&["10.0.0.0/8", "nowhere"])));
    let all_bad = allow(rule().from(blocks(&["nowhere"]).any_of(Namespaces, ["a"])));
    for policy in [one_bad, all_bad] {
        assert!(!connects(Dialect::EnvoyTcp, &policy, &a(), 80));
        assert!(connects(Dialect::Ztunnel, &policy, &a(), 80));
        assert!(matches!(
            Compiler::new(Dialect::Strict).compile([policy]),
            Err(CompileError::Invalid(_))
        ));
    }
}

#[test]
fn row_15_live_connections_are_asked_again() {
    let before = Compiler::new(Dialect::Strict)
        .version(1)
        .compile([allow(rule().from(namespaces(&["a", "b"])))])
        .unwrap();
    let (a, b) = (a(), b());
    let (from_a, from_b) = (connection(&a, 80), connection(&b, 80));
    let permit = |facts| match before.decide(facts).admission() {
        Admission::Granted(permit) => permit,
        other => panic!("{other:?}"),
    };
    let (permit_a, permit_b) = (permit(&from_a), permit(&from_b));
    assert!(permit_a.is_current(&before));
    let after = before.with([allow(rule().from(namespaces(&["a"])))]).unwrap();
    assert!(!permit_a.is_current(&after));
    assert!(matches!(after.renew(permit_a, &from_a), Admission::Granted(permit) if permit.is_current(&after)));
    assert!(matches!(after.renew(permit_b, &from_b), Admission::Refused(_)));
}

#[test]
fn row_16_a_policy_that_cannot_be_had_never_replaces_the_set() {
    let before = set(Dialect::Strict, &deny(rule().from(namespaces(&["a"]))));
    let broken = deny(rule().from(Source::new().any_of(IpBlocks, ["nowhere"])));
    assert!(before.with([broken]).is_err());
    assert!(!allows(&before, Facts::from(&connection(&a(), 80))));
    // One that is removed is removed by its name, never by its absence from an update.
    let after = before
        .with([AuthorizationPolicy::new(PolicyName::new("n", "other"), Action::Audit)])
        .unwrap();
    assert!(!allows(&after, Facts::from(&connection(&a(), 80))));
    let after = after.without(&[PolicyName::new("n", "p")]).unwrap();
    assert!(allows(&after, Facts::from(&connection(&a(), 80))));
}

#[test]
fn row_17_a_connection_is_decided_before_its_first_byte() {
    let port = Operation::new().any_of(Ports, ["80"]);
    // What only a request could tell does not put the decision off.
    for operation in [port.clone(), port.any_of(Methods, ["GET"])] {
        let policy = deny(rule().to(operation));
        for dialect in [Dialect::Strict, Dialect::Ztunnel, Dialect::EnvoyTcp] {
            assert!(!connects(dialect, &policy, &a(), 80), "{dialect:?} {policy:?}");
            assert!(connects(dialect, &policy, &a(), 81), "{dialect:?} {policy:?}");
        }
    }
}

#[test]
fn every_disagreement_has_a_diagnostic() {
    let policies = [
        deny(rule().to(methods(&["GET"]))),
        allow(rule().when(when("connection.sni", "a"))),
        allow(rule().from(Source::new().any_of(SourceField::TrustDomains, ["td"]))),
        allow(rule().from(Source::new().any_of(Principals, ["cluster.local/ns/a/sa/x"]))),
        allow(rule().from(namespaces(&["a*b"]))),
        allow(rule().from(Source::new().any_of(Principals, ["*"]))),
    ];
    for policy in &policies {
        assert_eq!(set(Dialect::Strict, policy).diagnostics().count(), 1, "{policy:?}");
    }
    let ztunnel: Vec<String> = policies
        .iter()
        .flat_map(|policy| {
            set(Dialect::Ztunnel, policy)
                .diagnostics()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(ztunnel.len(), 5, "{ztunnel:#?}");
    let custom = AuthorizationPolicy::custom("n", "p", "q").rule(rule());
    let told = set(Dialect::Ztunnel, &custom)
        .diagnostics()
        .map(ToString::to_string)
        .collect::<Vec<_>>();
    assert_eq!(told, ["policy `n/p`: action: this plane ignores the action"]);
}
