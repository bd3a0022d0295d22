//! The graph over HTTP: a page that keeps itself up to date, and what it is made of.

use std::sync::Arc;

use hyper::body::Incoming;
use hyper::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderValue, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use hyper::{Method, Request, StatusCode};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::dot::Dot;
use super::graph::Graph;
use super::mermaid::Mermaid;
use crate::accept;
use crate::operator::{self, Answer, JSON, TEXT};

/// Only what is served here is loaded and run, and no text becomes markup.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; \
     form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
);

const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
const CSS: HeaderValue = HeaderValue::from_static("text/css; charset=utf-8");
const SCRIPT: HeaderValue = HeaderValue::from_static("text/javascript; charset=utf-8");

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
        operator::converse(tcp, |request| self.answer(request)).await;
    }

    fn answer(&self, request: &Request<Incoming>) -> Answer {
        if request.method() != Method::GET {
            return operator::not_by("GET");
        }
        if !operator::is_of_this_machine(request) {
            return operator::misdirected();
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

fn respond(status: StatusCode, kind: HeaderValue, body: String) -> Answer {
    let mut response = operator::respond(status, kind, body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, POLICY);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

#[cfg(all(test, feature = "browser"))]
mod browser;
