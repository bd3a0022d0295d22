use std::convert::Infallible;
use std::fs;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use mesh_identity::provider;
use mesh_policy::authz::{JwtRule, PolicyName, RequestAuthentication};
use mesh_policy::jwt::Authenticator;
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::*;

/// The public key of RFC 7517, appendix A.1.
const KEYS: &str = r#"{"keys": [{"kty": "EC", "crv": "P-256", "kid": "1",
    "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4", "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}]}"#;

const LOCAL: &str = "allowed = ['127.0.0.0/8']";

/// A web server on loopback, until it is dropped.
struct Web {
    addr: SocketAddr,
    paths: Arc<Mutex<Vec<String>>>,
    _serving: JoinSet<()>,
}

impl Web {
    /// Answers a path; nothing comes of `None`.
    async fn new(answer: impl Fn(SocketAddr, &str) -> Option<Response<Full<Bytes>>> + Send + Sync + 'static) -> Self {
        Self::over(None, answer).await
    }

    async fn over(
        tls: Option<TlsAcceptor>,
        answer: impl Fn(SocketAddr, &str) -> Option<Response<Full<Bytes>>> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let paths = Arc::new(Mutex::new(Vec::new()));
        let (record, answer) = (Arc::clone(&paths), Arc::new(answer));
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                let (tls, record, answer) = (tls.clone(), Arc::clone(&record), Arc::clone(&answer));
                connections.spawn(async move {
                    let respond = |path: &str| {
                        record.lock().unwrap().push(path.to_owned());
                        answer(addr, path)
                    };
                    match tls {
                        None => serve(tcp, respond).await,
                        Some(tls) => {
                            if let Ok(link) = tls.accept(tcp).await {
                                serve(link, respond).await;
                            }
                        }
                    }
                });
            }
        });
        Self {
            addr,
            paths,
            _serving: serving,
        }
    }
}

async fn serve(link: impl AsyncRead + AsyncWrite + Unpin, respond: impl Fn(&str) -> Option<Response<Full<Bytes>>>) {
    let service = service_fn(|request: http::Request<Incoming>| {
        let response = respond(request.uri().path());
        async {
            match response {
                Some(response) => Ok::<_, Infallible>(response),
                None => std::future::pending().await,
            }
        }
    });
    http1::Builder::new()
        .serve_connection(TokioIo::new(link), service)
        .await
        .ok();
}

fn page(status: u16, body: impl Into<Bytes>) -> Option<Response<Full<Bytes>>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    Some(response)
}

fn rule(issuer: &str, uri: Option<&str>) -> JwtRule {
    let mut rule = JwtRule::default();
    rule.issuer = issuer.into();
    rule.jwks_uri = uri.map(String::from);
    rule
}

/// What decides by rules.
fn authenticator(rules: Vec<JwtRule>) -> Authenticator {
    let mut policy = RequestAuthentication::new(PolicyName::new("shop", "jwt"));
    policy.rules = rules;
    Authenticator::new([&policy]).unwrap()
}

/// Keys that are fetched for as long as the second is kept.
fn keys(config: &str) -> (Keys, JoinSet<()>) {
    let (keys, fetching) = Keys::new(&toml::from_str(config).unwrap());
    let mut driving = JoinSet::new();
    driving.spawn(async {
        fetching.await;
    });
    (keys, driving)
}

/// Of each rule, whether there are keys.
async fn held(keys: &Keys, rules: Vec<JwtRule>) -> Vec<bool> {
    let authenticator = authenticator(rules);
    keys.follow(authenticator.wanted_keys());
    keys.tried_for(|| authenticator.wanted_keys()).await;
    authenticator
        .wanted_keys()
        .map(|wanted| keys.keys(&wanted).is_some())
        .collect()
}

#[tokio::test]
async fn keys_come_from_where_the_policy_says_or_the_issuer() {
    let web = Web::new(|addr, path| match path {
        "/keys" | "/found" => page(200, KEYS),
        "/.well-known/openid-configuration" => page(
            200,
            format!(r#"{{"issuer": "http://{addr}/", "jwks_uri": "http://{addr}/found"}}"#),
        ),
        _ => page(404, ""),
    })
    .await;
    let (keys, _driving) = keys(LOCAL);
    let addr = web.addr;
    let named = rule("a", Some(&format!("http://{addr}/keys")));
    let discovered = rule(&format!("http://{addr}/"), None);
    // The document is another's: the issuer lacks the slash.
    let anothers = rule(&format!("http://{addr}"), None);
    assert_eq!(held(&keys, vec![named]).await, [true]);
    assert_eq!(held(&keys, vec![discovered]).await, [true]);
    assert_eq!(held(&keys, vec![anothers]).await, [false]);
}

#[tokio::test]
async fn keys_belong_to_issuer_and_address_and_go_with_them() {
    let web = Web::new(|_, _| page(200, KEYS)).await;
    let (keys, _driving) = keys(LOCAL);
    let (one, other) = (format!("http://{}/1", web.addr), format!("http://{}/2", web.addr));
    assert_eq!(
        held(&keys, vec![rule("a", Some(&one)), rule("b", Some(&other))]).await,
        [true; 2]
    );
    let stranger = authenticator(vec![rule("a", Some(&other))]);
    assert!(stranger.wanted_keys().all(|wanted| keys.keys(&wanted).is_none()));
    assert_eq!(held(&keys, vec![rule("b", Some(&other))]).await, [true]);
    let gone = authenticator(vec![rule("a", Some(&one))]);
    assert!(gone.wanted_keys().all(|wanted| keys.keys(&wanted).is_none()));
    let mut paths = web.paths.lock().unwrap().clone();
    paths.sort();
    assert_eq!(paths, ["/1", "/2"], "what is held is not fetched again");
}

#[tokio::test]
async fn what_is_no_key_set_gives_no_keys() {
    let web = Web::new(|addr, path| match path {
        "/missing" => page(404, KEYS),
        "/elsewhere" => {
            let mut response = page(302, KEYS)?;
            let keys = format!("http://{addr}/keys").parse().unwrap();
            response.headers_mut().insert("location", keys);
            Some(response)
        }
        "/encoded" => {
            let mut response = page(200, KEYS)?;
            response
                .headers_mut()
                .insert("content-encoding", "gzip".parse().unwrap());
            Some(response)
        }
        "/large" => page(200, format!("{KEYS}{}", " ".repeat(1 << 20))),
        "/page" => page(200, "<html></html>"),
        "/none" => page(200, r#"{"keys": []}"#),
        "/silent" => None,
        _ => page(200, KEYS),
    })
    .await;
    let (keys, _driving) = keys(LOCAL);
    let mut rules = Vec::new();
    for path in [
        "missing",
        "elsewhere",
        "encoded",
        "large",
        "page",
        "none",
        "silent",
        "keys",
    ] {
        let mut rule = rule(path, Some(&format!("http://{}/{path}", web.addr)));
        rule.timeout = Some(if path == "silent" { "20ms" } else { "10s" }.into());
        rules.push(rule);
    }
    // In the order of issuers.
    let expected = [
        "elsewhere",
        "encoded",
        "keys",
        "large",
        "missing",
        "none",
        "page",
        "silent",
    ]
    .map(|path| path == "keys");
    assert_eq!(held(&keys, rules).await, expected);
    assert!(!web.paths.lock().unwrap().iter().any(|path| path == "/found"));
}

#[tokio::test]
async fn neither_dead_nor_forbidden_addresses_give_keys() {
    let web = Web::new(|_, _| page(200, KEYS)).await;
    let uri = format!("http://{}/keys", web.addr);
    let nobody = format!("http://{}/keys", super::super::fake::nobody().await);
    let (open, _driving) = keys(LOCAL);
    assert_eq!(held(&open, vec![rule("a", Some(&nobody))]).await, [false]);
    let (closed, _driving) = keys("");
    assert_eq!(held(&closed, vec![rule("a", Some(&uri))]).await, [false]);
    assert!(web.paths.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_server_of_https_is_known_by_the_configured_roots() {
    let certified = rcgen::generate_simple_self_signed([String::from("localhost")]).unwrap();
    let key = PrivateKeyDer::try_from(certified.signing_key.serialize_der()).unwrap();
    let server = ServerConfig::builder_with_provider(provider::aws_lc_rs());
    let server = server
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth();
    let server = server
        .with_single_cert(vec![certified.cert.der().clone()], key)
        .unwrap();
    let web = Web::over(Some(TlsAcceptor::from(Arc::new(server))), |_, _| page(200, KEYS)).await;
    let folder = tempfile::tempdir().unwrap();
    let (roots, others) = (folder.path().join("roots.pem"), folder.path().join("others.pem"));
    fs::write(&roots, certified.cert.pem()).unwrap();
    let other = rcgen::generate_simple_self_signed([String::from("localhost")]).unwrap();
    fs::write(&others, other.cert.pem()).unwrap();
    let port = web.addr.port();
    for (config, host, expected) in [
        (format!("roots = {roots:?}"), "localhost", true),
        (format!("roots = {roots:?}"), "127.0.0.1", false),
        (format!("roots = {others:?}"), "localhost", false),
        (String::new(), "localhost", false),
    ] {
        let (keys, _driving) = keys(&format!("{config}\n{LOCAL}"));
        let rule = rule("a", Some(&format!("https://{host}:{port}/keys")));
        assert_eq!(held(&keys, vec![rule]).await, [expected], "{config} {host}");
    }
}

#[tokio::test]
async fn so_many_places_are_called_and_no_more() {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let web = Web::new(move |_, _| {
        counted.fetch_add(1, Ordering::Relaxed);
        page(200, KEYS)
    })
    .await;
    let (keys, _driving) = keys(LOCAL);
    // Five policies of rules, as many as apply to one workload each.
    let authenticators: Vec<_> = (0..5)
        .map(|policy| {
            let rules = (0..64).map(|number| {
                let issuer = format!("{policy}-{number}");
                rule(&issuer, Some(&format!("http://{}/{issuer}", web.addr)))
            });
            authenticator(rules.collect())
        })
        .collect();
    let wanted = || authenticators.iter().flat_map(Authenticator::wanted_keys);
    keys.follow(wanted());
    keys.tried_for(wanted).await;
    assert_eq!(
        wanted().filter(|wanted| keys.keys(wanted).is_some()).count(),
        MAX_PLACES
    );
    assert_eq!(count.load(Ordering::Relaxed), MAX_PLACES);
}
