//! What went wrong in evaluators of such policies, one test for each lesson.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "test code"
)]

use mesh_policy::{
    Claim, Claims, ConnectionFacts, Facts, Known, PathError, PathNormalization, Peer, RequestFacts,
    authz::{
        Admission, AuthorizationPolicy, CompileError, Compiler, DenyReason, Dialect, Note, PolicySet, Verdict,
        model::{
            Condition, KeyError, Operation,
            OperationField::{Hosts, Methods, Paths, Ports},
            Rule, Source,
            SourceField::{IpBlocks, Namespaces, Principals, RemoteIpBlocks, RequestPrincipals, ServiceAccounts},
        },
    },
};
use mesh_testkit::policy::generate::DIALECTS;

const ENVOYS: [Dialect; 2] = [Dialect::EnvoyTcp, Dialect::EnvoyHttp];

fn compile(dialect: Dialect, policies: Vec<AuthorizationPolicy>) -> PolicySet {
    Compiler::new(dialect).compile(policies).unwrap()
}

fn allow(rule: Rule) -> AuthorizationPolicy {
    AuthorizationPolicy::allow("n", "allow").rule(rule)
}

fn deny(rule: Rule) -> AuthorizationPolicy {
    AuthorizationPolicy::deny("n", "deny").rule(rule)
}

fn from(source: Source) -> Rule {
    Rule::new().from(source)
}

fn to(operation: Operation) -> Rule {
    Rule::new().to(operation)
}

fn when(key: &str) -> Condition {
    Condition::new(key.parse().unwrap())
}

fn is_allowed(set: &PolicySet, facts: Facts<'_>) -> bool {
    matches!(set.decide(facts).verdict(), Verdict::Allow(_))
}

/// A request whose parts are all known; tests change what they are about.
struct Request {
    peer: Option<Peer>,
    source: &'static str,
    remote: &'static str,
    authority: &'static str,
    method: &'static str,
    target: &'static str,
    mode: PathNormalization,
    headers: Vec<(&'static str, Vec<u8>)>,
    claims: Option<Claims>,
}

impl Request {
    fn new() -> Self {
        Self {
            peer: Some(Peer::from(&"spiffe://cluster.local/ns/a/sa/x".parse().unwrap())),
            source: "10.0.0.1",
            remote: "192.0.2.1",
            authority: "a.example",
            method: "GET",
            target: "/",
            mode: PathNormalization::Base,
            headers: Vec::new(),
            claims: None,
        }
    }

    fn to(target: &'static str) -> Self {
        Self { target, ..Self::new() }
    }

    fn by(uris: &[&str], dns: &[&str]) -> Self {
        let bytes = |names: &[&str]| names.iter().map(|name| name.as_bytes().to_vec()).collect::<Vec<_>>();
        let (uris, dns) = (bytes(uris), bytes(dns));
        let uris: Vec<&[u8]> = uris.iter().map(Vec::as_slice).collect();
        let dns: Vec<&[u8]> = dns.iter().map(Vec::as_slice).collect();
        let peer = Some(Peer::from_certificate(&uris, &dns, b"").unwrap());
        Self { peer, ..Self::new() }
    }

    fn lines(lines: &[(&'static str, &str)]) -> Self {
        let headers = lines
            .iter()
            .map(|(name, value)| (*name, value.as_bytes().to_vec()))
            .collect();
        Self { headers, ..Self::new() }
    }

    fn claims(claims: Claims) -> Self {
        let claims = Some(claims);
        Self { claims, ..Self::new() }
    }

    /// Whether a set lets it pass. A path that is refused does not.
    fn passes(&self, set: &PolicySet) -> bool {
        let connection = ConnectionFacts::new()
            .peer(self.peer.as_ref().into())
            .source_ip(self.source.parse().unwrap())
            .remote_ip(self.remote.parse().unwrap())
            .destination_ip("10.0.0.2".parse().unwrap())
            .destination_port(8080)
            .sni(Known::Absent);
        let mut buffer = Vec::new();
        let Ok(path) = self.mode.normalize(self.target.as_bytes(), &mut buffer) else {
            return false;
        };
        let facts = RequestFacts::new(connection, self.method.as_bytes(), &self.headers)
            .authority(Known::Present(self.authority.as_bytes()))
            .path(Known::Present(path))
            .claims(self.claims.as_ref().into());
        is_allowed(set, Facts::from(&facts))
    }
}

/// Whether a rule matches a request, as a DENY and as an ALLOW in a dialect.
fn matches(dialect: Dialect, rule: &Rule, request: &Request) -> [bool; 2] {
    [
        !request.passes(&compile(dialect, vec![deny(rule.clone())])),
        request.passes(&compile(dialect, vec![allow(rule.clone())])),
    ]
}

/// For rules about which Envoy and the strict dialect agree.
fn is_match(rule: &Rule, request: &Request) -> bool {
    let found: Vec<_> = [Dialect::EnvoyHttp, Dialect::Strict]
        .iter()
        .flat_map(|dialect| matches(*dialect, rule, request))
        .collect();
    assert!(found.windows(2).all(|pair| pair[0] == pair[1]), "{found:?} {rule:?}");
    found[0]
}

fn paths(values: &[&str]) -> Rule {
    to(Operation::new().any_of(Paths, values.iter().copied()))
}

#[test]
fn http_policies_are_enforced_on_tcp_by_failing_closed() {
    let set = |dialect| compile(dialect, vec![deny(to(Operation::new().any_of(Methods, ["GET"])))]);
    let facts = ConnectionFacts::new();
    assert!(!is_allowed(&set(Dialect::EnvoyTcp), Facts::from(&facts)));
    let decision = set(Dialect::Strict).decide(&facts);
    assert!(matches!(decision.verdict(), Verdict::Deny(DenyReason::Unavailable(_))));
    let only_http = compile(
        Dialect::EnvoyTcp,
        vec![allow(to(Operation::new().any_of(Methods, ["GET"])))],
    );
    assert!(!is_allowed(&only_http, Facts::from(&facts)));
}

#[test]
fn spellings_of_a_path_are_one() {
    let admin = paths(&["/admin"]);
    for target in [
        "/admin",
        "/admin?x",
        "/x/../admin",
        "/x/%2e%2e/admin",
        "/x/..\\admin",
        "/x/..;/admin",
        "/%61dmin",
    ] {
        assert!(is_match(&admin, &Request::to(target)), "{target}");
    }
    for target in ["/admin/", "/Admin", "/admin;x", "/%2561dmin", "/a?x=/../admin"] {
        assert!(!is_match(&admin, &Request::to(target)), "{target}");
    }
    for target in ["//admin", "/%2fadmin"] {
        assert!(!is_match(&admin, &Request::to(target)), "{target}");
        let mode = PathNormalization::DecodeAndMergeSlashes;
        assert!(
            is_match(
                &admin,
                &Request {
                    mode,
                    ..Request::to(target)
                }
            ),
            "{target}"
        );
    }
    assert!(is_match(&paths(&["/"]), &Request::to("/a/..")));
    assert!(is_match(
        &paths(&["//"]),
        &Request {
            mode: PathNormalization::MergeSlashes,
            ..Request::to("///")
        }
    ));
}

#[test]
fn fragments_nuls_and_relative_paths_are_refused() {
    let mut buffer = Vec::new();
    let mut refuse = |target: &[u8]| PathNormalization::Base.normalize(target, &mut buffer).unwrap_err();
    assert_eq!(refuse(b"/user/profile#x"), PathError::Fragment);
    assert_eq!(refuse(b"/admin%00"), PathError::Nul);
    assert_eq!(refuse(b"Service/Method"), PathError::NotAbsolute);
}

#[test]
fn suffixes_of_principals_match_on_every_layer() {
    let rule = from(Source::new().any_of(Principals, ["*/sa/x"]));
    for dialect in DIALECTS {
        let set = compile(dialect, vec![deny(rule.clone())]);
        let request = Request::new();
        let peer = request.peer.as_ref().unwrap();
        let facts = ConnectionFacts::new().peer(Known::Present(peer));
        assert!(!is_allowed(&set, Facts::from(&facts)), "{dialect:?}");
        assert!(!request.passes(&set), "{dialect:?}");
    }
}

#[test]
fn ports_are_those_of_the_workload() {
    let port = |port: &str| to(Operation::new().any_of(Ports, [port]));
    assert!(is_match(&port("8080"), &Request::new()) && !is_match(&port("80"), &Request::new()));
    for (value, valid) in [("0", true), ("65535", true), ("65536", false)] {
        assert_eq!(
            Compiler::new(Dialect::Strict).compile([deny(port(value))]).is_ok(),
            valid,
            "{value}"
        );
    }
}

#[test]
fn negated_identities_match_plaintext() {
    let plaintext = Request {
        peer: None,
        ..Request::new()
    };
    for field in [Principals, Namespaces] {
        assert!(is_match(&from(Source::new().none_of(field, ["x"])), &plaintext));
        assert!(!is_match(&from(Source::new().any_of(field, ["*"])), &plaintext));
    }
}

#[test]
fn every_line_of_a_header_is_tested() {
    let is = |value| Rule::new().when(when("request.headers[X-Role]").any_of([value]));
    let is_not = |value| Rule::new().when(when("request.headers[X-Role]").none_of([value]));
    let two = Request::lines(&[("x-role", "a"), ("X-ROLE", "b")]);
    assert!(is_match(&is("a"), &two) && is_match(&is("b"), &two) && !is_match(&is("a,b"), &two));
    assert!(!is_match(&is_not("a"), &two));
    let joined = Request::lines(&[("x-role", "a,b")]);
    assert!(!is_match(&is("a"), &joined) && is_match(&is("a,b"), &joined));
    let none = Request::lines(&[("x_role", "a")]);
    assert!(!is_match(&is("a"), &none) && is_match(&is_not("a"), &none));
    let bytes = Request {
        headers: vec![("x-role", vec![0xff, b'a'])],
        ..Request::new()
    };
    assert!(is_match(&is("*a"), &bytes) && is_match(&is_not("a"), &bytes));
}

#[test]
fn a_header_without_a_value_is_where_readings_part() {
    let present = Rule::new().when(when("request.headers[x-h]").any_of(["*"]));
    let empty = Request::lines(&[("x-h", "")]);
    assert_eq!(matches(Dialect::EnvoyHttp, &present, &empty), [true, true]);
    assert_eq!(matches(Dialect::Strict, &present, &empty), [true, false]);
}

/// Envoy sees these; a request here has no place for them.
#[test]
fn pseudo_headers_that_no_facts_hold_are_unavailable() {
    let request = Request::lines(&[(":scheme", "https")]);
    for key in ["request.headers[:scheme]", "request.headers[:Protocol]"] {
        for condition in [
            when(key).any_of(["https"]),
            when(key).none_of(["https"]),
            when(key).any_of(["*"]),
        ] {
            for dialect in [Dialect::EnvoyHttp, Dialect::Strict] {
                let rule = Rule::new().when(condition.clone());
                assert_eq!(
                    matches(dialect, &rule, &request),
                    [true, false],
                    "{dialect:?} {condition:?}"
                );
                let set = compile(dialect, vec![deny(rule)]);
                let notes: Vec<_> = set.diagnostics().map(|diagnostic| &diagnostic.note).collect();
                assert!(matches!(notes[..], [Note::PseudoHeader { .. }, ..]), "{notes:?}");
            }
        }
    }
    for (key, value) in [(":authority", "a.example"), (":method", "GET"), (":path", "/")] {
        let rule = Rule::new().when(when(&format!("request.headers[{key}]")).any_of([value]));
        assert!(is_match(&rule, &Request::new()), "{key}");
    }
}

#[test]
fn blanks_around_a_line_do_not_count() {
    let is = |value| Rule::new().when(when("request.headers[x-role]").any_of([value]));
    for line in ["admin", " admin", "admin \t", "\t  admin "] {
        assert!(is_match(&is("admin"), &Request::lines(&[("x-role", line)])), "{line:?}");
    }
    for line in ["\nadmin", "ad min", "\u{a0}admin"] {
        assert!(
            !is_match(&is("admin"), &Request::lines(&[("x-role", line)])),
            "{line:?}"
        );
    }
    assert!(is_match(&is("a b"), &Request::lines(&[("x-role", " a b ")])));
    // Of blanks alone there is nothing left.
    let blank = Request::lines(&[("x-role", " \t")]);
    assert_eq!(matches(Dialect::Strict, &is("*"), &blank), [true, false]);
}

#[test]
fn hosts_ignore_case_and_count_ports() {
    let host = |value: &str| to(Operation::new().any_of(Hosts, [value]));
    let at = |authority| Request {
        authority,
        ..Request::new()
    };
    assert!(is_match(&host("Example.com"), &at("eXAMPLE.COM")));
    for authority in ["example.com:8080", "example.com.", "user@example.com", ""] {
        assert!(!is_match(&host("example.com"), &at(authority)), "{authority}");
    }
    assert!(is_match(&host("example.com:*"), &at("example.com:8080")));
    assert!(is_match(&host("[::1]"), &at("[::1]")) && is_match(&host("*"), &at("")));
    let header = Rule::new().when(when("request.headers[host]").any_of(["example.com"]));
    assert!(is_match(&header, &at("example.com")) && !is_match(&header, &at("Example.com")));
}

#[test]
fn methods_are_compared_as_they_are() {
    let get = to(Operation::new().any_of(Methods, ["GET"]));
    assert!(!is_match(
        &get,
        &Request {
            method: "get",
            ..Request::new()
        }
    ));
}

#[test]
fn physical_and_original_addresses_are_two_things() {
    let direct = from(Source::new().any_of(IpBlocks, ["192.0.2.0/24"]));
    let remote = from(Source::new().any_of(RemoteIpBlocks, ["192.0.2.0/24"]));
    assert!(!is_match(&direct, &Request::new()) && is_match(&remote, &Request::new()));
}

#[test]
fn blocks_are_masked_and_families_stay_apart() {
    let block = |value: &str| from(Source::new().any_of(IpBlocks, [value]));
    let by = |source| Request {
        source,
        ..Request::new()
    };
    assert!(is_match(&block("10.1.2.3/8"), &by("10.9.9.9")));
    assert!(!is_match(&block("0.0.0.0/0"), &by("fd00::1")) && !is_match(&block("::/0"), &by("10.0.0.1")));
    assert!(is_match(&block("10.0.0.1/32"), &by("::ffff:10.0.0.1")));
    assert!(is_match(&block("fd00::1/128"), &by("fd00::1")) && !is_match(&block("fd00::1/128"), &by("fd00::2")));
}

#[test]
fn no_byte_escapes_a_template_that_denies() {
    let rest = paths(&["/admin/{**}"]);
    for target in ["/admin/[", "/admin/]x"] {
        assert_eq!(matches(Dialect::EnvoyHttp, &rest, &Request::to(target)), [false, false]);
        assert_eq!(matches(Dialect::Strict, &rest, &Request::to(target)), [true, false]);
    }
    for target in ["/admin/*", "/admin/%2f", "/admin/"] {
        assert!(is_match(&rest, &Request::to(target)), "{target}");
    }
}

#[test]
fn names_are_compared_whole_with_nul_and_dots() {
    let nul = Request::by(&["spiffe://cluster.local/ns/a/sa/x\0.evil"], &[]);
    let exact = from(Source::new().any_of(Principals, ["cluster.local/ns/a/sa/x"]));
    for dialect in DIALECTS {
        assert_eq!(matches(dialect, &exact, &nul), [false, false], "{dialect:?}");
    }
    let account = from(Source::new().any_of(ServiceAccounts, ["a/a.b"]));
    assert!(!is_match(
        &account,
        &Request::by(&["spiffe://cluster.local/ns/a/sa/aXb"], &[])
    ));
    let space = from(Source::new().any_of(Namespaces, ["kube.sys"]));
    assert!(!is_match(
        &space,
        &Request::by(&["spiffe://cluster.local/ns/kubeXsys/sa/a"], &[])
    ));
    let bar = from(Source::new().any_of(ServiceAccounts, ["a/bar"]));
    assert!(!is_match(
        &bar,
        &Request::by(&["spiffe://cluster.local/ns/a/sa/bar-x"], &[])
    ));
}

#[test]
fn a_namespace_within_an_account_fools_envoy_only() {
    let nested = Request::by(&["spiffe://cluster.local/ns/foo/sa/x/ns/admin/sa/y"], &[]);
    let admin = from(Source::new().any_of(Namespaces, ["admin"]));
    for dialect in ENVOYS {
        assert_eq!(matches(dialect, &admin, &nested), [true, true]);
    }
    assert_eq!(matches(Dialect::Ztunnel, &admin, &nested), [false, false]);
    assert_eq!(matches(Dialect::Strict, &admin, &nested), [true, false]);
}

#[test]
fn two_names_are_any_and_none() {
    let two = Request::by(
        &["spiffe://cluster.local/ns/a/sa/x", "spiffe://cluster.local/ns/b/sa/y"],
        &[],
    );
    let second = from(Source::new().any_of(Namespaces, ["b"]));
    let not_second = from(Source::new().none_of(Namespaces, ["b"]));
    assert_eq!(matches(Dialect::EnvoyHttp, &second, &two), [true, true]);
    assert_eq!(matches(Dialect::EnvoyHttp, &not_second, &two), [false, false]);
    assert_eq!(matches(Dialect::Strict, &second, &two), [true, false]);
    assert_eq!(matches(Dialect::Strict, &not_second, &two), [true, false]);
}

#[test]
fn only_texts_of_a_claim_match() {
    let any = Rule::new().when(when("request.auth.claims[g]").any_of(["*"]));
    let token = |claim| Request::claims(Claims::default().with("g", claim));
    for silent in [
        Claim::Other,
        Claim::text(""),
        Claim::List(vec![]),
        Claim::List(vec![Claim::texts(["a"])]),
    ] {
        assert!(!is_match(&any, &token(silent.clone())), "{silent:?}");
    }
    let a = Rule::new().when(when("request.auth.claims[g]").any_of(["a"]));
    assert!(is_match(&a, &token(Claim::texts(["b", "a"]))));
    let dotted = Rule::new().when(when("request.auth.claims[a.b]").any_of(["x"]));
    assert!(is_match(
        &dotted,
        &Request::claims(Claims::default().with("a.b", Claim::text("x")))
    ));
}

#[test]
fn a_token_needs_a_subject_to_be_a_principal() {
    let any = from(Source::new().any_of(RequestPrincipals, ["*"]));
    let issuer = Claims::default().with("iss", Claim::text("https://i/x"));
    assert!(!is_match(&any, &Request::claims(issuer.clone())));
    assert!(!is_match(&any, &Request::new()));
    let token = Request::claims(issuer.with("sub", Claim::text("s")));
    assert!(is_match(&any, &token));
    assert!(is_match(
        &from(Source::new().any_of(RequestPrincipals, ["https://i/x/s"])),
        &token
    ));
}

#[test]
fn rules_that_are_not_there_never_match() {
    for dialect in DIALECTS {
        let nobody = compile(dialect, vec![AuthorizationPolicy::allow("n", "p")]);
        assert!(!Request::new().passes(&nobody), "{dialect:?}");
        let everybody = compile(dialect, vec![allow(Rule::new())]);
        assert!(Request::new().passes(&everybody), "{dialect:?}");
        assert!(
            !Request::new().passes(&compile(dialect, vec![deny(Rule::new())])),
            "{dialect:?}"
        );
        assert!(Request::new().passes(&compile(dialect, vec![])), "{dialect:?}");
    }
}

#[test]
fn of_many_rules_the_first_by_its_name_is_reported() {
    let get = || to(Operation::new().any_of(Methods, ["GET"]));
    let never = || to(Operation::new().any_of(Methods, ["NEVER"]));
    let rules = (0..12).map(|at| if at == 10 || at == 2 { get() } else { never() });
    let policy = rules.fold(AuthorizationPolicy::deny("n", "deny"), AuthorizationPolicy::rule);
    let set = compile(Dialect::EnvoyHttp, vec![policy]);
    let headers: [(&str, &str); 0] = [];
    let facts = RequestFacts::new(ConnectionFacts::new(), b"GET", &headers);
    let decision = set.decide(&facts);
    assert_eq!(
        set.rule(decision.rule().unwrap()).unwrap().to_string(),
        "ns[n]-policy[deny]-rule[10]"
    );
}

#[test]
fn trying_out_changes_nothing_and_tells_everything() {
    let tried = AuthorizationPolicy::allow("n", "tried")
        .dry_run(true)
        .rule(from(Source::new().any_of(Namespaces, ["b"])));
    let set = compile(Dialect::Strict, vec![tried]);
    let request = Request::new();
    let facts = ConnectionFacts::new().peer(request.peer.as_ref().into());
    let decision = set.decide(&facts);
    assert!(matches!(decision.verdict(), Verdict::Allow(_)));
    assert!(!decision.dry_run().would_allow());
}

#[test]
fn only_allow_and_deny_are_tried_out() {
    for policy in [
        AuthorizationPolicy::custom("n", "p", "opa"),
        AuthorizationPolicy::audit("n", "p"),
    ] {
        for dialect in DIALECTS {
            let tried = policy.clone().rule(Rule::new()).dry_run(true);
            let error = Compiler::new(dialect).compile([tried]).unwrap_err();
            assert_eq!(
                error.to_string(),
                "policy `n/p`: action: a policy that is tried out allows or denies"
            );
        }
    }
}

#[test]
fn a_provider_cannot_overrule_a_denial() {
    let custom = AuthorizationPolicy::custom("n", "ask", "opa").rule(Rule::new());
    let set = compile(Dialect::Strict, vec![custom.clone(), deny(Rule::new())]);
    let decision = set.decide(&ConnectionFacts::new());
    assert_eq!(decision.providers(&set).collect::<Vec<_>>(), ["opa"]);
    assert!(matches!(decision.admission(), Admission::Refused(_)));
    let set = Compiler::new(Dialect::Strict).version(1).compile([custom]).unwrap();
    let Admission::Ask(consultation) = set.decide(&ConnectionFacts::new()).admission() else {
        panic!("nobody is asked");
    };
    assert_eq!(consultation.providers(&set).collect::<Vec<_>>(), ["opa"]);
    assert!(consultation.all_agreed().is_current(&set));
}

/// Sets that were made independently of each other have no versions to tell them apart.
#[test]
fn without_a_version_no_permit_is_current() {
    let namespace = |name| from(Source::new().any_of(Namespaces, [name]));
    let request = Request::new();
    let facts = ConnectionFacts::new().peer(request.peer.as_ref().into());
    let permit = |set: &PolicySet| match set.decide(&facts).admission() {
        Admission::Granted(permit) => permit,
        other => panic!("{other:?}"),
    };
    let compile = |policy, version| {
        let compiler = Compiler::new(Dialect::Strict);
        compiler.version(version).compile([policy]).unwrap()
    };
    let (before, after) = (
        Compiler::new(Dialect::Strict).compile([allow(namespace("a"))]).unwrap(),
        Compiler::new(Dialect::Strict).compile([allow(namespace("b"))]).unwrap(),
    );
    assert_eq!((before.version(), permit(&before).version()), (0, 0));
    assert!(!permit(&before).is_current(&before) && !permit(&before).is_current(&after));
    assert!(matches!(before.renew(permit(&before), &facts), Admission::Granted(_)));
    assert!(matches!(after.renew(permit(&before), &facts), Admission::Refused(_)));
    let changed = before.with([allow(namespace("b"))]).unwrap();
    assert_eq!(changed.version(), 0);
    assert!(matches!(changed.renew(permit(&before), &facts), Admission::Refused(_)));
    // Versions that have run out leave sets without one.
    let last = compile(allow(namespace("a")), u64::MAX);
    assert!(permit(&last).is_current(&last));
    let next = last.with([allow(namespace("b"))]).unwrap();
    assert!(matches!(next.renew(permit(&last), &facts), Admission::Refused(_)));
}

#[test]
fn an_unknown_condition_is_an_error_for_every_action() {
    assert_eq!(
        "source.user".parse::<mesh_policy::authz::model::ConditionKey>(),
        Err(KeyError::Unknown)
    );
    let bad = Rule::new().when(when("source.ip").any_of(["nowhere"]));
    for policy in [
        allow(bad.clone()),
        deny(bad.clone()),
        AuthorizationPolicy::audit("n", "p").rule(bad),
    ] {
        assert!(matches!(
            Compiler::new(Dialect::Strict).compile([policy]),
            Err(CompileError::Invalid(_))
        ));
    }
}

#[test]
fn what_nobody_knows_denies() {
    let facts = ConnectionFacts::new();
    for source in [
        Source::new().any_of(Namespaces, ["a"]),
        Source::new().none_of(Namespaces, ["a"]),
    ] {
        for dialect in [Dialect::Strict, Dialect::EnvoyTcp, Dialect::Ztunnel] {
            assert!(!is_allowed(
                &compile(dialect, vec![deny(from(source.clone()))]),
                Facts::from(&facts)
            ));
            assert!(!is_allowed(
                &compile(dialect, vec![allow(from(source.clone()))]),
                Facts::from(&facts)
            ));
        }
    }
}

#[test]
fn server_names_have_no_case_and_envoy_takes_patterns_as_they_are() {
    let policy = deny(Rule::new().when(when("connection.sni").any_of(["A.example"])));
    let facts = ConnectionFacts::new().sni(Known::Present(b"a.EXAMPLE"));
    assert!(!is_allowed(
        &compile(Dialect::Strict, vec![policy.clone()]),
        Facts::from(&facts)
    ));
    let envoy = compile(Dialect::EnvoyTcp, vec![policy]);
    assert!(is_allowed(&envoy, Facts::from(&facts)));
    assert_eq!(envoy.diagnostics().count(), 1);
}
