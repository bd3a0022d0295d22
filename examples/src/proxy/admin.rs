//! HTTP for whoever operates a proxy: readiness, metrics, state, log level.

use std::fmt;
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::header::HeaderValue;
use hyper::{Method, Request, StatusCode};
use serde_json::Value;
use tokio::net::TcpListener;

use super::level::Level;
use crate::accept;
use crate::operator::{self, Answer, JSON, TEXT, not_by, respond};

const METRICS: HeaderValue = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");

/// A proxy as its operator sees it.
pub(crate) trait Operated: Send + Sync + 'static {
    /// Whether it knows what it has to know before it is sent anything.
    fn is_ready(&self) -> bool;

    /// What it counts, in the text format of OpenMetrics.
    fn metrics(&self) -> Result<String, fmt::Error>;

    /// What it knows, without keys.
    fn dump(&self) -> Value;
}

/// Answers whoever operates a proxy.
pub(crate) struct Admin<P> {
    pub(crate) proxy: Arc<P>,
    pub(crate) level: Level,
}

impl<P: Operated> Admin<P> {
    /// Answers until `stop`.
    pub(crate) async fn serve(self, listener: TcpListener, stop: impl Future<Output = ()>) {
        let admin = Arc::new(self);
        drop(
            accept::until(stop, listener, |tcp, _| {
                let admin = Arc::clone(&admin);
                async move { operator::converse(tcp, |request| admin.answer(request)).await }
            })
            .await,
        );
    }

    fn answer(&self, request: &Request<Incoming>) -> Answer {
        let path = request.uri().path();
        // Probes ask by whatever name they have; it says no more than yes or no.
        if path != "/healthz/ready" && !operator::is_of_this_machine(request) {
            return operator::misdirected();
        }
        match (request.method(), path) {
            (&Method::GET, "/healthz/ready") => self.readiness(),
            (&Method::GET, "/metrics" | "/stats/prometheus") => match self.proxy.metrics() {
                Ok(text) => respond(StatusCode::OK, METRICS, text),
                Err(_) => respond(StatusCode::INTERNAL_SERVER_ERROR, TEXT, String::new()),
            },
            (&Method::GET, "/config_dump") => respond(StatusCode::OK, JSON, self.proxy.dump().to_string()),
            (&Method::POST, "/logging") if operator::is_of_a_page(request) => operator::not_from_a_page(),
            (&Method::POST, "/logging") => self.logging(request.uri().query().unwrap_or_default()),
            (_, "/logging") => not_by("POST"),
            (_, "/healthz/ready" | "/metrics" | "/stats/prometheus" | "/config_dump") => not_by("GET"),
            _ => respond(StatusCode::NOT_FOUND, TEXT, "not found\n".to_owned()),
        }
    }

    fn readiness(&self) -> Answer {
        match self.proxy.is_ready() {
            true => respond(StatusCode::OK, TEXT, String::new()),
            false => respond(
                StatusCode::INTERNAL_SERVER_ERROR,
                TEXT,
                "not ready, pending: state manager\n".to_owned(),
            ),
        }
    }

    fn logging(&self, query: &str) -> Answer {
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
