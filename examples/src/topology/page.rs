//! The graph over HTTP: a page that keeps itself up to date, and what it is made of.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, HeaderValue, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;

use super::dot::Dot;
use super::graph::Graph;
use super::mermaid::Mermaid;
use crate::accept;

/// Time for a request's head to arrive.
const HEAD_TIMEOUT: Duration = Duration::from_secs(2);

/// Time for all exchanges of a connection.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(30);

/// Only what is served here is loaded and run, and no text becomes markup.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; \
     form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
);

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";

/// Shows a graph as it changes.
#[derive(Clone)]
pub(crate) struct Page {
    pub(crate) graph: watch::Receiver<Arc<Graph>>,
}

impl Page {
    /// Answers until `stop`.
    pub(crate) async fn serve(self, listener: TcpListener, stop: impl Future<Output = ()>) {
        drop(accept::until(stop, listener, |tcp, _| self.clone().connection(tcp)).await);
    }

    async fn connection(self, tcp: TcpStream) {
        let service = service_fn(|request| {
            let answer = self.answer(&request);
            async { Ok::<_, Infallible>(answer) }
        });
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
        let served = timeout(CONNECTION_TIMEOUT, http.serve_connection(TokioIo::new(tcp), service)).await;
        tracing::trace!(?served, "connection of a browser ended");
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        if request.method() != Method::GET {
            return respond(StatusCode::METHOD_NOT_ALLOWED, TEXT, String::new());
        }
        // A name that somebody else's page had resolved to this address must not read this one.
        if !request.headers().get(HOST).is_some_and(is_address) {
            return respond(StatusCode::MISDIRECTED_REQUEST, TEXT, "ask by address\n".to_owned());
        }
        let graph = Arc::clone(&self.graph.borrow());
        match request.uri().path() {
            "/" => respond(StatusCode::OK, HTML, include_str!("page/index.html").to_owned()),
            "/page.css" => respond(StatusCode::OK, CSS, include_str!("page/page.css").to_owned()),
            "/page.js" => respond(StatusCode::OK, SCRIPT, include_str!("page/page.js").to_owned()),
            "/topology.json" => match serde_json::to_string(&*graph) {
                Ok(text) => respond(StatusCode::OK, JSON, text),
                Err(_) => respond(StatusCode::INTERNAL_SERVER_ERROR, TEXT, String::new()),
            },
            "/topology.mmd" => respond(StatusCode::OK, TEXT, Mermaid(&graph).to_string()),
            "/topology.dot" => respond(StatusCode::OK, TEXT, Dot(&graph).to_string()),
            _ => respond(StatusCode::NOT_FOUND, TEXT, "not found\n".to_owned()),
        }
    }
}

/// Whether a host is an address or this machine's own name, and not one of DNS.
fn is_address(host: &HeaderValue) -> bool {
    let Ok(host) = host.to_str() else { return false };
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || bare.parse::<std::net::IpAddr>().is_ok()
}

fn respond(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CONTENT_SECURITY_POLICY, POLICY);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

#[cfg(all(test, feature = "browser"))]
mod browser;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_are_answered() {
        let is = |host: &'static str| is_address(&HeaderValue::from_static(host));
        assert!(is("127.0.0.1:80") && is("127.0.0.1") && is("[::1]:80") && is("[::1]") && is("localhost:1"));
        assert!(!is("mesh.example:80") && !is("") && !is("127.0.0.1.example"));
    }
}
