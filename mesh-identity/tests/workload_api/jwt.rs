//! JWT-SVIDs and the keys to validate them with.

use std::{sync::Arc, time::Duration};

use aws_lc_rs::{
    encoding::{AsDer, PublicKeyX509Der},
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use mesh_identity::{
    jwt::{JwtBundles, JwtValidator},
    provider,
    source::workload_api::{IssuedJwt, JwtFetchError, JwtFollower, JwtValidationError, RpcError},
};
use mesh_testkit::workload_api::{Call, Reply, code, jwt_bundles, jwt_svids, validated};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::world::*;

const SHOP: &str = "https://shop.example";

/// A trust domain's key for tokens.
struct Signer(EcdsaKeyPair);

impl Signer {
    fn new() -> Self {
        Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    /// The key as agents send it, which does not say what it is for.
    fn jwk(&self, key_id: &str) -> Value {
        let der: PublicKeyX509Der<'_> = self.0.public_key().as_der().unwrap();
        let point = &der.as_ref()[der.as_ref().len() - 64..];
        let [x, y] = [&point[..32], &point[32..]].map(|number| URL_SAFE_NO_PAD.encode(number));
        json!({ "kty": "EC", "crv": "P-256", "kid": key_id, "x": x, "y": y })
    }

    fn token(&self, subject: &str, audiences: &[&str], expires: u64) -> String {
        let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let header = part(json!({ "alg": "ES256", "kid": "k", "typ": "JWT" }));
        let claims = part(json!({ "sub": subject, "aud": audiences, "exp": expires }));
        let signed = format!("{header}.{claims}");
        let signature = self.0.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

fn keys(keys: &[Value]) -> String {
    json!({ "keys": keys }).to_string()
}

fn validates(bundles: &JwtBundles, token: &str) -> bool {
    let algorithms = provider::aws_lc_rs().signature_verification_algorithms.all;
    JwtValidator::new(SHOP)
        .validate(token, bundles, at(NOW), algorithms)
        .is_ok()
}

async fn next_bundles(follower: &mut JwtFollower) -> Arc<JwtBundles> {
    follower.changed().await.unwrap();
    follower.bundles()
}

#[tokio::test(start_paused = true)]
async fn bundles_validate_tokens_until_a_message_without_them() {
    let mut world = World::new();
    let (home, abroad) = (Signer::new(), Signer::new());
    let tokens = [
        home.token("spiffe://home/cart", &[SHOP], NOW + 60),
        abroad.token("spiffe://abroad/x", &[SHOP], NOW + 60),
        home.token("spiffe://abroad/x", &[SHOP], NOW + 60),
    ];
    let (own, other) = (keys(&[home.jwk("k")]), keys(&[abroad.jwk("k")]));
    let both = [("spiffe://home", own.as_str()), ("spiffe://abroad", other.as_str())];
    world.agent.say_jwt_bundles(Reply::Message(jwt_bundles(both)));
    let (api, _) = world.connect_with(|config| _ = config.follow_jwt_bundles());
    let mut follower = api.jwt_bundles().unwrap();
    let bundles = next_bundles(&mut follower).await;
    assert_eq!(
        tokens.each_ref().map(|token| validates(&bundles, token)),
        [true, true, false]
    );

    world.agent.say_jwt_bundles(Reply::Message(jwt_bundles([both[0]])));
    let bundles = next_bundles(&mut follower).await;
    assert_eq!(
        tokens.each_ref().map(|token| validates(&bundles, token)),
        [true, false, false]
    );

    // An empty key set is believed about nobody.
    world
        .agent
        .say_jwt_bundles(Reply::Message(jwt_bundles([("home", r#"{"keys":[]}"#)])));
    let bundles = next_bundles(&mut follower).await;
    assert_eq!(tokens.each_ref().map(|token| validates(&bundles, token)), [false; 3]);
}

#[tokio::test(start_paused = true)]
async fn keys_for_other_uses_validate_no_tokens() {
    let signer = Signer::new();
    let token = signer.token("spiffe://home/cart", &[SHOP], NOW + 60);
    for (purpose, expected) in [
        (None, true),
        (Some("jwt-svid"), true),
        (Some("sig"), true),
        (Some("x509-svid"), false),
        (Some("wit-svid"), false),
        (Some("JWT-SVID"), false),
        (Some("enc"), false),
    ] {
        let mut world = World::new();
        let mut key = signer.jwk("k");
        if let Some(purpose) = purpose {
            key["use"] = purpose.into();
        }
        let set = keys(&[key]);
        world
            .agent
            .say_jwt_bundles(Reply::Message(jwt_bundles([("spiffe://home", set.as_str())])));
        let (api, _) = world.connect_with(|config| _ = config.follow_jwt_bundles());
        let bundles = next_bundles(&mut api.jwt_bundles().unwrap()).await;
        assert_eq!(validates(&bundles, &token), expected, "{purpose:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn denied_permission_withdraws_the_bundles_and_faults_do_not() {
    let mut world = World::new();
    let signer = Signer::new();
    let token = signer.token("spiffe://home/cart", &[SHOP], NOW + 60);
    let set = keys(&[signer.jwk("k")]);
    let good = Reply::Message(jwt_bundles([("spiffe://home", set.as_str())]));
    world.agent.say_jwt_bundles(good.clone());
    let (api, _) = world.connect_with(|config| _ = config.follow_jwt_bundles());
    let mut follower = api.jwt_bundles().unwrap();
    next_bundles(&mut follower).await;
    let twice = keys(&[signer.jwk("k"), signer.jwk("k")]);
    for (message, fault) in [
        (jwt_bundles([]), "the message has no bundle"),
        (
            jwt_bundles([("spiffe://home", "[]")]),
            "the bundle of `home`: the bundle is no JSON object",
        ),
        (
            jwt_bundles([("home", "{}")]),
            "the bundle of `home`: the bundle has no list `keys`",
        ),
        (
            jwt_bundles([("home", twice.as_str())]),
            "the bundle of `home`: two jwt authorities have key id `k`",
        ),
        (
            jwt_bundles([("home", set.as_str()), ("spiffe://home", set.as_str())]),
            "trust domain `home` has two bundles",
        ),
        (
            jwt_bundles([("home/x", set.as_str())]),
            "bundle 1: a trust domain holds only `a-z`, `0-9`, `.`, `-` and `_`",
        ),
    ] {
        world.agent.say_jwt_bundles(Reply::Message(message));
        assert!(validates(&*next_bundles(&mut follower).await, &token), "{fault}");
        assert_eq!(follower.problem().unwrap().to_string(), fault);
    }
    world
        .agent
        .say_jwt_bundles(Reply::Status(code::PERMISSION_DENIED, String::new()));
    assert!(!validates(&*next_bundles(&mut follower).await, &token));
    world.agent.say_jwt_bundles(good);
    assert!(validates(&*next_bundles(&mut follower).await, &token));
    assert!(follower.problem().is_none());
}

#[tokio::test(start_paused = true)]
async fn an_agent_without_jwt_bundles_is_asked_once_and_serves_the_rest() {
    let mut world = World::new();
    world.agent.say_x509(world.message());
    world
        .agent
        .say_jwt_bundles(Reply::Status(code::UNIMPLEMENTED, "no jwt".into()));
    let (api, mut identities) = world.connect_with(|config| _ = config.follow_jwt_bundles());
    let mut bundles = api.jwt_bundles().unwrap();
    while bundles.changed().await.is_ok() {}
    assert_eq!(
        bundles.problem().unwrap().to_string(),
        "the workload api answers with status 12: `no jwt`"
    );
    sleep(Duration::from_secs(600)).await;
    identities.ready().await.unwrap();
    assert_eq!(world.agent.calls().len(), 2);
    assert!(world.agent.calls().iter().all(|call| call.has_header));
}

/// Keys have no end of their own, and nobody would say any more that one was withdrawn.
#[tokio::test(start_paused = true)]
async fn bundles_do_not_outlive_a_stream_that_is_not_asked_for_again() {
    for status in [code::UNIMPLEMENTED, code::INVALID_ARGUMENT] {
        let mut world = World::new();
        world.agent.say_x509(world.message());
        let signer = Signer::new();
        let token = signer.token("spiffe://home/cart", &[SHOP], NOW + 60);
        let set = keys(&[signer.jwk("k")]);
        world
            .agent
            .say_jwt_bundles(Reply::Message(jwt_bundles([("spiffe://home", &*set)])));
        let (api, _) = world.connect_with(|config| _ = config.follow_jwt_bundles());
        let mut bundles = api.jwt_bundles().unwrap();
        let first = next_bundles(&mut bundles).await;
        assert!(validates(&first, &token));
        world.agent.say_jwt_bundles(Reply::Status(status, "no".into()));
        while bundles.changed().await.is_ok() {}
        assert!(!validates(&bundles.bundles(), &token));
        assert!(bundles.problem().unwrap().to_string().ends_with("`no`"));
    }
}

#[tokio::test(start_paused = true)]
async fn bundles_are_not_asked_for_unless_wanted() {
    let mut world = World::new();
    world.agent.say_x509(world.message());
    let (api, mut identities) = world.connect();
    next(&mut identities).await;
    assert!(api.jwt_bundles().is_none());
    assert_eq!(world.agent.calls().len(), 1);
}

/// The last call of a method.
fn last(world: &World, method: &str) -> Call {
    let mut calls = world.agent.calls();
    calls.retain(|call| call.method == method);
    calls.pop().unwrap()
}

fn tokens(call: &Call, tokens: &[(&str, &str, &str)]) -> Reply {
    assert!(call.has_header);
    Reply::Message(jwt_svids(tokens.iter().copied()))
}

async fn fetch(
    world: &mut World,
    answer: impl Fn(&Call) -> Reply + Send + Sync + 'static,
) -> Result<Vec<IssuedJwt>, JwtFetchError> {
    world.agent.answer(answer);
    let (api, _) = world.connect();
    api.fetch_jwt_svids(&[SHOP], None).await
}

#[tokio::test(start_paused = true)]
async fn tokens_of_all_identities_or_of_one_are_fetched() {
    let mut world = World::new();
    let signer = Signer::new();
    let [cart, till] =
        ["spiffe://home/cart", "spiffe://home/till"].map(|id| signer.token(id, &[SHOP, "other"], NOW + 60));
    let (first, second) = (cart.clone(), till.clone());
    let fetched = fetch(&mut world, move |call| {
        tokens(
            call,
            &[
                ("spiffe://home/cart", &first, "a"),
                ("spiffe://home/till", &second, ""),
                ("spiffe://home/till", &second, "a"),
            ],
        )
    });
    let fetched = fetched.await.unwrap();
    let of = |jwt: &IssuedJwt| {
        (
            jwt.id().to_string(),
            jwt.token().to_owned(),
            jwt.hint().map(str::to_owned),
        )
    };
    assert_eq!(
        fetched.iter().map(of).collect::<Vec<_>>(),
        [
            ("spiffe://home/cart".to_owned(), cart.clone(), Some("a".to_owned())),
            ("spiffe://home/till".to_owned(), till, None),
        ]
    );
    assert_eq!(fetched[0].expires(), at(NOW + 60));
    assert_eq!(fetched[0].audiences(), [SHOP, "other"]);
    assert!(!format!("{fetched:?}").contains(&cart));

    let (api, _) = world.connect();
    api.fetch_jwt_svids(&[SHOP, "other"], Some(&id("spiffe://home/cart")))
        .await
        .unwrap_err();
    let call = last(&world, "FetchJWTSVID");
    assert_eq!(
        call.fields,
        [
            (1, SHOP.to_owned()),
            (1, "other".to_owned()),
            (2, "spiffe://home/cart".to_owned())
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_not_what_was_asked_for_is_an_error() {
    let signer = Signer::new();
    let good = signer.token("spiffe://home/cart", &[SHOP], NOW + 60);
    for (name, token, hint, fault) in [
        (
            "spiffe://home/till",
            good.clone(),
            String::new(),
            "svid 1: the token is `spiffe://home/cart`'s, and another one's was expected",
        ),
        ("", good.clone(), String::new(), "svid 1: the name beside the token: "),
        (
            "spiffe://home/cart",
            String::new(),
            String::new(),
            "svid 1: the token is not in compact serialisation",
        ),
        (
            "spiffe://home/cart",
            good,
            "x".repeat(1025),
            "svid 1: the hint has 1025 bytes, more than 1024",
        ),
        (
            "spiffe://home/cart",
            signer.token("spiffe://home/cart", &["other"], NOW + 60),
            String::new(),
            "svid 1: the token is not addressed to those it was asked for",
        ),
        (
            "spiffe://home/cart",
            signer.token("spiffe://home/cart", &[SHOP], NOW),
            String::new(),
            "svid 1: the token has expired",
        ),
    ] {
        let fetched = fetch(&mut World::new(), move |call| tokens(call, &[(name, &token, &hint)])).await;
        let said = fetched.unwrap_err().to_string();
        assert!(said.starts_with(fault), "{said}");
    }
    let none = fetch(&mut World::new(), |call| tokens(call, &[])).await;
    assert_eq!(none, Err(JwtFetchError::NoSvids));
    let denied = fetch(&mut World::new(), |_| {
        Reply::Status(code::PERMISSION_DENIED, "no".into())
    })
    .await;
    let status = RpcError::Status {
        code: 7,
        message: "no".into(),
    };
    assert_eq!(denied, Err(JwtFetchError::Rpc(status)));
}

#[tokio::test(start_paused = true)]
async fn tokens_for_everybody_are_not_asked_for() {
    let mut world = World::new();
    let (api, _) = world.connect();
    for audiences in [&[][..], &[""], &[SHOP, ""]] {
        assert_eq!(
            api.fetch_jwt_svids(audiences, None).await,
            Err(JwtFetchError::NoAudience)
        );
    }
    assert!(world.agent.calls().iter().all(|call| call.method != "FetchJWTSVID"));
}

#[tokio::test(start_paused = true)]
async fn no_token_is_taken_without_a_clock() {
    let mut world = World::new();
    let expired = Signer::new().token("spiffe://home/cart", &[SHOP], NOW - 60);
    world
        .agent
        .answer(move |_| Reply::Message(jwt_svids([("spiffe://home/cart", &*expired, "")])));
    let (api, _) = world.connect_with(|config| _ = config.set_clock(Unsteady::standing()));
    let error = api.fetch_jwt_svids(&[SHOP], None).await.unwrap_err();
    assert_eq!(error.to_string(), "the clock could not be read");
}

#[tokio::test(start_paused = true)]
async fn an_answer_has_fifteen_seconds() {
    let mut world = World::new();
    let start = Instant::now();
    let late = fetch(&mut world, |_| Reply::Silence).await;
    assert_eq!(late.unwrap_err().to_string(), "no answer from the workload api in 15 s");
    assert_eq!(start.elapsed().as_secs(), 15);
    // Without a driver nobody asks.
    let (api, _) = world.connect();
    world.driver.shutdown().await;
    let gone = api.fetch_jwt_svids(&[SHOP], None).await;
    assert_eq!(gone, Err(JwtFetchError::Rpc(RpcError::Connection { kind: None })));
}

#[tokio::test(start_paused = true)]
async fn the_agent_validates_tokens_on_request() {
    let mut world = World::new();
    let token = Signer::new().token("spiffe://home/cart", &[SHOP], NOW + 60);
    let (api, _) = world.connect();
    world.agent.answer(|_| Reply::Message(validated("spiffe://home/cart")));
    assert_eq!(api.validate_jwt_svid(SHOP, &token).await, Ok(cart()));
    let call = last(&world, "ValidateJWTSVID");
    assert!(call.has_header);
    assert_eq!(call.fields, [(1, SHOP.to_owned()), (2, token.clone())]);

    for answer in ["spiffe://home/till", "", "cart"] {
        world.agent.answer(move |_| Reply::Message(validated(answer)));
        assert_eq!(
            api.validate_jwt_svid(SHOP, &token).await,
            Err(JwtValidationError::OtherId)
        );
    }
    world
        .agent
        .answer(|_| Reply::Status(code::INVALID_ARGUMENT, "expired".into()));
    let refused = api.validate_jwt_svid(SHOP, &token).await.unwrap_err();
    assert_eq!(refused.to_string(), "the workload api answers with status 3: `expired`");
    assert!(matches!(
        api.validate_jwt_svid(SHOP, "no token").await,
        Err(JwtValidationError::Token(_))
    ));
}
