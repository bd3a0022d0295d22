//! SPIFFE bundles and bundle maps: what is read, what is passed over, what is refused.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "test code"
)]

mod support;

use std::time::Duration;

use aws_lc_rs::{
    encoding::{AsDer, PublicKeyX509Der},
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use mesh_identity::{
    BundleDocument, BundleMap, BundleMapError, DocumentError, JsonError, JwtAuthority, JwtAuthorityError,
    MAX_DOCUMENT_BYTES, Role, SkipReason, TrustDomainError, provider,
    source::dev_ca::{DevCa, KeyType, Template},
    verify,
};
use proptest::prelude::*;
use serde_json::{Value, json};
use support::*;

fn read(value: &Value) -> Result<BundleDocument, DocumentError> {
    BundleDocument::parse(td(TD), value.to_string().as_bytes())
}

fn read_keys(keys: &[Value]) -> Result<BundleDocument, DocumentError> {
    read(&json!({ "keys": keys }))
}

fn x509(ca: &DevCa) -> Value {
    json!({ "use": "x509-svid", "kty": "EC", "x5c": [STANDARD.encode(ca.root_certificate())] })
}

fn coordinate(byte: char) -> String {
    byte.to_string().repeat(43)
}

fn jwt(kid: &str) -> Value {
    json!({ "use": "jwt-svid", "kty": "EC", "crv": "P-256", "kid": kid, "x": coordinate('A'), "y": coordinate('Q') })
}

fn with(mut key: Value, name: &str, value: Value) -> Value {
    key[name] = value;
    key
}

fn without(mut key: Value, name: &str) -> Value {
    key.as_object_mut().unwrap().remove(name);
    key
}

fn public_key() -> Vec<u8> {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let der: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
    der.as_ref().to_vec()
}

#[test]
fn a_document_verifies_what_its_authorities_issued() {
    let ca = ca(TD);
    let document = read_keys(&[x509(&ca), jwt("a")]).unwrap();
    assert_eq!(document.trust_domain(), &td(TD));
    assert_eq!(document.x509_authorities().collect::<Vec<_>>(), [ca.root_certificate()]);
    assert_eq!(document.jwt_authorities()[0].key_id(), "a");
    assert!(document.skipped().is_empty());
    let trust = document.trust_bundle().clone().into();
    let issued = ca.issue(&workload(), now()).unwrap();
    let algorithms = provider::aws_lc_rs().signature_verification_algorithms.all;
    assert!(verify(issued.chain(), Role::Client, &trust, now(), algorithms).is_ok());
}

#[test]
fn elements_for_others_are_passed_over_and_reported() {
    let ca = ca(TD);
    for (key, reason) in [
        (without(x509(&ca), "use"), SkipReason::Use),
        (with(x509(&ca), "use", json!("X509-SVID")), SkipReason::Use),
        (with(x509(&ca), "use", json!("wit-svid")), SkipReason::Use),
        (with(x509(&ca), "use", json!("sig")), SkipReason::Use),
        (without(x509(&ca), "kty"), SkipReason::KeyType),
        (with(x509(&ca), "kty", json!("ec")), SkipReason::KeyType),
        (with(x509(&ca), "kty", json!("oct")), SkipReason::KeyType),
        (without(x509(&ca), "x5c"), SkipReason::NoCertificate),
        (with(x509(&ca), "x5c", json!([])), SkipReason::NoCertificate),
        (without(jwt("a"), "kid"), SkipReason::NoKeyId),
        (jwt(""), SkipReason::NoKeyId),
        (without(jwt("a"), "kty"), SkipReason::KeyType),
        (with(jwt("a"), "crv", json!("secp256k1")), SkipReason::KeyType),
        (
            json!({"use": "jwt-svid", "kid": "a", "kty": "oct", "k": "c2VjcmV0"}),
            SkipReason::KeyType,
        ),
        (
            json!({"use": "jwt-svid", "kid": "a", "kty": "OKP", "crv": "Ed25519", "x": coordinate('A')}),
            SkipReason::KeyType,
        ),
        (
            json!({"use": "jwt-svid", "kid": "a", "kty": "RSA", "e": "AQAB", "n": "B".repeat(172)}),
            SkipReason::KeyType,
        ),
    ] {
        let text = key.to_string();
        let document = read_keys(&[key, x509(&ca)]).unwrap();
        let [skipped] = document.skipped() else {
            panic!("{text}")
        };
        assert_eq!((skipped.number(), skipped.reason()), (1, reason), "{text}");
        assert_eq!(document.x509_authorities().count(), 1, "{text}");
    }
}

#[test]
fn only_the_first_certificate_counts_and_a_key_id_does_not() {
    let (first, second) = (ca(TD), ca(TD));
    let both = json!([
        STANDARD.encode(first.root_certificate()),
        STANDARD.encode(second.root_certificate())
    ]);
    let garbage = json!([STANDARD.encode(first.root_certificate()), 7]);
    for chain in [both, garbage] {
        let key = with(with(x509(&first), "x5c", chain), "kid", json!("ignored"));
        let document = read_keys(&[key]).unwrap();
        assert_eq!(
            document.x509_authorities().collect::<Vec<_>>(),
            [first.root_certificate()]
        );
    }
}

#[test]
fn malformed_elements_refuse_the_whole_document() {
    let ca = ca(TD);
    let leaf = ca.issue(&workload(), now()).unwrap();
    let encoded = STANDARD.encode(ca.root_certificate());
    let member = |name| DocumentError::Member { number: 1, name };
    for (key, error) in [
        (json!(7), DocumentError::KeyNotAnObject { number: 1 }),
        (with(x509(&ca), "use", json!(1)), member("use")),
        (with(x509(&ca), "kty", Value::Null), member("kty")),
        (with(x509(&ca), "x5c", json!(encoded)), member("x5c")),
        (with(x509(&ca), "x5c", json!([7])), member("x5c")),
        (with(x509(&ca), "x5c", json!(["AAAA"])), member("x5c")),
        (
            with(
                x509(&ca),
                "x5c",
                json!([encoded.trim_end_matches('=').to_owned() + " "]),
            ),
            member("x5c"),
        ),
        (with(jwt("a"), "kid", json!(1)), member("kid")),
        (without(jwt("a"), "x"), member("x")),
        (with(jwt("a"), "y", json!("AA")), member("y")),
        (with(jwt("a"), "crv", json!("P-384")), member("x")),
    ] {
        let text = key.to_string();
        assert_eq!(read_keys(&[key]), Err(error), "{text}");
    }
    let not_a_root = with(x509(&ca), "x5c", json!([STANDARD.encode(&leaf.chain()[0])]));
    assert!(matches!(read_keys(&[not_a_root]), Err(DocumentError::Bundle(_))));
    let foreign = x509(&support::ca("other"));
    assert!(matches!(read_keys(&[foreign]), Err(DocumentError::Bundle(_))));
    assert_eq!(
        read_keys(&[jwt("a"), jwt("b"), jwt("a")]),
        Err(DocumentError::RepeatedKeyId { key_id: "a".into() })
    );
}

#[test]
fn keys_have_to_be_there_and_may_be_none() {
    for text in ["{}", r#"{"keys": null}"#, r#"{"keys": {}}"#, r#"{"Keys": []}"#] {
        let outcome = BundleDocument::parse(td(TD), text.as_bytes());
        assert_eq!(outcome, Err(DocumentError::NoKeys), "{text}");
    }
    assert_eq!(read(&json!([])), Err(DocumentError::NotAnObject));
    let empty = read_keys(&[]).unwrap();
    assert!(empty.trust_bundle().is_empty() && empty.jwt_authorities().is_empty());
    let issued = ca(TD).issue(&workload(), now()).unwrap();
    let algorithms = provider::aws_lc_rs().signature_verification_algorithms.all;
    let outcome = verify(
        issued.chain(),
        Role::Server,
        &empty.trust_bundle().clone().into(),
        now(),
        algorithms,
    );
    assert_eq!(outcome.unwrap_err().reason(), "empty_bundle");
}

#[test]
fn sequence_and_refresh_hint_are_unsigned_integers() {
    for name in ["spiffe_sequence", "spiffe_refresh_hint"] {
        let of = |number: &str| BundleDocument::parse(td(TD), format!(r#"{{"keys":[],"{name}":{number}}}"#).as_bytes());
        for number in ["-1", "1.0", "1e3", "\"1\"", "null", "18446744073709551616"] {
            assert_eq!(of(number), Err(DocumentError::Number { name }), "{number}");
        }
        assert!(of("18446744073709551615").is_ok());
    }
    let read = |text: &str| BundleDocument::parse(td(TD), text.as_bytes()).unwrap();
    let document = read(r#"{"keys":[],"spiffe_sequence":18446744073709551615,"spiffe_refresh_hint":300}"#);
    assert_eq!(document.sequence(), Some(u64::MAX));
    assert_eq!(document.refresh_hint(), Some(Duration::from_secs(300)));
}

#[test]
fn an_older_document_takes_no_newer_ones_place() {
    let plain = || read_keys(&[]).unwrap();
    let numbered = |sequence| plain().with_sequence(sequence);
    assert!(numbered(2).supersedes(&numbered(1)));
    assert!(!numbered(1).supersedes(&numbered(1)));
    assert!(!numbered(1).supersedes(&numbered(2)));
    assert!(plain().supersedes(&numbered(2)) && numbered(2).supersedes(&plain()));
    let other = BundleDocument::new(td("other"), [], []).unwrap().with_sequence(3);
    assert!(!other.supersedes(&numbered(1)));
}

#[test]
fn names_that_occur_twice_are_refused_at_every_level() {
    for text in [
        r#"{"keys":[],"keys":[]}"#,
        r#"{"keys":[{"use":"a","use":"b"}]}"#,
        r#"{"keys":[],"other":{"x":1,"x":1}}"#,
    ] {
        let error = BundleDocument::parse(td(TD), text.as_bytes()).unwrap_err();
        assert_eq!(error, JsonError::RepeatedName.into(), "{text}");
    }
}

#[test]
fn sizes_are_capped() {
    let bytes = MAX_DOCUMENT_BYTES + 1;
    let outcome = BundleDocument::parse(td(TD), &vec![b' '; bytes]);
    assert_eq!(outcome, Err(DocumentError::TooLarge { bytes }));
    let keys = vec![json!({}); 513];
    assert_eq!(read_keys(&keys), Err(DocumentError::TooManyKeys));
    assert!(read_keys(&keys[..512]).is_ok());
    let outcome = BundleMap::parse(&vec![b' '; (8 << 20) + 1]);
    assert!(matches!(outcome, Err(BundleMapError::TooLarge { .. })));
}

#[test]
fn what_is_written_names_each_entry_as_producers_must() {
    let ca = ca(TD);
    let authority = JwtAuthority::new("k1", &public_key()).unwrap();
    let document = BundleDocument::new(td(TD), [ca.root_certificate().clone()], [authority])
        .unwrap()
        .with_sequence(7)
        .with_refresh_hint(Duration::from_millis(60_500));
    let written: Value = serde_json::from_str(&document.to_json()).unwrap();
    let [x509, jwt] = written["keys"].as_array().unwrap().as_slice() else {
        panic!("{written}")
    };
    assert_eq!(x509["use"], "x509-svid");
    assert_eq!(x509["x5c"].as_array().unwrap().len(), 1);
    assert!(x509.get("kid").is_none());
    assert_eq!((&x509["kty"], &x509["crv"]), (&json!("EC"), &json!("P-256")));
    assert_eq!((&jwt["use"], &jwt["kid"]), (&json!("jwt-svid"), &json!("k1")));
    assert!(jwt.get("x5c").is_none());
    assert_eq!(
        (&written["spiffe_sequence"], &written["spiffe_refresh_hint"]),
        (&json!(7), &json!(60))
    );
    assert_eq!(read(&written), Ok(document));
}

#[test]
fn roots_of_every_kind_are_written() {
    for key in [
        KeyType::EcdsaP256,
        KeyType::EcdsaP384,
        KeyType::Ed25519,
        KeyType::Rsa2048,
    ] {
        let ca = DevCa::root(td(TD), Template { key, ..authority() }).unwrap();
        let document = BundleDocument::new(td(TD), [ca.root_certificate().clone()], []).unwrap();
        let again = BundleDocument::parse(td(TD), document.to_json().as_bytes());
        assert_eq!(again, Ok(document), "{key:?}");
    }
}

#[test]
fn keys_without_id_or_of_another_kind_sign_no_tokens() {
    assert_eq!(JwtAuthority::new("", &public_key()), Err(JwtAuthorityError::NoKeyId));
    assert_eq!(JwtAuthority::new("a", &[0x30, 0]), Err(JwtAuthorityError::Malformed));
    let ed25519 = [&[0x30, 42, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 3, 33, 0][..], &[7; 32]].concat();
    assert_eq!(JwtAuthority::new("a", &ed25519), Err(JwtAuthorityError::KeyType));
}

#[test]
fn maps_keep_trust_domains_apart() {
    let (ours, theirs) = (ca(TD), ca("other"));
    let map = json!({ "trust_domains": { TD: { "keys": [x509(&ours)] }, "other": { "keys": [x509(&theirs)] } } });
    let map = BundleMap::parse(map.to_string().as_bytes()).unwrap();
    assert_eq!(map.get(&td("other")).unwrap().trust_domain(), &td("other"));
    let forged = theirs.issue_with(leaf()).unwrap();
    let algorithms = provider::aws_lc_rs().signature_verification_algorithms.all;
    let outcome = verify(forged.chain(), Role::Client, &map.trust_bundles(), now(), algorithms);
    assert_eq!(outcome.unwrap_err().reason(), "unknown_issuer");
    assert_eq!(BundleMap::parse(map.to_json().as_bytes()), Ok(map));
}

#[test]
fn maps_are_read_as_a_whole_or_not_at_all() {
    let read = |text: &str| BundleMap::parse(text.as_bytes());
    assert_eq!(read(r#"{"trust_domains":{}}"#), Ok(BundleMap::default()));
    for text in ["{}", "[]", r#"{"trust_domains":null}"#, r#"{"trust_domains":[]}"#] {
        assert_eq!(read(text), Err(BundleMapError::NoTrustDomains), "{text}");
    }
    let twice = r#"{"trust_domains":{"td":{"keys":[]},"td":{"keys":[]}}}"#;
    assert_eq!(read(twice), Err(JsonError::RepeatedName.into()));
    let folded = r#"{"trust_domains":{"td":{"keys":[]},"TD":{"keys":[]}}}"#;
    assert_eq!(read(folded), Err(TrustDomainError::Character.into()));
    let broken = BundleMapError::Bundle {
        trust_domain: td("b"),
        fault: DocumentError::NoKeys,
    };
    assert_eq!(read(r#"{"trust_domains":{"a":{"keys":[]},"b":{}}}"#), Err(broken));
    let document = || BundleDocument::new(td(TD), [], []).unwrap();
    assert_eq!(
        BundleMap::new([document(), document()]),
        Err(BundleMapError::Repeated { trust_domain: td(TD) })
    );
}

proptest! {
    #[test]
    fn writing_then_reading_is_identity(
        roots in 0..3usize,
        kids in proptest::collection::hash_set("\\PC{1,8}", 0..4),
        sequence in any::<Option<u64>>(),
        hint in any::<Option<u64>>(),
    ) {
        let roots: Vec<_> = (0..roots).map(|_| ca(TD).root_certificate().clone()).collect();
        let keys = kids.iter().map(|kid| JwtAuthority::new(kid.as_str(), &public_key()).unwrap());
        let mut document = BundleDocument::new(td(TD), roots, keys).unwrap();
        if let Some(sequence) = sequence {
            document = document.with_sequence(sequence);
        }
        if let Some(hint) = hint {
            document = document.with_refresh_hint(Duration::from_secs(hint));
        }
        prop_assert_eq!(&BundleDocument::parse(td(TD), document.to_json().as_bytes()).unwrap(), &document);
        let map = BundleMap::new([document]).unwrap();
        prop_assert_eq!(BundleMap::parse(map.to_json().as_bytes()).unwrap(), map);
    }

    #[test]
    fn any_text_is_read_or_refused(
        text in r#"\{"(keys|trust_domains)":[\[\]{}":,a-z0-9]{0,40}\}?"#,
        bytes in proptest::collection::vec(any::<u8>(), 0..60),
    ) {
        mesh_identity::fuzzing::bundle(text.as_bytes());
        mesh_identity::fuzzing::bundle(&bytes);
    }
}
