//! What operators ask for.

use std::sync::Arc;

use hyper::body::Incoming;
use hyper::header::{HeaderValue, WWW_AUTHENTICATE};
use hyper::{Method, Request, StatusCode};
use mesh_xds::server::Discovery;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::authority::Authority;
use super::certificate::Certificate;
use super::login::Login;
use super::roots::{Step, StepError};
use super::state::State;
use super::{dump, nodes, page};
use crate::accept;
use crate::operator::{self, Answer, JSON, TEXT, converse, not_by, respond};
use crate::workers::Stop;

const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");

/// What a browser asks for user and password by.
const CHALLENGE: HeaderValue = HeaderValue::from_static("Basic realm=\"control-plane\"");

/// Answers whoever operates the mesh.
#[derive(Clone)]
pub(super) struct Admin {
    pub(super) state: watch::Receiver<Arc<State>>,
    pub(super) discovery: Discovery,
    pub(super) authority: Authority,
    /// `None`: everybody who can connect.
    pub(super) login: Option<Arc<Login>>,
    /// `None`: in the clear.
    pub(super) certificate: Option<Arc<Certificate>>,
}

impl Admin {
    /// Answers until it is to stop.
    pub(super) async fn serve(self, listener: TcpListener, stop: Stop) {
        let open = accept::until(stop.draining(), listener, |tcp, _| self.clone().connection(tcp)).await;
        drop(open);
    }

    async fn connection(self, tcp: TcpStream) {
        match &self.certificate {
            None => converse(tcp, |request| self.answer(request)).await,
            Some(certificate) => {
                if let Some(tls) = certificate.accept(tcp).await {
                    converse(tls, |request| self.answer(request)).await;
                }
            }
        }
    }

    fn answer(&self, request: &Request<Incoming>) -> Answer {
        let path = request.uri().path();
        // It says no more than that something listens, and those who ask for it have no tokens.
        let is_open = path == "/healthz/ready";
        if !is_open
            && self
                .login
                .as_ref()
                .is_some_and(|login| !login.admits(request.headers()))
        {
            let mut refusal = respond(StatusCode::UNAUTHORIZED, TEXT, "no valid token\n".to_owned());
            refusal.headers_mut().insert(WWW_AUTHENTICATE, CHALLENGE);
            return refusal;
        }
        // With a token it is asked by its name, and no page of somebody else's has the token.
        if !is_open && self.login.is_none() && !operator::is_of_this_machine(request) {
            return operator::misdirected();
        }
        match (request.method(), path) {
            (&Method::GET, "/") => respond(StatusCode::OK, HTML, page::page(&self.dump())),
            (&Method::GET, "/healthz/ready") => respond(StatusCode::OK, TEXT, String::new()),
            (&Method::GET, "/config_dump") => respond(StatusCode::OK, JSON, format!("{:#}\n", self.dump())),
            (&Method::POST, "/authority") if operator::is_of_a_page(request) => operator::not_from_a_page(),
            (&Method::POST, "/authority") => self.step(request.uri().query().unwrap_or_default()),
            (_, "/authority") => not_by("POST"),
            (_, "/" | "/healthz/ready" | "/config_dump") => not_by("GET"),
            _ => respond(StatusCode::NOT_FOUND, TEXT, "not found\n".to_owned()),
        }
    }

    /// Everything there is to know.
    fn dump(&self) -> Value {
        let state = Arc::clone(&self.state.borrow());
        let mut dump = dump::dump(&state.mesh);
        if let Some(fields) = dump.as_object_mut() {
            let connected = self.discovery.clients();
            fields.insert("problem".to_owned(), json!(state.problem));
            fields.insert("clients".to_owned(), json!(connected.len()));
            fields.insert("nodes".to_owned(), nodes::nodes(&connected));
            fields.insert("roots".to_owned(), json!(self.authority.roots().to_pem()));
            fields.insert("rootsProblem".to_owned(), json!(self.authority.roots().problem()));
        }
        dump
    }

    fn step(&self, query: &str) -> Answer {
        let step = match query {
            "step=prepare" => Step::Prepare,
            "step=activate" => Step::Activate,
            "step=revoke" => Step::Revoke,
            _ => {
                let usage = "usage: /authority?step=prepare, activate or revoke\n".to_owned();
                return respond(StatusCode::BAD_REQUEST, TEXT, usage);
            }
        };
        match self.authority.roots().step(step) {
            Ok(()) => respond(StatusCode::OK, TEXT, self.authority.roots().to_pem()),
            Err(error) => {
                let status = match error {
                    StepError::Rotation(_) | StepError::Behind(_) => StatusCode::CONFLICT,
                    StepError::Unwritten(_) => StatusCode::INTERNAL_SERVER_ERROR,
                };
                respond(status, TEXT, format!("{error}\n"))
            }
        }
    }
}
