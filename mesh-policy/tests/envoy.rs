//! What is written for Envoy. That Envoy does the same with it as this crate is shown against Envoy
//! itself, by the package of examples.
#![cfg(feature = "envoy")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "test code"
)]

use mesh_policy::authz::{
    AuthorizationPolicy, Compiler, Dialect, TrustDomains,
    envoy::{ExportError, Filter, PeerSource, export},
    model::{Condition, Operation, OperationField, Rule, Source, SourceField},
};
use mesh_testkit::policy::generate::{meshes, policies};
use proptest::{prelude::*, sample::select, test_runner::TestRunner};
use serde_json::{Value, json};

fn written(dialect: Dialect, policies: impl IntoIterator<Item = AuthorizationPolicy>) -> Vec<Value> {
    let set = Compiler::new(dialect)
        .trust_domains(TrustDomains::new("td1").alias("old"))
        .compile(policies)
        .unwrap();
    let filters = export(&set, PeerSource::Certificate).unwrap();
    let values = filters.iter().map(|filter| serde_json::to_value(filter).unwrap());
    values.collect()
}

/// The only rule of a policy that denies.
fn rule(rule: Rule) -> Value {
    let filters = written(Dialect::EnvoyHttp, [AuthorizationPolicy::deny("shop", "p").rule(rule)]);
    filters[0]["typed_config"]["rules"]["policies"]["ns[shop]-policy[p]-rule[0]"].clone()
}

fn principal(field: SourceField, value: &str) -> Value {
    let rule = rule(Rule::new().from(Source::new().any_of(field, [value])));
    rule["principals"][0]["and_ids"]["ids"][0]["or_ids"]["ids"].clone()
}

fn permission(field: OperationField, value: &str) -> Value {
    let rule = rule(Rule::new().to(Operation::new().any_of(field, [value])));
    rule["permissions"][0]["and_rules"]["rules"][0]["or_rules"]["rules"][0].clone()
}

fn when(key: &str, value: &str) -> Value {
    rule(Rule::new().when(Condition::new(key.parse().unwrap()).any_of([value])))
}

fn authenticated(matcher: &Value) -> Value {
    json!({ "authenticated": { "principal_name": matcher } })
}

#[test]
fn classes_come_in_the_order_of_istiod() {
    let everything = |policy: AuthorizationPolicy| policy.rule(Rule::new());
    let filters = written(
        Dialect::EnvoyHttp,
        [
            everything(AuthorizationPolicy::allow("n", "allow")),
            everything(AuthorizationPolicy::allow("n", "allow-tried").dry_run(true)),
            everything(AuthorizationPolicy::deny("n", "deny-tried").dry_run(true)),
            everything(AuthorizationPolicy::custom("n", "custom-q", "q")),
            everything(AuthorizationPolicy::custom("n", "custom-p", "p")),
            everything(AuthorizationPolicy::audit("n", "audit")),
        ],
    );
    let summary: Vec<_> = filters
        .iter()
        .map(|filter| {
            assert_eq!(filter["name"], "envoy.filters.http.rbac");
            let config = &filter["typed_config"];
            let class = |rules: &Value| {
                let policies = rules["policies"]
                    .as_object()
                    .map(|policies| policies.keys().collect::<Vec<_>>());
                format!("{} {:?}", rules["action"], policies.unwrap_or_default())
            };
            let prefix = config.get("shadow_rules_stat_prefix");
            (
                config.get("rules").map(class),
                config.get("shadow_rules").map(class),
                prefix.map(|prefix| prefix.as_str().unwrap().to_owned()),
            )
        })
        .collect();
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(
        summary,
        [
            (
                None,
                some(r#""DENY" ["istio-ext-authz-p-ns[n]-policy[custom-p]-rule[0]"]"#),
                some("istio_ext_authz_")
            ),
            (
                None,
                some(r#""DENY" ["istio-ext-authz-q-ns[n]-policy[custom-q]-rule[0]"]"#),
                some("istio_ext_authz_")
            ),
            (some(r#""LOG" ["ns[n]-policy[audit]-rule[0]"]"#), None, None),
            (
                None,
                some(r#""DENY" ["ns[n]-policy[deny-tried]-rule[0]"]"#),
                some("istio_dry_run_deny_")
            ),
            (
                some(r#""ALLOW" ["ns[n]-policy[allow]-rule[0]"]"#),
                some(r#""ALLOW" ["ns[n]-policy[allow-tried]-rule[0]"]"#),
                some("istio_dry_run_allow_")
            ),
        ]
    );
}

#[test]
fn a_policy_without_rules_matches_never() {
    let filters = written(Dialect::EnvoyTcp, [AuthorizationPolicy::allow("n", "p")]);
    let expected = json!([{
        "name": "envoy.filters.network.rbac",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.rbac.v3.RBAC",
            "rules": { "action": "ALLOW", "policies": { "ns[n]-policy[p]-rule[0]": {
                "permissions": [{ "not_rule": { "any": true } }],
                "principals": [{ "not_id": { "any": true } }],
            } } },
            "stat_prefix": "tcp.",
        },
    }]);
    assert_eq!(json!(filters), expected);
}

/// What istiod leaves of a denial for connections: what only requests have counts as matched.
#[test]
fn what_only_requests_have_is_anything_on_tcp() {
    let get = || Operation::new().any_of(OperationField::Methods, ["GET"]);
    let user = || Source::new().any_of(SourceField::RequestPrincipals, ["i/s"]);
    let guests = || Source::new().any_of(SourceField::Namespaces, ["guests"]);
    let admin = || Operation::new().any_of(OperationField::Ports, ["9090"]);
    let asked = [
        Rule::new().to(get()),
        Rule::new().from(guests()).to(get()),
        Rule::new().from(user()).to(admin()),
        Rule::new().from(guests()).from(user()).to(admin()).to(get()),
    ];
    let policies = |policy: AuthorizationPolicy| {
        let policy = asked.iter().cloned().fold(policy, AuthorizationPolicy::rule);
        let filters = written(Dialect::EnvoyTcp, [policy]);
        filters[0]["typed_config"]["rules"]["policies"].clone()
    };
    let any = json!({ "any": true });
    let guests = authenticated(&json!({ "safe_regex": { "regex": ".*/ns/guests/.*" } }));
    let guests = json!({ "or_ids": { "ids": [guests] } });
    let admin = json!({ "or_rules": { "rules": [{ "destination_port": 9090 }] } });
    let rule = |permissions: &[&Value], principals: &[&Value]| {
        let all = |outer: &str, inner: &str, term: &Value| json!({ outer: { inner: [term] } });
        json!({
            "permissions": permissions.iter().map(|term| all("and_rules", "rules", term)).collect::<Vec<_>>(),
            "principals": principals.iter().map(|term| all("and_ids", "ids", term)).collect::<Vec<_>>(),
        })
    };
    assert_eq!(
        policies(AuthorizationPolicy::deny("n", "p")),
        json!({
            "ns[n]-policy[p]-rule[0]": rule(&[&any], &[&any]),
            "ns[n]-policy[p]-rule[1]": rule(&[&any], &[&guests]),
            "ns[n]-policy[p]-rule[2]": rule(&[&admin], &[&any]),
            "ns[n]-policy[p]-rule[3]": rule(&[&admin, &any], &[&guests, &any]),
        })
    );
    // Of what allows, nothing is left.
    assert_eq!(policies(AuthorizationPolicy::allow("n", "p")), json!({}));
}

#[test]
fn entries_are_alternatives_and_conditions_stand_in_each() {
    let written = rule(
        Rule::new()
            .to(Operation::new().any_of(OperationField::Ports, ["80"]))
            .to(Operation::new()
                .none_of(OperationField::Methods, ["GET", "PUT"])
                .any_of(OperationField::Hosts, ["*"]))
            .when(Condition::new("connection.sni".parse().unwrap()).any_of(["a.example"]))
            .when(Condition::new("request.headers[X-H]".parse().unwrap()).none_of(["v*"])),
    );
    let sni = json!({ "or_rules": { "rules": [{ "requested_server_name": { "exact": "a.example" } }] } });
    let method = |name| json!({ "header": { "name": ":method", "string_match": { "exact": name } } });
    assert_eq!(
        written,
        json!({
            "permissions": [
                { "and_rules": { "rules": [{ "or_rules": { "rules": [{ "destination_port": 80 }] } }, sni] } },
                { "and_rules": { "rules": [
                    { "or_rules": { "rules": [{ "header": { "name": ":authority", "present_match": true } }] } },
                    { "not_rule": { "or_rules": { "rules": [method("GET"), method("PUT")] } } },
                    sni,
                ] } },
            ],
            "principals": [{ "and_ids": { "ids": [{ "not_id": { "or_ids": { "ids": [
                { "header": { "name": "x-h", "string_match": { "prefix": "v" } } },
            ] } } }] } }],
        })
    );
}

#[test]
fn identities_are_texts_and_quoted_expressions() {
    for (field, value, matchers) in [
        (
            SourceField::Principals,
            "x/ns/a/sa/b",
            json!([{ "exact": "spiffe://x/ns/a/sa/b" }]),
        ),
        (
            SourceField::Principals,
            "cluster.local/ns/a/sa/b",
            json!([{ "exact": "spiffe://td1/ns/a/sa/b" }, { "exact": "spiffe://old/ns/a/sa/b" }]),
        ),
        (SourceField::Principals, "td1/*", json!([{ "prefix": "spiffe://td1/" }])),
        (
            SourceField::Principals,
            "*/sa/b.c",
            json!([{ "safe_regex": { "regex": "spiffe://.*/sa/b\\.c" } }]),
        ),
        (
            SourceField::Principals,
            "*",
            json!([{ "safe_regex": { "regex": ".+" } }]),
        ),
        (
            SourceField::Namespaces,
            "a.b*c",
            json!([{ "safe_regex": { "regex": ".*/ns/a\\.b.*c/.*" } }]),
        ),
        (
            SourceField::ServiceAccounts,
            "b",
            json!([{ "safe_regex": { "regex": "spiffe://.+/ns/shop/(.+/|)sa/b(/.+)?" } }]),
        ),
        (SourceField::TrustDomains, "x", json!([{ "prefix": "spiffe://x/" }])),
    ] {
        let expected: Vec<_> = matchers.as_array().unwrap().iter().map(authenticated).collect();
        assert_eq!(principal(field, value), json!(expected), "{value}");
    }
}

#[test]
fn requests_are_headers_paths_and_metadata() {
    assert_eq!(
        permission(OperationField::Hosts, "*.Example"),
        json!({ "header": { "name": ":authority", "string_match": { "suffix": ".Example", "ignore_case": true } } })
    );
    assert_eq!(
        permission(OperationField::Paths, "*"),
        json!({ "url_path": { "path": { "safe_regex": { "regex": ".+" } } } })
    );
    assert_eq!(
        permission(OperationField::Paths, "/a/{*}/{**}"),
        json!({ "uri_template": { "name": "uri-template", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig",
            "path_template": "/a/*/**",
        } } })
    );
    let of_token = |name, matcher: Value| {
        json!({ "metadata": {
            "filter": "envoy.filters.http.jwt_authn",
            "path": [{ "key": "payload" }, { "key": name }],
            "value": matcher,
        } })
    };
    let exact = |text| json!({ "string_match": { "exact": text } });
    assert_eq!(
        principal(SourceField::RequestPrincipals, "https://i/s")[0],
        json!({ "and_ids": { "ids": [of_token("iss", exact("https://i")), of_token("sub", exact("s"))] } })
    );
    let list = json!({ "or_match": { "value_matchers": [{ "list_match": { "one_of": exact("v") } }, exact("v")] } });
    assert_eq!(
        when("request.auth.audiences", "v")["principals"][0]["and_ids"]["ids"][0]["or_ids"]["ids"][0],
        of_token("aud", list)
    );
    assert_eq!(
        when("experimental.envoy.filters.network.f[k]", "[v]")["permissions"][0]["and_rules"]["rules"][0]["or_rules"]["rules"]
            [0],
        json!({ "metadata": {
            "filter": "envoy.filters.network.f",
            "path": [{ "key": "k" }],
            "value": { "list_match": { "one_of": exact("v") } },
        } })
    );
}

#[test]
fn waypoints_find_the_peer_in_filter_state() {
    let from = Rule::new().from(Source::new().any_of(SourceField::Principals, ["x/*"]));
    let set = Compiler::new(Dialect::EnvoyHttp)
        .compile([AuthorizationPolicy::deny("n", "p").rule(from)])
        .unwrap();
    let filters = export(&set, PeerSource::FilterState).unwrap();
    let text = serde_json::to_string(&filters).unwrap();
    let expected = r#"{"filter_state":{"key":"io.istio.peer_principal","string_match":{"prefix":"spiffe://x/"}}}"#;
    assert!(text.contains(expected), "{text}");
}

#[test]
fn only_what_envoy_means_and_takes_is_written() {
    let policy = AuthorizationPolicy::deny("n", "p")
        .rule(Rule::new().when(Condition::new("request.headers[a\nb]".parse().unwrap()).any_of(["v"])));
    for dialect in [Dialect::Strict, Dialect::Ztunnel] {
        let set = Compiler::new(dialect).compile([policy.clone()]).unwrap();
        assert_eq!(
            export(&set, PeerSource::Certificate),
            Err(ExportError::Dialect { dialect })
        );
    }
    let set = Compiler::new(Dialect::EnvoyHttp).compile([policy]).unwrap();
    let error = export(&set, PeerSource::Certificate).unwrap_err();
    assert_eq!(error.to_string(), "`a\\nb` is no name of a header for envoy");
}

#[test]
fn what_is_written_is_read() {
    let dialect = select(vec![Dialect::EnvoyHttp, Dialect::EnvoyTcp]);
    let inputs = dialect.prop_flat_map(|dialect| {
        let peer = select(vec![PeerSource::Certificate, PeerSource::FilterState]);
        (meshes(dialect), policies(dialect), peer)
    });
    let config = ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let result = TestRunner::new(config).run(&inputs, |(mesh, policies, peer)| {
        let compiler = Compiler::new(mesh.dialect).trust_domains(mesh.trust_domains);
        let filters = export(&compiler.compile(policies).unwrap(), peer).unwrap();
        let json = serde_json::to_string(&filters).unwrap();
        prop_assert_eq!(serde_json::from_str::<Vec<Filter>>(&json).unwrap(), filters);
        Ok(())
    });
    result.unwrap();
}

#[test]
fn reading_refuses_what_is_not_written() {
    let filters = written(
        Dialect::EnvoyHttp,
        [AuthorizationPolicy::deny("n", "p")
            .rule(Rule::new().to(Operation::new().any_of(OperationField::Paths, ["/a", "/b/{*}"])))],
    );
    let good = json!(filters[0]).to_string();
    assert!(serde_json::from_str::<Filter>(&good).is_ok());
    for (from, to) in [
        (r#""exact":"/a""#, r#""exact":"/a","prefix":"/b""#),
        (r#""exact":"/a""#, r#""contains":"/a""#),
        (r#""exact":"/a""#, r#""ignore_case":true"#),
        (r#""url_path""#, r#""sourced_metadata""#),
        (r#""rules":{"action""#, r#""matcher":{},"rules":{"action""#),
        (r#""action":"DENY""#, r#""action":"DENY","audit_logging_options":{}"#),
        (r#""path_template":"#, r#""more":1,"path_template":"#),
        (r#""permissions""#, r#""condition":{},"permissions""#),
        ("http.rbac.v3.RBAC", "http.rbac.v4.RBAC"),
    ] {
        assert!(good.contains(from), "{from} is not in {good}");
        assert!(serde_json::from_str::<Filter>(&good.replace(from, to)).is_err(), "{to}");
    }
}
