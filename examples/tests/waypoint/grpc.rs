//! Calls of gRPC in tunnels.

use std::pin::Pin;
use std::sync::Arc;

use hyper::Uri;
use hyper_util::rt::TokioIo;
use tonic::transport::{Channel, Endpoint};
use tower_service::Service;

use crate::calls::{call_twice, converse, echo};
use crate::cluster::Cluster;
use crate::world::soon;

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
