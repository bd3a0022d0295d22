//! Calls of gRPC, by tonic on both sides: an application that answers them, and what is asked of it.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hyper::Request as HttpRequest;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use mesh_xds_types::auth::istio_certificate_service_client::IstioCertificateServiceClient;
use mesh_xds_types::auth::istio_certificate_service_server::{IstioCertificateService, IstioCertificateServiceServer};
use mesh_xds_types::auth::{IstioCertificateRequest, IstioCertificateResponse};
use mesh_xds_types::discovery::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use mesh_xds_types::discovery::aggregated_discovery_service_server::{
    AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
};
use mesh_xds_types::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use tonic::codegen::tokio_stream::{Stream, StreamExt};
use tonic::service::Routes;
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status, Streaming};
use tower_service::Service;

use crate::shop::Shop;
use crate::world::{App, soon};

/// Answers a call, and each message of a stream until one asks for an end with a fault.
struct Echo;

#[tonic::async_trait]
impl IstioCertificateService for Echo {
    async fn create_certificate(
        &self,
        request: Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        match &*request.into_inner().csr {
            "" => Err(Status::invalid_argument("nothing asked for")),
            asked => Ok(Response::new(IstioCertificateResponse {
                cert_chain: vec![asked.to_owned()],
            })),
        }
    }
}

#[tonic::async_trait]
impl AggregatedDiscoveryService for Echo {
    type DeltaAggregatedResourcesStream = Pin<Box<dyn Stream<Item = Result<DeltaDiscoveryResponse, Status>> + Send>>;

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        let answers = request.into_inner().map(|asked| match asked?.type_url {
            end if end == "end" => Err(Status::data_loss("as asked")),
            type_url => Ok(DeltaDiscoveryResponse {
                type_url,
                ..DeltaDiscoveryResponse::default()
            }),
        });
        Ok(Response::new(Box::pin(answers)))
    }
}

/// The application, which counts calls.
pub async fn echo(ip: IpAddr) -> Shop {
    let routes = Routes::new(IstioCertificateServiceServer::new(Echo));
    let routes = routes.add_service(AggregatedDiscoveryServiceServer::new(Echo));
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let app = App::start_at(ip, move |tcp| {
        let (routes, count) = (routes.clone(), Arc::clone(&count));
        async move {
            let service = service_fn(move |request: HttpRequest<Incoming>| {
                count.fetch_add(1, Ordering::Relaxed);
                routes.clone().call(request)
            });
            let http = http2::Builder::new(TokioExecutor::new());
            drop(http.serve_connection(TokioIo::new(tcp), service).await);
        }
    })
    .await;
    Shop { app, asked }
}

/// Two calls, of which the second is answered with a fault.
pub async fn call_twice(channel: Channel) {
    let mut client = IstioCertificateServiceClient::new(channel);
    let mut call = async |csr: &str| {
        let request = IstioCertificateRequest {
            csr: csr.to_owned(),
            ..IstioCertificateRequest::default()
        };
        soon("answer", client.create_certificate(request)).await
    };
    assert_eq!(call("till").await.unwrap().into_inner().cert_chain, ["till"]);
    let fault = call("").await.unwrap_err();
    assert_eq!(
        (fault.code(), fault.message()),
        (Code::InvalidArgument, "nothing asked for")
    );
}

/// A stream both ways, of which each message is answered before the next is sent, and that ends with
/// a fault in its trailers.
pub async fn converse(channel: Channel) {
    let mut client = AggregatedDiscoveryServiceClient::new(channel);
    let (send, asking) = tokio::sync::mpsc::channel(1);
    let ask = async |type_url: &str| {
        let request = DeltaDiscoveryRequest {
            type_url: type_url.to_owned(),
            ..DeltaDiscoveryRequest::default()
        };
        send.send(request).await.unwrap();
    };
    let asking = Asking(asking);
    ask("first").await;
    let answers = soon("answer", client.delta_aggregated_resources(asking)).await.unwrap();
    let mut answers = answers.into_inner();
    assert_eq!(
        soon("message", answers.message()).await.unwrap().unwrap().type_url,
        "first"
    );
    for word in ["second", "third"] {
        ask(word).await;
        assert_eq!(
            soon("message", answers.message()).await.unwrap().unwrap().type_url,
            word
        );
    }
    ask("end").await;
    let fault = soon("end", answers.message()).await.unwrap_err();
    assert_eq!((fault.code(), fault.message()), (Code::DataLoss, "as asked"));
}

/// Messages as they are asked for.
struct Asking(tokio::sync::mpsc::Receiver<DeltaDiscoveryRequest>);

impl Stream for Asking {
    type Item = DeltaDiscoveryRequest;

    fn poll_next(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<DeltaDiscoveryRequest>> {
        self.0.poll_recv(cx)
    }
}
