//! What a token has to say, and by whom it has to be signed.

use std::sync::Arc;

use mesh_policy::jwt::{KeySet, TokenFault};
use serde_json::{Value, json};

use crate::world::{Ask, Fetched, ISSUER, NOW, Signer, authenticator, claims, key_set, outcome, policy, rule, with};

/// What a single issuer's rule makes of these claims.
fn of_claims(claims: &Value) -> String {
    let signer = Signer::es256();
    Ask::bearer(&signer.token(claims)).outcome(&authenticator(&json!([rule(&signer)])))
}

#[test]
fn a_request_without_a_token_passes_without_claims() {
    let signer = Signer::es256();
    let judged = Ask::get("/").of(&authenticator(&json!([rule(&signer)]))).unwrap();
    assert_eq!(judged.rule(), None);
    assert_eq!(outcome(Ok(judged)), "no token");
}

#[test]
fn every_algorithm_is_verified_by_its_key() {
    for signer in Signer::all() {
        let with_algorithm = with(signer.jwk(), "alg", json!(signer.algorithm()));
        for key in [signer.jwk(), with_algorithm] {
            let rules = json!([{ "issuer": ISSUER, "jwks": key_set(&[key]) }]);
            let judged = Ask::bearer(&signer.token(&claims())).outcome(&authenticator(&rules));
            assert_eq!(judged, "alice", "{}", signer.algorithm());
        }
    }
}

#[test]
fn an_algorithm_is_refused_for_every_other_key() {
    let signers = Signer::all();
    for signer in &signers {
        // The same RSA key is good for six algorithms, unless the set says otherwise.
        let others = signers.iter().filter(|other| other.algorithm() != signer.algorithm());
        let keys: Vec<_> = others
            .map(|other| with(other.jwk(), "alg", json!(other.algorithm())))
            .collect();
        let rules = json!([{ "issuer": ISSUER, "jwks": key_set(&keys) }]);
        let judged = Ask::bearer(&signer.token(&claims())).outcome(&authenticator(&rules));
        assert_eq!(judged, "jwt_unknown_key", "{}", signer.algorithm());
    }
}

#[test]
fn an_algorithm_that_is_not_given_is_refused() {
    let signer = Signer::es256();
    let judged = Ask::bearer(&signer.token(&claims())).with(|facts| {
        let now = rustls_pki_types::UnixTime::since_unix_epoch(std::time::Duration::from_secs(NOW));
        authenticator(&json!([rule(&signer)])).authenticate(&facts, &mesh_policy::jwt::InlineOnly, now, &[])
    });
    assert_eq!(outcome(judged), "jwt_unsupported_algorithm");
}

#[test]
fn a_signature_by_another_key_is_refused() {
    let (signer, other) = (Signer::es256(), Signer::es256());
    let judged = Ask::bearer(&other.token(&claims())).outcome(&authenticator(&json!([rule(&signer)])));
    assert_eq!(judged, "jwt_bad_signature");
}

#[test]
fn an_unknown_issuer_is_refused_and_not_taken_for_missing() {
    assert_eq!(of_claims(&with(claims(), "iss", json!("https://other"))), "jwt_issuer");
    assert_eq!(
        of_claims(&with(claims(), "iss", json!("https://issuer.example/"))),
        "jwt_issuer"
    );
    assert_eq!(of_claims(&with(claims(), "iss", json!(""))), "jwt_issuer");
    assert_eq!(of_claims(&json!({ "sub": "alice" })), "jwt_issuer");
}

#[test]
fn time_counts_with_sixty_seconds_of_skew() {
    let signer = Signer::es256();
    let authenticator = authenticator(&json!([rule(&signer)]));
    let ask = |name: &str, moment: Value| Ask::bearer(&signer.token(&with(claims(), name, moment)));
    let expiring = ask("exp", json!(NOW));
    assert_eq!(expiring.clone().at(NOW + 60).outcome(&authenticator), "alice");
    assert_eq!(expiring.at(NOW + 61).outcome(&authenticator), "jwt_expired");
    let coming = ask("nbf", json!(NOW));
    assert_eq!(coming.clone().at(NOW - 60).outcome(&authenticator), "alice");
    assert_eq!(coming.at(NOW - 61).outcome(&authenticator), "jwt_not_yet_valid");
    // When a token was made is for its readers, as with Envoy.
    assert_eq!(ask("iat", json!(NOW + 1000)).outcome(&authenticator), "alice");
}

#[test]
fn a_token_without_expiry_does_not_expire() {
    let signer = Signer::es256();
    let token = signer.token(&json!({ "iss": ISSUER, "sub": "alice" }));
    let judged = Ask::bearer(&token)
        .at(u64::MAX)
        .outcome(&authenticator(&json!([rule(&signer)])));
    assert_eq!(judged, "alice");
}

#[test]
fn moments_are_numbers_within_64_bits() {
    for name in ["exp", "nbf", "iat"] {
        for moment in [
            json!("1900000300"),
            json!(-1),
            json!(-0.5),
            json!(1e30),
            json!(u64::MAX),
            json!(null),
            json!([NOW]),
            json!(true),
        ] {
            assert_eq!(
                of_claims(&with(claims(), name, moment.clone())),
                "jwt_claim",
                "{name} {moment}"
            );
        }
    }
    assert_eq!(of_claims(&with(claims(), "exp", json!(NOW as f64 + 0.5))), "alice");
    assert_eq!(of_claims(&with(claims(), "exp", json!(1u64 << 63))), "alice");
    assert_eq!(of_claims(&with(claims(), "exp", json!(0))), "jwt_expired");
    assert_eq!(
        of_claims(&with(claims(), "nbf", json!(1u64 << 63))),
        "jwt_not_yet_valid"
    );
}

#[test]
fn registered_claims_have_their_types() {
    for (name, value) in [
        ("iss", json!(5)),
        ("iss", json!(null)),
        ("iss", json!([ISSUER])),
        ("sub", json!(5)),
        ("sub", json!({})),
        ("jti", json!(5)),
        ("aud", json!(5)),
        ("aud", json!(["a", 5])),
        ("aud", json!(null)),
        ("aud", json!({ "a": "b" })),
    ] {
        assert_eq!(
            of_claims(&with(claims(), name, value.clone())),
            "jwt_claim",
            "{name} {value}"
        );
    }
}

#[test]
fn one_audience_in_common_is_enough_and_none_is_forbidden() {
    let signer = Signer::es256();
    let rules = json!([with(rule(&signer), "audiences", json!(["https://till/", "web"]))]);
    let authenticator = authenticator(&rules);
    let ask = |audience: Value| Ask::bearer(&signer.token(&with(claims(), "aud", audience)));
    for audience in [
        json!("web"),
        json!(["x", "web"]),
        json!("till"),
        json!("http://till"),
        json!("web/"),
    ] {
        assert_eq!(ask(audience.clone()).outcome(&authenticator), "alice", "{audience}");
    }
    for audience in [
        json!("x"),
        json!([]),
        json!(""),
        json!("WEB"),
        json!("web//"),
        json!(["x", "webx"]),
    ] {
        let rejection = ask(audience.clone()).of(&authenticator).unwrap_err();
        assert_eq!(
            (rejection.fault, rejection.status()),
            (TokenFault::Audience, 403),
            "{audience}"
        );
    }
    let without = Ask::bearer(&signer.token(&claims())).of(&authenticator).unwrap_err();
    assert_eq!(without.status(), 403);
}

#[test]
fn keys_of_an_address_are_asked_for_each_time() {
    let signer = Signer::es256();
    let uri = "https://issuer.example/keys";
    let authenticator = authenticator(&json!([{ "issuer": ISSUER, "jwksUri": uri }]));
    let ask = Ask::bearer(&signer.token(&claims()));
    let keys = KeySet::parse(key_set(&[signer.jwk()]).as_bytes()).unwrap();
    let keys = Some(Arc::new(keys));
    assert_eq!(outcome(ask.by(&authenticator, &Fetched { uri, keys })), "alice");
    let rejection = ask.by(&authenticator, &Fetched { uri, keys: None }).unwrap_err();
    assert_eq!(
        (rejection.fault, rejection.status()),
        (TokenFault::KeysUnavailable, 401)
    );
    assert_eq!(rejection.fault.reason(), "jwt_keys_unavailable");
}

#[test]
fn unavailable_keys_do_not_stop_requests_without_a_token() {
    let rules = json!([{ "issuer": ISSUER, "jwksUri": "https://issuer.example/keys" }]);
    assert_eq!(Ask::get("/").outcome(&authenticator(&rules)), "no token");
}

#[test]
fn a_rule_without_issuer_believes_whomever_its_keys_vouch_for() {
    let signer = Signer::es256();
    let uri = "https://issuer.example/keys";
    struct Any(Arc<KeySet>);
    impl mesh_policy::jwt::KeySource for Any {
        fn keys(&self, _: &mesh_policy::jwt::WantedKeys<'_>) -> Option<Arc<KeySet>> {
            Some(Arc::clone(&self.0))
        }
    }
    let keys = Any(Arc::new(KeySet::parse(key_set(&[signer.jwk()]).as_bytes()).unwrap()));
    let authenticator = authenticator(&json!([{ "jwksUri": uri }]));
    let ask = Ask::bearer(&signer.token(&with(claims(), "iss", json!("whoever"))));
    assert_eq!(outcome(ask.by(&authenticator, &keys)), "alice");
    let ask = Ask::bearer(&Signer::es256().token(&claims()));
    assert_eq!(outcome(ask.by(&authenticator, &keys)), "jwt_bad_signature");
}

#[test]
fn a_key_id_chooses_the_key_and_none_tries_all() {
    let signers: Vec<_> = (0..3).map(|_| Signer::es256()).collect();
    let keys: Vec<_> = ["a", "b"]
        .iter()
        .zip(&signers)
        .map(|(id, signer)| with(signer.jwk(), "kid", json!(id)))
        .chain([signers[2].jwk()])
        .collect();
    let authenticator = authenticator(&json!([{ "issuer": ISSUER, "jwks": key_set(&keys) }]));
    let ask = |signer: usize, id: &str| {
        let header = json!({ "alg": "ES256", "kid": id }).to_string();
        Ask::bearer(&signers[signer].sign(&header, &claims().to_string())).outcome(&authenticator)
    };
    assert_eq!(ask(0, "a"), "alice");
    assert_eq!(ask(1, "a"), "jwt_bad_signature");
    // A key without ID is everybody's.
    assert_eq!(ask(2, "a"), "alice");
    assert_eq!(ask(2, "c"), "alice");
    assert_eq!(ask(1, ""), "alice");
    for signer in &signers {
        assert_eq!(Ask::bearer(&signer.token(&claims())).outcome(&authenticator), "alice");
    }
}

#[test]
fn an_unknown_key_id_is_refused() {
    let signer = Signer::es256();
    let keys = key_set(&[with(signer.jwk(), "kid", json!("a"))]);
    let authenticator = authenticator(&json!([{ "issuer": ISSUER, "jwks": keys }]));
    for id in ["b", "A", "a ", "../a", "a' OR '1'='1", "/dev/null", "a\u{0}"] {
        let header = json!({ "alg": "ES256", "kid": id }).to_string();
        let judged = Ask::bearer(&signer.sign(&header, &claims().to_string())).outcome(&authenticator);
        assert_eq!(judged, "jwt_unknown_key", "{id:?}");
    }
}

#[test]
fn no_more_than_eight_keys_are_tried() {
    let signers: Vec<_> = (0..9).map(|_| Signer::es256()).collect();
    let keys: Vec<_> = signers.iter().map(Signer::jwk).collect();
    let of = |keys: &[Value]| {
        let authenticator = authenticator(&json!([{ "issuer": ISSUER, "jwks": key_set(keys) }]));
        Ask::bearer(&signers[0].token(&claims())).outcome(&authenticator)
    };
    assert_eq!(of(&keys[..8]), "alice");
    assert_eq!(of(&keys), "jwt_too_many_keys");
}

#[test]
fn keys_for_another_use_verify_nothing() {
    let (signer, other) = (Signer::es256(), Signer::es256());
    for (name, value) in [
        ("use", json!("enc")),
        ("use", json!(5)),
        ("key_ops", json!(["sign"])),
        ("alg", json!("ES384")),
        ("alg", json!("HS256")),
        ("kid", json!(5)),
    ] {
        let keys = key_set(&[with(signer.jwk(), name, value.clone()), other.jwk()]);
        let authenticator = authenticator(&json!([{ "issuer": ISSUER, "jwks": keys }]));
        let judged = Ask::bearer(&signer.token(&claims())).outcome(&authenticator);
        assert_eq!(judged, "jwt_bad_signature", "{name} {value}");
    }
}

/// Two issuers, each with a key of its own, in the usual places.
fn two() -> (Signer, Signer, Value) {
    let (one, two) = (Signer::es256(), Signer::es256());
    let rules = json!([
        { "issuer": "z", "jwks": key_set(&[two.jwk()]) },
        { "issuer": "a", "jwks": key_set(&[one.jwk()]), "audiences": ["web"] },
    ]);
    (one, two, rules)
}

#[test]
fn the_rule_of_the_tokens_issuer_counts() {
    let (one, two, rules) = two();
    let authenticator = authenticator(&rules);
    let of_one = |claims: Value| Ask::bearer(&one.token(&claims)).outcome(&authenticator);
    assert_eq!(of_one(json!({ "iss": "a", "sub": "x", "aud": "web" })), "x");
    assert_eq!(of_one(json!({ "iss": "a", "sub": "x" })), "jwt_audience");
    assert_eq!(
        of_one(json!({ "iss": "a", "sub": "x", "aud": "web", "exp": 1 })),
        "jwt_expired"
    );
    assert_eq!(of_one(json!({ "iss": "c", "sub": "x", "aud": "web" })), "jwt_issuer");
    // An issuer's key speaks for that issuer only.
    assert_eq!(of_one(json!({ "iss": "z", "sub": "x" })), "jwt_bad_signature");
    assert_eq!(
        Ask::bearer(&two.token(&json!({ "iss": "z", "sub": "y" }))).outcome(&authenticator),
        "y"
    );
}

#[test]
fn the_fault_that_is_told_is_envoys() {
    let signer = Signer::es256();
    let of = |issuer: &str, header: &str| {
        let rule = json!({ "issuer": issuer, "jwks": key_set(&[signer.jwk()]), "audiences": ["web"] });
        with(rule, "fromHeaders", json!([{ "name": header }]))
    };
    let authenticator = authenticator(&json!([of("a", "x-a"), of("b", "x-b"), of("c", "x-c")]));
    let token = |issuer: &str, expiry: u64| signer.token(&json!({ "iss": issuer, "exp": expiry }));
    let (old, elsewhere, unknown) = (|issuer| token(issuer, 5), |issuer| token(issuer, NOW), token("z", NOW));
    let outcome = |tokens: [&str; 3]| {
        let headers = ["x-a", "x-b", "x-c"].into_iter().zip(tokens);
        let headers = headers.filter(|(_, token)| !token.is_empty());
        headers
            .fold(Ask::get("/"), |ask, (header, token)| ask.header(header, token))
            .outcome(&authenticator)
    };
    // The first, unless it is of another issuer; then the last that is not.
    assert_eq!(outcome([&old("a"), &elsewhere("b"), ""]), "jwt_expired");
    assert_eq!(outcome([&elsewhere("a"), &old("b"), ""]), "jwt_audience");
    assert_eq!(outcome([&unknown, &old("b"), &elsewhere("c")]), "jwt_audience");
    assert_eq!(outcome([&unknown, &elsewhere("b"), &old("c")]), "jwt_expired");
    assert_eq!(outcome([&unknown, "", &unknown]), "jwt_issuer");
}

#[test]
fn several_policies_are_one_set() {
    let (one, two, rules) = two();
    let policies: Vec<_> = rules
        .as_array()
        .unwrap()
        .iter()
        .map(|rule| policy(&json!([rule])))
        .collect();
    let authenticator = mesh_policy::jwt::Authenticator::new(&policies).unwrap();
    let judged = Ask::bearer(&one.token(&json!({ "iss": "a", "sub": "x", "aud": "web" }))).of(&authenticator);
    assert_eq!(
        judged.unwrap().rule().map(|(policy, rule)| (policy.to_string(), rule)),
        Some(("shop/jwt".into(), 0))
    );
    assert_eq!(
        Ask::bearer(&two.token(&json!({ "iss": "z", "sub": "y" }))).outcome(&authenticator),
        "y"
    );
}

#[test]
fn rules_of_one_issuer_are_alternatives() {
    let (old, new) = (Signer::es256(), Signer::es256());
    let authenticator = authenticator(&json!([rule(&old), rule(&new)]));
    for signer in [&old, &new] {
        assert_eq!(Ask::bearer(&signer.token(&claims())).outcome(&authenticator), "alice");
    }
    let judged = Ask::bearer(&Signer::es256().token(&claims())).outcome(&authenticator);
    assert_eq!(judged, "jwt_bad_signature");
}

#[test]
fn a_rejection_names_policy_rule_place_and_fault_and_not_the_token() {
    let signer = Signer::es256();
    let authenticator = authenticator(&json!([{ "issuer": "a", "jwks": key_set(&[signer.jwk()]) }, rule(&signer)]));
    let token = signer.token(&with(claims(), "exp", json!(5)));
    let rejection = Ask::bearer(&token).of(&authenticator).unwrap_err();
    let expected = "policy `shop/jwt`: jwtRules[1]: header `authorization`: the token has expired";
    assert_eq!(rejection.to_string(), expected);
    assert_eq!(rejection.challenge(), "Bearer error=\"invalid_token\"");
    for part in token.split('.') {
        assert!(!format!("{rejection:?}").contains(part));
    }
}
