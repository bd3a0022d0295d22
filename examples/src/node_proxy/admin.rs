//! HTTP for whoever operates the node: readiness, metrics, state, log level.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::dump;
use super::log::Level;
use super::node::Node;
use crate::accept;

/// Time for a request's head to arrive.
const HEAD_TIMEOUT: Duration = Duration::from_secs(2);

/// Time for a whole exchange: an operator's connection is not kept longer.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(30);

const METRICS: HeaderValue = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Answers whoever operates the node.
pub(super) struct Admin {
    pub(super) node: Arc<Node>,
    pub(super) level: Level,
}

impl Admin {
    /// Answers until `stop`.
    pub(super) async fn serve(self, listener: TcpListener, stop: impl Future<Output = ()>) {
        let admin = Arc::new(self);
        drop(accept::until(stop, listener, |tcp, _| Arc::clone(&admin).connection(tcp)).await);
    }

    async fn connection(self: Arc<Self>, tcp: TcpStream) {
        let service = service_fn(|request| {
            let answer = self.answer(&request);
            async { Ok::<_, Infallible>(answer) }
        });
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
        let served = timeout(CONNECTION_TIMEOUT, http.serve_connection(TokioIo::new(tcp), service)).await;
        tracing::trace!(?served, "admin connection ended");
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        match (request.method(), request.uri().path()) {
            (&Method::GET, "/healthz/ready") => self.readiness(),
            (&Method::GET, "/metrics" | "/stats/prometheus") => match self.node.telemetry.metrics.to_text() {
                Ok(text) => respond(StatusCode::OK, METRICS, text),
                Err(_) => respond(StatusCode::INTERNAL_SERVER_ERROR, TEXT, String::new()),
            },
            (&Method::GET, "/config_dump") => respond(StatusCode::OK, JSON, dump::dump(&self.node).to_string()),
            (&Method::POST, "/logging") => self.logging(request.uri().query().unwrap_or_default()),
            (_, "/logging") => not_by("POST"),
            (_, "/healthz/ready" | "/metrics" | "/stats/prometheus" | "/config_dump") => not_by("GET"),
            _ => respond(StatusCode::NOT_FOUND, TEXT, "not found\n".to_owned()),
        }
    }

    fn readiness(&self) -> Response<Full<Bytes>> {
        match *self.node.is_synced.borrow() {
            true => respond(StatusCode::OK, TEXT, String::new()),
            false => respond(
                StatusCode::INTERNAL_SERVER_ERROR,
                TEXT,
                "not ready, pending: state manager\n".to_owned(),
            ),
        }
    }

    fn logging(&self, query: &str) -> Response<Full<Bytes>> {
        let Some(("level", level)) = query.split_once('=') else {
            return respond(
                StatusCode::BAD_REQUEST,
                TEXT,
                "usage: /logging?level=FILTER\n".to_owned(),
            );
        };
        match self.level.set(level) {
            Ok(true) => respond(StatusCode::OK, TEXT, format!("level: {level}\n")),
            Ok(false) => respond(StatusCode::INTERNAL_SERVER_ERROR, TEXT, "the log is gone\n".to_owned()),
            Err(error) => respond(StatusCode::BAD_REQUEST, TEXT, format!("{error}\n")),
        }
    }
}

fn not_by(method: &'static str) -> Response<Full<Bytes>> {
    let mut response = respond(StatusCode::METHOD_NOT_ALLOWED, TEXT, String::new());
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(method));
    response
}

fn respond(status: StatusCode, kind: HeaderValue, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
