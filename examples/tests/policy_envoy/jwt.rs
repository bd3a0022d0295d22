//! Tokens, as Envoy's filter and this crate judge them: the status of the answer, and of a request
//! that passes its claims, its target and the headers that were set and removed.

use std::net::SocketAddr;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mesh_identity::provider;
use mesh_policy::authz::k8s;
use mesh_policy::jwt::{Authentication, Authenticator, InlineOnly, Rejection};
use mesh_policy::{Budget, Claim, Claims, ConnectionFacts, Known, PathNormalization, RequestFacts};
use rustls_pki_types::UnixTime;
use serde_json::{Map, Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::envoy::Envoy;
use crate::world::soon;

/// The headers that rules here set, and those that tokens are in.
const HEADERS: [&str; 6] = ["authorization", "x-token", "x-payload", "x-sub", "x-level", "x-roles"];

/// Puts every set of rules and every request to both.
pub async fn compare() {
    let issuers = Issuers::new();
    let (mut asked, mut passed, mut stricter, mut differences) = (0, 0, 0, Vec::new());
    for rules in issuers.rules() {
        let envoy = Envoy::start(&configuration(&rules)).await;
        let authenticator = authenticator(&rules);
        for (name, expected, request) in issuers.requests() {
            let theirs = ask(envoy.addr, &request).await;
            let ours = judge(&authenticator, &request);
            asked += 1;
            passed += usize::from(ours.status == 200);
            let is_alike = match expected {
                Same => ours == theirs,
                Status => ours.status == theirs.status,
                // Whatever passes with us, passes with Envoy in the same way.
                Stricter => ours.status != 200 || ours == theirs,
            };
            stricter += usize::from(ours.status != theirs.status);
            if !is_alike {
                differences.push(format!(
                    "{name}\n{request:?}\n{rules}\nours {ours:?}\nEnvoy's {theirs:?}"
                ));
            }
        }
    }
    eprintln!("tokens: {asked} requests, {passed} passed, {stricter} refused against Envoy");
    assert!(
        differences.is_empty(),
        "{}: {}",
        differences.len(),
        differences.join("\n\n")
    );
    assert!(passed > 0 && stricter > 0);
}

/// How our answer is related to Envoy's.
#[derive(Clone, Copy)]
enum Expected {
    Same,
    /// The same status, but Envoy spells the query anew, or has removed a good token of a rule that
    /// in the end does not believe.
    Status,
    /// What Envoy is lenient about, and this crate is documented not to be.
    Stricter,
}
use Expected::{Same, Status, Stricter};

/// What can be seen of a judgement.
#[derive(Debug, PartialEq, Eq)]
struct Judgement {
    status: u16,
    /// Claims, target and headers of a request that passed.
    passed: Option<Passed>,
}

type Passed = (Value, String, Vec<(String, Option<String>)>);

#[derive(Clone, Debug)]
struct Request {
    method: &'static str,
    target: String,
    headers: Vec<(&'static str, String)>,
}

impl Request {
    fn get(target: &str) -> Self {
        Self {
            method: "GET",
            target: target.to_owned(),
            headers: Vec::new(),
        }
    }

    fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    fn bearer(token: &str) -> Self {
        Self::get("/").header("authorization", format!("Bearer {token}"))
    }
}

/// Two issuers, and somebody whom nobody believes.
struct Issuers {
    keys: [EcdsaKeyPair; 3],
    now: u64,
}

impl Issuers {
    fn new() -> Self {
        Self {
            keys: std::array::from_fn(|_| EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap()),
            now: UnixTime::now().as_secs(),
        }
    }

    fn jwks(&self, issuer: usize) -> String {
        let point = &self.keys[issuer].public_key().as_ref()[1..];
        let (x, y) = point.split_at(32);
        let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
        json!({ "keys": [{ "kty": "EC", "crv": "P-256", "alg": "ES256", "kid": "k", "x": x, "y": y }] }).to_string()
    }

    fn rules(&self) -> [Value; 6] {
        let a = || json!({ "issuer": "a", "jwks": self.jwks(0) });
        let b = || json!({ "issuer": "b", "jwks": self.jwks(1) });
        let with = |mut rule: Value, fields: Value| {
            rule.as_object_mut()
                .unwrap()
                .extend(fields.as_object().unwrap().clone());
            rule
        };
        let outputs = json!({
            "outputPayloadToHeader": "x-payload",
            "outputClaimToHeaders": [
                { "header": "x-sub", "claim": "sub" },
                { "header": "x-level", "claim": "realm.level" },
                { "header": "x-roles", "claim": "realm.roles" },
            ],
            "spaceDelimitedClaims": ["groups"],
        });
        let places = json!({
            "fromHeaders": [{ "name": "x-token", "prefix": "T " }, { "name": "authorization", "prefix": "Bearer" }],
            "fromParams": ["t"],
            "fromCookies": ["c"],
        });
        [
            json!([a()]),
            json!([with(a(), outputs)]),
            json!([with(a(), places.clone()), b()]),
            json!([
                with(
                    with(b(), json!({ "audiences": ["https://web/"] })),
                    json!({ "forwardOriginalToken": true })
                ),
                a()
            ]),
            json!([a(), with(a(), json!({ "jwks": self.jwks(1) })), with(b(), places)]),
            json!([
                with(a(), json!({ "fromHeaders": [{ "name": "x-token" }] })),
                with(b(), json!({ "audiences": ["web"] }))
            ]),
        ]
    }

    fn sign(&self, issuer: usize, header: &str, claims: &str) -> String {
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let signature = self.keys[issuer].sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    fn token(&self, issuer: usize, claims: &Value) -> String {
        self.sign(issuer, r#"{"alg":"ES256"}"#, &claims.to_string())
    }

    /// Claims that the first issuer's rule believes, with these besides.
    fn claims(&self, more: &Value) -> Value {
        let mut claims = json!({ "iss": "a", "sub": "alice", "exp": self.now + 3600 });
        claims
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        claims
    }

    fn requests(&self) -> Vec<(String, Expected, Request)> {
        let mut requests = Vec::new();
        for (expected, more) in self.claim_sets() {
            let token = self.token(0, &self.claims(&more));
            requests.push((more.to_string(), expected, Request::bearer(&token)));
        }
        for (expected, header) in headers() {
            let token = self.sign(0, header, &self.claims(&json!({})).to_string());
            requests.push((header.to_owned(), expected, Request::bearer(&token)));
        }
        for (expected, claims) in payloads() {
            let token = self.sign(0, r#"{"alg":"ES256"}"#, claims);
            requests.push((claims.to_owned(), expected, Request::bearer(&token)));
        }
        requests.extend(self.signers());
        requests.extend(self.places());
        requests.extend(self.spellings());
        requests
    }

    fn claim_sets(&self) -> Vec<(Expected, Value)> {
        vec![
            (Same, json!({})),
            (Same, json!({ "iss": "b" })),
            (Same, json!({ "iss": "c" })),
            (Same, json!({ "iss": "" })),
            (Same, json!({ "iss": 5 })),
            (Same, json!({ "iss": null })),
            (Same, json!({ "sub": 5 })),
            (Same, json!({ "sub": null })),
            (Same, json!({ "jti": 5 })),
            (Same, json!({ "exp": self.now - 50 })),
            (Same, json!({ "exp": self.now - 70 })),
            (Same, json!({ "exp": self.now as f64 + 100.5 })),
            (Same, json!({ "exp": 1 })),
            (Stricter, json!({ "exp": 0 })),
            (Same, json!({ "exp": -1 })),
            (Same, json!({ "exp": 1e30 })),
            (Same, json!({ "exp": u64::MAX })),
            (Same, json!({ "exp": 1u64 << 63 })),
            (Same, json!({ "exp": "2000000000" })),
            (Same, json!({ "exp": null })),
            (Same, json!({ "nbf": self.now + 50 })),
            (Same, json!({ "nbf": self.now + 80 })),
            (Same, json!({ "nbf": 1u64 << 63 })),
            (Same, json!({ "nbf": "5" })),
            (Same, json!({ "iat": self.now + 5000 })),
            (Same, json!({ "iat": -5 })),
            (Same, json!({ "iat": "5" })),
            (Same, json!({ "aud": "web" })),
            (Same, json!({ "iss": "b", "aud": "web" })),
            (Same, json!({ "aud": ["x", "http://web"] })),
            (Same, json!({ "aud": [] })),
            (Same, json!({ "aud": 5 })),
            (Same, json!({ "aud": ["web", 5] })),
            (Same, json!({ "aud": null })),
            (Same, json!({ "realm": { "level": 5, "roles": ["a"] } })),
            (Same, json!({ "realm": { "level": 1.5, "roles": "x y" } })),
            (Same, json!({ "realm": { "level": -5, "roles": true } })),
            (Same, json!({ "realm": { "level": null, "roles": "" } })),
            (Same, json!({ "realm": { "level": 1e18, "roles": { "a": 1 } } })),
            (Same, json!({ "realm": 5 })),
            (Same, json!({ "realm.level": 5 })),
            (
                Same,
                json!({ "scope": " read  write ", "groups": "a b", "teams": "a b", "permission": " " }),
            ),
            (Same, json!({ "scope": ["a b"], "groups": 5 })),
        ]
    }

    fn signers(&self) -> Vec<(String, Expected, Request)> {
        let requests = [
            ("of nobody", self.token(2, &self.claims(&json!({})))),
            (
                "of b",
                self.token(1, &self.claims(&json!({ "iss": "b", "aud": "web" }))),
            ),
            (
                "of b, without audience",
                self.token(1, &self.claims(&json!({ "iss": "b" }))),
            ),
            ("of b, in the name of a", self.token(1, &self.claims(&json!({})))),
            (
                "of b, expired",
                self.token(1, &self.claims(&json!({ "iss": "b", "exp": 5 }))),
            ),
        ];
        let requests = requests.into_iter();
        requests
            .map(|(name, token)| (name.to_owned(), Same, Request::bearer(&token)))
            .collect()
    }

    fn places(&self) -> Vec<(String, Expected, Request)> {
        let a = self.token(0, &self.claims(&json!({})));
        let b = self.token(1, &self.claims(&json!({ "iss": "b", "aud": "web" })));
        let bad = self.token(0, &self.claims(&json!({ "exp": 5 })));
        let elsewhere = self.token(1, &self.claims(&json!({ "iss": "b" })));
        let get = Request::get;
        let mut preflight = Request::bearer(&bad).header("origin", "o");
        preflight.method = "OPTIONS";
        let spoofed = |request: Request| request.header("x-sub", "admin").header("x-level", "9");
        let requests = [
            (Same, get("/")),
            (Same, spoofed(get("/"))),
            (Same, preflight.clone()),
            (Same, preflight.header("access-control-request-method", "PUT")),
            (Same, get("/").header("authorization", format!("bearer {a}"))),
            (Same, get("/").header("authorization", format!("Basic {a}"))),
            (Same, get("/").header("authorization", a.as_str())),
            (Same, get("/").header("authorization", "Bearer")),
            (Same, get("/").header("authorization", format!("Basic x, Bearer {a}"))),
            (Same, get("/").header("authorization", format!("Bearer    {a}"))),
            (Same, Request::bearer(&a).header("authorization", "Basic YTpi")),
            (
                Stricter,
                get("/")
                    .header("authorization", "Basic YTpi")
                    .header("authorization", format!("Bearer {a}")),
            ),
            (
                Status,
                get("/")
                    .header("authorization", "Basic YTpi")
                    .header("authorization", "Basic eDp5"),
            ),
            (Status, get(&format!("/p?access_token={a}&x=%41&y"))),
            (Same, get(&format!("/p?access_token={a}&x=1&y=/?"))),
            (Same, get(&format!("/p?x=1&access_token={a}"))),
            (Same, get("/?access_token=")),
            (Same, get("/?access_token=bad")),
            (Same, get(&format!("/?Access_token={a}"))),
            (
                Same,
                get(&format!("/?access_token={bad}")).header("authorization", format!("Bearer {a}")),
            ),
            (
                Same,
                get(&format!("/?access_token={a}")).header("authorization", format!("Bearer {bad}")),
            ),
            (Same, get("/").header("x-token", a.as_str())),
            (Same, get("/").header("x-token", format!("T {a}"))),
            (Same, get("/").header("x-token", format!("T {b}"))),
            (Same, get("/").header("x-token", format!("t {b}"))),
            (
                Same,
                get("/")
                    .header("x-token", format!("T {bad}"))
                    .header("authorization", format!("Bearer {b}")),
            ),
            (
                Status,
                get("/")
                    .header("x-token", format!("T {a}"))
                    .header("authorization", format!("Bearer {b}")),
            ),
            (Same, get(&format!("/?t={a}&u=v"))),
            (Same, get(&format!("/?t={b}&u=v"))),
            (Same, get("/").header("cookie", format!("x=y; c={a}"))),
            (Same, get("/").header("cookie", format!("c=\"{b}\""))),
            (Same, get("/").header("cookie", "c=bad")),
            (
                Same,
                get("/")
                    .header("x-token", bad.as_str())
                    .header("authorization", format!("Bearer {elsewhere}")),
            ),
            (
                Same,
                get("/")
                    .header("x-token", format!("T {bad}"))
                    .header("authorization", format!("Bearer {elsewhere}")),
            ),
            (
                Same,
                get("/")
                    .header("x-token", elsewhere.as_str())
                    .header("authorization", format!("Bearer {bad}")),
            ),
            (
                Same,
                get("/")
                    .header("x-token", b.as_str())
                    .header("authorization", format!("Bearer {elsewhere}")),
            ),
            (Stricter, get(&format!("/?access_token={a}&access_token={bad}"))),
            (Stricter, get(&format!("/?t={a}&t={bad}"))),
            (Stricter, get("/").header("cookie", format!("c={a}; c={bad}"))),
            (
                Stricter,
                Request::bearer(&a).header("authorization", format!("Bearer {bad}")),
            ),
        ];
        let requests = requests.into_iter();
        requests
            .map(|(expected, request)| (String::new(), expected, request))
            .collect()
    }

    fn spellings(&self) -> Vec<(String, Expected, Request)> {
        let token = self.token(0, &self.claims(&json!({})));
        let parts: Vec<_> = token.split('.').collect();
        let [header, payload, signature] = parts[..] else {
            panic!()
        };
        let tokens = [
            (Same, format!("{header}.{payload}")),
            (Same, format!("{header}.{payload}.")),
            (Same, format!("{token}.{signature}")),
            (Same, format!("{header}.{payload}.{}", signature.get(4..).unwrap())),
            (Same, format!("{header}.{payload}.AAAA{signature}")),
            (Same, format!("{payload}.{header}.{signature}")),
            (Same, "a.b.c".to_owned()),
            (Same, "...".to_owned()),
            (Same, "x".repeat(30_000)),
            (Stricter, format!(".{token}")),
            (Stricter, format!("{token}.")),
            (Stricter, format!("{header}..{payload}.{signature}")),
            (Stricter, format!("{token}=")),
            (Stricter, format!("{token}==")),
            (Stricter, format!("{token} x")),
            (Stricter, format!("{token},x")),
            (Stricter, format!("{token}, Bearer {token}")),
            (Stricter, format!("\"{token}\"")),
        ];
        let tokens = tokens.into_iter();
        tokens
            .map(|(expected, token)| (token.clone(), expected, Request::bearer(&token)))
            .collect()
    }
}

fn headers() -> [(Expected, &'static str); 19] {
    [
        (Same, r#"{"alg":"ES256","kid":"k"}"#),
        (Same, r#"{"alg":"ES256","kid":""}"#),
        (Same, r#"{"alg":"ES256","kid":"x"}"#),
        (Same, r#"{"alg":"ES256","kid":"../k"}"#),
        (Same, r#"{"alg":"ES256","kid":5}"#),
        (Same, r#"{"alg":"ES256","kid":null}"#),
        (Same, r#"{"alg":"ES256","typ":"at+jwt","cty":"x"}"#),
        (Same, r#"{"alg":"ES256","jku":"https://attacker","jwk":{"kty":"oct"}}"#),
        (Same, r#"{"alg":"none"}"#),
        (Same, r#"{"alg":"None"}"#),
        (Same, r#"{"alg":"HS256"}"#),
        (Same, r#"{"alg":"RS256"}"#),
        (Same, r#"{"alg":"ES384"}"#),
        (Same, r#"{"alg":"es256"}"#),
        (Same, r#"{"alg":5}"#),
        (Same, "{}"),
        (Same, r#"{"alg":"none","alg":"ES256"}"#),
        (Same, "[]"),
        (Stricter, r#"{"alg":"ES256","crit":["x"],"x":1}"#),
    ]
}

fn payloads() -> [(Expected, &'static str); 11] {
    [
        (Same, r#"{"iss":"a","sub":"alice"}"#),
        (Same, r#"{"iss":"a"}"#),
        (Same, r#"{"sub":"alice"}"#),
        (Same, r#"{"iss":"a","sub":"alice","sub":"admin"}"#),
        (Same, r#"{"iss":"a","x":{"y":1,"y":2}}"#),
        (Same, r#"{"iss":"a"}x"#),
        (Same, ""),
        (Same, "[]"),
        (Same, "5"),
        (Same, "{"),
        (Same, r#"{"iss":"a","x":"ä€😀"}"#),
    ]
}

/// Rules as istiod has Envoy keep them.
fn configuration(rules: &Value) -> String {
    let mut rules = rules.as_array().unwrap().clone();
    rules.sort_by_key(|rule| rule["issuer"].as_str().map(str::to_owned));
    let names: Vec<_> = (0..rules.len()).map(|index| format!("origins-{index}")).collect();
    let named = |name: &String| json!({ "provider_name": name });
    let optional = |name| json!({ "requires_any": { "requirements": [named(name), { "allow_missing": {} }] } });
    let requires = match &names[..] {
        [only] => optional(only),
        _ => {
            let all = json!({ "requires_all": { "requirements": names.iter().map(optional).collect::<Vec<_>>() } });
            let any: Vec<_> = names.iter().map(named).chain([all]).collect();
            json!({ "requires_any": { "requirements": any } })
        }
    };
    let providers: Map<_, _> = names.iter().cloned().zip(rules.iter().map(provider_of)).collect();
    let jwt = json!({ "name": "envoy.filters.http.jwt_authn", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication",
        "providers": providers,
        "rules": [{ "match": { "prefix": "/" }, "requires": requires }],
        "bypass_cors_preflight": true,
    } });
    let router = json!({ "name": "router", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
    } });
    let mut body = json!({
        "claims": "%DYNAMIC_METADATA(envoy.filters.http.jwt_authn:payload)%",
        "target": "%REQ(:PATH)%",
    });
    for name in HEADERS {
        body[name] = json!(format!("%REQ({name})%"));
    }
    let listener = json!({
        "name": "tokens",
        "address": { "socket_address": { "address": "127.0.0.1", "port_value": 0 } },
        "filter_chains": [{ "filters": [{ "name": "http", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "tokens",
            "delayed_close_timeout": "0s",
            "normalize_path": true,
            "http_filters": [jwt, router],
            "local_reply_config": { "body_format": { "json_format": body } },
            "route_config": { "virtual_hosts": [{
                "name": "all",
                "domains": ["*"],
                "routes": [{ "match": { "prefix": "/" }, "direct_response": { "status": 200 } }],
            }] },
        } }] }],
    });
    json!({
        "admin": { "address": { "socket_address": { "address": "127.0.0.1", "port_value": 0 } } },
        "static_resources": { "listeners": [listener] },
    })
    .to_string()
}

fn provider_of(rule: &Value) -> Value {
    let mut words = vec![json!("permission"), json!("scope")];
    words.extend(rule["spaceDelimitedClaims"].as_array().cloned().unwrap_or_default());
    let list = |name: &str| rule[name].as_array().cloned().unwrap_or_default();
    let headers: Vec<_> = list("fromHeaders")
        .iter()
        .map(|header| json!({ "name": header["name"], "value_prefix": header["prefix"].as_str().unwrap_or("") }))
        .collect();
    let outputs: Vec<_> = list("outputClaimToHeaders")
        .iter()
        .map(|output| json!({ "header_name": output["header"], "claim_name": output["claim"] }))
        .collect();
    json!({
        "issuer": rule["issuer"],
        "audiences": list("audiences"),
        "forward": rule["forwardOriginalToken"].as_bool().unwrap_or(false),
        "forward_payload_header": rule["outputPayloadToHeader"].as_str().unwrap_or(""),
        "claim_to_headers": outputs,
        "from_headers": headers,
        "from_params": list("fromParams"),
        "from_cookies": list("fromCookies"),
        "payload_in_metadata": "payload",
        "normalize_payload_in_metadata": { "space_delimited_claims": words },
        "local_jwks": { "inline_string": rule["jwks"] },
    })
}

async fn ask(envoy: SocketAddr, request: &Request) -> Judgement {
    let mut stream = TcpStream::connect(envoy).await.unwrap();
    let mut head = format!(
        "{} {} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n",
        request.method, request.target
    );
    for (name, value) in &request.headers {
        head += &format!("{name}: {value}\r\n");
    }
    stream.write_all(format!("{head}\r\n").as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    soon("answer", stream.read_to_end(&mut answer)).await.unwrap();
    let answer = String::from_utf8(answer).unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    let passed = (status == 200).then(|| {
        let body: Value = serde_json::from_str(body).unwrap();
        let target = body["target"].as_str().unwrap().to_owned();
        let headers = HEADERS.map(|name| (name.to_owned(), body[name].as_str().map(str::to_owned)));
        (without_numbers(&body["claims"]), target, headers.to_vec())
    });
    Judgement { status, passed }
}

/// A claim in which all that policies cannot ask for is the same.
fn without_numbers(claim: &Value) -> Value {
    match claim {
        Value::String(_) => claim.clone(),
        Value::Array(list) => list.iter().map(without_numbers).collect(),
        Value::Object(object) => {
            let members = object.iter();
            Value::Object(
                members
                    .map(|(name, value)| (name.clone(), without_numbers(value)))
                    .collect(),
            )
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => Value::Null,
    }
}

fn authenticator(rules: &Value) -> Authenticator {
    let file = json!({
        "apiVersion": "security.istio.io/v1",
        "kind": "RequestAuthentication",
        "metadata": { "name": "jwt" },
        "spec": { "jwtRules": rules },
    });
    let manifests = k8s::read("jwt.json", &file.to_string(), &Budget::new()).unwrap();
    Authenticator::new(&manifests.request_authentication).unwrap()
}

fn judge(authenticator: &Authenticator, request: &Request) -> Judgement {
    let mut buffer = Vec::new();
    let path = PathNormalization::Base
        .normalize(request.target.as_bytes(), &mut buffer)
        .unwrap();
    let facts = RequestFacts::new(ConnectionFacts::new(), request.method.as_bytes(), &request.headers);
    let facts = facts.path(Known::Present(path));
    let algorithms = provider::aws_lc_rs().signature_verification_algorithms.all;
    let judged = authenticator.authenticate(&facts, &InlineOnly, UnixTime::now(), algorithms);
    Judgement {
        status: judged.as_ref().map_or_else(Rejection::status, |_| 200),
        passed: judged.ok().map(|authentication| passed(&authentication, request)),
    }
}

fn passed(authentication: &Authentication, request: &Request) -> Passed {
    let claims = match authentication.claims() {
        Known::Present(claims) => object(claims),
        _ => Value::Null,
    };
    let changes = authentication.changes();
    let target = changes.target().unwrap_or(request.target.as_bytes());
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let value = |name: &str| {
        let is_removed = changes.removed_headers().any(|removed| removed == name);
        let sent = request.headers.iter().filter(|(sent, _)| *sent == name && !is_removed);
        let added = changes.added_headers().filter(|(added, _)| *added == name);
        sent.map(|(_, value)| value.clone())
            .chain(added.map(|(_, value)| text(value)))
            .next()
    };
    let headers = HEADERS.map(|name| (name.to_owned(), value(name)));
    (claims, text(target), headers.to_vec())
}

fn object(claims: &Claims) -> Value {
    Value::Object(
        claims
            .iter()
            .map(|(name, claim)| (name.to_owned(), value(claim)))
            .collect(),
    )
}

fn value(claim: &Claim) -> Value {
    match claim {
        Claim::Text(text) => json!(text),
        Claim::List(list) => list.iter().map(value).collect(),
        Claim::Object(claims) => object(claims),
        _ => Value::Null,
    }
}
