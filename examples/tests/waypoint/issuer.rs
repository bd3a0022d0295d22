//! Somebody who issues tokens.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls_pki_types::UnixTime;
use serde_json::json;

/// An issuer with a key.
pub struct Issuer {
    name: &'static str,
    key: EcdsaKeyPair,
}

impl Issuer {
    pub fn new(name: &'static str) -> Self {
        Self {
            name,
            key: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(),
        }
    }

    /// Its key set.
    pub fn keys(&self) -> String {
        let (x, y) = self.key.public_key().as_ref()[1..].split_at(32);
        let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
        json!({ "keys": [{ "kty": "EC", "crv": "P-256", "alg": "ES256", "kid": "k", "x": x, "y": y }] }).to_string()
    }

    /// The field of a rule that has the key set in it.
    pub fn inline(&self) -> String {
        format!("jwks: '{}'", self.keys())
    }

    /// A RequestAuthentication for `till` by which its tokens are believed, with its keys in this field.
    pub fn rule(&self, keys: &str) -> String {
        format!(
            "apiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {{name: tokens, namespace: shop}}\n\
             spec:\n  targetRefs: [{{kind: Service, group: '', name: till}}]\n  jwtRules:\n  - issuer: {}\n    {keys}\n    \
             outputClaimToHeaders: [{{header: x-sub, claim: sub}}]\n---\n",
            self.name
        )
    }

    /// A policy by which nobody passes without one of its tokens.
    pub fn needed(&self) -> String {
        format!(
            "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: with-token, namespace: shop}}\n\
             spec:\n  targetRefs: [{{kind: Service, group: '', name: till}}]\n  \
             rules: [{{from: [{{source: {{requestPrincipals: ['{}/*']}}}}]}}]\n---\n",
            self.name
        )
    }

    /// A token for somebody, good for an hour.
    pub fn token(&self, subject: &str) -> String {
        let claims = json!({ "iss": self.name, "sub": subject, "exp": UnixTime::now().as_secs() + 3600 });
        let [head, claims] =
            [r#"{"alg":"ES256","kid":"k"}"#, &claims.to_string()].map(|part| URL_SAFE_NO_PAD.encode(part));
        let signed = format!("{head}.{claims}");
        let signature = self.key.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}
