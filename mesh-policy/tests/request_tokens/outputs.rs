//! What becomes of a request.

use mesh_policy::jwt::Changes;
use serde_json::{Value, json};

use crate::world::{Ask, Signer, authenticator, claims, encode, outcome, rule, with};

fn rule_with(signer: &Signer, fields: &Value) -> Value {
    let mut rule = rule(signer);
    for (name, value) in fields.as_object().unwrap() {
        rule[name] = value.clone();
    }
    rule
}

fn changes(signer: &Signer, fields: &Value, ask: &Ask) -> Changes {
    let authenticator = authenticator(&json!([rule_with(signer, fields)]));
    ask.of(&authenticator).unwrap().changes().clone()
}

fn removed(changes: &Changes) -> Vec<&str> {
    changes.removed_headers().collect()
}

fn added(changes: &Changes) -> Vec<(&str, &str)> {
    let added = changes.added_headers();
    added
        .map(|(name, value)| (name, std::str::from_utf8(value).unwrap()))
        .collect()
}

#[test]
fn the_token_is_removed_from_where_it_was() {
    let signer = Signer::es256();
    let token = signer.token(&claims());
    let of = |fields: Value, ask: Ask| changes(&signer, &fields, &ask);
    let header = of(json!({}), Ask::bearer(&token));
    assert_eq!((removed(&header), header.target()), (vec!["authorization"], None));
    let parameter = of(json!({}), Ask::get(&format!("/a?x=1&access_token={token}&y")));
    assert_eq!(
        (removed(&parameter), parameter.target()),
        (vec![], Some(b"/a?x=1&y".as_slice()))
    );
    let cookie = of(
        json!({ "fromCookies": ["t"] }),
        Ask::get("/").header("cookie", &format!("t={token}")),
    );
    assert_eq!(cookie, Changes::default());
}

#[test]
fn the_token_stays_if_it_is_to_be_forwarded() {
    let signer = Signer::es256();
    let token = signer.token(&claims());
    let ask = Ask::get(&format!("/?access_token={token}")).header("authorization", &format!("Bearer {token}"));
    assert_eq!(
        changes(&signer, &json!({ "forwardOriginalToken": true }), &ask),
        Changes::default()
    );
}

#[test]
fn payload_and_claims_are_put_in_headers() {
    let signer = Signer::es256();
    let claims = with(claims(), "realm", json!({ "roles": ["a"], "level": 1.5 }));
    let fields = json!({
        "outputPayloadToHeader": "X-Payload",
        "outputClaimToHeaders": [
            { "header": "X-Sub", "claim": "sub" },
            { "header": "x-level", "claim": "realm.level" },
            { "header": "x-roles", "claim": "realm.roles" },
            { "header": "x-none", "claim": "none" },
        ],
    });
    let changes = changes(&signer, &fields, &Ask::bearer(&signer.token(&claims)));
    let payload = encode(&claims.to_string());
    let expected = [
        ("x-payload", payload.as_str()),
        ("x-sub", "alice"),
        ("x-level", "1.500000"),
        ("x-roles", "WyJhIl0="),
    ];
    assert_eq!(added(&changes), expected);
    let expected = ["authorization", "x-level", "x-none", "x-payload", "x-roles", "x-sub"];
    assert_eq!(removed(&changes), expected);
}

#[test]
fn headers_that_rules_set_are_removed_whatever_comes() {
    let (one, two) = (Signer::es256(), Signer::es256());
    let output = |issuer: &str, header: &str| json!({ "issuer": issuer, "outputClaimToHeaders": [{ "header": header, "claim": "sub" }] });
    let rules = json!([
        rule_with(&one, &output("a", "x-a")),
        rule_with(&two, &output("b", "x-b"))
    ]);
    let authenticator = authenticator(&rules);
    let spoofed = |ask: Ask| ask.header("x-a", "admin").header("x-b", "admin");
    let without = spoofed(Ask::get("/")).of(&authenticator).unwrap();
    assert_eq!(
        (removed(without.changes()), added(without.changes())),
        (vec!["x-a", "x-b"], vec![])
    );
    let token = one.token(&json!({ "iss": "a", "sub": "alice" }));
    let with = spoofed(Ask::bearer(&token)).of(&authenticator).unwrap();
    assert_eq!(removed(with.changes()), ["authorization", "x-a", "x-b"]);
    assert_eq!(added(with.changes()), [("x-a", "alice")]);
    let mut preflight = spoofed(
        Ask::get("/")
            .header("origin", "o")
            .header("access-control-request-method", "PUT"),
    );
    preflight.method = "OPTIONS";
    assert_eq!(removed(preflight.of(&authenticator).unwrap().changes()), ["x-a", "x-b"]);
}

#[test]
fn a_claim_cannot_add_lines_to_the_request() {
    let signer = Signer::es256();
    let fields = json!({ "outputClaimToHeaders": [{ "header": "x-sub", "claim": "sub" }] });
    let authenticator = authenticator(&json!([rule_with(&signer, &fields)]));
    for subject in ["a\r\nx-admin: 1", "a\nb", "a\u{0}", "a\u{7f}"] {
        let judged = Ask::bearer(&signer.token(&with(claims(), "sub", json!(subject)))).of(&authenticator);
        assert_eq!(outcome(judged), "jwt_header_value");
    }
}

#[test]
fn debug_output_has_neither_token_nor_claims() {
    let signer = Signer::es256();
    let fields =
        json!({ "outputClaimToHeaders": [{ "header": "x-sub", "claim": "sub" }], "forwardOriginalToken": true });
    let authenticator = authenticator(&json!([rule_with(&signer, &fields)]));
    let token = signer.token(&claims());
    let judged = Ask::bearer(&token).of(&authenticator).unwrap();
    for printed in [format!("{judged:?}"), format!("{authenticator:?}")] {
        assert!(!printed.contains("alice") && !printed.contains(&token), "{printed}");
        assert!(!printed.contains(signer.jwk()["x"].as_str().unwrap()));
        assert!(printed.contains("jwt"));
    }
}
