use proptest::prelude::*;

use super::*;
use crate::authz::{
    Action, Compiler, Dialect,
    model::{Condition, Operation, OperationField, Rule, Source, SourceField, Value},
    target::{Target, TargetRef},
};

fn read_text(text: &str) -> Result<Manifests, ReadError> {
    read("p.yaml", text, &Budget::new())
}

fn error(text: &str) -> String {
    read_text(text).unwrap_err().to_string()
}

/// A policy with this spec, which begins in line 5.
fn policy(spec: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: p, namespace: n}}\nspec:\n{spec}"
    )
}

#[test]
fn a_reader_that_is_finished_early_has_read_all() {
    let file = |last: &str| {
        format!(
            "{}\n---\n{{apiVersion: v1, kind: Pod}}\n---\n{}",
            policy("  {}"),
            policy(last)
        )
    };
    let (good, faulty) = (file("  action: DENY\n"), file("  actions: DENY\n"));
    for begun in [0, 1] {
        let finished = |text: &str| {
            let mut reader = Reader::new("p.yaml", text, &Budget::new());
            assert_eq!((0..begun).filter_map(|_| reader.next()).count(), begun);
            reader.finish()
        };
        assert_eq!(finished(&good).unwrap().authorization.len(), 2);
        assert_eq!(finished(&faulty).unwrap_err(), read_text(&faulty).unwrap_err());
    }
}

#[test]
fn reads_every_field() {
    let text = policy(
        "  action: DENY
  rules:
  - from:
    - source:
        namespaces: [a]
        notIpBlocks: [10.0.0.0/8]
    to:
    - operation: {ports: [80, \"443\"], paths: [/a]}
    when:
    - {key: 'request.headers[X-Role]', values: [admin], notValues: [guest]}
",
    );
    let manifests = read_text(&text).unwrap();
    let [read] = &manifests.authorization[..] else {
        panic!("{manifests:?}")
    };
    assert_eq!(read.name().to_string(), "n/p");
    assert_eq!((read.action(), read.line()), (&Action::Deny, 1));
    let expected = Rule::new()
        .from(
            Source::new()
                .any_of(SourceField::Namespaces, [Value::at("a", 9)])
                .none_of(SourceField::IpBlocks, [Value::at("10.0.0.0/8", 10)]),
        )
        .to(Operation::new()
            .any_of(OperationField::Ports, [Value::at("80", 12), Value::at("443", 12)])
            .any_of(OperationField::Paths, [Value::at("/a", 12)]))
        .when(
            Condition::new("request.headers[x-role]".parse().unwrap())
                .any_of([Value::at("admin", 14)])
                .none_of([Value::at("guest", 14)]),
        );
    assert_eq!(read.rules(), [expected]);
}

#[test]
fn reads_documents_lists_and_other_kinds() {
    let text = format!(
        "{}---\n---\napiVersion: v1\nkind: Service\nmetadata: {{name: s}}\n---\napiVersion: v1\nkind: List\nitems:\n- {{apiVersion: \
         security.istio.io/v1, kind: PeerAuthentication, metadata: {{name: strict}}, spec: {{mtls: {{mode: STRICT}}}}}}\n",
        policy("  rules: [{}]\n")
    );
    let manifests = read_text(&text).unwrap();
    assert_eq!(manifests.authorization.len(), 1);
    assert_eq!(manifests.peer_authentication[0].name().to_string(), "default/strict");
    assert_eq!(manifests.others[0].kind, "Service");
}

/// What is passed over restricts nothing, so what was meant for this API is not.
#[test]
fn what_is_meant_for_this_api_is_not_passed_over() {
    let deny = policy("  action: DENY\n  rules: [{}]\n");
    for (from, to, expected) in [
        (
            "kind: A",
            "kind: Un",
            "p.yaml:1: there is no kind `UnuthorizationPolicy` in the api",
        ),
        (
            "Authoriz",
            "Authoris",
            "p.yaml:1: there is no kind `AuthorisationPolicy` in the api",
        ),
        (
            "kind: AuthorizationPolicy",
            "kind: authorizationpolicy",
            "p.yaml:1: there is no kind `authorizationpolicy` in the api",
        ),
        (
            "/v1",
            "",
            "p.yaml:1: `security.istio.io` is no known version of the api",
        ),
        (
            "/v1",
            "/v2",
            "p.yaml:1: `security.istio.io/v2` is no known version of the api",
        ),
        (
            ".istio.io",
            ".istio.com",
            "p.yaml:1: `security.istio.com/v1` is no known version of the api",
        ),
        (
            "security.istio",
            "networking.istio",
            "p.yaml:1: `networking.istio.io/v1` is no known version of the api",
        ),
        (
            "security.istio.io/",
            "",
            "p.yaml:1: `v1` is no known version of the api",
        ),
    ] {
        assert_eq!(error(&deny.replace(from, to)), expected);
    }
    let foreign = deny.replace("security.istio.io/v1", "policy.linkerd.io/v1alpha1");
    assert_eq!(read_text(&foreign).unwrap().others.len(), 1);
}

#[test]
fn lists_hold_items_and_nothing_else() {
    let item =
        "{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: p}, spec: {rules: [{}]}}";
    for head in [
        "apiVersion: v1\nkind: List\n",
        "apiVersion: v1\nkind: List\nmetadata: {resourceVersion: \"\"}\n",
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicyList\nmetadata: {continue: \"\"}\n",
    ] {
        let manifests = read_text(&format!("{head}items: [{item}]\n")).unwrap();
        assert_eq!(
            (manifests.authorization.len(), manifests.others.len()),
            (1, 0),
            "{head}"
        );
        assert!(
            read_text(&format!("{head}items: []\n"))
                .unwrap()
                .authorization
                .is_empty()
        );
        assert_eq!(error(head), "p.yaml:1: `items` is missing");
        assert_eq!(
            error(&format!("{head}item: [{item}]\n")),
            "p.yaml:1: `items` is missing"
        );
        let more = format!("{head}items: []\nitem: [{item}]\n");
        let line = more.lines().count();
        assert_eq!(error(&more), format!("p.yaml:{line}: there is no field `item`"));
    }
}

#[test]
fn a_port_is_named_once_however_it_is_written() {
    let text = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: p}\nspec:\n  selector: \
                {matchLabels: {a: b}}\n  portLevelMtls:\n    '80': {mode: STRICT}\n    '080': {mode: DISABLE}\n";
    assert_eq!(error(text), "p.yaml:8: `spec.portLevelMtls.080` is there twice");
    assert!(read_text(&text.replace("'080'", "'81'")).is_ok());
}

#[test]
fn other_kinds_are_read_by_whoever_knows_them() {
    let text =
        "kind: Service\napiVersion: v1\nspec:\n  type: null\n  ports:\n  - {port: 80, nodePort: 1}\n  - port: [80]\n";
    let mut service = read_text(text).unwrap().others.remove(0).object;
    let mut spec = service.object("spec").unwrap().unwrap();
    assert_eq!(
        (service.finish(), spec.text("type"), spec.line()),
        (Ok(()), Ok(None), 4)
    );
    let mut ports = spec.objects("ports").unwrap();
    assert_eq!(ports[0].text("port").unwrap().as_deref(), Some("80"));
    let field = "spec.ports[0].nodePort".into();
    assert_eq!(ports[0].clone().finish(), Err((6, ReadFault::UnknownField { field })));
    ports[0].pass_over(&["nodePort"]);
    assert_eq!(ports[0].clone().finish(), Ok(()));
    assert_eq!(ports[1].text("port").unwrap_err().0, 7);
}

#[test]
fn reads_targets_and_dry_run() {
    let text = policy("  targetRef: {kind: Gateway, group: gateway.networking.k8s.io, name: g}\n");
    assert_eq!(
        read_text(&text).unwrap().authorization[0].target(),
        &Target::Refs(vec![TargetRef::gateway("g")])
    );
    let text = policy("  selector: {matchLabels: {app: web}}\n");
    let text = text.replace(
        "namespace: n",
        "namespace: n, annotations: {istio.io/dry-run: \"true\"}",
    );
    let manifests = read_text(&text).unwrap();
    assert!(manifests.authorization[0].is_dry_run());
    assert!(matches!(manifests.authorization[0].target(), Target::Selector(labels) if labels["app"] == "web"));
}

#[test]
fn reads_request_authentication() {
    let text = "apiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {name: jwt}\nspec:\n  jwtRules:\n  - issuer: \
                https://i\n    audiences: [a]\n    fromHeaders: [{name: x-jwt, prefix: 'Token '}]\n    forwardOriginalToken: true\n";
    let manifests = read_text(text).unwrap();
    let rule = &manifests.request_authentication[0].rules[0];
    assert_eq!((rule.issuer.as_str(), rule.forward_original_token), ("https://i", true));
    assert_eq!(rule.from_headers[0].prefix, "Token ");
}

#[test]
fn an_error_names_file_line_and_field() {
    for (spec, expected) in [
        ("  rulez: []\n", "p.yaml:5: there is no field `spec.rulez`"),
        ("  action: REFUSE\n", "p.yaml:5: `spec.action` cannot be `REFUSE`"),
        ("  rules: {}\n", "p.yaml:5: `spec.rules` is not a list"),
        ("  rules:\n  - from: []\n", "p.yaml:6: `spec.rules[0].from` is empty"),
        ("  rules:\n  -\n", "p.yaml:6: `spec.rules[0]` is not a mapping"),
        (
            "  rules:\n  - to:\n    - operation: {path: [/a]}\n",
            "p.yaml:7: there is no field `spec.rules[0].to[0].operation.path`",
        ),
        (
            "  rules:\n  - when:\n    - key: source.ips\n      values: [a]\n",
            "p.yaml:7: `source.ips`: no condition has this key",
        ),
        ("  rules: [{}]\n  rules: [{}]\n", "p.yaml:6: `rules` is there twice"),
        (
            "  rules: [&a {}, *a]\n",
            "p.yaml:5: an alias is not supported: write out what it stands for",
        ),
        (
            "  selector: {matchLabels: {a: b}}\n  targetRef: {kind: Service, name: s}\n",
            "p.yaml:5: a policy has one of `selector`, `targetRef` and `targetRefs`",
        ),
        ("  provider: {name: p}\n", "p.yaml:5: there is no field `spec.provider`"),
    ] {
        assert_eq!(error(&policy(spec)), expected);
    }
    assert!(error("a: [").starts_with("p.yaml:"));
    assert_eq!(error("- a\n"), "p.yaml:1: `the document` is not a mapping");
    assert_eq!(
        error("kind: AuthorizationPolicy\n"),
        "p.yaml:1: `apiVersion` is missing"
    );
}

#[test]
fn an_empty_value_does_not_vanish() {
    let text = policy("  rules:\n  - from:\n    - source: {namespaces: [~]}\n");
    let manifests = read_text(&text).unwrap();
    let error = Compiler::new(Dialect::Strict)
        .compile(manifests.authorization)
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "p.yaml:7: policy `n/p`: rules[0].from[0].source.namespaces[0]: the value is empty"
    );
}

#[test]
fn large_and_deep_files_are_refused() {
    let budget = Budget::new().with_limit(crate::Resource::DocumentBytes, 10);
    let error = read("p.yaml", "a: 123456789", &budget).unwrap_err();
    assert_eq!(error.to_string(), "p.yaml:1: 12 bytes in a file are more than 10");
    let error = error_of_depth(33);
    assert_eq!(error, "p.yaml:1: 33 nested levels in a file are more than 32");
}

#[test]
fn files_of_many_small_values_are_refused() {
    let budget = Budget::new().with_limit(crate::Resource::DocumentNodes, 5);
    for (text, used) in [
        ("[a, a, a, a, a]", 6),
        ("a: 1\nb: 2\nc: 3\n", 6),
        ("~\n---\n[[], [], [], b]", 6),
    ] {
        let error = read("p.yaml", text, &budget).unwrap_err();
        let expected = format!("{used} values and names in a file are more than 5");
        assert_eq!(error.fault.to_string(), expected, "{text}");
    }
    assert!(!error("[a, [b], [c]]").contains("more than"));
    // A name is compared with those before it in no time that grows with their number.
    let names: String = (0..50_000).map(|name| format!("a{name}: \n")).collect();
    assert!(error(&names).ends_with("`apiVersion` is missing"));
    assert!(error(&format!("{names}a7: \n")).ends_with(":50001: `a7` is there twice"));
}

fn error_of_depth(depth: usize) -> String {
    error(&format!("{}{}", "[".repeat(depth), "]".repeat(depth)))
}

/// Whatever stands in quotes in a file may hold a line break.
#[test]
fn every_message_is_one_line() {
    let broken = |text: &str| text.replace("X", "\"a\\nb\"");
    for text in [
        "X: 1\nX: 2\n".to_owned(),
        "apiVersion: X\nkind: AuthorizationPolicy\n".to_owned(),
        "apiVersion: security.istio.io/v1\nkind: X\n".to_owned(),
        policy("  X: 1\n"),
        policy("  action: X\n"),
        policy("  selector: {matchLabels: {X: []}}\n"),
        policy("  rules:\n  - when: [{key: X, values: [a]}]\n"),
    ] {
        let message = error(&broken(&text));
        assert!(message.contains("a\\nb") && !message.contains('\n'), "{message}");
    }
    for rule in [
        "from: [{source: {ipBlocks: [X]}}]",
        "from: [{source: {serviceAccounts: [\"a\\nb/c/d\"]}}]",
        "to: [{operation: {ports: [X]}}]",
        "to: [{operation: {paths: [\"a\\nb{*}\"]}}]",
        "when: [{key: \"request.headers[a\\nb]\"}]",
    ] {
        let text = policy(&broken(&format!("  rules:\n  - {rule}\n"))).replace("name: p", "name: \"c\\nd\"");
        let error = Compiler::new(Dialect::Strict)
            .compile(read_text(&text).unwrap().authorization)
            .unwrap_err();
        let message = error.to_string();
        assert!(message.contains("c\\nd") && !message.contains('\n'), "{message}");
        let set = Compiler::new(Dialect::EnvoyTcp).compile(read_text(&text).unwrap().authorization);
        for diagnostic in set.unwrap().diagnostics() {
            assert!(!diagnostic.to_string().contains('\n'), "{diagnostic}");
        }
    }
}

proptest! {
    #[test]
    fn answers_arbitrary_text(text in "[a-z{}\\[\\]:,\\-&*!|>'\"#%\n\\\\ ]{0,80}") {
        if let Err(error) = read_text(&text) {
            prop_assert!(!error.to_string().contains('\n'), "{}", error);
        }
    }

    #[test]
    fn answers_arbitrary_specs(spec in "(  (rules|from|to|action|- |source|when|\"a\\\\nb\"):?( |\n|\\[|\\]|\\{|\\}|~|x|\"\\\\n\")){0,12}") {
        if let Err(error) = read_text(&policy(&spec)) {
            prop_assert!(!error.to_string().contains('\n'), "{}", error);
        }
    }
}
