//! Filters of Envoy as policies.
#![cfg(all(feature = "envoy", feature = "k8s"))]
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
    authz::{Action, AuthorizationPolicy, envoy, k8s},
};
use serde_json::{Value, json};

/// As istiod writes it for a sidecar, in protobuf's JSON and block style.
const OF_ISTIOD: &str = r#"
name: envoy.filters.http.rbac
typedConfig:
  '@type': type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC
  rules:
    policies:
      ns[foo]-policy[httpbin]-rule[0]:
        permissions:
        - andRules:
            rules:
            - orRules:
                rules:
                - header:
                    name: :authority
                    stringMatch:
                      exact: example.com
                      ignoreCase: true
                - header:
                    name: :authority
                    presentMatch: true
            - notRule:
                orRules:
                  rules:
                  - urlPath:
                      path:
                        prefix: /info
            - orRules:
                rules:
                - destinationPort: 80
            - orRules:
                rules:
                - requestedServerName:
                    exact: www.example.com
        principals:
        - andIds:
            ids:
            - orIds:
                ids:
                - authenticated:
                    principalName:
                      exact: spiffe://cluster.local/ns/default/sa/sleep
                - authenticated:
                    principalName:
                      safeRegex:
                        regex: spiffe://.*/sa/x\.y
            - orIds:
                ids:
                - authenticated:
                    principalName:
                      prefix: spiffe://td-1/
            - notId:
                orIds:
                  ids:
                  - authenticated:
                      principalName:
                        safeRegex:
                          regex: .*/ns/prod-.*/.*
            - orIds:
                ids:
                - directRemoteIp:
                    addressPrefix: 10.0.0.0
                    prefixLen: 8
            - orIds:
                ids:
                - metadata:
                    filter: envoy.filters.http.jwt_authn
                    path:
                    - key: payload
                    - key: groups
                    value:
                      orMatch:
                        valueMatchers:
                        - listMatch:
                            oneOf:
                              stringMatch:
                                exact: admin
                        - stringMatch:
                            exact: admin
  shadowRulesStatPrefix: istio_dry_run_allow_
"#;

fn read(text: &str) -> Vec<AuthorizationPolicy> {
    envoy::read("f.yaml", text, &Budget::new()).unwrap_or_else(|error| panic!("{error}"))
}

fn fault(text: &str) -> String {
    envoy::read("f.yaml", text, &Budget::new()).unwrap_err().to_string()
}

fn spec(policy: &AuthorizationPolicy) -> Value {
    serde_json::to_value(k8s::write(policy)).unwrap()["spec"].clone()
}

#[test]
fn what_istiod_writes_is_a_policy() {
    let policies = read(OF_ISTIOD);
    assert_eq!((policies.len(), policies[0].line()), (1, 8));
    assert_eq!(policies[0].name().to_string(), "foo/httpbin");
    let expected = json!({
        "action": "ALLOW",
        "rules": [{
            "from": [{"source": {
                "principals": ["cluster.local/ns/default/sa/sleep", "*/sa/x.y"],
                "trustDomains": ["td-1"],
                "notNamespaces": ["prod-*"],
                "ipBlocks": ["10.0.0.0/8"],
            }}],
            "to": [{"operation": {"hosts": ["example.com", "*"], "notPaths": ["/info*"], "ports": ["80"]}}],
            "when": [
                {"key": "connection.sni", "values": ["www.example.com"]},
                {"key": "request.auth.claims[groups]", "values": ["admin"]},
            ],
        }],
    });
    assert_eq!(spec(&policies[0]), expected);
}

#[test]
fn values_keep_their_lines() {
    let policies = read(OF_ISTIOD);
    let field = &policies[0].rules()[0].sources()[0].fields()[0];
    let values: Vec<_> = field
        .any_of()
        .iter()
        .map(|value| (value.line(), value.text()))
        .collect();
    assert_eq!(values, [(40, "cluster.local/ns/default/sa/sleep"), (43, "*/sa/x.y")]);
}

/// A filter around one policy.
fn filter(permissions: &Value, principals: &Value) -> String {
    let policy = json!({"permissions": permissions, "principals": principals});
    wrapped(&json!({"rules": {"policies": {"ns[n]-policy[p]-rule[0]": policy}}}))
}

fn wrapped(config: &Value) -> String {
    let mut config = config.clone();
    config["@type"] = json!("type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC");
    json!([{"name": "envoy.filters.http.rbac", "typed_config": config}]).to_string()
}

fn any() -> Value {
    json!([{"any": true}])
}

fn peer(matcher: &Value) -> Value {
    json!({"authenticated": {"principal_name": matcher}})
}

#[test]
fn what_all_entries_have_is_a_condition_where_it_must_be() {
    let one_of = |ids: Value| json!({"or_ids": {"ids": [ids]}});
    let principal = |name: &str| one_of(peer(&json!({"exact": format!("spiffe://{name}")})));
    let entry = |ids: [Value; 2]| json!({"and_ids": {"ids": ids}});
    let namespace = one_of(peer(&json!({"safe_regex": {"regex": ".*/ns/a/.*"}})));
    let principals = json!([
        entry([principal("td/x"), principal("td/z")]),
        entry([namespace.clone(), principal("td/z")]),
    ]);
    assert_eq!(
        spec(&read(&filter(&any(), &principals))[0])["rules"][0],
        json!({
            "from": [{"source": {"principals": ["td/x"]}}, {"source": {"namespaces": ["a"]}}],
            "when": [{"key": "source.principal", "values": ["td/z"]}],
        })
    );
    let principals = json!([
        entry([principal("td/x"), principal("td/z")]),
        entry([namespace, principal("td/y")])
    ]);
    let expected = "f.yaml:1: no rule of a policy can ask for \
                    `[0].typed_config.rules.policies.ns[n]-policy[p]-rule[0].principals[0].and_ids.ids[1].or_ids` \
                    besides the rest of it";
    assert_eq!(fault(&filter(&any(), &principals)), expected);
}

#[test]
fn service_accounts_stand_apart_from_what_excludes_them() {
    let one_of = |ids: Value| json!({"or_ids": {"ids": [ids]}});
    let account = one_of(peer(
        &json!({"safe_regex": {"regex": "spiffe://.+/ns/a/(.+/|)sa/b(/.+)?"}}),
    ));
    let namespace = one_of(peer(&json!({"safe_regex": {"regex": ".*/ns/a/.*"}})));
    let principals = json!([{"and_ids": {"ids": [account, namespace]}}]);
    let policies = read(&filter(&any(), &principals));
    assert_eq!(policies[0].validate(&Budget::new()), []);
    assert_eq!(
        spec(&policies[0])["rules"][0],
        json!({
            "from": [{"source": {"serviceAccounts": ["a/b"]}}],
            "when": [{"key": "source.namespace", "values": ["a"]}],
        })
    );
}

#[test]
fn an_alternative_that_asks_for_nothing_leaves_nothing_to_ask() {
    let port = json!({"and_rules": {"rules": [{"or_rules": {"rules": [{"destination_port": 80}]}}]}});
    let permissions = json!([port, {"and_rules": {"rules": [{"any": true}]}}]);
    assert_eq!(spec(&read(&filter(&permissions, &any()))[0])["rules"], json!([{}]));
}

#[test]
fn rules_that_are_present_and_empty_allow_nothing() {
    let policies = read(&wrapped(&json!({"rules": {}})));
    assert_eq!((policies.len(), policies[0].action()), (1, &Action::Allow));
    assert_eq!(policies[0].rules(), []);
    assert_eq!(read(&wrapped(&json!({"rules": {"action": "DENY"}}))), []);
    assert_eq!(read(&wrapped(&json!({}))), []);
    let never = filter(
        &json!([{"not_rule": {"any": true}}]),
        &json!([{"not_id": {"any": true}}]),
    );
    assert_eq!((read(&never).len(), read(&never)[0].rules().len()), (1, 0));
}

#[test]
fn classes_are_known_by_filter_and_name() {
    let policy = json!({"permissions": any(), "principals": any()});
    let shadow = |action: &str, name: &str, prefix: &str| {
        let rules = json!({"action": action, "policies": {name: policy}});
        wrapped(&json!({"shadow_rules": rules, "shadow_rules_stat_prefix": prefix}))
    };
    let custom = read(&shadow(
        "DENY",
        "istio-ext-authz-opa-ns[n]-policy[p]-rule[0]",
        "istio_ext_authz_",
    ));
    assert_eq!(custom[0].action(), &Action::Custom { provider: "opa".into() });
    assert!(!custom[0].is_dry_run());
    let tried = read(&shadow("DENY", "ns[n]-policy[p]-rule[0]", "istio_dry_run_deny_"));
    assert_eq!((tried[0].action(), tried[0].is_dry_run()), (&Action::Deny, true));
    for (name, prefix, wrong) in [
        (
            "istio-ext-authz-opa-ns[n]-policy[p]-rule[0]",
            "istio_dry_run_deny_",
            "shadow_rules_stat_prefix",
        ),
        (
            "ns[n]-policy[p]-rule[0]",
            "istio_ext_authz_",
            "shadow_rules_stat_prefix",
        ),
        (
            "ns[n]-policy[p]-rule[x]",
            "istio_dry_run_deny_",
            "`ns[n]-policy[p]-rule[x]`",
        ),
        (
            "ns[n]-policy[p]-rule[0]-deny-due-to-bad-CUSTOM-action",
            "istio_dry_run_deny_",
            "bad-CUSTOM",
        ),
    ] {
        let fault = fault(&shadow("DENY", name, prefix));
        assert!(fault.contains(wrong), "{name} {prefix}: {fault}");
    }
}

/// What no policy asks for is an error with its place, and is never left out.
#[test]
fn refuses_what_no_policy_becomes() {
    for (permissions, principals, wrong) in [
        (
            json!([{"destination_port_range": {"start": 1, "end": 2}}]),
            any(),
            "a `destination_port_range` at",
        ),
        (
            json!([{"header": {"name": "x-h", "present_match": true}}]),
            any(),
            "permissions[0].header` does",
        ),
        (
            json!([{"header": {"name": ":method", "string_match": {"contains": "E"}}}]),
            any(),
            "a `contains` at",
        ),
        (
            json!([{"header": {"name": ":method", "invert_match": true, "present_match": true}}]),
            any(),
            "there is no field",
        ),
        (
            json!([{"header": {"name": ":authority", "string_match": {"exact": "a"}}}]),
            any(),
            "permissions[0].header` does",
        ),
        (
            json!([{"url_path": {"path": {"exact": "/a*"}}}]),
            any(),
            "permissions[0].url_path` does",
        ),
        (
            json!([{"url_path": {"path": {"safe_regex": {"regex": "/[a-z]"}}}}]),
            any(),
            "permissions[0].url_path` does",
        ),
        (json!([{"destination_port": 65536}]), any(), "destination_port` does"),
        (json!([{"any": false}]), any(), "any` does"),
        (
            json!([{"and_rules": {"rules": []}}]),
            any(),
            "and_rules.rules` is empty",
        ),
        (json!([]), any(), "permissions` is empty"),
        (json!([{}]), any(), "permissions[0]` asks for one thing"),
        (
            json!([{"or_rules": {"rules": [{"destination_port": 80}, {"url_path": {"path": {"exact": "/a"}}}]}}]),
            any(),
            "are about different things",
        ),
        (json!([{"not_rule": {"any": true}}]), any(), "can ask for"),
        (
            any(),
            json!([{"remote_ip": {"address_prefix": "10.0.0.0"}}]),
            "prefix_len` is missing",
        ),
        (
            any(),
            json!([{"remote_ip": {"address_prefix": "10.0.0.0", "prefix_len": 33}}]),
            "remote_ip` does",
        ),
        (
            any(),
            json!([{"source_ip": {"address_prefix": "10.0.0.0", "prefix_len": 8}}]),
            "a `source_ip` at",
        ),
        (
            any(),
            json!([peer(&json!({"exact": "cluster.local/ns/a/sa/b"}))]),
            "authenticated` does",
        ),
        (
            any(),
            json!([peer(&json!({"exact": "spiffe://a", "ignore_case": true}))]),
            "authenticated` does",
        ),
        (
            any(),
            json!([peer(&json!({"safe_regex": {"regex": ".*/ns/(a|b)/.*"}}))]),
            "authenticated` does",
        ),
        (
            any(),
            json!([peer(&json!({"exact": "a", "prefix": "b"}))]),
            "asks for one thing",
        ),
        (
            any(),
            json!([{"filter_state": {"key": "other", "string_match": {"exact": "spiffe://a"}}}]),
            "filter_state` does",
        ),
        (
            any(),
            json!([{"metadata": {"filter": "f", "path": [{"key": "k"}], "value": {"present_match": true}}}]),
            "a `present_match` at",
        ),
    ] {
        let fault = fault(&filter(&permissions, &principals));
        assert!(
            fault.starts_with("f.yaml:1: ") && fault.contains(wrong),
            "{wrong}: {fault}"
        );
    }
}

#[test]
fn refuses_other_filters_and_fields() {
    let good = filter(&any(), &any());
    assert_eq!(read(&good).len(), 1);
    for (from, to, wrong) in [
        (
            "http.rbac\"",
            "http.ext_authz\"",
            "no policy becomes a `envoy.filters.http.ext_authz` at `[0].name`",
        ),
        ("v3.RBAC", "v2.RBAC", "no policy becomes a `type.googleapis.com"),
        (
            r#""rules":"#,
            r#""matcher":{},"rules":"#,
            "there is no field `[0].typed_config.matcher`",
        ),
        (
            r#""permissions""#,
            r#""condition":{},"permissions""#,
            "rule[0].condition`",
        ),
        (r#""policies""#, r#""action":"ALLOWED","policies""#, "action` does"),
        (
            r#""policies""#,
            r#""audit_logging_options":{},"policies""#,
            "there is no field",
        ),
        ("ns[n]-policy[p]-rule[0]", "p", "`p` is no name that istiod gives"),
    ] {
        assert!(good.contains(from), "{from} is not in {good}");
        let fault = fault(&good.replace(from, to));
        assert!(fault.contains(wrong), "{fault}");
    }
    let twice = format!(
        "{}\n---\n{}",
        good,
        good.replace(r#""policies""#, r#""action":"DENY","policies""#)
    );
    assert_eq!(fault(&twice), "f.yaml:3: policy `n/p` is there with two actions");
}

/// Of policies that admit one is enough; of filters a request has to pass all.
#[test]
fn two_filters_that_admit_are_not_one_set() {
    let filter = |name: &str, port: u16| {
        let rule = json!({"permissions": [{"and_rules": {"rules": [{"or_rules": {"rules": [
            {"destination_port": port}
        ]}}]}}], "principals": [{"and_ids": {"ids": [{"any": true}]}}]});
        json!({"name": "envoy.filters.http.rbac", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC",
            "rules": {"policies": {format!("ns[a]-policy[{name}]-rule[0]"): rule}}
        }})
    };
    let read = |filters: &Value| envoy::read("f.json", &filters.to_string(), &Budget::new());
    assert_eq!(read(&json!([filter("p", 80)])).unwrap().len(), 1);
    let error = read(&json!([filter("p", 80), filter("q", 81)])).unwrap_err();
    assert!(matches!(error.fault, envoy::ReadFault::SecondAllow { .. }), "{error}");
}
