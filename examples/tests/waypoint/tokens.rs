//! Whose requests they are, by the tokens in them.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;

use crate::cluster::{Caller, Cluster, get, told};
use crate::issuer::Issuer;
use crate::world::App;

const NAME: &str = "https://issuer.test";

/// Answers to requests with these tokens; none for a request without.
async fn answers(caller: &Caller, tokens: [Option<String>; 4]) -> Vec<String> {
    let mut answers = Vec::new();
    for token in tokens {
        let token = token.map(|token| format!("Bearer {token}"));
        let lines: Vec<_> = token.iter().map(|token| ("authorization", &**token)).collect();
        let answer = caller.send(get("/", &lines)).await;
        answers.push(match answer.status().as_u16() {
            200 => {
                let told = told(&answer);
                assert!(told["headers"].get("authorization").is_none(), "{told}");
                told["headers"]["x-sub"].as_str().unwrap_or("nobody").to_owned()
            }
            401 => {
                let challenge = answer.headers()["www-authenticate"].to_str().unwrap();
                assert_eq!(challenge, "Bearer error=\"invalid_token\"");
                "not believed".to_owned()
            }
            status => status.to_string(),
        });
    }
    answers
}

/// One of the issuer's, one of somebody who says to be it, one that is none, and no token.
fn tokens(issuer: &Issuer) -> [Option<String>; 4] {
    let impostor = Issuer::new(NAME);
    [
        Some(issuer.token("ann")),
        Some(impostor.token("ann")),
        Some("a.b.c".to_owned()),
        None,
    ]
}

#[tokio::test]
async fn tokens_are_believed_by_the_keys_in_a_policy() {
    let issuer = Issuer::new(NAME);
    let cluster = Cluster::start(&issuer.rule(&issuer.inline())).await;
    let caller = cluster.call("cart").await;
    assert_eq!(
        answers(&caller, tokens(&issuer)).await,
        ["ann", "not believed", "not believed", "nobody"]
    );
    cluster
        .change(&(issuer.rule(&issuer.inline()) + &issuer.needed()), 1)
        .await;
    assert_eq!(
        answers(&caller, tokens(&issuer)).await,
        ["ann", "not believed", "not believed", "403"]
    );
    assert_eq!(cluster.one.asked(), 3);
}

#[tokio::test]
async fn tokens_are_believed_by_keys_that_are_fetched() {
    let issuer = Issuer::new(NAME);
    let fetched = Arc::new(AtomicUsize::new(0));
    let (count, keys) = (Arc::clone(&fetched), issuer.keys());
    let web = App::start(move |tcp| {
        let (count, keys) = (Arc::clone(&count), keys.clone());
        async move {
            let service = service_fn(|request: Request<Incoming>| {
                assert_eq!(request.uri().path(), "/keys");
                count.fetch_add(1, Ordering::Relaxed);
                let keys = keys.clone();
                async { Ok::<_, Infallible>(Response::new(Full::<Bytes>::from(keys))) }
            });
            drop(http1::Builder::new().serve_connection(TokioIo::new(tcp), service).await);
        }
    })
    .await;
    let objects = issuer.rule(&format!("jwksUri: 'http://{}/keys'", web.addr)) + &issuer.needed();
    let cluster = Cluster::start_with(&objects, "[external.keys]\nallowed = [\"127.0.0.0/8\"]\n").await;
    let caller = cluster.call("cart").await;
    assert_eq!(
        answers(&caller, tokens(&issuer)).await,
        ["ann", "not believed", "not believed", "403"]
    );
    assert_eq!(fetched.load(Ordering::Relaxed), 1);
    // Without leave nobody on this machine is called, and nobody is believed.
    let cluster = Cluster::start(&objects).await;
    let caller = cluster.call("cart").await;
    assert_eq!(
        answers(&caller, tokens(&issuer)).await,
        ["not believed", "not believed", "not believed", "403"]
    );
    assert_eq!((fetched.load(Ordering::Relaxed), cluster.one.asked()), (1, 0));
}
