//! JWT-SVIDs that are valid, and those that break one rule each.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "test code"
)]

use std::{sync::LazyLock, time::Duration};

use aws_lc_rs::{
    encoding::{AsDer, PublicKeyX509Der},
    hmac,
    rand::SystemRandom,
    rsa::KeySize,
    signature::{self, EcdsaKeyPair, EcdsaSigningAlgorithm, KeyPair, RsaEncoding, RsaKeyPair},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use mesh_identity::{
    BundleDocument, BundleMap, JwtAuthority, SpiffeId, TrustDomain,
    jwt::{JwtBundles, JwtError, JwtSvid, JwtValidator, MAX_TOKEN_BYTES, TokenError},
    provider,
};
use proptest::prelude::*;
use rustls_pki_types::UnixTime;
use serde_json::{Value, json};

const NOW: u64 = 1_900_000_000;
const AUDIENCE: &str = "spiffe://cluster.local/ns/shop/sa/till";

fn at(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

fn td(name: &str) -> TrustDomain {
    name.parse().unwrap()
}

/// A key that signs by one algorithm.
enum Signer {
    Ecdsa(EcdsaKeyPair),
    Rsa(&'static RsaKeyPair, &'static dyn RsaEncoding),
}

impl Signer {
    fn ecdsa(algorithm: &'static EcdsaSigningAlgorithm) -> Self {
        Self::Ecdsa(EcdsaKeyPair::generate(algorithm).unwrap())
    }

    fn rsa(encoding: &'static dyn RsaEncoding) -> Self {
        static KEY: LazyLock<RsaKeyPair> = LazyLock::new(|| RsaKeyPair::generate(KeySize::Rsa2048).unwrap());
        Self::Rsa(&KEY, encoding)
    }

    fn public_key(&self) -> Vec<u8> {
        let der: PublicKeyX509Der<'_> = match self {
            Self::Ecdsa(pair) => pair.public_key().as_der().unwrap(),
            Self::Rsa(pair, _) => pair.public_key().as_der().unwrap(),
        };
        der.as_ref().to_vec()
    }

    fn authority(&self, key_id: &str) -> JwtAuthority {
        JwtAuthority::new(key_id, &self.public_key()).unwrap()
    }

    fn sign(&self, header: &str, claims: &str) -> String {
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let random = SystemRandom::new();
        let signature = match self {
            Self::Ecdsa(pair) => pair.sign(&random, signed.as_bytes()).unwrap().as_ref().to_vec(),
            Self::Rsa(pair, encoding) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(*encoding, &random, signed.as_bytes(), &mut signature)
                    .unwrap();
                signature
            }
        };
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

fn es256() -> Signer {
    Signer::ecdsa(&signature::ECDSA_P256_SHA256_FIXED_SIGNING)
}

fn header() -> Value {
    json!({ "alg": "ES256", "kid": "k", "typ": "JWT" })
}

fn claims() -> Value {
    json!({ "sub": "spiffe://cluster.local/ns/shop/sa/cart", "aud": [AUDIENCE], "exp": NOW + 300, "iat": NOW - 5 })
}

fn bundles(authorities: impl IntoIterator<Item = JwtAuthority>) -> JwtBundles {
    JwtBundles::from(&BundleDocument::new(td("cluster.local"), [], authorities).unwrap())
}

fn validate(validator: &JwtValidator, token: &str, trust: &JwtBundles, now: u64) -> Result<JwtSvid, JwtError> {
    let algorithms = provider::aws_lc_rs().signature_verification_algorithms.all;
    validator.validate(token, trust, at(now), algorithms)
}

/// What is said of a token with this header and these claims, signed by a trusted key.
fn outcome(header: &str, claims: &str) -> Result<JwtSvid, JwtError> {
    let signer = es256();
    let token = signer.sign(header, claims);
    validate(
        &JwtValidator::new(AUDIENCE),
        &token,
        &bundles([signer.authority("k")]),
        NOW,
    )
}

fn with(mut object: Value, name: &str, value: Value) -> Value {
    object[name] = value;
    object
}

fn without(mut object: Value, name: &str) -> Value {
    object.as_object_mut().unwrap().remove(name);
    object
}

fn by_header(header: &Value) -> Result<JwtSvid, JwtError> {
    outcome(&header.to_string(), &claims().to_string())
}

fn by_claims(claims: &Value) -> Result<JwtSvid, JwtError> {
    outcome(&header().to_string(), &claims.to_string())
}

#[test]
fn a_valid_token_tells_whom_it_identifies() {
    let svid = by_claims(&claims()).unwrap();
    let expected: SpiffeId = "spiffe://cluster.local/ns/shop/sa/cart".parse().unwrap();
    assert_eq!(svid.id(), &expected);
    assert_eq!(svid.audiences(), [AUDIENCE]);
    assert_eq!(svid.expires(), at(NOW + 300));
    assert_eq!(svid.issued(), Some(at(NOW - 5)));
}

#[test]
fn every_permitted_algorithm_is_verified() {
    let signers = [
        ("ES256", es256()),
        ("ES384", Signer::ecdsa(&signature::ECDSA_P384_SHA384_FIXED_SIGNING)),
        ("ES512", Signer::ecdsa(&signature::ECDSA_P521_SHA512_FIXED_SIGNING)),
        ("RS256", Signer::rsa(&signature::RSA_PKCS1_SHA256)),
        ("RS384", Signer::rsa(&signature::RSA_PKCS1_SHA384)),
        ("RS512", Signer::rsa(&signature::RSA_PKCS1_SHA512)),
        ("PS256", Signer::rsa(&signature::RSA_PSS_SHA256)),
        ("PS384", Signer::rsa(&signature::RSA_PSS_SHA384)),
        ("PS512", Signer::rsa(&signature::RSA_PSS_SHA512)),
    ];
    let validator = JwtValidator::new(AUDIENCE);
    for (name, signer) in &signers {
        let header = with(header(), "alg", json!(name)).to_string();
        // Repeated, so that numbers with leading zeros occur now and then.
        for _ in 0..20 {
            let token = signer.sign(&header, &claims().to_string());
            let trust = bundles([signer.authority("k")]);
            assert!(validate(&validator, &token, &trust, NOW).is_ok(), "{name}");
        }
        let others = signers.iter().map(|(other, _)| other).filter(|other| *other != name);
        for other in others {
            let token = signer.sign(
                &with(self::header(), "alg", json!(other)).to_string(),
                &claims().to_string(),
            );
            let error = validate(&validator, &token, &bundles([signer.authority("k")]), NOW).unwrap_err();
            assert!(
                matches!(error, JwtError::UnknownKey { .. } | JwtError::BadSignature),
                "{name} as {other}"
            );
        }
    }
}

#[test]
fn other_algorithms_are_refused_before_any_key_is_looked_at() {
    for name in [
        "none", "None", "HS256", "HS384", "EdDSA", "es256", "ES256K", "RSA-OAEP", "",
    ] {
        assert_eq!(
            by_header(&with(header(), "alg", json!(name))),
            Err(TokenError::Algorithm.into()),
            "{name}"
        );
    }
    assert_eq!(by_header(&without(header(), "alg")), Err(TokenError::Algorithm.into()));
    assert_eq!(
        by_header(&with(header(), "alg", json!(["ES256"]))),
        Err(TokenError::Algorithm.into())
    );
    // The public key as an HMAC secret.
    let signer = es256();
    let header = with(header(), "alg", json!("HS256")).to_string();
    let signed = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(header),
        URL_SAFE_NO_PAD.encode(claims().to_string())
    );
    let key = hmac::Key::new(hmac::HMAC_SHA256, &signer.public_key());
    let token = format!(
        "{signed}.{}",
        URL_SAFE_NO_PAD.encode(hmac::sign(&key, signed.as_bytes()))
    );
    let trust = bundles([signer.authority("k")]);
    assert_eq!(
        validate(&JwtValidator::new(AUDIENCE), &token, &trust, NOW),
        Err(TokenError::Algorithm.into())
    );
}

#[test]
fn an_algorithm_that_the_provider_lacks_is_not_passed_over() {
    let signer = Signer::ecdsa(&signature::ECDSA_P521_SHA512_FIXED_SIGNING);
    let token = signer.sign(
        &with(header(), "alg", json!("ES512")).to_string(),
        &claims().to_string(),
    );
    let ring = provider::ring().signature_verification_algorithms.all;
    let trust = bundles([signer.authority("k")]);
    let outcome = JwtValidator::new(AUDIENCE).validate(&token, &trust, at(NOW), ring);
    assert_eq!(outcome, Err(JwtError::UnsupportedAlgorithm));
}

#[test]
fn the_header_holds_nothing_but_what_is_known() {
    for name in ["jku", "jwk", "x5c", "x5u", "crit", "cty", "zip", "b64", "ALG", ""] {
        let error = TokenError::HeaderParameter { name: name.into() }.into();
        assert_eq!(by_header(&with(header(), name, json!("x"))), Err(error), "{name}");
    }
    for kind in [json!("jwt"), json!("at+jwt"), json!("wit+jwt"), json!(""), Value::Null] {
        assert_eq!(by_header(&with(header(), "typ", kind)), Err(TokenError::Type.into()));
    }
    assert!(by_header(&with(header(), "typ", json!("JOSE"))).is_ok());
    assert!(by_header(&without(header(), "typ")).is_ok());
    assert_eq!(
        by_header(&with(header(), "kid", json!(1))),
        Err(TokenError::KeyId.into())
    );
    assert_eq!(by_header(&json!([])), Err(TokenError::NotAnObject.into()));
    let twice = r#"{"alg":"ES256","kid":"k","alg":"ES256"}"#;
    assert!(matches!(
        outcome(twice, &claims().to_string()),
        Err(JwtError::Token(TokenError::Header(_)))
    ));
}

#[test]
fn only_the_compact_serialisation_is_read() {
    let signer = es256();
    let token = signer.sign(&header().to_string(), &claims().to_string());
    let parts: Vec<&str> = token.split('.').collect();
    let flattened = json!({ "protected": parts[0], "payload": parts[1], "signature": parts[2] });
    let general = json!({ "payload": parts[1], "signatures": [{ "protected": parts[0], "signature": parts[2] }] });
    for broken in [
        flattened.to_string(),
        general.to_string(),
        String::new(),
        parts[..2].join("."),
        format!("{token}.{}", parts[2]),
        format!("{token}="),
        format!(" {token}"),
        format!("{token}\n"),
        format!("{}.{}", token, ""),
        token.replace('.', ".."),
    ] {
        let outcome = validate(
            &JwtValidator::new(AUDIENCE),
            &broken,
            &bundles([signer.authority("k")]),
            NOW,
        );
        assert_eq!(outcome, Err(TokenError::NotCompact.into()), "{broken}");
    }
}

#[test]
fn claims_are_there_and_of_their_type() {
    let claim = |name| Err(TokenError::Claim { name }.into());
    for name in ["sub", "aud", "exp"] {
        assert_eq!(by_claims(&without(claims(), name)), claim(name));
        assert_eq!(by_claims(&with(claims(), name, Value::Null)), claim(name));
    }
    for exp in [json!("1900000300"), json!(1.9e9), json!(-1), json!(1e30)] {
        assert_eq!(by_claims(&with(claims(), "exp", exp)), claim("exp"));
    }
    for name in ["nbf", "iat"] {
        assert_eq!(by_claims(&with(claims(), name, json!("1"))), claim(name));
    }
    for aud in [json!([]), json!([1]), json!({}), json!(["a", null])] {
        assert_eq!(by_claims(&with(claims(), "aud", aud)), claim("aud"));
    }
    let twice = claims().to_string().replacen('{', r#"{"sub":"spiffe://a/a","#, 1);
    assert!(matches!(
        outcome(&header().to_string(), &twice),
        Err(JwtError::Token(TokenError::Claims(_)))
    ));
}

#[test]
fn the_subject_is_a_workloads_id() {
    for subject in [
        "",
        "cart",
        "https://cluster.local/a",
        "SPIFFE://cluster.local/a",
        "spiffe://cluster.local/a/../b",
    ] {
        let outcome = by_claims(&with(claims(), "sub", json!(subject)));
        assert!(
            matches!(outcome, Err(JwtError::Token(TokenError::Subject(_)))),
            "{subject}"
        );
    }
    let root = by_claims(&with(claims(), "sub", json!("spiffe://cluster.local")));
    assert_eq!(root, Err(TokenError::RootPath.into()));
}

#[test]
fn a_token_is_for_those_it_is_addressed_to() {
    assert!(by_claims(&with(claims(), "aud", json!(AUDIENCE))).is_ok());
    assert!(by_claims(&with(claims(), "aud", json!(["other", AUDIENCE]))).is_ok());
    for aud in [
        json!("other"),
        json!([""]),
        json!([format!("{AUDIENCE}/")]),
        json!(AUDIENCE.to_uppercase()),
    ] {
        assert_eq!(by_claims(&with(claims(), "aud", aud)), Err(JwtError::Audience));
    }
    let signer = es256();
    let trust = bundles([signer.authority("k")]);
    let token = |aud| signer.sign(&header().to_string(), &with(claims(), "aud", aud).to_string());
    let either = JwtValidator::new("a").or_audience("b");
    assert!(validate(&either, &token(json!("b")), &trust, NOW).is_ok());
    let nobody = JwtValidator::new("");
    assert_eq!(
        validate(&nobody, &token(json!([""])), &trust, NOW),
        Err(JwtError::Audience)
    );
}

#[test]
fn time_counts_to_the_second_and_leeway_is_bounded() {
    let signer = es256();
    let trust = bundles([signer.authority("k")]);
    let token = signer.sign(&header().to_string(), &with(claims(), "nbf", json!(NOW)).to_string());
    let check = |leeway, now| {
        let validator = JwtValidator::new(AUDIENCE).with_leeway(Duration::from_secs(leeway));
        validate(&validator, &token, &trust, now).map_or_else(|error| error.reason(), |_| "")
    };
    assert_eq!(check(0, NOW), "");
    assert_eq!(check(0, NOW - 1), "jwt_not_yet_valid");
    assert_eq!(check(0, NOW + 299), "");
    assert_eq!(check(0, NOW + 300), "jwt_expired");
    assert_eq!(check(10, NOW + 309), "");
    assert_eq!(check(10, NOW + 310), "jwt_expired");
    assert_eq!(check(10, NOW - 10), "");
    assert_eq!(check(10, NOW - 11), "jwt_not_yet_valid");
    assert_eq!(check(u64::MAX, NOW + 360), "jwt_expired");
    assert_eq!(check(u64::MAX, NOW - 61), "jwt_not_yet_valid");
    // Moments at the end of time do not wrap around.
    assert!(by_claims(&with(claims(), "exp", json!(u64::MAX))).is_ok());
    let never = by_claims(&with(claims(), "nbf", json!(u64::MAX))).unwrap_err();
    assert_eq!(never.reason(), "jwt_not_yet_valid");
    assert!(!never.to_string().is_empty());
}

#[test]
fn claims_are_judged_before_any_signature() {
    let trust = bundles([es256().authority("k")]);
    let forged = |claims: Value| es256().sign(&header().to_string(), &claims.to_string());
    let reason = |claims| {
        let outcome = validate(&JwtValidator::new(AUDIENCE), &forged(claims), &trust, NOW);
        outcome.unwrap_err().reason()
    };
    assert_eq!(reason(claims()), "jwt_bad_signature");
    assert_eq!(reason(with(claims(), "exp", json!(NOW))), "jwt_expired");
    assert_eq!(reason(with(claims(), "nbf", json!(NOW + 1))), "jwt_not_yet_valid");
    assert_eq!(reason(with(claims(), "aud", json!("other"))), "jwt_audience");
}

#[test]
fn only_the_subjects_own_trust_domain_signs() {
    let (ours, theirs) = (es256(), es256());
    let map = BundleMap::new([
        BundleDocument::new(td("cluster.local"), [], [ours.authority("k")]).unwrap(),
        BundleDocument::new(td("other"), [], [theirs.authority("k"), theirs.authority("t")]).unwrap(),
    ])
    .unwrap();
    let trust = JwtBundles::from(&map);
    let validator = JwtValidator::new(AUDIENCE);
    let forged = theirs.sign(&header().to_string(), &claims().to_string());
    assert_eq!(validate(&validator, &forged, &trust, NOW), Err(JwtError::BadSignature));
    let forged = theirs.sign(&with(header(), "kid", json!("t")).to_string(), &claims().to_string());
    let trust_domain = td("cluster.local");
    assert_eq!(
        validate(&validator, &forged, &trust, NOW),
        Err(JwtError::UnknownKey { trust_domain })
    );
    let stranger = with(claims(), "sub", json!("spiffe://third/a")).to_string();
    let trust_domain = td("third");
    let outcome = validate(&validator, &ours.sign(&header().to_string(), &stranger), &trust, NOW);
    assert_eq!(outcome, Err(JwtError::UnknownTrustDomain { trust_domain }));
    assert!(trust.get(&td("other")).is_some());
}

#[test]
fn keys_for_other_uses_sign_no_tokens() {
    let signer = es256();
    let document = BundleDocument::new(td("cluster.local"), [], [signer.authority("k")]).unwrap();
    let token = signer.sign(&header().to_string(), &claims().to_string());
    for purpose in ["x509-svid", "wit-svid", "sig"] {
        let text = document.to_json().replace("jwt-svid", purpose);
        let document = BundleDocument::parse(td("cluster.local"), text.as_bytes()).unwrap();
        let outcome = validate(&JwtValidator::new(AUDIENCE), &token, &JwtBundles::from(&document), NOW);
        assert!(matches!(outcome, Err(JwtError::UnknownKey { .. })), "{purpose}");
    }
}

#[test]
fn a_token_without_key_id_is_tried_with_a_bounded_number_of_keys() {
    let signer = es256();
    let token = signer.sign(&without(header(), "kid").to_string(), &claims().to_string());
    let trust = |others: usize| {
        let others = (0..others).map(|n| es256().authority(&format!("o{n}")));
        bundles(others.chain([
            signer.authority("k"),
            Signer::rsa(&signature::RSA_PSS_SHA256).authority("r"),
        ]))
    };
    let validator = JwtValidator::new(AUDIENCE);
    assert!(validate(&validator, &token, &trust(7), NOW).is_ok());
    assert_eq!(validate(&validator, &token, &trust(8), NOW), Err(JwtError::TooManyKeys));
}

#[test]
fn sizes_are_capped() {
    let bytes = MAX_TOKEN_BYTES + 1;
    let outcome = validate(&JwtValidator::new(AUDIENCE), &"A".repeat(bytes), &bundles([]), NOW);
    assert_eq!(outcome, Err(TokenError::TooLarge { bytes }.into()));
    let crowd: Vec<_> = (0..64).map(|n| n.to_string()).chain([AUDIENCE.to_owned()]).collect();
    assert_eq!(
        by_claims(&with(claims(), "aud", json!(crowd))),
        Err(TokenError::TooManyAudiences.into())
    );
    assert!(by_claims(&with(claims(), "aud", json!(crowd[1..]))).is_ok());
}

#[test]
fn a_changed_character_anywhere_is_noticed_and_nothing_of_the_token_shown() {
    let signer = es256();
    let trust = bundles([signer.authority("k")]);
    let token = signer.sign(&header().to_string(), &claims().to_string());
    let signature = token.rsplit('.').next().unwrap();
    for place in 0..token.len() {
        let mut changed = token.clone().into_bytes();
        changed[place] = if changed[place] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(changed).unwrap();
        let error = validate(&JwtValidator::new(AUDIENCE), &changed, &trust, NOW).unwrap_err();
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains('\n') && !shown.contains(signature), "{shown}");
    }
    let svid = validate(&JwtValidator::new(AUDIENCE), &token, &trust, NOW).unwrap();
    for part in token.split('.') {
        assert!(!format!("{svid:?}").contains(part));
    }
}

proptest! {
    #[test]
    fn any_text_is_judged(text in "[A-Za-z0-9_-]{0,20}(\\.[A-Za-z0-9_-]{0,20}){0,3}", header in "\\{.{0,20}\\}", claims in "\\{.{0,30}\\}") {
        mesh_identity::fuzzing::jwt(text.as_bytes());
        prop_assert!(outcome(&header, &claims).is_err());
    }
}
