//! Policies on the wire, from istiod to ztunnel.
#![cfg(feature = "xds")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "test code"
)]

use mesh_policy::{
    ConnectionFacts, Known, Peer,
    authz::{
        AuthorizationPolicy, Compiler, Decision, Dialect, Labels, PolicySet, TargetRef, Verdict,
        model::{Condition, Operation, OperationField, Rule, Source, SourceField},
        xds::{Scope, Wrong, read, write},
    },
};
use mesh_testkit::policy::generate::{Case, cases, policies};
use mesh_xds_types::security::{
    Address, Authorization, Clause, Extension, Match, ServiceAccountMatch, StringMatch, string_match::MatchType,
};
use proptest::{collection::vec, prelude::*, test_runner::TestRunner};

const ROOT: &str = "istio-system";

/// A policy of which ztunnel knows everything.
fn policy() -> AuthorizationPolicy {
    let from = Source::new()
        .any_of(SourceField::Namespaces, ["a", "b*", "*c", "*"])
        .none_of(SourceField::IpBlocks, ["10.0.0.0/8", "fd00::/8"]);
    let accounts = Source::new().any_of(SourceField::ServiceAccounts, ["shop/web"]);
    let to = Operation::new()
        .any_of(OperationField::Ports, ["80"])
        .none_of(OperationField::Ports, ["81"]);
    let when = |key: &str| Condition::new(key.parse().unwrap());
    AuthorizationPolicy::deny("shop", "p").rule(
        Rule::new()
            .to(to)
            .from(from)
            .from(accounts)
            .when(when("destination.ip").any_of(["10.1.2.3/32"]))
            .when(when("source.principal").none_of(["td/ns/a/sa/b"])),
    )
}

fn message() -> Authorization {
    write(&policy(), ROOT).unwrap()
}

/// What is wrong with a message.
fn fault(change: impl FnOnce(&mut Authorization)) -> (String, Wrong) {
    let mut message = message();
    change(&mut message);
    let error = read(message).unwrap_err();
    (error.field.to_string(), error.wrong)
}

/// What is wrong with the match of the sources.
fn fault_of_match(change: impl FnOnce(&mut Match)) -> (String, Wrong) {
    let (field, wrong) = fault(|message| change(&mut message.rules[0].clauses[1].matches[0]));
    let place = "rules[0].clauses[1].matches[0].";
    (field.strip_prefix(place).unwrap().to_owned(), wrong)
}

fn text(match_type: MatchType) -> StringMatch {
    StringMatch {
        match_type: Some(match_type),
    }
}

#[test]
fn what_ztunnel_knows_comes_back() {
    let read = read(message()).unwrap();
    assert_eq!((read.policy, read.scope), (policy(), Scope::Namespace));
}

#[test]
fn scopes_follow_namespace_and_selector() {
    let scope = |policy: &AuthorizationPolicy| read(write(policy, ROOT).unwrap()).unwrap().scope;
    let mesh = AuthorizationPolicy::deny(ROOT, "p");
    assert_eq!(scope(&mesh), Scope::Mesh);
    assert_eq!(scope(&policy().selector(Labels::new())), Scope::Namespace);
    let labels = Labels::from([("app".to_owned(), "web".to_owned())]);
    assert_eq!(scope(&mesh.selector(labels)), Scope::Workloads);
}

#[test]
fn ztunnel_is_not_sent_everything() {
    assert_eq!(write(&AuthorizationPolicy::audit("n", "p"), ROOT), None);
    assert_eq!(write(&AuthorizationPolicy::custom("n", "p", "opa"), ROOT), None);
    assert_eq!(write(&policy().target_refs([TargetRef::service("s")]), ROOT), None);
}

/// A ztunnel before 1.29 would enforce it.
#[test]
fn what_is_tried_out_is_not_sent_and_is_read() {
    for policy in [policy(), AuthorizationPolicy::allow("n", "p")] {
        assert_eq!(write(&policy.dry_run(true), ROOT), None);
    }
    let tried = sent(&policy().dry_run(true), ROOT).unwrap();
    assert_eq!(read(tried).unwrap().policy, policy().dry_run(true));
}

#[test]
fn unknown_numbers_are_errors() {
    let unknown = Wrong::Enum { value: 7 };
    assert_eq!(
        fault(|message| message.action = 7),
        ("action".to_owned(), unknown.clone())
    );
    assert_eq!(fault(|message| message.scope = 7), ("scope".to_owned(), unknown));
    assert_eq!(fault(|message| message.name.clear()), ("name".to_owned(), Wrong::Empty));
    assert_eq!(
        fault(|message| message.namespace.clear()),
        ("namespace".to_owned(), Wrong::Empty)
    );
}

#[test]
fn extensions_are_errors() {
    let extension = Extension {
        name: "more".to_owned(),
        config: None,
    };
    let unknown = Wrong::Extension { name: "more".into() };
    let found = fault(|message| message.extensions.push(extension.clone()));
    assert_eq!(found, ("extensions[0]".to_owned(), unknown.clone()));
    assert_eq!(
        fault_of_match(|found| found.extensions.push(extension)),
        ("extensions[0]".to_owned(), unknown)
    );
}

#[test]
fn texts_that_would_change_their_meaning_are_errors() {
    let no_type = StringMatch { match_type: None };
    assert_eq!(
        fault_of_match(|found| found.principals.push(no_type)),
        ("principals[0]".to_owned(), Wrong::NoType)
    );
    for (found, value) in [
        (MatchType::Exact("a*".to_owned()), "a*"),
        (MatchType::Exact("*".to_owned()), "*"),
        (MatchType::Exact(String::new()), ""),
        (MatchType::Prefix("*a".to_owned()), "*a*"),
        (MatchType::Prefix(String::new()), "*"),
        (MatchType::Suffix(String::new()), "*"),
    ] {
        let wrong = Wrong::Text { text: value.into() };
        assert_eq!(
            fault_of_match(|message| message.not_namespaces.push(text(found))),
            ("not_namespaces[0]".to_owned(), wrong)
        );
    }
}

#[test]
fn accounts_addresses_and_ports_are_checked() {
    let account = |namespace: &str, name: &str| ServiceAccountMatch {
        namespace: namespace.to_owned(),
        service_account: name.to_owned(),
    };
    for (namespace, name) in [("", "b"), ("a", ""), ("a/b", "c"), ("a", "*")] {
        let value = format!("{namespace}/{name}").into();
        assert_eq!(
            fault_of_match(|found| found.service_accounts.push(account(namespace, name))),
            ("service_accounts[0]".to_owned(), Wrong::ServiceAccount { value })
        );
    }
    let address = |bytes: usize, length| Address {
        address: vec![1; bytes],
        length,
    };
    for (found, wrong) in [
        (address(0, 0), Wrong::AddressBytes { bytes: 0 }),
        (address(5, 0), Wrong::AddressBytes { bytes: 5 }),
        (address(4, 33), Wrong::PrefixLength { bits: 33 }),
        (address(16, 129), Wrong::PrefixLength { bits: 129 }),
    ] {
        assert_eq!(
            fault_of_match(|message| message.source_ips.push(found)),
            ("source_ips[0]".to_owned(), wrong)
        );
    }
    assert_eq!(
        fault_of_match(|found| found.destination_ports.push(65536)),
        ("destination_ports[0]".to_owned(), Wrong::Port { port: 65536 })
    );
}

#[test]
fn combinations_that_no_policy_has_are_errors() {
    let sources = |names: [&str; 2]| Clause {
        matches: names
            .map(|name| Match {
                namespaces: vec![text(MatchType::Exact(name.to_owned()))],
                ..Match::default()
            })
            .into(),
    };
    let found = fault(|message| message.rules[0].clauses.push(sources(["a", "b"])));
    assert_eq!(found, ("rules[0].clauses[4]".to_owned(), Wrong::Combination));
    let accounts = || Match {
        service_accounts: vec![ServiceAccountMatch {
            namespace: "a".to_owned(),
            service_account: "b".to_owned(),
        }],
        destination_ports: vec![80],
        ..Match::default()
    };
    let found = fault(|message| {
        let matches = vec![accounts()];
        message.rules[0].clauses.push(Clause { matches });
    });
    assert_eq!(found, ("rules[0].clauses[4]".to_owned(), Wrong::Combination));
    let found = fault_of_match(|found| {
        found.destination_ports.push(80);
        found.namespaces.push(StringMatch { match_type: None });
    });
    assert_eq!(found, ("namespaces[4]".to_owned(), Wrong::NoType));
    let found = fault(|message| message.rules[0].clauses[1].matches[0].destination_ports.push(80));
    assert_eq!(found, ("rules[0].clauses[1]".to_owned(), Wrong::Combination));
}

/// As istiod sends PeerAuthentication's `portLevelMtls {9090: STRICT}` under a mode that is not.
#[test]
fn one_match_may_ask_for_peer_and_port() {
    let of = |matches: Vec<Match>| {
        let clause = |found| Clause { matches: vec![found] };
        Authorization {
            rules: vec![mesh_xds_types::security::Rule {
                clauses: matches.into_iter().map(clause).collect(),
            }],
            ..message()
        }
    };
    let derived = Match {
        not_principals: vec![text(MatchType::Presence(()))],
        destination_ports: vec![9090],
        ..Match::default()
    };
    let anonymous_at_9090 = Rule::new()
        .from(Source::new().none_of(SourceField::Principals, ["*"]))
        .to(Operation::new().any_of(OperationField::Ports, ["9090"]));
    let received = read(of(vec![derived.clone()])).unwrap();
    assert_eq!(received.policy.rules(), std::slice::from_ref(&anonymous_at_9090));
    let peer = Peer::from(&"spiffe://td/ns/a/sa/b".parse().unwrap());
    let set = Compiler::new(Dialect::Ztunnel).compile([received.policy]).unwrap();
    for (peer, port, denied) in [
        (Known::Absent, 9090, true),
        (Known::Absent, 80, false),
        (Known::Present(&peer), 9090, false),
    ] {
        let facts = ConnectionFacts::new().peer(peer).destination_port(port);
        let verdict = set.decide(&facts).verdict();
        assert_eq!(matches!(verdict, Verdict::Deny(_)), denied, "{port}");
    }
    // All clauses of a rule must match, so what one match asks for can be spread over the rule.
    let everything = Match {
        service_accounts: vec![ServiceAccountMatch {
            namespace: "a".to_owned(),
            service_account: "b".to_owned(),
        }],
        not_destination_ports: vec![80],
        destination_ips: vec![Address {
            address: vec![10, 1, 2, 3],
            length: 32,
        }],
        ..Match::default()
    };
    let expected = Rule::new()
        .from(Source::new().any_of(SourceField::ServiceAccounts, ["a/b"]))
        .to(Operation::new().any_of(OperationField::Ports, ["9090"]))
        .when(Condition::new("source.principal".parse().unwrap()).none_of(["*"]))
        .when(Condition::new("destination.ip".parse().unwrap()).any_of(["10.1.2.3/32"]))
        .when(Condition::new("destination.port".parse().unwrap()).none_of(["80"]));
    let received = read(of(vec![derived, everything])).unwrap();
    assert_eq!(received.policy.rules(), [expected]);
    // Beside alternatives of sources there is room for conditions.
    let mut message = message();
    let found = Match {
        namespaces: vec![text(MatchType::Exact("a".to_owned()))],
        not_principals: vec![text(MatchType::Presence(()))],
        ..Match::default()
    };
    message.rules[0].clauses.push(Clause { matches: vec![found] });
    let when = |key: &str| Condition::new(key.parse().unwrap());
    let received = read(message).unwrap().policy;
    let [rule] = received.rules() else {
        panic!("{received:?}")
    };
    assert_eq!(rule.sources(), policy().rules()[0].sources());
    for condition in [
        when("source.namespace").any_of(["a"]),
        when("source.principal").none_of(["*"]),
    ] {
        assert!(rule.conditions().contains(&condition), "{condition:?}");
    }
}

#[test]
fn errors_name_policy_and_field() {
    let mut message = message();
    message.rules[0].clauses[0].matches[0].not_destination_ports = vec![70000];
    assert_eq!(
        read(message).unwrap_err().to_string(),
        "policy `shop/p`: rules[0].clauses[0].matches[0].not_destination_ports[0]: `70000` is no port"
    );
}

#[test]
fn errors_are_one_line() {
    let line_break = || "a\nb".to_owned();
    let extension = Extension {
        name: line_break(),
        config: None,
    };
    let account = ServiceAccountMatch {
        namespace: line_break(),
        service_account: "*".to_owned(),
    };
    let in_match = |change: fn(&mut Match, ServiceAccountMatch)| {
        let mut message = message();
        change(&mut message.rules[0].clauses[1].matches[0], account.clone());
        message
    };
    for message in [
        Authorization {
            name: line_break(),
            action: 7,
            ..message()
        },
        Authorization {
            namespace: line_break(),
            action: 7,
            ..message()
        },
        Authorization {
            extensions: vec![extension],
            ..message()
        },
        in_match(|found, _| found.principals.push(text(MatchType::Prefix("*a\nb".to_owned())))),
        in_match(|found, account| found.service_accounts.push(account)),
    ] {
        let error = read(message).unwrap_err().to_string();
        assert!(error.contains("a\\nb") && !error.contains('\n'), "{error}");
    }
}

/// Clauses and matches that ask for nothing match nothing, and rules without clauses everything.
#[test]
fn what_is_empty_means_what_it_means_to_ztunnel() {
    let denies = |rules: Vec<Vec<Vec<Match>>>| {
        let mut message = message();
        message.rules = rules
            .into_iter()
            .map(|clauses| mesh_xds_types::security::Rule {
                clauses: clauses.into_iter().map(|matches| Clause { matches }).collect(),
            })
            .collect();
        let set = Compiler::new(Dialect::Ztunnel)
            .compile([read(message).unwrap().policy])
            .unwrap();
        let facts = ConnectionFacts::new().destination_port(80);
        matches!(set.decide(&facts).verdict(), Verdict::Deny(_))
    };
    let port = || Match {
        destination_ports: vec![80],
        ..Match::default()
    };
    assert!(!denies(vec![]));
    assert!(denies(vec![vec![]]));
    assert!(!denies(vec![vec![vec![]]]));
    assert!(!denies(vec![vec![vec![Match::default()]]]));
    assert!(!denies(vec![vec![vec![port()], vec![]]]));
    assert!(!denies(vec![vec![
        vec![port()],
        vec![Match::default(), Match::default()]
    ]]));
    assert!(denies(vec![vec![vec![port(), Match::default()]]]));
    assert!(denies(vec![vec![vec![port()], vec![port()]]]));
}

/// The policy that decided: what is left out renumbers rules.
fn decided(decision: &Decision, set: &PolicySet) -> (bool, Option<String>, Option<String>, bool) {
    let policy = |rule| set.rule(rule).unwrap().policy().name().to_string();
    let verdict = matches!(decision.verdict(), Verdict::Allow(_));
    let dry_run = decision.dry_run();
    (
        verdict,
        decision.rule().map(policy),
        dry_run.denied_by().map(policy),
        dry_run.would_allow(),
    )
}

/// The message for a policy, from a control plane that sends what is tried out as well.
fn sent(policy: &AuthorizationPolicy, root: &str) -> Option<Authorization> {
    let dry_run = policy.is_dry_run();
    let message = write(&policy.clone().dry_run(false), root)?;
    Some(Authorization { dry_run, ..message })
}

/// What is written and read decides as the dialect says that ztunnel does with the policy itself.
#[test]
fn what_is_sent_decides_like_what_was_written() {
    let config = ProptestConfig {
        cases: 300,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let inputs = (policies(Dialect::Ztunnel), vec(cases(), 12));
    let result = TestRunner::new(config).run(&inputs, |(policies, cases): (Vec<AuthorizationPolicy>, Vec<Case>)| {
        let messages = policies.iter().filter_map(|policy| sent(policy, "root"));
        let received: Vec<_> = messages.map(|message| read(message).unwrap().policy).collect();
        // What has lost what ztunnel does not know has nothing more to lose.
        for policy in &received {
            let again = read(sent(policy, "root").unwrap()).unwrap().policy;
            prop_assert_eq!(&again, policy);
        }
        let compile = |policies: Vec<AuthorizationPolicy>| Compiler::new(Dialect::Ztunnel).compile(policies).unwrap();
        let (written, received) = (compile(policies), compile(received));
        for case in &cases {
            let (one, other) = case.with(|facts| (written.decide(facts), received.decide(facts)));
            prop_assert_eq!(decided(&one, &written), decided(&other, &received), "{:?}", case);
        }
        Ok(())
    });
    result.unwrap_or_else(|failure| panic!("{failure}"));
}
