//! Requests as they are told: counted and logged when their answers have ended.

use std::borrow::Cow;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use hyper::http::request::Parts;
use hyper::{HeaderMap, Response, StatusCode, Version};
use mesh_xds::store::Workload;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::body::{Body, BodyError};
use super::client::Client;
use super::external::{Attribute, Ended, Open};
use super::gateway::Gateway;
use super::headers::REQUEST_ID;
use super::requests::{Measures, RequestLabels};
use crate::proxy::access_log::{Record, Value};
use crate::proxy::labels::{Labels, Reporter, ServiceName};
use crate::proxy::party::Party;

/// The longest part of a request that is logged.
const MAX_TOLD: usize = 1024;

/// Who speaks to whom.
#[derive(Clone)]
pub(super) struct Parties {
    pub(super) source: Party,
    pub(super) source_addr: String,
    pub(super) service: ServiceName,
}

/// A request that is being told.
pub(super) struct Account {
    gateway: Arc<Gateway>,
    parties: Parties,
    protocol: &'static str,
    head: Vec<(&'static str, Value)>,
    began: Instant,
    received: Arc<AtomicU64>,
    sent: u64,
    status: u16,
    grpc_status: Option<u16>,
    flags: Cow<'static, str>,
    reason: String,
    route: String,
    destination: Party,
    attempts: u32,
    is_told: bool,
    /// Its part in a trace.
    span: Option<Open>,
    /// Its room among the requests.
    _room: Option<OwnedSemaphorePermit>,
}

impl Account {
    pub(super) fn begin(client: &Client, head: &Parts, room: Option<OwnedSemaphorePermit>) -> Self {
        let is_grpc = is_grpc(&head.headers);
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
            protocol: if is_grpc { "grpc" } else { "http" },
            head: vec![
                ("http.method", text(head.method.as_str())),
                ("http.path", text(head.uri.path())),
                ("http.authority", authority.unwrap_or_else(|| line("host"))),
                ("http.protocol", text(version)),
                ("http.user_agent", line("user-agent")),
                ("http.request_id", line(REQUEST_ID.as_str())),
            ],
            gateway: Arc::clone(&client.worker.gateway),
            parties: client.parties.clone(),
            began: Instant::now(),
            received: Arc::default(),
            sent: 0,
            status: 0,
            grpc_status: None,
            flags: "-".into(),
            reason: String::new(),
            route: String::new(),
            destination: Party::default(),
            attempts: 0,
            is_told: false,
            span: None,
            _room: room,
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

    /// Counts what the client sends.
    pub(super) fn counting(&self, body: Body) -> Body {
        let received = Arc::clone(&self.received);
        body.map_frame(move |frame| {
            if let Some(data) = frame.data_ref() {
                received.fetch_add(data.len() as u64, Ordering::Relaxed);
            }
            frame
        })
        .boxed()
    }

    /// Tells the request when its answer has ended.
    pub(super) fn attach(mut self, response: Response<Body>) -> Response<Told> {
        self.status = response.status().as_u16();
        self.grpc_status = grpc_status(response.headers());
        response.map(|body| Told {
            body,
            account: Some(self),
        })
    }

    /// The connection has gone on by another protocol, and ended.
    pub(super) fn end_upgraded(mut self, status: StatusCode, received: u64, sent: u64) {
        self.status = status.as_u16();
        self.received.fetch_add(received, Ordering::Relaxed);
        self.sent = sent;
        self.tell();
    }

    fn tell(&mut self) {
        self.is_told = true;
        let duration = self.began.elapsed();
        let received = self.received.load(Ordering::Relaxed);
        let labels = Labels {
            reporter: Reporter::Waypoint,
            source: self.parties.source.clone().of_any_pod(),
            destination: self.destination.clone().of_any_pod(),
            service: Some(self.parties.service.clone()),
            protocol: self.protocol,
            flags: self.flags.clone(),
            is_mutual_tls: true,
        };
        let labels = RequestLabels {
            labels,
            status: self.status,
            grpc_status: self.grpc_status,
        };
        let measures = Measures {
            duration,
            received,
            sent: self.sent,
        };
        self.gateway.requests.count(labels, measures);
        let record = self.record(measures);
        self.gateway.telemetry.log.write(&record);
        if let Some(span) = self.span.take() {
            let name = self.parties.service.hostname.to_string();
            span.end(ended(name, record), duration);
        }
    }

    fn record(&mut self, measures: Measures) -> Record {
        let Parties {
            source,
            source_addr,
            service,
        } = &self.parties;
        let destination = &self.destination;
        let identity = |party: &Party| party.identity.as_ref().map(ToString::to_string).unwrap_or_default();
        let text = |name, value: &str| (name, Value::Text(value.to_owned()));
        let mut fields = vec![
            ("src.addr", Value::Word(source_addr.clone())),
            text("src.workload", &source.name),
            text("src.namespace", &source.namespace),
            text("src.identity", &identity(source)),
            text("dst.service", &service.hostname),
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

/// An answer whose end is told.
pub(super) struct Told {
    body: Body,
    account: Option<Account>,
}

impl Told {
    /// An answer whose request goes on.
    pub(super) fn untold(response: Response<Body>) -> Response<Self> {
        response.map(|body| Self { body, account: None })
    }
}

impl HttpBody for Told {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        let Some(account) = &mut self.account else {
            return Poll::Ready(frame);
        };
        match &frame {
            Some(Ok(frame)) => {
                account.sent += frame.data_ref().map_or(0, |data| data.len() as u64);
                if let Some(trailers) = frame.trailers_ref() {
                    account.grpc_status = grpc_status(trailers).or(account.grpc_status);
                }
            }
            Some(Err(error)) => {
                account.fail("UC", error.to_string());
                account.tell();
            }
            None => account.tell(),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        // Who sees that nothing comes does not ask again.
        if self.body.is_end_stream()
            && let Some(account) = self.account.as_mut().filter(|account| !account.is_told)
        {
            account.tell();
        }
    }
}

/// Whether a message is one of gRPC.
pub(super) fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(hyper::header::CONTENT_TYPE).map(|kind| kind.as_bytes());
    kind.and_then(|kind| kind.strip_prefix(b"application/grpc"))
        .is_some_and(|rest| rest.is_empty() || matches!(rest.first(), Some(b'+' | b';')))
}

fn grpc_status(headers: &HeaderMap) -> Option<u16> {
    headers.get("grpc-status")?.to_str().ok()?.parse().ok()
}
