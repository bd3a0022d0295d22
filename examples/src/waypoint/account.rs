//! Requests as they are told: counted and logged when their answers have ended.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use hyper::body::{Body as _, Frame};
use hyper::header::{CONTENT_LENGTH, HeaderMap};
use hyper::http::request::Parts;
use hyper::{Method, Response, StatusCode, Version};
use mesh_xds::store::Workload;
use tokio::time::Instant;

use super::body::{self, Body, BodyError};
use super::client::Client;
use super::external::{Attribute, Ended, Open};
use super::gateway::Gateway;
use super::headers::{REQUEST_ID, grpc_status, is_grpc};
use super::progress::Progress;
use super::requests::{Measures, RequestLabels, Status};
use super::room::Place;
use super::stream::{Stream, Told};
use crate::proxy::access_log::{Record, Value};
use crate::proxy::labels::{Labels, Reporter, ServiceName};
use crate::proxy::party::Party;

/// The longest part of a request that is logged.
const MAX_TOLD: usize = 1024;

/// Who speaks to whom.
#[derive(Clone)]
pub(super) struct Parties {
    pub(super) source: Party,
    /// Whether the source's names are its own words.
    pub(super) is_claimed: bool,
    pub(super) source_addr: String,
    pub(super) service: Option<ServiceName>,
    /// Who has to answer, where that is nobody's choice.
    pub(super) destination: Party,
}

/// A request that is being told.
pub(super) struct Account {
    gateway: Arc<Gateway>,
    parties: Parties,
    /// Whether it is a call of gRPC.
    is_call: bool,
    head: Vec<(&'static str, Value)>,
    began: Instant,
    progress: Arc<Progress>,
    is_head: bool,
    status: u16,
    grpc_status: Option<u32>,
    flags: Cow<'static, str>,
    reason: String,
    route: String,
    destination: Party,
    attempts: u32,
    is_told: bool,
    /// Its part in a trace.
    span: Option<Open>,
    /// Its room among the requests.
    _place: Option<Place>,
}

impl Account {
    pub(super) fn begin(client: &Client, stream: &Stream, head: &Parts, place: Option<Place>) -> Self {
        let text = |text: &str| Value::Text(text.chars().take(MAX_TOLD).collect());
        let line = |name: &str| {
            let value = head.headers.get(name).and_then(|value| value.to_str().ok());
            text(value.unwrap_or_default())
        };
        let version = match head.version {
            Version::HTTP_2 => "HTTP/2",
            Version::HTTP_10 => "HTTP/1.0",
            _ => "HTTP/1.1",
        };
        let authority = head.uri.authority().map(|authority| text(authority.as_str()));
        Self {
            is_call: is_grpc(&head.headers),
            head: vec![
                ("http.method", text(head.method.as_str())),
                ("http.path", text(head.uri.path())),
                ("http.authority", authority.unwrap_or_else(|| line("host"))),
                ("http.protocol", text(version)),
                ("http.user_agent", line("user-agent")),
            ],
            gateway: Arc::clone(&client.worker.gateway),
            parties: client.parties.clone(),
            began: Instant::now(),
            progress: Arc::clone(&stream.progress),
            is_head: head.method == Method::HEAD,
            status: 0,
            grpc_status: None,
            flags: "-".into(),
            reason: String::new(),
            route: String::new(),
            destination: client.parties.destination.clone(),
            attempts: 0,
            is_told: false,
            span: None,
            _place: place,
        }
    }

    /// Which part of a trace is told, too.
    pub(super) fn traced(&mut self, span: Option<Open>) {
        self.span = span;
    }

    /// Why the answer is not an endpoint's, or not whole.
    pub(super) fn fail(&mut self, flags: impl Into<Cow<'static, str>>, reason: String) {
        self.flags = flags.into();
        self.reason = reason;
    }

    /// Which route the request takes.
    pub(super) fn takes(&mut self, route: String) {
        self.route = route;
    }

    /// Which endpoint answered, and what there is to say about how often it was tried.
    pub(super) fn answered_by(&mut self, endpoint: &Workload, attempts: u32, flags: String) {
        self.tried(Some(endpoint), attempts);
        self.flags = flags.into();
    }

    /// Which endpoint was tried last.
    pub(super) fn tried(&mut self, endpoint: Option<&Workload>, attempts: u32) {
        self.attempts = attempts;
        if let Some(endpoint) = endpoint {
            let id = endpoint.identity.spiffe_id().parse().ok();
            self.destination = Party::from(endpoint).authenticated(id.as_ref());
        }
    }

    /// Which request it is, for whoever compares logs.
    pub(super) fn identified(&mut self, headers: &HeaderMap) {
        if let Some(id) = headers.get(REQUEST_ID).and_then(|id| id.to_str().ok()) {
            let id = id.chars().take(MAX_TOLD).collect();
            self.head.push(("http.request_id", Value::Text(id)));
        }
    }

    /// Tells the request when its answer has ended.
    pub(super) fn attach(mut self, stream: Arc<Stream>, mut response: Response<Body>) -> Response<Told> {
        self.status = response.status().as_u16();
        self.grpc_status = self.call_status(response.headers());
        if self.is_head || is_bodiless(response.status()) {
            bare(&mut response, self.is_head);
        }
        stream.answer(response, self)
    }

    /// Hears what comes of the answer's body: a part, or its end.
    pub(super) fn hear(&mut self, frame: Option<&Result<Frame<Bytes>, BodyError>>) {
        match frame {
            Some(Ok(frame)) => {
                let data = frame.data_ref().map_or(0, Bytes::len);
                self.progress.bytes.count_to_client(data);
                if let Some(trailers) = frame.trailers_ref() {
                    self.grpc_status = self.call_status(trailers).or(self.grpc_status);
                }
            }
            Some(Err(error)) => {
                self.fail("UC", error.to_string());
                self.tell();
            }
            None if self.is_told => {}
            None => self.tell(),
        }
    }

    /// The connection has gone on by another protocol, and ended.
    pub(super) fn end_upgraded(mut self, status: StatusCode) {
        self.status = status.as_u16();
        self.tell();
    }

    /// The request has ended.
    pub(super) fn tell(&mut self) {
        self.is_told = true;
        self.progress.end();
        let duration = self.began.elapsed();
        let labels = Labels {
            reporter: Reporter::Waypoint,
            source: self.parties.source.clone().of_any_pod(),
            destination: self.destination.clone().of_any_pod(),
            service: self.parties.service.clone(),
            protocol: if self.is_call { "grpc" } else { "http" },
            flags: self.flags.clone(),
            is_mutual_tls: true,
        };
        let labels = RequestLabels {
            labels,
            status: Status::Of(self.status),
            grpc_status: self.grpc_status,
        };
        let measures = Measures {
            duration,
            received: self.progress.bytes.to_server(),
            sent: self.progress.bytes.to_client(),
        };
        self.gateway.requests.count(labels, self.parties.is_claimed, measures);
        let record = self.record(measures);
        self.gateway.telemetry.log.write(&record);
        if let Some(span) = self.span.take() {
            let name = self
                .parties
                .service
                .as_ref()
                .map_or(&*self.destination.name, |service| &*service.hostname);
            let name = name.to_owned();
            span.end(ended(name, record), duration);
        }
    }

    /// How a call has ended; nothing else has such a status, whatever an answer says.
    fn call_status(&self, headers: &HeaderMap) -> Option<u32> {
        grpc_status(headers).filter(|_| self.is_call)
    }

    fn record(&mut self, measures: Measures) -> Record {
        let Parties {
            source,
            source_addr,
            service,
            ..
        } = &self.parties;
        let destination = &self.destination;
        let identity = |party: &Party| party.identity.as_ref().map(ToString::to_string).unwrap_or_default();
        let text = |name, value: &str| (name, Value::Text(value.to_owned()));
        let mut fields = vec![
            ("src.addr", Value::Word(source_addr.clone())),
            text("src.workload", &source.name),
            text("src.namespace", &source.namespace),
            text("src.identity", &identity(source)),
            text("dst.service", service.as_ref().map_or("", |service| &*service.hostname)),
            text("dst.workload", &destination.name),
            text("dst.namespace", &destination.namespace),
            text("dst.identity", &identity(destination)),
        ];
        fields.append(&mut self.head);
        fields.extend([
            ("http.status", Value::Number(self.status.into())),
            text(
                "grpc.status",
                &self.grpc_status.map(|status| status.to_string()).unwrap_or_default(),
            ),
            text("flags", &self.flags),
            text("route", &self.route),
            ("attempts", Value::Number(self.attempts.into())),
            ("bytes_sent", Value::Number(measures.sent)),
            ("bytes_recv", Value::Number(measures.received)),
            text("duration", &format!("{}ms", measures.duration.as_millis())),
            text("error", &self.reason),
        ]);
        fields.retain(|(_, value)| !matches!(value, Value::Text(text) | Value::Word(text) if text.is_empty()));
        Record {
            subject: "request",
            is_failure: self.flags != "-" || self.status >= 500,
            fields,
        }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        if !self.is_told {
            if self.flags == "-" {
                self.fail("DC", "the client did not wait for the end".to_owned());
            }
            self.tell();
        }
    }
}

/// What a trace is told of a request: what the access log is, under OpenTelemetry's names where it
/// has some.
fn ended(name: String, record: Record) -> Ended {
    let Record { is_failure, fields, .. } = record;
    let attributes = fields.into_iter().map(|(name, value)| {
        let name = match name {
            "http.method" => "http.request.method",
            "http.path" => "url.path",
            "http.authority" => "server.address",
            "http.user_agent" => "user_agent.original",
            "http.status" => "http.response.status_code",
            "grpc.status" => "rpc.grpc.status_code",
            name => name,
        };
        let attribute = match value {
            Value::Text(text) | Value::Word(text) => Attribute::Text(text),
            Value::Number(number) => Attribute::Number(i64::try_from(number).unwrap_or(i64::MAX)),
        };
        (name, attribute)
    });
    Ended {
        name,
        attributes: attributes.collect(),
        is_failure,
    }
}

/// Whether answers with a status never have content (RFC 9110 §6.4.1, §15.3.6).
fn is_bodiless(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT | StatusCode::NOT_MODIFIED
    )
}

/// Leaves the content of an answer out. One to HEAD says how long it would be (RFC 9110 §9.3.2).
fn bare(response: &mut Response<Body>, is_head: bool) {
    let content = std::mem::replace(response.body_mut(), body::whole(""));
    if let Some(length) = content.size_hint().exact().filter(|length| *length > 0 && is_head) {
        response.headers_mut().entry(CONTENT_LENGTH).or_insert(length.into());
    }
}
