//! Where tokens are looked for.

use mesh_policy::{
    ConnectionFacts, RequestFacts,
    jwt::{InlineOnly, Place, TokenFault},
};
use rustls_pki_types::UnixTime;
use serde_json::{Value, json};

use crate::world::{Ask, Signer, authenticator, claims, rule, with};

/// What is said of a request by a rule with these places.
fn by(signer: &Signer, places: &Value, ask: &Ask) -> String {
    let mut rule = rule(signer);
    for (name, value) in places.as_object().unwrap() {
        rule[name] = value.clone();
    }
    ask.outcome(&authenticator(&json!([rule])))
}

fn good(signer: &Signer) -> String {
    signer.token(&claims())
}

#[test]
fn without_places_the_usual_ones_count() {
    let signer = Signer::es256();
    let token = good(&signer);
    let none = json!({});
    assert_eq!(by(&signer, &none, &Ask::bearer(&token)), "alice");
    assert_eq!(
        by(
            &signer,
            &none,
            &Ask::get("/").header("AUTHORIZATION", &format!("Bearer {token}"))
        ),
        "alice"
    );
    assert_eq!(
        by(&signer, &none, &Ask::get(&format!("/?access_token={token}"))),
        "alice"
    );
    for elsewhere in [
        Ask::get("/").header("authorization", &format!("bearer {token}")),
        Ask::get("/").header("authorization", &format!("Basic {token}")),
        Ask::get("/").header("authorization", &token),
        Ask::get("/").header("x-token", &format!("Bearer {token}")),
        Ask::get(&format!("/?token={token}")),
        Ask::get(&format!("/access_token={token}")),
        Ask::get("/").header("cookie", &format!("access_token={token}")),
    ] {
        assert_eq!(by(&signer, &none, &elsewhere), "no token");
    }
}

#[test]
fn with_places_only_those_count() {
    let signer = Signer::es256();
    let token = good(&signer);
    let bearer = Ask::bearer(&token);
    for (places, ask) in [
        (
            json!({ "fromHeaders": [{ "name": "X-Token" }] }),
            Ask::get("/").header("x-token", &token),
        ),
        (
            json!({ "fromHeaders": [{ "name": "x-token", "prefix": "JWT " }] }),
            Ask::get("/").header("x-token", &format!("JWT {token}")),
        ),
        (
            json!({ "fromHeaders": [{ "name": "x-token", "prefix": "JWT" }] }),
            Ask::get("/").header("x-token", &format!("JWT {token}")),
        ),
        (json!({ "fromParams": ["t"] }), Ask::get(&format!("/?a=b&t={token}"))),
        (
            json!({ "fromCookies": ["t"] }),
            Ask::get("/").header("cookie", &format!("a=b; t={token}")),
        ),
    ] {
        assert_eq!(by(&signer, &places, &ask), "alice", "{places}");
        assert_eq!(by(&signer, &places, &bearer), "no token", "{places}");
    }
}

#[test]
fn a_header_without_its_prefix_has_no_token() {
    let signer = Signer::es256();
    let places = json!({ "fromHeaders": [{ "name": "x-token", "prefix": "JWT " }] });
    let ask = Ask::get("/").header("x-token", &good(&signer));
    assert_eq!(by(&signer, &places, &ask), "no token");
}

#[test]
fn places_that_are_the_same_text_together_are_two() {
    let signer = Signer::es256();
    let places = json!({"fromHeaders": [{"name": "x-a"}, {"name": "x", "prefix": "-a"}]});
    assert_eq!(
        by(&signer, &places, &Ask::get("/").header("x-a", &good(&signer))),
        "alice"
    );
    let other = Ask::get("/").header("x", &format!("-a{}", good(&signer)));
    assert_eq!(by(&signer, &places, &other), "alice");
}

#[test]
fn an_empty_place_has_a_bad_token() {
    let signer = Signer::es256();
    for (places, ask) in [
        (json!({}), Ask::get("/?access_token=")),
        (json!({}), Ask::get("/?access_token")),
        (
            json!({ "fromHeaders": [{ "name": "x-token" }] }),
            Ask::get("/").header("x-token", ""),
        ),
        (json!({ "fromCookies": ["t"] }), Ask::get("/").header("cookie", "t=")),
    ] {
        assert_eq!(by(&signer, &places, &ask), "jwt_not_compact", "{places}");
    }
}

#[test]
fn all_tokens_of_a_rule_are_good() {
    let signer = Signer::es256();
    let (token, bad) = (good(&signer), signer.token(&with(claims(), "exp", json!(5))));
    let both = |header: &str, parameter: &str| {
        let ask = Ask::get(&format!("/?access_token={parameter}")).header("authorization", &format!("Bearer {header}"));
        by(&signer, &json!({}), &ask)
    };
    assert_eq!(both(&token, &token), "alice");
    assert_eq!(both(&token, &bad), "jwt_expired");
    assert_eq!(both(&bad, &token), "jwt_expired");
}

#[test]
fn the_header_comes_before_the_query_and_that_before_the_cookie() {
    let signer = Signer::es256();
    let of = |name: &str| signer.token(&with(claims(), "sub", json!(name)));
    let places =
        json!({ "fromHeaders": [{ "name": "b" }, { "name": "a" }], "fromParams": ["p"], "fromCookies": ["c"] });
    let ask = Ask::get(&format!("/?p={}", of("parameter"))).header("cookie", &format!("c={}", of("cookie")));
    assert_eq!(by(&signer, &places, &ask), "parameter");
    let ask = ask.header("b", &of("b"));
    assert_eq!(by(&signer, &places, &ask), "b");
    assert_eq!(by(&signer, &places, &ask.header("a", &of("a"))), "a");
}

#[test]
fn two_tokens_in_one_place_are_refused() {
    let signer = Signer::es256();
    let token = good(&signer);
    for ask in [
        Ask::bearer(&token).header("authorization", &format!("Bearer {token}")),
        Ask::get(&format!("/?access_token={token}&access_token={token}")),
        Ask::get(&format!("/?access_token={token}&access%5ftoken=")),
    ] {
        assert_eq!(by(&signer, &json!({}), &ask), "jwt_repeated");
    }
    let cookies = json!({ "fromCookies": ["t"] });
    for line in [format!("t={token}; t={token}"), format!("t={token}; t=")] {
        assert_eq!(
            by(&signer, &cookies, &Ask::get("/").header("cookie", &line)),
            "jwt_repeated"
        );
    }
    // Which of several lines a reader takes is anybody's guess, whatever they are.
    let other = Ask::bearer(&token).header("authorization", "Basic YTpi");
    assert_eq!(by(&signer, &json!({}), &other), "jwt_repeated");
    let others = Ask::get("/")
        .header("authorization", "Basic YTpi")
        .header("authorization", "Basic eDp5");
    assert_eq!(by(&signer, &json!({}), &others), "no token");
}

#[test]
fn a_rule_sees_the_places_of_its_own_only() {
    let (one, two) = (Signer::es256(), Signer::es256());
    let rules = json!([
        with(
            with(rule(&one), "issuer", json!("a")),
            "fromHeaders",
            json!([{ "name": "x-a" }])
        ),
        with(
            with(rule(&two), "issuer", json!("b")),
            "fromHeaders",
            json!([{ "name": "x-b" }])
        ),
    ]);
    let authenticator = authenticator(&rules);
    let of = |signer: &Signer, issuer: &str| signer.token(&json!({ "iss": issuer, "sub": issuer }));
    let outcome = |ask: Ask| ask.outcome(&authenticator);
    assert_eq!(outcome(Ask::get("/").header("x-a", &of(&one, "a"))), "a");
    assert_eq!(outcome(Ask::get("/").header("x-b", &of(&two, "b"))), "b");
    assert_eq!(outcome(Ask::get("/").header("x-b", &of(&one, "a"))), "jwt_issuer");
    let bad = Ask::get("/").header("x-a", "bad");
    assert_eq!(outcome(bad.clone()), "jwt_not_compact");
    // As with Envoy, a rule that believes is enough.
    assert_eq!(outcome(bad.header("x-b", &of(&two, "b"))), "b");
}

#[test]
fn a_place_that_cannot_be_seen_refuses() {
    let signer = Signer::es256();
    let headers: [(&str, &str); 0] = [];
    let facts = RequestFacts::new(ConnectionFacts::new(), b"GET", &headers);
    let authenticator = authenticator(&json!([rule(&signer)]));
    let rejection =
        authenticator.authenticate(&facts, &InlineOnly, UnixTime::since_unix_epoch(Default::default()), &[]);
    let rejection = rejection.unwrap_err();
    assert_eq!(rejection.fault, TokenFault::Unavailable);
    assert_eq!(rejection.place, Place::Parameter("access_token".into()));
}

#[test]
fn preflight_requests_pass_unread_and_others_do_not() {
    let signer = Signer::es256();
    let mut ask = Ask::bearer("bad");
    ask.method = "OPTIONS";
    let preflight = ask
        .clone()
        .header("origin", "https://a")
        .header("access-control-request-method", "PUT");
    assert_eq!(by(&signer, &json!({}), &preflight), "no token");
    let mut get = preflight;
    get.method = "GET";
    for ask in [
        get,
        ask.clone().header("origin", "https://a"),
        ask.clone().header("access-control-request-method", "PUT"),
        ask.header("origin", "").header("access-control-request-method", "PUT"),
    ] {
        assert_eq!(by(&signer, &json!({}), &ask), "jwt_not_compact");
    }
}
