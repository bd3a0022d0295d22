//! Tokens with whatever claims, signed with a secret that Envoy has too.

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mesh_policy::{Claim, Claims};
use mesh_testkit::policy::wire::CLAIMS;
use serde_json::{Value, json};

const SECRET: &[u8] = b"a secret that everybody may know";

/// The key set with the secret.
pub fn keys() -> String {
    json!({ "keys": [{ "kty": "oct", "alg": "HS256", "k": URL_SAFE_NO_PAD.encode(SECRET) }] }).to_string()
}

/// A token with these claims.
pub fn sign(claims: &Claims) -> String {
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", encode(&json!({ "alg": "HS256" })), encode(&object(claims)));
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET);
    let tag = hmac::sign(&key, signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag.as_ref()))
}

fn object(claims: &Claims) -> Value {
    let claims = CLAIMS
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), value(claims.get(name)?))));
    Value::Object(claims.collect())
}

fn value(claim: &Claim) -> Value {
    match claim {
        Claim::Text(text) => json!(text),
        Claim::List(list) => list.iter().map(value).collect(),
        Claim::Object(claims) => object(claims),
        _ => json!(5),
    }
}
