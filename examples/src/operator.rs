//! HTTP for whoever operates a program: one short exchange after the other.

use std::convert::Infallible;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

/// Time for a request's head to arrive.
const HEAD_TIMEOUT: Duration = Duration::from_secs(2);

/// Time for a whole connection: an operator's is not kept longer.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(30);

pub(crate) const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
pub(crate) const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// What an operator is told.
pub(crate) type Answer = Response<Full<Bytes>>;

/// Answers the requests of one connection.
pub(crate) async fn converse(
    io: impl AsyncRead + AsyncWrite + Unpin,
    answer: impl Fn(&Request<Incoming>) -> Answer + Sync,
) {
    let service = service_fn(|request| {
        let answer = answer(&request);
        async { Ok::<_, Infallible>(answer) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    let served = timeout(CONNECTION_TIMEOUT, http.serve_connection(TokioIo::new(io), service)).await;
    tracing::trace!(?served, "operator's connection ended");
}

pub(crate) fn respond(status: StatusCode, kind: HeaderValue, body: String) -> Answer {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

/// To a request by another method than this one.
pub(crate) fn not_by(method: &'static str) -> Answer {
    let mut response = respond(StatusCode::METHOD_NOT_ALLOWED, TEXT, String::new());
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(method));
    response
}
