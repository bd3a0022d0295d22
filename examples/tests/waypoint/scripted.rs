//! Services outside that answer as a test says: who has a say in requests, and who counts them.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use mesh_xds_types::core::{HeaderValue, HeaderValueOption};
use mesh_xds_types::ext_authz::authorization_server::{Authorization, AuthorizationServer};
use mesh_xds_types::ext_authz::{CheckRequest, CheckResponse};
use mesh_xds_types::rate_limit::rate_limit_service_server::{RateLimitService, RateLimitServiceServer};
use mesh_xds_types::rate_limit::{RateLimitRequest, RateLimitResponse};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

/// A service on loopback, until it is dropped.
pub struct Scripted<Q> {
    pub addr: SocketAddr,
    asked: Arc<Mutex<Vec<Q>>>,
    _serving: JoinSet<()>,
}

struct Answers<Q, A> {
    asked: Arc<Mutex<Vec<Q>>>,
    answer: Arc<dyn Fn(&Q) -> A + Send + Sync>,
}

impl<Q, A> Answers<Q, A> {
    fn answer(&self, question: Request<Q>) -> Response<A> {
        let question = question.into_inner();
        let answer = (self.answer)(&question);
        self.asked.lock().unwrap().push(question);
        Response::new(answer)
    }
}

#[tonic::async_trait]
impl Authorization for Answers<CheckRequest, CheckResponse> {
    async fn check(&self, request: Request<CheckRequest>) -> Result<Response<CheckResponse>, Status> {
        Ok(self.answer(request))
    }
}

#[tonic::async_trait]
impl RateLimitService for Answers<RateLimitRequest, RateLimitResponse> {
    async fn should_rate_limit(
        &self,
        request: Request<RateLimitRequest>,
    ) -> Result<Response<RateLimitResponse>, Status> {
        Ok(self.answer(request))
    }
}

impl Scripted<CheckRequest> {
    /// A provider of CUSTOM policies.
    pub async fn provider(answer: impl Fn(&CheckRequest) -> CheckResponse + Send + Sync + 'static) -> Self {
        let asked = Arc::default();
        let answers = Answers {
            asked: Arc::clone(&asked),
            answer: Arc::new(answer),
        };
        Self::serve(Routes::new(AuthorizationServer::new(answers)), asked).await
    }
}

impl Scripted<RateLimitRequest> {
    /// Whoever counts requests.
    pub async fn counter(answer: impl Fn(&RateLimitRequest) -> RateLimitResponse + Send + Sync + 'static) -> Self {
        let asked = Arc::default();
        let answers = Answers {
            asked: Arc::clone(&asked),
            answer: Arc::new(answer),
        };
        Self::serve(Routes::new(RateLimitServiceServer::new(answers)), asked).await
    }
}

impl<Q> Scripted<Q> {
    /// What it was asked so far.
    pub fn asked(&self) -> Vec<Q>
    where
        Q: Clone,
    {
        self.asked.lock().unwrap().clone()
    }

    async fn serve(routes: Routes, asked: Arc<Mutex<Vec<Q>>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let server = Server::builder().add_routes(routes);
            server.serve_with_incoming(TcpIncoming::from(listener)).await.unwrap();
        });
        Self {
            addr,
            asked,
            _serving: serving,
        }
    }
}

/// A line of a message's head.
pub fn line(name: &str, value: &str) -> HeaderValue {
    HeaderValue {
        key: name.to_owned(),
        value: value.to_owned(),
        raw_value: Vec::new(),
    }
}

/// The same, for whoever may say what becomes of lines with its name.
pub fn option(name: &str, value: &str) -> HeaderValueOption {
    HeaderValueOption {
        header: Some(line(name, value)),
        ..HeaderValueOption::default()
    }
}
