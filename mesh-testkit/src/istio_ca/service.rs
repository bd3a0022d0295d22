//! The authority at work.

use std::future::pending;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioIo};
use mesh_identity::source::dev_ca::{CertificateRequest, DevCa, Template};
use mesh_identity::{SpiffeId, TrustDomain, provider};
use mesh_xds_types::auth::{IstioCertificateRequest, IstioCertificateResponse};
use prost_types::value::Kind;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer, UnixTime};
use tokio::io::DuplexStream;
use tokio::sync::watch;
use tonic::{Code, Request, Response, Status};
use tower_service::Service;

use super::accounts::Accounts;
use super::{Answer, Call, lock};
use crate::clock::Calendar;

/// Where the one method lies.
const PATH: &str = "/istio.v1.auth.IstioCertificateService/CreateCertificate";

/// How far back a certificate's validity begins, as istiod has it.
const BACKDATED: Duration = Duration::from_secs(120);

#[derive(Debug)]
pub(super) struct State {
    pub(super) authority: DevCa,
    /// Handed out in the last element of an answer.
    pub(super) roots: Vec<CertificateDer<'static>>,
    pub(super) calendar: Calendar,
    pub(super) accounts: Accounts,
    pub(super) answer: Answer,
    pub(super) delay: Duration,
    pub(super) lifetime: Duration,
    pub(super) reachable: bool,
    pub(super) tls: Option<Arc<ServerConfig>>,
    pub(super) calls: Vec<Call>,
    pub(super) most_at_once: usize,
    at_once: usize,
    arrived: watch::Sender<usize>,
}

impl State {
    pub(super) fn new(trust_domain: TrustDomain, calendar: Calendar) -> (Self, watch::Receiver<usize>) {
        let authority = DevCa::new(trust_domain, calendar.now()).unwrap();
        let (arrived, arrivals) = watch::channel(0);
        let state = Self {
            roots: vec![authority.root_certificate().clone()],
            authority,
            calendar,
            accounts: Accounts::default(),
            answer: Answer::Honest,
            delay: Duration::ZERO,
            lifetime: Duration::from_secs(24 * 3600),
            reachable: true,
            tls: None,
            calls: Vec::new(),
            most_at_once: 0,
            at_once: 0,
            arrived,
        };
        (state, arrivals)
    }

    fn arrive(&mut self, call: Call) {
        self.calls.push(call);
        self.at_once += 1;
        self.most_at_once = self.most_at_once.max(self.at_once);
        self.arrived.send_replace(self.calls.len());
    }

    fn respond(&self, call: &Call) -> Result<Vec<String>, Status> {
        if let Answer::Status(code, message) = &self.answer {
            return Err(Status::new(Code::from_i32(*code), message.clone()));
        }
        let id = self
            .accounts
            .judge(
                call.token.as_deref(),
                call.impersonated.as_deref(),
                self.authority.trust_domain(),
            )
            .map_err(Status::unauthenticated)?;
        let mut chain = self.sign(call, &id)?;
        chain.push(self.roots.iter().map(|root| pem(root)).collect());
        if let Answer::Elements(change) = &self.answer {
            change(&mut chain);
        }
        Ok(chain)
    }

    fn sign(&self, call: &Call, id: &SpiffeId) -> Result<Vec<String>, Status> {
        let der = CertificateSigningRequestDer::from_pem_slice(call.csr.as_bytes())
            .map_err(|_| Status::invalid_argument("the request is no PEM text"))?;
        let algorithms = provider::aws_lc_rs().signature_verification_algorithms;
        let request = CertificateRequest::from_der(&der, algorithms.all)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let now = self.calendar.now().as_secs();
        let mut template = Template::leaf(id, self.calendar.now());
        template.not_before = UnixTime::since_unix_epoch(Duration::from_secs(now) - BACKDATED);
        template.not_after = UnixTime::since_unix_epoch(Duration::from_secs(now) + self.lifetime);
        if let Answer::Changed(change) = &self.answer {
            change(&mut template);
        }
        let chain = match self.answer {
            Answer::OtherKey => self.authority.issue_with(template).unwrap().chain().to_vec(),
            _ => self.authority.certify(&request, template).unwrap(),
        };
        Ok(chain.iter().map(|certificate| pem(certificate)).collect())
    }
}

/// Serves one connection until its client is done with it.
pub(super) async fn serve(state: Arc<Mutex<State>>, io: DuplexStream) {
    let tls = lock(&state).tls.clone();
    let service = Http(state);
    // The client says what went wrong; here a connection just ends.
    let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    match tls {
        None => drop(builder.serve_connection(TokioIo::new(io), service).await),
        Some(config) => {
            if let Ok(stream) = tokio_rustls::TlsAcceptor::from(config).accept(io).await {
                drop(builder.serve_connection(TokioIo::new(stream), service).await);
            }
        }
    }
}

type Answering<T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;

/// HTTP requests, of which one path is known.
struct Http(Arc<Mutex<State>>);

impl hyper::service::Service<http::Request<hyper::body::Incoming>> for Http {
    type Response = http::Response<tonic::body::Body>;
    type Error = std::convert::Infallible;
    type Future = Answering<Self::Response, Self::Error>;

    fn call(&self, request: http::Request<hyper::body::Incoming>) -> Self::Future {
        let service = Authority(Arc::clone(&self.0));
        Box::pin(async move {
            if request.uri().path() != PATH {
                return Ok(Status::unimplemented("no such method").into_http());
            }
            let codec = tonic_prost::ProstCodec::default();
            Ok(tonic::server::Grpc::new(codec).unary(service, request).await)
        })
    }
}

/// The one method.
struct Authority(Arc<Mutex<State>>);

impl Service<Request<IstioCertificateRequest>> for Authority {
    type Response = Response<IstioCertificateResponse>;
    type Error = Status;
    type Future = Answering<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<IstioCertificateRequest>) -> Self::Future {
        let state = Arc::clone(&self.0);
        Box::pin(async move {
            let call = read(&request);
            lock(&state).arrive(call.clone());
            let _present = Present(Arc::clone(&state));
            let delay = lock(&state).delay;
            tokio::time::sleep(delay).await;
            if matches!(lock(&state).answer, Answer::Silence) {
                pending::<()>().await;
            }
            let cert_chain = lock(&state).respond(&call)?;
            Ok(Response::new(IstioCertificateResponse { cert_chain }))
        })
    }
}

/// A call that waits for its answer.
struct Present(Arc<Mutex<State>>);

impl Drop for Present {
    fn drop(&mut self) {
        lock(&self.0).at_once -= 1;
    }
}

fn pem(certificate: &CertificateDer<'_>) -> String {
    pem::encode(&pem::Pem::new("CERTIFICATE", certificate.as_ref()))
}

fn read(request: &Request<IstioCertificateRequest>) -> Call {
    let header = |name: &str| {
        let value = request.metadata().get(name)?;
        value.to_str().ok().map(str::to_owned)
    };
    let message = request.get_ref();
    let field = |name: &str| {
        let fields = &message.metadata.as_ref()?.fields;
        match &fields.get(name)?.kind {
            Some(Kind::StringValue(text)) => Some(text.clone()),
            _ => None,
        }
    };
    Call {
        token: header("authorization").and_then(|value| value.strip_prefix("Bearer ").map(str::to_owned)),
        cluster: header("clusterid"),
        impersonated: field("ImpersonatedIdentity"),
        signer: field("CertSigner"),
        validity: Duration::from_secs(message.validity_duration.try_into().unwrap_or(0)),
        csr: message.csr.clone(),
    }
}
