//! What is tried on readers of tokens (RFC 8725 §2 and others).

use aws_lc_rs::{hmac, signature::RSA_PKCS1_SHA256};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use mesh_policy::{Known, jwt::Authenticator};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::world::{Ask, ISSUER, Signer, authenticator, claims, encode, key_set, rule, with};

/// A signer, and who believes it.
fn trusted() -> (Signer, Authenticator) {
    let signer = Signer::es256();
    let authenticator = authenticator(&json!([rule(&signer)]));
    (signer, authenticator)
}

fn of_header(header: &str) -> String {
    let (signer, authenticator) = trusted();
    Ask::bearer(&signer.sign(header, &claims().to_string())).outcome(&authenticator)
}

#[test]
fn no_algorithm_is_none() {
    let (_, authenticator) = trusted();
    for name in ["none", "None", "NONE", "nOnE", ""] {
        let header = json!({ "alg": name }).to_string();
        for signature in ["", "AA"] {
            let token = format!("{}.{}.{signature}", encode(&header), encode(&claims().to_string()));
            assert_eq!(Ask::bearer(&token).outcome(&authenticator), "jwt_algorithm", "{name}");
        }
    }
}

#[test]
fn a_public_key_is_no_secret() {
    for signer in [Signer::es256(), Signer::rsa(&RSA_PKCS1_SHA256, "RS256")] {
        let keys = key_set(&[signer.jwk()]);
        let authenticator = authenticator(&json!([{ "issuer": ISSUER, "jwks": keys }]));
        let secrets = [
            signer.public_bytes(),
            signer.jwk().to_string().into_bytes(),
            keys.into_bytes(),
        ];
        for secret in secrets {
            let header = json!({ "alg": "HS256" }).to_string();
            let signed = format!("{}.{}", encode(&header), encode(&claims().to_string()));
            let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &secret), signed.as_bytes());
            let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag));
            assert_eq!(Ask::bearer(&token).outcome(&authenticator), "jwt_algorithm");
        }
    }
}

#[test]
fn secret_keys_in_the_set_are_not_used() {
    let signer = Signer::es256();
    let secret = json!({ "kty": "oct", "alg": "HS256", "k": encode("secret") });
    let authenticator = authenticator(&json!([{ "issuer": ISSUER, "jwks": key_set(&[secret, signer.jwk()]) }]));
    let signed = format!("{}.{}", encode(r#"{"alg":"HS256"}"#), encode(&claims().to_string()));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, b"secret"), signed.as_bytes());
    let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag));
    assert_eq!(Ask::bearer(&token).outcome(&authenticator), "jwt_algorithm");
}

#[test]
fn the_algorithm_is_a_text_in_the_right_case() {
    for algorithm in [
        json!(5),
        json!(null),
        json!(["ES256"]),
        json!("es256"),
        json!("ES256 "),
        json!("ES256K"),
    ] {
        assert_eq!(of_header(&json!({ "alg": algorithm }).to_string()), "jwt_algorithm");
    }
    assert_eq!(of_header("{}"), "jwt_algorithm");
}

#[test]
fn a_key_id_is_a_text() {
    for id in [json!(5), json!(null), json!(["a"]), json!({ "$gt": "" })] {
        assert_eq!(
            of_header(&json!({ "alg": "ES256", "kid": id }).to_string()),
            "jwt_key_id"
        );
    }
}

#[test]
fn keys_and_addresses_in_the_header_are_ignored() {
    let (trusted, authenticator) = trusted();
    let attacker = Signer::es256();
    let header = json!({
        "alg": "ES256",
        "jwk": attacker.jwk(),
        "jku": "https://attacker.example/keys",
        "x5u": "https://attacker.example/chain",
        "x5c": ["AAAA"],
    });
    let (header, claims) = (header.to_string(), claims().to_string());
    let judged = Ask::bearer(&attacker.sign(&header, &claims)).outcome(&authenticator);
    assert_eq!(judged, "jwt_bad_signature");
    assert_eq!(
        Ask::bearer(&trusted.sign(&header, &claims)).outcome(&authenticator),
        "alice"
    );
}

#[test]
fn critical_extensions_are_refused() {
    for critical in [json!(["b64"]), json!(["exp"]), json!([]), json!(null)] {
        let header = json!({ "alg": "ES256", "crit": critical, "b64": false, "exp": 5 });
        assert_eq!(of_header(&header.to_string()), "jwt_critical");
    }
}

#[test]
fn a_name_that_is_there_twice_is_refused() {
    for header in [
        r#"{"alg":"none","alg":"ES256"}"#,
        r#"{"alg":"ES256","\u0061lg":"ES256"}"#,
        r#"{"alg":"ES256","kid":"a","kid":"b"}"#,
    ] {
        assert_eq!(of_header(header), "jwt_header");
    }
    let (signer, authenticator) = trusted();
    for claims in [
        r#"{"iss":"https://issuer.example","sub":"alice","sub":"admin"}"#,
        r#"{"iss":"other","iss":"https://issuer.example","sub":"alice"}"#,
        r#"{"iss":"https://issuer.example","a":{"b":1,"b":2}}"#,
    ] {
        let token = signer.sign(r#"{"alg":"ES256"}"#, claims);
        assert_eq!(Ask::bearer(&token).outcome(&authenticator), "jwt_claims");
    }
}

#[test]
fn header_and_claims_are_json_objects() {
    for header in ["", "5", "[]", "null", "{", "{}{}", "\u{feff}{}"] {
        assert!(
            ["jwt_header", "jwt_not_an_object"].contains(&&*of_header(header)),
            "{header}"
        );
    }
    let (signer, authenticator) = trusted();
    for (claims, reason) in [
        ("", "jwt_claims"),
        ("[]", "jwt_claims_not_an_object"),
        ("\"alice\"", "jwt_claims_not_an_object"),
        ("{}x", "jwt_claims"),
        ("{\"a\":1,}", "jwt_claims"),
        ("{\"a\":NaN}", "jwt_claims"),
    ] {
        let token = signer.sign(r#"{"alg":"ES256"}"#, claims);
        assert_eq!(Ask::bearer(&token).outcome(&authenticator), reason, "{claims}");
    }
    let deep = format!("{{\"a\":{}1{}}}", "[".repeat(1000), "]".repeat(1000));
    let token = signer.sign(r#"{"alg":"ES256"}"#, &deep);
    assert_eq!(Ask::bearer(&token).outcome(&authenticator), "jwt_claims");
}

#[test]
fn a_token_has_three_parts_and_nothing_else() {
    let (signer, authenticator) = trusted();
    let token = signer.token(&claims());
    let parts: Vec<_> = token.split('.').collect();
    let [header, payload, signature] = parts[..] else {
        panic!()
    };
    for bent in [
        format!("{header}.{payload}"),
        format!("{header}.{payload}."),
        format!(".{header}.{payload}.{signature}"),
        format!("{token}."),
        format!("{header}..{payload}.{signature}"),
        format!("{token}.{signature}"),
        format!("{token}="),
        format!("{header}=.{payload}.{signature}"),
        format!("{token}!"),
        format!("{token}\u{0}"),
        format!("{token} x"),
        format!("{token}, Bearer {token}"),
        format!("{token},"),
        format!("\"{token}\""),
        format!("{header}. {payload}.{signature}"),
        format!("{header}\n.{payload}.{signature}"),
        format!("{header}.{payload}.{signature}%00"),
        token.replace('.', "%2e"),
        ".".to_owned(),
        "..".to_owned(),
        "a.b.c".to_owned(),
        "é.é.é".to_owned(),
    ] {
        let judged = Ask::bearer(&bent).outcome(&authenticator);
        // An empty signature is no signature, and has the right form.
        let expected = if bent.ends_with('.') && bent.matches('.').count() == 2 && bent != ".." {
            ["jwt_bad_signature"].as_slice()
        } else {
            &["jwt_not_compact", "jwt_header"]
        };
        assert!(expected.contains(&judged.as_str()), "{judged}: {bent}");
    }
    assert_eq!(Ask::bearer(&format!(" {token} ")).outcome(&authenticator), "alice");
    // Without the blanks around it, a line has no prefix that ends in one, and Envoy sees no token.
    assert_eq!(Ask::bearer(" \t").outcome(&authenticator), "no token");
}

#[test]
fn a_token_is_spelled_in_one_way() {
    let (signer, authenticator) = trusted();
    let token = signer.token(&claims());
    // 64 bytes leave four bits of the last character over: without this, sixteen spellings of one
    // signature would be good.
    let (start, last) = token.split_at(token.len() - 1);
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    for other in alphabet.chars().filter(|other| !last.contains(*other)) {
        let judged = Ask::bearer(&format!("{start}{other}")).outcome(&authenticator);
        assert!(["jwt_not_compact", "jwt_bad_signature"].contains(&&*judged));
    }
    let standard = token.replace('-', "+").replace('_', "/");
    if standard != token {
        assert_eq!(Ask::bearer(&standard).outcome(&authenticator), "jwt_not_compact");
    }
}

#[test]
fn signatures_are_whole() {
    for signer in Signer::all() {
        let authenticator = authenticator(&json!([rule(&signer)]));
        let signed = format!(
            "{}.{}",
            encode(&json!({ "alg": signer.algorithm() }).to_string()),
            encode(&claims().to_string())
        );
        let signature = signer.signature(signed.as_bytes());
        let mut bent = vec![
            Vec::new(),
            signature[..signature.len() - 1].to_vec(),
            signature[1..].to_vec(),
            signature[..signature.len() / 2].to_vec(),
            [signature.as_slice(), &[0]].concat(),
            [&[0], signature.as_slice()].concat(),
            vec![0; signature.len()],
            vec![0xff; signature.len()],
        ];
        let mut flipped = signature.clone();
        flipped[0] ^= 1;
        bent.push(flipped);
        for signature in bent {
            let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature));
            let judged = Ask::bearer(&token).outcome(&authenticator);
            assert_eq!(judged, "jwt_bad_signature", "{}", signer.algorithm());
        }
    }
}

#[test]
fn parts_of_two_tokens_are_no_token() {
    let (signer, authenticator) = trusted();
    let (one, two) = (
        signer.token(&claims()),
        signer.token(&with(claims(), "sub", json!("admin"))),
    );
    let (one, two): (Vec<_>, Vec<_>) = (one.split('.').collect(), two.split('.').collect());
    let token = format!("{}.{}.{}", one[0], two[1], one[2]);
    assert_eq!(Ask::bearer(&token).outcome(&authenticator), "jwt_bad_signature");
}

#[test]
fn a_large_token_is_refused_before_it_is_read() {
    let (signer, authenticator) = trusted();
    let token = |padding: usize| signer.token(&with(claims(), "x", json!("x".repeat(padding))));
    assert_eq!(Ask::bearer(&token(10_000)).outcome(&authenticator), "alice");
    assert_eq!(Ask::bearer(&token(16_384)).outcome(&authenticator), "jwt_too_large");
    assert_eq!(
        Ask::bearer(&"a".repeat(1 << 20)).outcome(&authenticator),
        "jwt_too_large"
    );
}

#[test]
fn a_token_that_is_no_text_is_refused() {
    let (_, authenticator) = trusted();
    let ask = Ask::get("/").bytes("authorization", b"Bearer \xff\xfe.a.b");
    assert_eq!(ask.outcome(&authenticator), "jwt_not_compact");
}

/// Bytes in the neighbourhood of a token.
fn bent() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        any::<Vec<u8>>().prop_map(|bytes| URL_SAFE_NO_PAD.encode(bytes)),
        any::<String>(),
        Just(encode(r#"{"alg":"ES256"}"#)),
        json().prop_map(|value| encode(&value.to_string())),
    ];
    let token = proptest::collection::vec(part, 0..5).prop_map(|parts| parts.join(".").into_bytes());
    prop_oneof![token, any::<Vec<u8>>()]
}

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        Just(Value::from(ISSUER)),
    ];
    let name = prop_oneof![
        Just("iss".to_owned()),
        Just("exp".to_owned()),
        Just("aud".to_owned()),
        Just("alg".to_owned()),
        any::<String>(),
    ];
    leaf.prop_recursive(3, 20, 4, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec((name.clone(), inner), 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn no_bytes_are_believed(token in bent(), line in any::<Vec<u8>>()) {
        let signer = Signer::es256();
        let rules = json!([rule(&signer), with(rule(&signer), "fromCookies", json!(["t"]))]);
        let authenticator = authenticator(&rules);
        let escaped: String = token.iter().map(|byte| format!("%{byte:02x}")).collect();
        let bearer = [b"Bearer ".as_slice(), &token].concat();
        if let Ok(authentication) = Ask::get("/").bytes("authorization", &bearer).of(&authenticator) {
            prop_assert_eq!(authentication.claims(), Known::Absent);
            prop_assert!(token.iter().all(|byte| b" \t".contains(byte)));
        }
        let parameter = Ask::get(&format!("/?access_token={escaped}"));
        prop_assert!(parameter.of(&authenticator).is_err());
        let cookie = [b"t=".as_slice(), &token].concat();
        prop_assert!(Ask::get("/").bytes("cookie", &cookie).of(&authenticator).is_err());
        let ask = Ask::get("/").bytes("authorization", &line).bytes("cookie", &line);
        if let Ok(authentication) = ask.of(&authenticator) {
            prop_assert_eq!(authentication.claims(), Known::Absent);
        }
    }

    #[test]
    fn claims_of_all_kinds_are_taken(value in json()) {
        let signer = Signer::es256();
        let rules = json!([with(rule(&signer), "outputClaimToHeaders", json!([{ "header": "x-y", "claim": "y" }]))]);
        let ask = Ask::bearer(&signer.token(&with(claims(), "y", value)));
        if let Err(rejection) = ask.of(&authenticator(&rules)) {
            prop_assert_eq!(rejection.fault.reason(), "jwt_header_value");
        }
    }
}
