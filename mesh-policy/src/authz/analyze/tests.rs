use super::*;
use crate::authz::{
    dialect::Dialect,
    model::{Action, Condition, Operation, OperationField, Rule, Source, SourceField},
    target::Labels,
};

/// All findings, without the names of policies.
fn findings(dialect: Dialect, policies: impl IntoIterator<Item = AuthorizationPolicy>) -> Vec<String> {
    let report = Analysis::new(Compiler::new(dialect)).run(policies).unwrap();
    assert!(report.is_complete());
    let found = report.findings().iter();
    found.map(|found| format!("{}: {}", found.field, found.note)).collect()
}

fn of_rule(rule: Rule) -> Vec<String> {
    findings(Dialect::EnvoyHttp, [AuthorizationPolicy::allow("n", "p").rule(rule)])
}

fn from(field: SourceField, values: &[&str]) -> Source {
    Source::new().any_of(field, values.iter().copied())
}

fn to(field: OperationField, values: &[&str]) -> Operation {
    Operation::new().any_of(field, values.iter().copied())
}

fn when(key: &str, values: &[&str]) -> Condition {
    Condition::new(key.parse().unwrap()).any_of(values.iter().copied())
}

#[test]
fn values_that_never_match_make_the_rule_never_match() {
    let cases = [
        (
            Rule::new().from(from(SourceField::Principals, &["spiffe://td/ns/a/sa/b"])),
            "without `spiffe://`",
        ),
        (Rule::new().to(to(OperationField::Paths, &["admin"])), "begin with `/`"),
        (Rule::new().to(to(OperationField::Paths, &["/a?x=1"])), "begin with `/`"),
        (Rule::new().to(to(OperationField::Paths, &["/a/../b"])), "write `/b`"),
        (
            Rule::new().to(to(OperationField::Hosts, &["https://a.example"])),
            "no authority is like",
        ),
    ];
    for (rule, expected) in cases {
        let found = of_rule(rule);
        assert!(found.iter().any(|found| found.contains(expected)), "{found:?}");
        assert!(
            found.contains(&"rules[0]: the rule never matches".to_owned()),
            "{found:?}"
        );
    }
}

#[test]
fn one_good_value_keeps_a_rule_alive() {
    let rule = Rule::new().to(to(OperationField::Paths, &["admin", "/admin"]));
    assert!(!of_rule(rule).contains(&"rules[0]: the rule never matches".to_owned()));
}

#[test]
fn values_are_spelt_as_they_are_compared() {
    for (source, expected) in [
        (from(SourceField::Principals, &["td/ns/a/sa/B"]), Some("has upper case")),
        (from(SourceField::Namespaces, &["Prod"]), Some("has upper case")),
        (
            from(SourceField::TrustDomains, &["Example.org"]),
            Some("has upper case"),
        ),
        (from(SourceField::Principals, &["td/sa/b"]), Some("is not of the form")),
        (from(SourceField::Principals, &["td/*/sa/b"]), Some("is no wildcard")),
        (from(SourceField::IpBlocks, &["10.0.0.1/8"]), Some("whole block")),
        (from(SourceField::IpBlocks, &["0.0.0.0/0"]), Some("other IP version")),
        (
            from(SourceField::IpBlocks, &["10.0.0.0/8", "10.1.0.0/16"]),
            Some("in the same list"),
        ),
        (from(SourceField::IpBlocks, &["10.0.0.0/8"]), None),
        (
            from(SourceField::Principals, &["td/ns/a/sa/b", "*", "td/*"]),
            Some("in the same list"),
        ),
        (from(SourceField::Principals, &["td/ns/a/sa/b"]), None),
    ] {
        let found = of_rule(Rule::new().from(source));
        match expected {
            Some(expected) => assert!(found[0].contains(expected), "{found:?}"),
            None => assert_eq!(found, [""; 0]),
        }
    }
    let found = of_rule(Rule::new().to(to(OperationField::Methods, &["get"])));
    assert!(found[0].contains("not in upper case"), "{found:?}");
}

#[test]
fn hosts_have_a_port_variant() {
    let found = |hosts: &[&str]| of_rule(Rule::new().to(to(OperationField::Hosts, hosts)));
    for hosts in [
        &["a.example"][..],
        &["*.example"],
        &["[::1]"],
        &["a.example", "b.example:*"],
    ] {
        assert!(found(hosts)[0].contains("writes a port"), "{hosts:?}");
    }
    for hosts in [
        &["a.example", "a.example:*"][..],
        &["*"],
        &["a.example*"],
        &["a.example:8080"],
        &["[::1]:80"],
    ] {
        assert_eq!(found(hosts), [""; 0], "{hosts:?}");
    }
}

#[test]
fn what_is_negated_again_never_matches() {
    let ports = to(OperationField::Ports, &["80", "81"]).none_of(OperationField::Ports, ["80", "81", "82"]);
    assert_eq!(
        of_rule(Rule::new().to(ports)),
        [
            "rules[0].to[0].operation.notPorts: the negated values leave out every value of `destination.port`, so it never matches",
            "rules[0]: the rule never matches",
        ]
    );
    let paths = to(OperationField::Paths, &["/a/b"]).none_of(OperationField::Paths, ["/a/*"]);
    assert_eq!(of_rule(Rule::new().to(paths)).len(), 2);
    let some_left = to(OperationField::Ports, &["80", "81"]).none_of(OperationField::Ports, ["80"]);
    assert_eq!(of_rule(Rule::new().to(some_left)), [""; 0]);
}

#[test]
fn fields_that_exclude_each_other_never_match() {
    let disjoint = from(SourceField::Principals, &["td/ns/a/sa/x"]).any_of(SourceField::Namespaces, ["b"]);
    let found = of_rule(Rule::new().from(disjoint.clone()));
    assert_eq!(
        found,
        [
            "rules[0].from[0].source.principals: nothing matches both `source.principal` and `source.namespace` here",
            "rules[0]: the rule never matches",
        ]
    );
    let other = from(SourceField::Namespaces, &["c"]);
    let found = of_rule(Rule::new().from(disjoint).from(other));
    assert_eq!(found.len(), 1, "the other source keeps the rule alive: {found:?}");
    let by_condition = Rule::new()
        .to(to(OperationField::Ports, &["80"]))
        .when(when("destination.port", &["81"]));
    assert!(of_rule(by_condition).contains(&"rules[0]: the rule never matches".to_owned()));
    let conditions = Rule::new()
        .when(when("source.ip", &["10.0.0.0/8"]))
        .when(when("source.ip", &["11.0.0.0/8"]));
    assert!(of_rule(conditions).contains(&"rules[0]: the rule never matches".to_owned()));
}

#[test]
fn negations_alone_admit_those_without() {
    let plain = "peers without a certificate are allowed too";
    let negated = Source::new().none_of(SourceField::Namespaces, ["dev"]);
    let has = |rule: Rule, what: &str| of_rule(rule).iter().any(|found| found.contains(what));
    assert!(has(Rule::new().from(negated.clone()), plain));
    assert!(!has(
        Rule::new().from(negated.clone().any_of(SourceField::Principals, ["*"])),
        plain
    ));
    assert!(!has(
        Rule::new().from(negated.clone()).when(when("source.principal", &["*"])),
        plain
    ));
    let condition = Condition::new("source.namespace".parse().unwrap()).none_of(["dev"]);
    assert!(has(Rule::new().when(condition.clone()), plain));
    let identified = from(SourceField::Principals, &["*"]);
    assert!(!has(Rule::new().from(identified).when(condition), plain));
    let token = Source::new().none_of(SourceField::RequestPrincipals, ["i/s"]);
    assert!(has(Rule::new().from(token), "requests without a token"));
    let deny = AuthorizationPolicy::deny("n", "p").rule(Rule::new().from(negated));
    assert_eq!(findings(Dialect::EnvoyHttp, [deny]), [""; 0]);
}

#[test]
fn rules_are_shadowed_by_wider_ones() {
    let get = |path: &str| to(OperationField::Methods, &["GET"]).any_of(OperationField::Paths, [path]);
    let wide = AuthorizationPolicy::allow("n", "wide").rule(Rule::new().to(get("/a/*")));
    let narrow = |namespace: &str| {
        let from = from(SourceField::Namespaces, &["x"]);
        AuthorizationPolicy::allow(namespace, "narrow").rule(Rule::new().from(from).to(get("/a/b")))
    };
    let shadowed = ["rules[0]: rule 0 of `n/wide` matches everything that this rule matches"];
    assert_eq!(findings(Dialect::EnvoyHttp, [wide.clone(), narrow("n")]), shadowed);
    assert_eq!(findings(Dialect::EnvoyHttp, [wide.clone(), narrow("other")]), [""; 0]);
    let labels = Labels::from([("app".to_owned(), "web".to_owned())]);
    let selecting = wide.selector(labels.clone());
    assert_eq!(findings(Dialect::EnvoyHttp, [selecting.clone(), narrow("n")]), [""; 0]);
    assert_eq!(
        findings(Dialect::EnvoyHttp, [selecting, narrow("n").selector(labels)]),
        shadowed
    );
    let twice = AuthorizationPolicy::allow("n", "p")
        .rule(Rule::new().to(get("/a")))
        .rule(Rule::new().to(get("/a")));
    assert_eq!(
        findings(Dialect::EnvoyHttp, [twice]),
        ["rules[1]: rule 0 of `n/p` matches everything that this rule matches"]
    );
}

#[test]
fn what_is_allowed_may_be_denied() {
    let from = || from(SourceField::Namespaces, &["a*"]);
    let allow = AuthorizationPolicy::allow("n", "allow").rule(Rule::new().from(from()));
    let deny = |name: &str| AuthorizationPolicy::deny(name, "deny").rule(Rule::new().from(from()));
    for dialect in [Dialect::Strict, Dialect::Ztunnel, Dialect::EnvoyTcp, Dialect::EnvoyHttp] {
        let overruled = ["rules[0]: rule 0 of `n/deny` denies everything that this rule allows"];
        assert_eq!(findings(dialect, [allow.clone(), deny("n")]), overruled, "{dialect:?}");
        let of_the_mesh = findings(dialect, [allow.clone(), deny("istio-system")]);
        assert_eq!(of_the_mesh.len(), 1, "{dialect:?}");
        assert_eq!(findings(dialect, [allow.clone(), deny("n").dry_run(true)]), [""; 0]);
    }
}

#[test]
fn a_denial_looks_at_no_fewer_names_than_what_allows() {
    let from = || from(SourceField::Principals, &["td/ns/a/sa/x"]);
    let allow = AuthorizationPolicy::allow("n", "allow").rule(Rule::new().from(from()));
    let deny = AuthorizationPolicy::deny("n", "deny").rule(Rule::new().from(from()));
    let overruled = ["rules[0]: rule 0 of `n/deny` denies everything that this rule allows"];
    assert_eq!(findings(Dialect::Strict, [allow, deny]), overruled);
}

#[test]
fn invalid_policies_do_not_hide_the_others() {
    let invalid = AuthorizationPolicy::deny("n", "invalid");
    let other = AuthorizationPolicy::allow("n", "other").rule(Rule::new().to(to(OperationField::Ports, &["80", "80"])));
    let lower = AuthorizationPolicy::allow("n", "p").rule(Rule::new().to(to(OperationField::Methods, &["get"])));
    let found = findings(Dialect::Strict, [invalid, other, lower.clone(), lower]);
    assert!(found[0].contains("needs a rule"), "{found:?}");
    assert!(
        found.iter().any(|found| found.contains("not in upper case")),
        "{found:?}"
    );
    assert!(found.iter().any(|found| found.contains("takes its place")), "{found:?}");
}

#[test]
fn notes_of_the_dialect_are_findings() {
    let policy = AuthorizationPolicy::allow("n", "p").rule(Rule::new().to(to(OperationField::Methods, &["GET"])));
    let report = Analysis::new(Compiler::new(Dialect::EnvoyTcp))
        .run([policy.clone()])
        .unwrap();
    let [found] = report.findings() else {
        panic!("{report:?}")
    };
    assert!(matches!(found.note, Finding::Note(_)) && found.note.severity() == Severity::Warning);
    let report = Analysis::new(Compiler::new(Dialect::Strict)).run([policy]).unwrap();
    assert!(
        report
            .findings()
            .iter()
            .all(|found| found.note.severity() == Severity::Advice)
    );
}

#[test]
fn what_stops_has_gaps() {
    let deny =
        |path: &str| AuthorizationPolicy::deny("n", "p").rule(Rule::new().to(to(OperationField::Paths, &[path])));
    assert!(findings(Dialect::EnvoyHttp, [deny("/admin")])[0].contains("only `/admin` itself"));
    assert!(findings(Dialect::EnvoyHttp, [deny("/admin/{**}")])[0].contains("such as `[`"));
    assert_eq!(findings(Dialect::EnvoyHttp, [deny("/admin*")]), [""; 0]);
}

/// Policies with something to find among pairs of rules, fields and values.
fn questionable() -> Vec<AuthorizationPolicy> {
    let many: Vec<String> = (0..20).map(|n| format!("10.0.{n}.0/24")).collect();
    let blocks = |more: &[&str]| {
        let values = many.iter().map(String::as_str).chain(more.iter().copied());
        from(SourceField::IpBlocks, &values.collect::<Vec<_>>())
    };
    let rule = |more: &[&str]| Rule::new().from(blocks(more));
    let apart = blocks(&[]).none_of(SourceField::IpBlocks, ["10.0.0.0/8"]);
    let hosts = to(OperationField::Hosts, &["a.example", "b.example", "b.example:*"]);
    vec![
        AuthorizationPolicy::allow("n", "redundant").rule(rule(&["10.0.0.0/16"])),
        AuthorizationPolicy::allow("n", "excluded").rule(Rule::new().from(apart)),
        AuthorizationPolicy::allow("n", "disjoint").rule(rule(&[]).when(when("source.ip", &["192.168.0.0/16"]))),
        AuthorizationPolicy::allow("n", "shadowed").rule(rule(&[])),
        AuthorizationPolicy::allow("n", "host").rule(Rule::new().to(hosts)),
        AuthorizationPolicy::deny("n", "all").rule(Rule::new()),
    ]
}

#[test]
fn with_less_effort_less_is_found_and_nothing_else() {
    let analysis = Analysis::new(Compiler::new(Dialect::EnvoyHttp));
    let within = |effort| {
        let policies = questionable().into_iter().map(Arc::new).collect();
        let report = analysis.run_within(&Effort::new(effort), policies).unwrap();
        let is_left_open = |found: &&Diagnostic<Finding>| matches!(found.note, Finding::Unfinished { .. });
        assert_eq!(
            report.findings().iter().any(|found| is_left_open(&found)),
            !report.is_complete()
        );
        // A rule that is seen to be dead is not said to be overruled as well.
        let found = report.findings().iter().filter(|found| !is_left_open(found));
        let found = found.filter(|found| !matches!(found.note, Finding::Overruled { .. } | Finding::Shadowed { .. }));
        (
            found.map(ToString::to_string).collect::<BTreeSet<_>>(),
            report.is_complete(),
        )
    };
    let (all, is_complete) = within(100_000);
    assert!(is_complete && all.len() > 20, "{all:#?}");
    let mut most = 0;
    for effort in (0..4000).step_by(7) {
        let (found, is_complete) = within(effort);
        assert!(found.is_subset(&all), "{effort}");
        assert!(!is_complete || found == all, "{effort}");
        most = most.max(found.len());
    }
    assert!(most > 0 && !within(0).1);
}

/// Each by itself takes more pairs than there is effort for.
#[test]
fn large_policies_take_no_more_than_the_effort() {
    let ports = |from: u16| (from..from + 30_000).map(|port| port.to_string()).collect::<Vec<_>>();
    let operation = Operation::new()
        .any_of(OperationField::Ports, ports(1))
        .none_of(OperationField::Ports, ports(30_001));
    let apart = Rule::new()
        .to(Operation::new().any_of(OperationField::Ports, ports(1)))
        .when(Condition::new("destination.port".parse().unwrap()).any_of(ports(30_001)));
    let hosts: Vec<_> = (0..60_000).map(|n| format!("{n}.example:80")).collect();
    let hosts = Operation::new().any_of(OperationField::Hosts, hosts);
    for rule in [Rule::new().to(operation), apart, Rule::new().to(hosts)] {
        let policy = Arc::new(AuthorizationPolicy::allow("n", "p").rule(rule));
        let effort = Effort::new(100_000);
        let report = Analysis::new(Compiler::new(Dialect::EnvoyHttp)).run_within(&effort, vec![policy]);
        assert!(!report.unwrap().is_complete());
    }
}

/// Rules of one value or two, about everything that a rule can ask for.
fn assorted() -> Vec<Rule> {
    let from = |field, values: &[&'static str]| {
        let values = values.iter().map(move |value| (field, *value));
        values
            .map(|(field, value)| Source::new().any_of(field, [value]))
            .collect::<Vec<_>>()
    };
    let to = |field, values: &[&'static str]| {
        let values = values.iter().map(move |value| (field, *value));
        values
            .map(|(field, value)| Operation::new().any_of(field, [value]))
            .collect::<Vec<_>>()
    };
    let sources = [
        from(
            SourceField::Principals,
            &["td/ns/a/sa/x", "td/ns/a/*", "td/*", "*/sa/x", "*x", "*"],
        ),
        from(SourceField::Namespaces, &["a", "a*", "*a", "*", "a*b"]),
        from(SourceField::ServiceAccounts, &["a/x", "b/x"]),
        from(SourceField::TrustDomains, &["td", "td*"]),
        from(
            SourceField::IpBlocks,
            &[
                "10.1.2.3",
                "10.1.0.0/16",
                "10.0.0.0/8",
                "0.0.0.0/0",
                "fd00::1",
                "fd00::/8",
            ],
        ),
        from(SourceField::RequestPrincipals, &["i/s", "i/*", "*"]),
    ]
    .concat();
    let operations = [
        to(
            OperationField::Hosts,
            &["A.Example", "a.example", "a.*", "*.example", "*"],
        ),
        to(OperationField::Ports, &["80", "81"]),
        to(OperationField::Methods, &["GET", "*"]),
        to(
            OperationField::Paths,
            &["/a", "/a/b", "/a/*", "/a/{*}", "/a/{**}", "*b", "*"],
        ),
    ]
    .concat();
    let when = |key: &str, value: &'static str| Condition::new(key.parse().unwrap()).any_of([value]);
    let conditions = [
        when("request.headers[x-h]", "v"),
        when("request.headers[x-h]", "v*"),
        when("request.headers[x-i]", "v"),
        when("source.ip", "10.1.0.0/16"),
        when("experimental.envoy.filters.f[k]", "[v]"),
        when("experimental.envoy.filters.f[k]", "[v*]"),
    ];
    let mut rules = vec![
        Rule::new(),
        Rule::new().from(Source::new().none_of(SourceField::Namespaces, ["a"])),
    ];
    rules.extend(sources.iter().cloned().map(|source| Rule::new().from(source)));
    rules.extend(operations.iter().cloned().map(|operation| Rule::new().to(operation)));
    rules.extend(conditions.iter().cloned().map(|condition| Rule::new().when(condition)));
    for (at, source) in sources.iter().enumerate() {
        let other = sources[(at + 5) % sources.len()].clone();
        let operation = operations[at % operations.len()].clone();
        let condition = conditions[at % conditions.len()].clone();
        rules.push(Rule::new().from(source.clone()).from(other).to(operation.clone()));
        rules.push(Rule::new().from(source.clone()).to(operation).when(condition.clone()));
        rules.push(Rule::new().from(source.clone()).when(condition));
    }
    rules
}

#[test]
fn what_covers_a_rule_is_among_its_candidates() {
    for dialect in [Dialect::Strict, Dialect::EnvoyHttp, Dialect::Ztunnel] {
        let policies = [Action::Allow, Action::Deny].map(|action| {
            let empty = AuthorizationPolicy::new(PolicyName::new("n", &action.to_string()), action);
            assorted().into_iter().fold(empty, AuthorizationPolicy::rule)
        });
        let set = Compiler::new(dialect).compile(policies).unwrap();
        let (views, effort) = (rules(&set), Effort::new(u64::MAX));
        let candidates = candidate::Candidates::new(&views);
        let (mut covering, mut found) = (0, 0);
        for rule in &views {
            let numbers = candidates.of(rule);
            found += numbers.len();
            for (number, other) in views.iter().enumerate() {
                if rule.is_covered_by(other, &effort) {
                    covering += 1;
                    let (rule, other) = (rule.name.to_string(), other.name.to_string());
                    assert!(numbers.contains(&(number as u32)), "{dialect:?}: {rule} by {other}");
                }
            }
        }
        // Far fewer than all pairs, and not many more than cover.
        assert!(
            covering > views.len() && found * 3 < views.len() * views.len(),
            "{covering} {found}"
        );
    }
}

#[test]
fn thousands_of_rules_are_held_against_each_other() {
    let policy = |number: usize| {
        let empty = AuthorizationPolicy::allow("n", &number.to_string());
        (0..10).fold(empty, |policy, rule| {
            let account = format!("td/ns/n/sa/a-{number}-{rule}");
            let from = Source::new().any_of(SourceField::Principals, [account]);
            policy.rule(
                Rule::new()
                    .from(from)
                    .to(Operation::new().any_of(OperationField::Ports, ["80"])),
            )
        })
    };
    let wide = Source::new().any_of(SourceField::Principals, ["td/ns/n/sa/a-7*"]);
    let wide = AuthorizationPolicy::allow("n", "wide").rule(Rule::new().from(wide));
    let policies: Vec<_> = (0..1000).map(policy).chain([wide]).collect();
    let report = Analysis::new(Compiler::new(Dialect::Ztunnel)).run(policies).unwrap();
    assert!(report.is_complete());
    let shadowed = report
        .findings()
        .iter()
        .filter(|found| matches!(found.note, Finding::Shadowed { .. }));
    assert_eq!(shadowed.count(), 10 * 111, "policies 7, 70 to 79 and 700 to 799");
}

#[test]
fn what_is_left_open_is_a_finding() {
    // Nothing can be filed under anything, and nothing covers anything.
    let policy = |number: usize| {
        let from = Source::new().none_of(SourceField::Principals, [format!("td/{number}")]);
        AuthorizationPolicy::deny("n", &number.to_string()).rule(Rule::new().from(from))
    };
    let set = Compiler::new(Dialect::Ztunnel).compile((0..100).map(policy)).unwrap();
    let (effort, mut open) = (Effort::new(1000), Vec::new());
    shadow::check(&rules(&set), "istio-system", &effort, &mut open);
    assert!(effort.is_spent());
    assert_eq!((open.len(), open[0].note.severity()), (1, Severity::Warning));
    assert!(open[0].to_string().contains("too many rules are alike"), "{}", open[0]);
}
