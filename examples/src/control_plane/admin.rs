//! What operators ask for.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue, ORIGIN};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use mesh_xds::server::Discovery;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;

use super::authority::{Authority, Step};
use super::state::State;
use super::{dump, page};
use crate::accept;
use crate::workers::Stop;

/// Time for a request's head to arrive.
const HEAD_TIMEOUT: Duration = Duration::from_secs(2);

/// Time for a whole exchange: an operator's connection is not kept longer.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(30);

const TEXT: &str = "text/plain; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";
const JSON: &str = "application/json";

/// Answers whoever operates the mesh.
#[derive(Clone)]
pub(super) struct Admin {
    pub(super) state: watch::Receiver<Arc<State>>,
    pub(super) discovery: Discovery,
    pub(super) authority: Authority,
}

impl Admin {
    /// Answers until it is to stop.
    pub(super) async fn serve(self, listener: TcpListener, stop: Stop) {
        let open = accept::until(stop.draining(), listener, |tcp, _| self.clone().connection(tcp)).await;
        drop(open);
    }

    async fn connection(self, tcp: TcpStream) {
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
        let state = Arc::clone(&self.state.borrow());
        match (request.method(), request.uri().path()) {
            (&Method::GET, "/") => respond(StatusCode::OK, HTML, page::page(&state, self.discovery.client_count())),
            (&Method::GET, "/healthz/ready") => respond(StatusCode::OK, TEXT, String::new()),
            (&Method::GET, "/config_dump") => respond(StatusCode::OK, JSON, self.dump(&state)),
            // A page of somebody else's in the operator's browser must not do this.
            (&Method::POST, "/authority") if request.headers().contains_key(ORIGIN) => {
                respond(StatusCode::FORBIDDEN, TEXT, "not from a browser\n".to_owned())
            }
            (&Method::POST, "/authority") => self.step(request.uri().query().unwrap_or_default()),
            (_, "/" | "/healthz/ready" | "/config_dump" | "/authority") => {
                respond(StatusCode::METHOD_NOT_ALLOWED, TEXT, String::new())
            }
            _ => respond(StatusCode::NOT_FOUND, TEXT, "not found\n".to_owned()),
        }
    }

    fn dump(&self, state: &State) -> String {
        let mut dump = dump::dump(&state.mesh);
        if let Some(fields) = dump.as_object_mut() {
            fields.insert("problem".to_owned(), json!(state.problem));
            fields.insert("clients".to_owned(), json!(self.discovery.client_count()));
            fields.insert("roots".to_owned(), json!(self.authority.roots_pem()));
        }
        format!("{dump:#}\n")
    }

    fn step(&self, query: &str) -> Response<Full<Bytes>> {
        let step = match query {
            "step=prepare" => Step::Prepare,
            "step=activate" => Step::Activate,
            "step=revoke" => Step::Revoke,
            _ => {
                let usage = "usage: /authority?step=prepare, activate or revoke\n".to_owned();
                return respond(StatusCode::BAD_REQUEST, TEXT, usage);
            }
        };
        match self.authority.step(step) {
            Ok(()) => respond(StatusCode::OK, TEXT, self.authority.roots_pem()),
            Err(error) => respond(StatusCode::CONFLICT, TEXT, format!("{error}\n")),
        }
    }
}

fn respond(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
