//! Services that answer as a test says.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use mesh_xds_types::ext_authz::authorization_server::{Authorization, AuthorizationServer};
use mesh_xds_types::ext_authz::{CheckRequest, CheckResponse};
use mesh_xds_types::rate_limit::rate_limit_service_server::{RateLimitService, RateLimitServiceServer};
use mesh_xds_types::rate_limit::{RateLimitRequest, RateLimitResponse};
#[cfg(feature = "otlp")]
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
    trace_service_server::{TraceService, TraceServiceServer},
};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

use super::{Config, External, Services};

/// A service on loopback, until it is dropped.
pub(super) struct Fake {
    pub(super) addr: SocketAddr,
    _serving: JoinSet<()>,
}

type Answering<A> = Pin<Box<dyn Future<Output = Result<A, Status>> + Send>>;

struct Answers<Q, A>(Arc<dyn Fn(Q) -> Answering<A> + Send + Sync>);

impl<Q, A> Answers<Q, A> {
    fn new<F: Future<Output = Result<A, Status>> + Send + 'static>(
        answer: impl Fn(Q) -> F + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(move |question| Box::pin(answer(question))))
    }
}

#[tonic::async_trait]
impl Authorization for Answers<CheckRequest, CheckResponse> {
    async fn check(&self, request: Request<CheckRequest>) -> Result<Response<CheckResponse>, Status> {
        self.0(request.into_inner()).await.map(Response::new)
    }
}

#[tonic::async_trait]
impl RateLimitService for Answers<RateLimitRequest, RateLimitResponse> {
    async fn should_rate_limit(
        &self,
        request: Request<RateLimitRequest>,
    ) -> Result<Response<RateLimitResponse>, Status> {
        self.0(request.into_inner()).await.map(Response::new)
    }
}

#[cfg(feature = "otlp")]
#[tonic::async_trait]
impl TraceService for Answers<ExportTraceServiceRequest, ExportTraceServiceResponse> {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.0(request.into_inner()).await.map(Response::new)
    }
}

/// A provider.
pub(super) async fn authorization<F: Future<Output = Result<CheckResponse, Status>> + Send + 'static>(
    answer: impl Fn(CheckRequest) -> F + Send + Sync + 'static,
) -> Fake {
    serve(Routes::new(AuthorizationServer::new(Answers::new(answer)))).await
}

/// A service that counts requests.
pub(super) async fn limits<F: Future<Output = Result<RateLimitResponse, Status>> + Send + 'static>(
    answer: impl Fn(RateLimitRequest) -> F + Send + Sync + 'static,
) -> Fake {
    serve(Routes::new(RateLimitServiceServer::new(Answers::new(answer)))).await
}

/// A collector of spans.
#[cfg(feature = "otlp")]
pub(super) async fn collector<F: Future<Output = Result<ExportTraceServiceResponse, Status>> + Send + 'static>(
    answer: impl Fn(ExportTraceServiceRequest) -> F + Send + Sync + 'static,
) -> Fake {
    serve(Routes::new(TraceServiceServer::new(Answers::new(answer)))).await
}

/// An address that nobody listens at.
pub(super) async fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

/// A worker's way to the services of a configuration.
pub(super) fn external(config: &str) -> External {
    let config: Config = toml::from_str(config).unwrap();
    let (services, ..) = Services::new(&config).unwrap();
    services.connect()
}

async fn serve(routes: Routes) -> Fake {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let mut serving = JoinSet::new();
    serving.spawn(async move {
        let server = Server::builder().add_routes(routes);
        server.serve_with_incoming(TcpIncoming::from(listener)).await.unwrap();
    });
    Fake {
        addr,
        _serving: serving,
    }
}
