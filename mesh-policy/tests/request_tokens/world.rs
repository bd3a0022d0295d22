//! Issuers with their keys, and requests to show tokens with.

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use aws_lc_rs::{
    encoding::AsDer,
    rand::SystemRandom,
    rsa::KeySize,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, ECDSA_P521_SHA512_FIXED_SIGNING,
        EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384,
        RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512, RsaEncoding, RsaKeyPair,
    },
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use mesh_identity::provider;
use mesh_policy::{
    Budget, ConnectionFacts, Known, OwnedPath, PathNormalization, RequestFacts,
    authz::{RequestAuthentication, k8s},
    jwt::{Authentication, Authenticator, InlineOnly, KeySet, KeySource, Rejection, WantedKeys},
};
use rustls_pki_types::UnixTime;
use serde_json::{Value, json};

pub const NOW: u64 = 1_900_000_000;
pub const ISSUER: &str = "https://issuer.example";

/// Something that signs.
pub enum Signer {
    Ecdsa(EcdsaKeyPair, &'static str, &'static str),
    Rsa(&'static RsaKeyPair, &'static dyn RsaEncoding, &'static str),
    Ed(Ed25519KeyPair),
}

impl Signer {
    pub fn es256() -> Self {
        Self::ecdsa(&ECDSA_P256_SHA256_FIXED_SIGNING, "ES256", "P-256")
    }

    fn ecdsa(algorithm: &'static EcdsaSigningAlgorithm, name: &'static str, curve: &'static str) -> Self {
        Self::Ecdsa(EcdsaKeyPair::generate(algorithm).unwrap(), name, curve)
    }

    pub fn rsa(encoding: &'static dyn RsaEncoding, name: &'static str) -> Self {
        static KEY: LazyLock<RsaKeyPair> = LazyLock::new(|| RsaKeyPair::generate(KeySize::Rsa2048).unwrap());
        Self::Rsa(&KEY, encoding, name)
    }

    /// One for each algorithm.
    pub fn all() -> Vec<Self> {
        vec![
            Self::es256(),
            Self::ecdsa(&ECDSA_P384_SHA384_FIXED_SIGNING, "ES384", "P-384"),
            Self::ecdsa(&ECDSA_P521_SHA512_FIXED_SIGNING, "ES512", "P-521"),
            Self::rsa(&RSA_PKCS1_SHA256, "RS256"),
            Self::rsa(&RSA_PKCS1_SHA384, "RS384"),
            Self::rsa(&RSA_PKCS1_SHA512, "RS512"),
            Self::rsa(&RSA_PSS_SHA256, "PS256"),
            Self::rsa(&RSA_PSS_SHA384, "PS384"),
            Self::rsa(&RSA_PSS_SHA512, "PS512"),
            Self::Ed(Ed25519KeyPair::generate().unwrap()),
        ]
    }

    pub fn algorithm(&self) -> &'static str {
        match self {
            Self::Ecdsa(_, name, _) | Self::Rsa(_, _, name) => name,
            Self::Ed(_) => "EdDSA",
        }
    }

    /// The public key, without ID and algorithm.
    pub fn jwk(&self) -> Value {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        match self {
            Self::Ecdsa(pair, _, curve) => {
                let point = &pair.public_key().as_ref()[1..];
                let (x, y) = point.split_at(point.len() / 2);
                json!({ "kty": "EC", "crv": curve, "x": text(x), "y": text(y) })
            }
            Self::Rsa(pair, ..) => {
                // Of 2,048 bits: SEQUENCE, INTEGER of 257 bytes, INTEGER of 3 bytes.
                let der = pair.public_key().as_ref();
                assert_eq!(
                    (der.len(), &der[..9]),
                    (270, b"\x30\x82\x01\x0a\x02\x82\x01\x01\x00".as_slice())
                );
                json!({ "kty": "RSA", "n": text(&der[9..265]), "e": text(&der[267..]) })
            }
            Self::Ed(pair) => json!({ "kty": "OKP", "crv": "Ed25519", "x": text(pair.public_key().as_ref()) }),
        }
    }

    /// The public key's own bytes, as an attacker has them.
    pub fn public_bytes(&self) -> Vec<u8> {
        match self {
            Self::Ecdsa(pair, ..) => pair.public_key().as_ref().to_vec(),
            Self::Rsa(pair, ..) => pair.public_key().as_der().unwrap().as_ref().to_vec(),
            Self::Ed(pair) => pair.public_key().as_ref().to_vec(),
        }
    }

    pub fn sign(&self, header: &str, claims: &str) -> String {
        let signed = format!("{}.{}", encode(header), encode(claims));
        let signature = self.signature(signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    pub fn signature(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::Ecdsa(pair, ..) => pair.sign(&random, message).unwrap().as_ref().to_vec(),
            Self::Rsa(pair, encoding, _) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(*encoding, &random, message, &mut signature).unwrap();
                signature
            }
            Self::Ed(pair) => pair.sign(message).as_ref().to_vec(),
        }
    }

    /// A token with these claims, and a header that says no more than it must.
    pub fn token(&self, claims: &Value) -> String {
        self.sign(&json!({ "alg": self.algorithm() }).to_string(), &claims.to_string())
    }
}

pub fn encode(text: &str) -> String {
    URL_SAFE_NO_PAD.encode(text)
}

pub fn claims() -> Value {
    json!({ "iss": ISSUER, "sub": "alice", "exp": NOW + 300 })
}

pub fn with(mut object: Value, name: &str, value: Value) -> Value {
    object[name] = value;
    object
}

pub fn key_set(keys: &[Value]) -> String {
    json!({ "keys": keys }).to_string()
}

/// A RequestAuthentication with these rules, by way of a file.
pub fn policy(rules: &Value) -> RequestAuthentication {
    let file = json!({
        "apiVersion": "security.istio.io/v1",
        "kind": "RequestAuthentication",
        "metadata": { "name": "jwt", "namespace": "shop" },
        "spec": { "jwtRules": rules },
    });
    let mut read = k8s::read("jwt.yaml", &file.to_string(), &Budget::new()).unwrap();
    read.request_authentication.pop().unwrap()
}

pub fn authenticator(rules: &Value) -> Authenticator {
    Authenticator::new([&policy(rules)]).unwrap()
}

/// One issuer with one key, in the usual places.
pub fn rule(signer: &Signer) -> Value {
    json!({ "issuer": ISSUER, "jwks": key_set(&[signer.jwk()]) })
}

/// A request, before anything is known about who sent it.
#[derive(Clone)]
pub struct Ask {
    pub method: &'static str,
    pub target: String,
    pub headers: Vec<(String, Vec<u8>)>,
    pub now: u64,
}

impl Ask {
    pub fn get(target: &str) -> Self {
        Self {
            method: "GET",
            target: target.to_owned(),
            headers: Vec::new(),
            now: NOW,
        }
    }

    pub fn bearer(token: &str) -> Self {
        Self::get("/").header("authorization", &format!("Bearer {token}"))
    }

    pub fn header(self, name: &str, value: &str) -> Self {
        self.bytes(name, value.as_bytes())
    }

    pub fn bytes(mut self, name: &str, value: &[u8]) -> Self {
        self.headers.push((name.to_owned(), value.to_vec()));
        self
    }

    pub fn at(mut self, now: u64) -> Self {
        self.now = now;
        self
    }

    pub fn path(&self) -> OwnedPath {
        let mut buffer = Vec::new();
        let path = PathNormalization::Base.normalize(self.target.as_bytes(), &mut buffer);
        path.unwrap().to_owned()
    }

    pub fn with<R>(&self, then: impl FnOnce(RequestFacts<'_>) -> R) -> R {
        let path = self.path();
        let facts = RequestFacts::new(ConnectionFacts::new(), self.method.as_bytes(), &self.headers);
        then(facts.path(Known::Present(path.borrowed())))
    }

    pub fn of(&self, authenticator: &Authenticator) -> Result<Authentication, Rejection> {
        self.by(authenticator, &InlineOnly)
    }

    pub fn by(&self, authenticator: &Authenticator, keys: &dyn KeySource) -> Result<Authentication, Rejection> {
        let now = UnixTime::since_unix_epoch(Duration::from_secs(self.now));
        let algorithms = provider::aws_lc_rs().signature_verification_algorithms.all;
        self.with(|facts| authenticator.authenticate(&facts, keys, now, algorithms))
    }

    /// The reason for a refusal, or the subject, or nothing.
    pub fn outcome(&self, authenticator: &Authenticator) -> String {
        outcome(self.of(authenticator))
    }
}

pub fn outcome(judged: Result<Authentication, Rejection>) -> String {
    match judged {
        Err(rejection) => rejection.fault.reason().to_owned(),
        Ok(authentication) => match authentication.claims() {
            Known::Present(claims) => claims.text("sub").unwrap_or("no subject").to_owned(),
            _ => "no token".to_owned(),
        },
    }
}

/// Keys that have been fetched from one address.
pub struct Fetched {
    pub uri: &'static str,
    pub keys: Option<Arc<KeySet>>,
}

impl KeySource for Fetched {
    fn keys(&self, wanted: &WantedKeys<'_>) -> Option<Arc<KeySet>> {
        assert_eq!((wanted.issuer, wanted.uri), (ISSUER, Some(self.uri)));
        self.keys.clone()
    }
}
