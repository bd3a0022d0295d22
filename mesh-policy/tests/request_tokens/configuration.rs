//! Rules that cannot be kept.

use mesh_policy::{
    Budget,
    authz::k8s,
    jwt::{Authenticator, MAX_RULES},
};
use serde_json::{Value, json};

use crate::world::{ISSUER, Signer, key_set, policy, rule, with};

/// What is wrong with a rule that has this besides what it needs.
fn fault(name: &str, value: Value) -> String {
    let rules = json!([with(rule(&Signer::es256()), name, value)]);
    let error = Authenticator::new([&policy(&rules)]).unwrap_err();
    error.to_string().split_once("jwtRules[0].").unwrap().1.to_owned()
}

#[test]
fn an_error_names_file_line_policy_and_field() {
    let file = "
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {name: jwt, namespace: shop}
spec:
  jwtRules:
  - issuer: https://a.example
  - issuer: https://b.example
    jwks: '{}'
";
    let manifests = k8s::read("jwt.yaml", file, &Budget::new()).unwrap();
    let error = Authenticator::new(&manifests.request_authentication).unwrap_err();
    assert_eq!(
        error.to_string(),
        "jwt.yaml:8: policy `shop/jwt`: jwtRules[1].jwks: the key set has no list of keys"
    );
}

#[test]
fn values_are_not_empty() {
    assert_eq!(fault("audiences", json!(["a", ""])), "audiences[1]: the value is empty");
    assert_eq!(fault("fromParams", json!([""])), "fromParams[0]: the value is empty");
    assert_eq!(fault("fromCookies", json!([""])), "fromCookies[0]: the value is empty");
    assert_eq!(
        fault("spaceDelimitedClaims", json!([""])),
        "spaceDelimitedClaims[0]: the value is empty"
    );
}

#[test]
fn headers_have_names_that_tokens_may_set() {
    assert_eq!(
        fault("fromHeaders", json!([{ "name": "a b" }])),
        "fromHeaders[0].name: `a b` is no name of a header"
    );
    for name in ["", ":path", "a:b", "a\nb", "é"] {
        let printed = fault("outputPayloadToHeader", json!(name));
        assert_eq!(
            printed,
            format!(
                "outputPayloadToHeader: `{}` is no name of a header",
                name.escape_debug()
            )
        );
    }
    for name in ["host", "Content-Length", "transfer-encoding", "connection"] {
        let outputs = json!([{ "header": name, "claim": "sub" }]);
        let expected = format!(
            "outputClaimToHeaders[0].header: header `{}` is not for tokens to set",
            name.to_lowercase()
        );
        assert_eq!(fault("outputClaimToHeaders", outputs), expected);
    }
}

#[test]
fn a_header_is_read_or_set() {
    assert_eq!(
        fault("outputPayloadToHeader", json!("Authorization")),
        "outputPayloadToHeader: header `authorization` has tokens, so it cannot be set from them"
    );
    let (one, two) = (Signer::es256(), Signer::es256());
    let rules = json!([
        with(
            rule(&one),
            "outputClaimToHeaders",
            json!([{ "header": "x-b", "claim": "sub" }])
        ),
        with(rule(&two), "fromHeaders", json!([{ "name": "x-b" }])),
    ]);
    let error = Authenticator::new([&policy(&rules)]).unwrap_err();
    assert!(error.to_string().ends_with("has tokens, so it cannot be set from them"));
}

#[test]
fn claims_have_names() {
    for claim in ["", "a.", ".a", "a..b"] {
        let outputs = json!([{ "header": "x-a", "claim": claim }]);
        let expected = format!("outputClaimToHeaders[0].claim: `{claim}` is no way to a claim");
        assert_eq!(fault("outputClaimToHeaders", outputs), expected);
    }
}

#[test]
fn keys_are_inline_or_at_an_address_of_the_web() {
    assert_eq!(
        fault("jwksUri", json!("https://a/k")),
        "jwks: a rule has keys or an address of keys, not both"
    );
    for uri in [
        "",
        "a",
        "ftp://a",
        "file:///etc/keys",
        "https://",
        "https:///a",
        "http://a b",
        "https://a\nb",
    ] {
        let rules = json!([{ "issuer": ISSUER, "jwksUri": uri }]);
        let error = Authenticator::new([&policy(&rules)]).unwrap_err().to_string();
        let expected = format!("`{}` is no http or https address", uri.escape_debug());
        assert!(error.ends_with(&expected), "{error}");
    }
}

#[test]
fn inline_keys_verify_something() {
    let none = "jwks: the key set has no key that tokens can be verified with";
    let secret = json!({ "kty": "oct", "k": "c2VjcmV0" });
    let short = json!({ "kty": "RSA", "e": "AQAB", "n": "gYGB" });
    for keys in [
        vec![],
        vec![secret],
        vec![json!({ "kty": "x" })],
        vec![json!(5)],
        vec![short],
    ] {
        assert_eq!(fault("jwks", json!(key_set(&keys))), none);
    }
    assert_eq!(fault("jwks", json!("")), "jwks: no JSON from line 1, column 0 on");
    assert_eq!(
        fault("jwks", json!("{\"keys\":5}")),
        "jwks: the key set has no list of keys"
    );
    assert_eq!(
        fault("jwks", json!("{\"keys\":[],\"keys\":[]}")),
        "jwks: an object of the JSON text has a name twice"
    );
    let many = vec![Signer::es256().jwk(); 513];
    assert_eq!(
        fault("jwks", json!(key_set(&many))),
        "jwks: the key set has more than 512 keys"
    );
    let large = " ".repeat((1 << 20) + 1);
    assert_eq!(
        fault("jwks", json!(large)),
        "jwks: the key set has 1048577 bytes, more than 1048576"
    );
}

#[test]
fn a_timeout_is_a_duration() {
    for text in ["", "5", "0s", "-1s", "soon"] {
        let expected = format!("timeout: `{text}` is no duration above zero");
        assert_eq!(fault("timeout", json!(text)), expected);
    }
}

#[test]
fn rules_and_entries_are_counted() {
    let names: Vec<_> = (0..65).map(|number| format!("p{number}")).collect();
    assert_eq!(
        fault("fromParams", json!(names)),
        "fromParams: 65 entries are more than 64"
    );
    let signer = Signer::es256();
    let of = |count: usize| Authenticator::new([&policy(&json!(vec![rule(&signer); count]))]);
    assert!(!of(MAX_RULES).unwrap().is_empty());
    assert!(Authenticator::new([]).unwrap().is_empty());
    let error = of(MAX_RULES + 1).unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with(": jwtRules[64]: 65 entries are more than 64"),
        "{error}"
    );
}

#[test]
fn debug_output_of_a_policy_has_no_keys() {
    let signer = Signer::es256();
    let printed = format!("{:?}", policy(&json!([rule(&signer)])));
    assert!(printed.contains(ISSUER) && !printed.contains(signer.jwk()["x"].as_str().unwrap()));
}
