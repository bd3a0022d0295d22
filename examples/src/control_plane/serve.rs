//! The services over HTTP/2.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use mesh_xds::server::{Audience, Discovery};
use mesh_xds_types::auth::istio_certificate_service_server::IstioCertificateServiceServer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tonic::body::Body;
use tonic::service::Routes;
use tower_service::Service;

use super::authority::Authority;
use super::calls::{self, Calls, Reply};
use super::certificate::Certificate;
use super::publish::audience;
use super::tokens::Tokens;
use crate::accept;
use crate::workers::Stop;

/// Time between two questions whether a client is still there, and for its answer.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// Calls of one client at a time: a stream, and certificates.
const MAX_CALLS: u32 = 100;

/// Bytes of a request's headers; a token is a few kilobytes.
const MAX_HEADERS: u32 = 16 * 1024;

/// Time for calls that are under way when a connection is to end. Streams have no end of their own.
const DRAIN: Duration = Duration::from_secs(1);

/// Serves discovery and certificates.
#[derive(Clone)]
pub(super) struct Server {
    routes: Routes,
    tokens: Tokens,
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
        let certificates = IstioCertificateServiceServer::new(authority);
        Self {
            routes: Routes::new(discovery.service()).add_service(certificates),
            tokens,
            certificate,
        }
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
        let Some(certificate) = self.certificate.clone() else {
            return self.http(tcp, stop).await;
        };
        if let Some(tls) = certificate.accept(tcp).await {
            self.http(tls, stop).await;
        }
    }

    async fn http(self, io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static, stop: Stop) {
        let mut http = http2::Builder::new(TokioExecutor::new());
        http.timer(TokioTimer::new())
            .keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .max_concurrent_streams(MAX_CALLS)
            .max_header_list_size(MAX_HEADERS);
        let calls = Calls::new();
        let service = service_fn(|request| self.clone().answer(request, calls.clone()));
        let mut connection = pin!(http.serve_connection(TokioIo::new(io), service));
        let served = tokio::select! {
            served = connection.as_mut() => Ok(served),
            () = ended(stop, &calls) => {
                connection.as_mut().graceful_shutdown();
                timeout(DRAIN, connection).await
            }
        };
        tracing::debug!(?served, "connection ended");
    }

    /// Answers whoever brings a token, for as long as it is good.
    async fn answer(mut self, mut request: Request<Incoming>, calls: Calls) -> Result<Response<Body>, Infallible> {
        let admission = match self.tokens.admit(request.headers()) {
            Ok(admission) => admission,
            Err(refusal) => {
                tracing::warn!(path = request.uri().path(), reason = refusal.message(), "call refused");
                return Ok(refusal.into_http());
            }
        };
        let call = calls.begin(admission.clone().withdrawn());
        // A waypoint is told what is its own, whatever it calls itself.
        if let Some(waypoint) = &admission.caller.waypoint {
            request.extensions_mut().insert(Audience::new(audience(waypoint)));
        }
        request.extensions_mut().insert(admission.caller.clone());
        let mut withdrawn = Box::pin(admission.withdrawn());
        let response = tokio::select! {
            biased;
            // A request that never ends must not outlive its token either.
            () = withdrawn.as_mut() => return Ok(calls::withdrawn().into_http()),
            response = self.routes.call(request) => response?,
        };
        Ok(response.map(|body| Body::new(Reply::new(body, withdrawn, call))))
    }
}

/// Waits until a connection is of no use any more.
async fn ended(stop: Stop, calls: &Calls) {
    tokio::select! {
        () = stop.draining() => {}
        () = calls.abandoned() => {}
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mesh_xds::delta;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio::sync::watch;
    use tokio::time::{Instant, timeout};

    use super::super::compile::{Caller, Mesh, Settings};
    use super::super::objects::{Bearer, Key};
    use super::super::roots::Roots;
    use super::super::state::State;
    use super::*;

    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    const PING: u8 = 6;

    /// The state in which one token is good, or none is.
    fn state(token: Option<&str>) -> Arc<State> {
        let account = Key {
            namespace: "shop".to_owned(),
            name: "cart".to_owned(),
        };
        let caller = Caller {
            account,
            node: None,
            waypoint: None,
            expires: None,
        };
        let callers = token.map(|token| (Bearer(token.to_owned()), caller));
        let mesh = Mesh {
            callers: callers.into_iter().collect(),
            ..Mesh::default()
        };
        let (mesh, problem) = (mesh.into(), None);
        Arc::new(State { mesh, problem })
    }

    fn server(state: watch::Receiver<Arc<State>>) -> Server {
        let discovery = Discovery::new(delta::Server::new(delta::ServerConfig::new()), |_| {});
        let settings = Settings::of_mesh("cluster.local".parse().unwrap());
        let roots = Roots::new(settings.trust_domain.clone(), None, None).unwrap();
        let authority = Authority::new(settings, Arc::new(roots), state.clone());
        Server::new(&discovery, Tokens::new(state), authority, None)
    }

    /// Answers questions whether anybody is there, and tells when the connection ends.
    async fn linger(io: impl AsyncRead + AsyncWrite + Unpin, greeting: &[u8]) -> Duration {
        let (mut io, begun) = (io, Instant::now());
        io.write_all(greeting).await.unwrap();
        let mut head = [0; 9];
        while io.read_exact(&mut head).await.is_ok() {
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; length as usize];
            io.read_exact(&mut payload).await.unwrap();
            if head[3] == PING && head[4] == 0 {
                head[4] = 1;
                io.write_all(&[&head[..], &payload].concat()).await.ok();
            }
        }
        begun.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn who_brings_no_token_is_not_kept_whatever_they_say() {
        for greeting in [&[][..], &PREFACE[..10], PREFACE] {
            let (near, far) = duplex(1 << 16);
            let (_keep, nobody) = watch::channel(state(None));
            let served = server(nobody).http(far, Stop::never());
            let lingered = async { timeout(Duration::from_secs(3600), linger(near, greeting)).await };
            let ((), lingered) = tokio::join!(served, lingered);
            assert!(lingered.unwrap() <= Duration::from_secs(12), "{greeting:?}");
        }
    }
    #[tokio::test]
    async fn a_request_that_never_ends_does_not_outlive_its_token() {
        let (change, follower) = watch::channel(state(Some("a-token-of-the-cart")));
        let (near, far) = duplex(1 << 16);
        let served = server(follower).http(far, Stop::never());
        let client = async {
            let (mut send, connection) = h2::client::handshake(near).await.unwrap();
            let mut call = |path: &str, is_whole| {
                let request = Request::post(format!("http://a/{path}"))
                    .header("content-type", "application/grpc")
                    .header("authorization", "Bearer a-token-of-the-cart");
                send.send_request(request.body(()).unwrap(), is_whole).unwrap()
            };
            let calls = async {
                let service = "istio.v1.auth.IstioCertificateService/CreateCertificate";
                let (unfinished, _body) = call(service, false);
                let (later, _) = call("unknown", true);
                // Who hears that there is no such call was let in, and so was who called before.
                assert_eq!(later.await.unwrap().headers()["grpc-status"], "12");
                change.send_replace(state(None));
                let answer = unfinished.await.unwrap();
                assert_eq!(answer.headers()["grpc-status"], "16");
                let says = answer.headers()["grpc-message"].to_str().unwrap();
                assert!(says.contains("not%20valid%20any%20more"), "{says}");
            };
            tokio::select! {
                () = calls => {}
                ended = connection => unreachable!("{ended:?}"),
            }
        };
        tokio::select! {
            () = served => unreachable!("the client is there"),
            outcome = timeout(Duration::from_secs(20), client) => outcome.unwrap(),
        }
    }
}
