//! Calls of gRPC in tunnels.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use hyper::Uri;
use hyper_util::rt::TokioIo;
use mesh_xds_types::auth::IstioCertificateRequest;
use mesh_xds_types::auth::istio_certificate_service_client::IstioCertificateServiceClient;
use mesh_xds_types::rate_limit::RateLimitResponse;
use mesh_xds_types::rate_limit::rate_limit_response::Code as Counted;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tower_service::Service;

use crate::calls::{call_twice, converse, echo};
use crate::cluster::Cluster;
use crate::counted::limits;
use crate::custom::{denied, provider};
use crate::scripted::{Scripted, line};
use crate::world::{free_addr, soon};

async fn channel(cluster: &Cluster) -> Channel {
    let caller = Arc::new(cluster.call("cart").await);
    let connect = Connect(caller);
    let endpoint = Endpoint::from_static("http://till.shop.svc");
    soon("channel", endpoint.connect_with_connector(connect)).await.unwrap()
}

#[derive(Clone)]
struct Connect(Arc<crate::cluster::Caller>);

impl Service<Uri> for Connect {
    type Response = TokioIo<hbone::TunnelStream>;
    type Error = hbone::OpenError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Self::Error>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let caller = Arc::clone(&self.0);
        Box::pin(async move { caller.open().await.map(TokioIo::new) })
    }
}

#[tokio::test]
async fn calls_and_their_faults_pass() {
    let cluster = Cluster::start_before(echo).await;
    call_twice(channel(&cluster).await).await;
    let record = cluster.tells("a call", |record| record["grpc.status"] == "3").await;
    assert_eq!((&record["http.status"], cluster.one.asked()), (&200.into(), 2));
}

#[tokio::test]
async fn streams_pass_message_by_message_with_their_trailers() {
    let cluster = Cluster::start_before(echo).await;
    converse(channel(&cluster).await).await;
    cluster
        .tells("the stream", |record| record["grpc.status"] == "15")
        .await;
}

const CUSTOM: &str = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: ask-opa, namespace: shop}
spec:
  targetRefs: [{kind: Service, group: '', name: till}]
  action: CUSTOM
  provider: {name: opa}
  rules: [{}]
---
";

const ONE_CALL: &str = "
apiVersion: traffic.mesh.internal/v1
kind: RateLimitPolicy
metadata: {name: one-call, namespace: shop}
spec:
  targetRefs: [{kind: Service, name: till}]
  limits: [{requests: 1, per: 1h}]
---
";

/// Limits by what calls have.
fn limits_of_calls(addr: SocketAddr, more: &str) -> String {
    limits(addr, more).replace("\"x-user\"", "\"user-agent\"")
}

/// How a call fails.
async fn refused(cluster: &Cluster) -> Status {
    let mut client = IstioCertificateServiceClient::new(channel(cluster).await);
    let request = IstioCertificateRequest::default();
    soon("answer", client.create_certificate(request)).await.unwrap_err()
}

#[tokio::test]
async fn a_providers_refusal_is_told_to_a_call_in_its_own_way() {
    let opa = Scripted::provider(|_| denied()).await;
    let cluster = Cluster::start_with(CUSTOM, &provider(opa.addr, "")).await;
    let status = refused(&cluster).await;
    assert_eq!(
        (status.code(), status.message()),
        (Code::Unauthenticated, "show your badge")
    );
    assert_eq!(status.metadata().get("x-why").unwrap(), "no badge");
    let record = cluster.tells("a refusal", |record| record["flags"] == "UAEX").await;
    assert_eq!((&record["grpc.status"], cluster.one.asked()), (&"16".into(), 0));
}

#[tokio::test]
async fn a_call_is_told_when_nobody_could_be_asked() {
    for (objects, config, code, flag) in [
        (
            CUSTOM,
            provider(free_addr(), "status_on_error = 503"),
            Code::Unavailable,
            "UAEX",
        ),
        // No such provider is known.
        (CUSTOM, String::new(), Code::PermissionDenied, "UAEX"),
        (
            "",
            limits_of_calls(free_addr(), "failure_mode_deny = true"),
            Code::Unknown,
            "RLSE",
        ),
    ] {
        let cluster = Cluster::start_with(objects, &config).await;
        let status = refused(&cluster).await;
        assert_eq!((status.code(), status.message()), (code, ""), "{config}");
        cluster.tells(flag, |record| record["flags"] == flag).await;
    }
}

#[tokio::test]
async fn a_call_too_many_is_told_so() {
    let cluster = Cluster::start(ONE_CALL).await;
    // It is answered by what knows no gRPC.
    refused(&cluster).await;
    let status = refused(&cluster).await;
    assert_eq!(
        (status.code(), status.message()),
        (Code::Unavailable, "local_rate_limited")
    );
    assert!(status.metadata().contains_key("retry-after"));
    assert_eq!(status.metadata().get("x-envoy-ratelimited").unwrap(), "true");
    assert_eq!(cluster.one.asked(), 1);

    let counter = Scripted::counter(|_| RateLimitResponse {
        overall_code: Counted::OverLimit.into(),
        response_headers_to_add: vec![line("x-limit", "1 per day"), line("grpc-status", "8")],
        raw_body: "100 % – come back".as_bytes().to_vec(),
        ..RateLimitResponse::default()
    })
    .await;
    let cluster = Cluster::start_with("", &limits_of_calls(counter.addr, "")).await;
    let status = refused(&cluster).await;
    assert_eq!(
        (status.code(), status.message()),
        (Code::ResourceExhausted, "100 % – come back")
    );
    assert_eq!(status.metadata().get("x-limit").unwrap(), "1 per day");
    assert_eq!(status.metadata().get("x-envoy-ratelimited").unwrap(), "true");
    assert_eq!(cluster.one.asked(), 0);
}
