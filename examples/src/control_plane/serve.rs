//! The services over HTTP/2.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use mesh_xds::server::Discovery;
use mesh_xds_types::auth::istio_certificate_service_server::IstioCertificateServiceServer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tonic::service::Routes;
use tonic::service::interceptor::InterceptedService;
use tower_service::Service;

use super::authority::Authority;
use super::certificate::Certificate;
use super::tokens::Tokens;
use crate::accept;
use crate::workers::Stop;

/// Time for a TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Time between two questions whether a client is still there, and for its answer.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// Calls of one client at a time: a stream, and certificates.
const MAX_CALLS: u32 = 100;

/// Bytes of a request's headers; a token is a few kilobytes.
const MAX_HEADERS: u32 = 16 * 1024;

/// Time for calls that are under way when the program is to end. Streams have no end of their own.
const DRAIN: Duration = Duration::from_secs(1);

/// Serves discovery and certificates.
#[derive(Clone)]
pub(super) struct Server {
    routes: Routes,
    /// `None`: in the clear.
    certificate: Option<Arc<Certificate>>,
}

impl Server {
    pub(super) fn new(
        discovery: &Discovery,
        tokens: Tokens,
        authority: Authority,
        certificate: Option<Arc<Certificate>>,
    ) -> Self {
        let check = move |request| tokens.check(request);
        let discovery = InterceptedService::new(discovery.service(), check);
        let routes = Routes::new(discovery).add_service(IstioCertificateServiceServer::new(authority));
        Self { routes, certificate }
    }

    /// Serves until it is to stop, and then for a moment more.
    pub(super) async fn serve(self, listener: TcpListener, stop: Stop) {
        let ordered = stop.clone();
        let open = accept::until(stop.draining(), listener, |tcp, _| {
            self.clone().connection(tcp, ordered.clone())
        })
        .await;
        if timeout(DRAIN, open.ended()).await.is_err() {
            tracing::debug!("streams closed");
        }
    }

    async fn connection(self, tcp: TcpStream, stop: Stop) {
        let Some(certificate) = &self.certificate else {
            return self.http(tcp, stop).await;
        };
        let config = match certificate.config() {
            Ok(config) => config,
            Err(error) => {
                tracing::error!(reason = %error, "no certificate to serve with");
                return;
            }
        };
        match timeout(HANDSHAKE_TIMEOUT, TlsAcceptor::from(config).accept(tcp)).await {
            Ok(Ok(tls)) => self.http(tls, stop).await,
            Ok(Err(error)) => tracing::debug!(reason = %error, "TLS handshake failed"),
            Err(_) => tracing::debug!("TLS handshake not in time"),
        }
    }

    async fn http(self, io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static, stop: Stop) {
        let mut http = http2::Builder::new(TokioExecutor::new());
        http.timer(TokioTimer::new())
            .keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .max_concurrent_streams(MAX_CALLS)
            .max_header_list_size(MAX_HEADERS);
        let service = service_fn(|request| self.routes.clone().call(request));
        let mut connection = pin!(http.serve_connection(TokioIo::new(io), service));
        let served = tokio::select! {
            served = connection.as_mut() => served,
            () = stop.draining() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        tracing::debug!(?served, "connection ended");
    }
}
