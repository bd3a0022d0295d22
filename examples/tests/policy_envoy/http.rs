//! Asks Envoy about requests.

use std::net::SocketAddr;

use ::http::uri::{Authority, PathAndQuery, Scheme, Uri};
use ::http::{Method, Request as Head};
use h2::client::ResponseFuture;
use mesh_testkit::policy::wire::{Connection, Request};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;

use crate::answer::Answer;
use crate::batch::{Case, Heard, Voice};
use crate::config::METADATA_HEADER;
use crate::pki::Pki;
use crate::world::soon;
use crate::{proxy, token};

pub async fn ask(envoy: SocketAddr, case: &Case, pki: &Pki) -> Vec<Heard> {
    let mut heard = Vec::new();
    for (index, (connection, requests)) in case.connections.iter().enumerate() {
        let stream = proxy::connect(envoy, connection, case.source_port, "-").await;
        let answers = if case.is_tls {
            exchange(connection, requests, pki.handshake(connection, stream).await).await
        } else {
            exchange(connection, requests, stream).await
        };
        let answers = answers.into_iter().enumerate();
        heard.extend(answers.map(|(request, answer)| (index, Some(request), Voice::Http(answer))));
    }
    heard
}

/// All requests at once, over one HTTP/2 connection.
async fn exchange(
    connection: &Connection,
    requests: &[Request],
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> Vec<Answer> {
    let (sender, driver) = h2::client::handshake(stream).await.unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(driver);
    let mut sender = sender.ready().await.unwrap();
    let mut pending = Vec::new();
    for request in requests {
        let (response, _) = sender.send_request(head(connection, request), true).unwrap();
        pending.push(response);
    }
    let mut answers = Vec::new();
    for response in pending {
        answers.push(soon("answer", answer(response)).await);
    }
    answers
}

fn head(connection: &Connection, request: &Request) -> Head<()> {
    let mut uri = ::http::uri::Parts::default();
    uri.scheme = Some(Scheme::HTTP);
    uri.authority = Some(Authority::from_static(request.authority));
    uri.path_and_query = Some(PathAndQuery::from_static(request.target));
    let mut head = Head::builder()
        .method(Method::from_bytes(request.method.as_bytes()).unwrap())
        .uri(Uri::from_parts(uri).unwrap());
    for (name, value) in &request.headers {
        head = head.header(*name, *value);
    }
    if let Some(text) = connection.metadata {
        head = head.header(METADATA_HEADER, text);
    }
    if let Some(claims) = &request.claims {
        head = head.header("authorization", format!("Bearer {}", token::sign(claims)));
    }
    head.body(()).unwrap()
}

async fn answer(response: ResponseFuture) -> Answer {
    let (head, mut body) = response.await.unwrap().into_parts();
    let mut text = Vec::new();
    while let Some(bytes) = body.data().await {
        let bytes = bytes.unwrap();
        body.flow_control().release_capacity(bytes.len()).unwrap();
        text.extend_from_slice(&bytes);
    }
    let text = String::from_utf8(text).unwrap();
    let is_denied = match head.status.as_u16() {
        200 => false,
        403 => true,
        other => panic!("{other}: {text}"),
    };
    let (details, metadata) = text.split_once(' ').unwrap();
    let metadata = if metadata == "-" { "null" } else { metadata };
    Answer::of_envoy(is_denied, details, &serde_json::from_str(metadata).unwrap())
}
