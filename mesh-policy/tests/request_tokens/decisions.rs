//! From a file to a decision: what a token says is what policies ask for.

use mesh_policy::{
    Budget, Known, Peer,
    authz::{Compiler, Dialect, Labels, PolicySet, Verdict, attach::Recipient, k8s},
    jwt::Authenticator,
};
use serde_json::{Value, json};

use crate::world::{Ask, ISSUER, Signer, claims, key_set, with};

const POLICIES: &str = "
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {name: jwt, namespace: shop}
spec:
  selector: {matchLabels: {app: till}}
  jwtRules:
  - issuer: https://issuer.example
    jwks: 'KEYS'
    spaceDelimitedClaims: [groups]
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {name: others, namespace: elsewhere}
spec:
  jwtRules:
  - issuer: https://elsewhere.example
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: till, namespace: shop}
spec:
  rules:
";

/// A file's policies, for one workload.
struct World {
    authenticator: Authenticator,
    set: PolicySet,
    signer: Signer,
}

impl World {
    fn new(dialect: Dialect, rules: &str) -> Self {
        let signer = Signer::es256();
        let file = POLICIES.replace("KEYS", &key_set(&[signer.jwk()])) + rules;
        let manifests = k8s::read("till.yaml", &file, &Budget::new()).unwrap();
        let labels = Labels::from([("app".to_owned(), "till".to_owned())]);
        let workload = Recipient::Workload {
            namespace: "shop",
            labels: &labels,
        };
        let believed: Vec<_> = manifests
            .request_authentication
            .iter()
            .filter(|policy| workload.believes_by(policy, "istio-system"))
            .collect();
        assert_eq!(believed.len(), 1);
        Self {
            authenticator: Authenticator::new(believed).unwrap(),
            set: Compiler::new(dialect).compile(manifests.authorization).unwrap(),
            signer,
        }
    }

    /// Whether a request passes: a token that is not believed never does.
    fn admits(&self, ask: &Ask) -> bool {
        let Ok(authentication) = ask.of(&self.authenticator) else {
            return false;
        };
        ask.with(|facts| {
            let facts = facts.claims(authentication.claims());
            matches!(self.set.decide(&facts).verdict(), Verdict::Allow(_))
        })
    }

    fn admits_claims(&self, claims: &Value) -> bool {
        self.admits(&Ask::bearer(&self.signer.token(claims)))
    }
}

/// The dialects that see requests.
const DIALECTS: [Dialect; 2] = [Dialect::EnvoyHttp, Dialect::Strict];

#[test]
fn request_principals_are_issuer_and_subject() {
    for dialect in DIALECTS {
        for (principals, admits) in [
            ("https://issuer.example/alice", true),
            ("https://issuer.example/*", true),
            ("*", true),
            ("https://issuer.example/bob", false),
            ("https://elsewhere.example/*", false),
        ] {
            let rule = format!("  - from: [{{source: {{requestPrincipals: ['{principals}']}}}}]\n");
            let world = World::new(dialect, &rule);
            assert_eq!(world.admits_claims(&claims()), admits, "{dialect:?} {principals}");
            assert!(!world.admits(&Ask::get("/")), "{dialect:?} {principals}");
        }
    }
}

#[test]
fn a_token_without_subject_has_no_principal() {
    for dialect in DIALECTS {
        let world = World::new(dialect, "  - from: [{source: {requestPrincipals: ['*']}}]\n");
        assert!(!world.admits_claims(&json!({ "iss": ISSUER })));
        assert!(!world.admits_claims(&with(claims(), "sub", json!(""))));
    }
}

#[test]
fn a_bad_token_does_not_pass_where_none_would() {
    for dialect in DIALECTS {
        let world = World::new(dialect, "  - {}\n");
        assert!(world.admits(&Ask::get("/")));
        assert!(world.admits_claims(&claims()));
        assert!(!world.admits(&Ask::bearer("bad")));
        assert!(!world.admits_claims(&with(claims(), "exp", json!(5))));
        assert!(!world.admits(&Ask::bearer(&Signer::es256().token(&claims()))));
    }
}

#[test]
fn conditions_ask_about_claims() {
    for dialect in DIALECTS {
        for (key, value, claim, content, admits) in [
            (
                "request.auth.principal",
                "https://issuer.example/alice",
                "x",
                json!(1),
                true,
            ),
            ("request.auth.audiences", "web", "aud", json!("web"), true),
            ("request.auth.audiences", "web", "aud", json!(["a", "web"]), true),
            ("request.auth.audiences", "web", "aud", json!(["a"]), false),
            ("request.auth.presenter", "cli", "azp", json!("cli"), true),
            ("request.auth.presenter", "cli", "azp", json!("clix"), false),
            (
                "request.auth.claims[realm][roles]",
                "admin",
                "realm",
                json!({ "roles": ["admin"] }),
                true,
            ),
            (
                "request.auth.claims[realm][roles]",
                "admin",
                "realm.roles",
                json!(["admin"]),
                false,
            ),
            ("request.auth.claims[a.b]", "x", "a.b", json!("x"), true),
            ("request.auth.claims[a.b]", "x", "a", json!({ "b": "x" }), false),
            // Lists of words in one text, by default and by the rule.
            (
                "request.auth.claims[scope]",
                "write",
                "scope",
                json!("read write"),
                true,
            ),
            (
                "request.auth.claims[permission]",
                "write",
                "permission",
                json!("read write"),
                true,
            ),
            ("request.auth.claims[groups]", "dev", "groups", json!("ops dev"), true),
            ("request.auth.claims[teams]", "dev", "teams", json!("ops dev"), false),
            (
                "request.auth.claims[scope]",
                "read write",
                "scope",
                json!("read write"),
                false,
            ),
            // Neither numbers nor what is below a list.
            ("request.auth.claims[level]", "5", "level", json!(5), false),
            ("request.auth.claims[level]", "true", "level", json!(true), false),
            ("request.auth.claims[level]", "*", "level", json!(null), false),
            ("request.auth.claims[level]", "*", "level", json!(""), false),
            ("request.auth.claims[level]", "*", "level", json!([]), false),
            ("request.auth.claims[level]", "a", "level", json!([["a"]]), false),
            ("request.auth.claims[level]", "*", "level", json!({ "a": "b" }), false),
        ] {
            let rule = format!("  - when: [{{key: '{key}', values: ['{value}']}}]\n");
            let world = World::new(dialect, &rule);
            let claims = with(claims(), claim, content);
            assert_eq!(world.admits_claims(&claims), admits, "{dialect:?} {key} {claims}");
            assert!(!world.admits(&Ask::get("/")), "{dialect:?} {key}");
        }
    }
}

#[test]
fn a_connection_has_no_token_and_what_asks_for_one_does_not_admit() {
    for dialect in [Dialect::EnvoyTcp, Dialect::Ztunnel, Dialect::Strict] {
        let rule = "  - from: [{source: {requestPrincipals: ['*']}}]\n";
        let signer = Signer::es256();
        let file = POLICIES.replace("KEYS", &key_set(&[signer.jwk()])) + rule;
        let manifests = k8s::read("till.yaml", &file, &Budget::new()).unwrap();
        let set = Compiler::new(dialect).compile(manifests.authorization).unwrap();
        let peer = Peer::from(&"spiffe://cluster.local/ns/a/sa/b".parse().unwrap());
        let facts = mesh_policy::ConnectionFacts::new().peer(Known::Present(&peer));
        let verdict = set.decide(&facts).verdict();
        assert!(!matches!(verdict, Verdict::Allow(_)), "{dialect:?} {verdict:?}");
    }
}
