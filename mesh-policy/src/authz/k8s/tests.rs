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

fn error_of_depth(depth: usize) -> String {
    error(&format!("{}{}", "[".repeat(depth), "]".repeat(depth)))
}

proptest! {
    #[test]
    fn answers_arbitrary_text(text in "[a-z{}\\[\\]:,\\-&*!|>'\"#%\n ]{0,80}") {
        if let Err(error) = read_text(&text) {
            prop_assert!(!error.to_string().contains('\n'), "{}", error);
        }
    }

    #[test]
    fn answers_arbitrary_specs(spec in "(  (rules|from|to|action|- |source|when):?( |\n|\\[|\\]|\\{|\\}|~|x)){0,12}") {
        if let Err(error) = read_text(&policy(&spec)) {
            prop_assert!(!error.to_string().contains('\n'), "{}", error);
        }
    }
}
