//! HTTP within a tunnel.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;

use super::backlog::Watched;
use super::client::Client;
use super::exchange;
use super::outlet::Outlets;
use super::stream::Streams;
use crate::workers::Stop;

/// Time for a request's head to arrive, since the connection's beginning or the last answer's end.
pub(super) const HEAD_TIMEOUT: Duration = Duration::from_secs(60);

/// Bytes of a request's head, as in Envoy, and its lines.
const MAX_HEAD: usize = 60 * 1024;
const MAX_LINES: usize = 100;

/// Requests of a connection at a time.
const MAX_STREAMS: u32 = 100;

/// Streams that a client may open and reset before the connection is taken for an attack.
const MAX_RESETS: usize = 100;

/// Time between two questions whether a client is still there, and for its answer.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// One client's requests on one connection.
pub(super) struct Conversation {
    pub(super) client: Arc<Client>,
    /// Its requests that are under way.
    pub(super) streams: Streams,
    /// What sends on its streams that go on by another protocol.
    pub(super) outlets: Outlets,
    upgraded: Mutex<JoinSet<()>>,
}

impl Conversation {
    pub(super) fn new(client: Client) -> Arc<Self> {
        Arc::new(Self {
            streams: Streams::new(client.worker.gateway.idle),
            client: Arc::new(client),
            outlets: Outlets::default(),
            upgraded: Mutex::default(),
        })
    }

    /// Has the connection, or a stream of it, go on so when HTTP on it has ended.
    pub(super) fn go_on(&self, upgraded: impl Future<Output = ()> + Send + 'static) {
        let mut all = self.upgraded.lock().unwrap_or_else(PoisonError::into_inner);
        while all.try_join_next().is_some() {}
        all.spawn(upgraded);
    }

    /// Waits for the end of what has gone on by another protocol.
    async fn ended(&self) {
        let mut upgraded = std::mem::take(&mut *self.upgraded.lock().unwrap_or_else(PoisonError::into_inner));
        while upgraded.join_next().await.is_some() {}
    }

    /// Serves a client by HTTP/2 or HTTP/1.1 until its end, though not one that takes no answers.
    pub(super) async fn serve(
        self: Arc<Self>,
        io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        is_http2: bool,
        stop: Stop,
    ) {
        let conversation = Arc::clone(&self);
        let io = Watched::new(io, Arc::clone(&self.streams.backlog));
        let served = async {
            match is_http2 {
                true => conversation.http2(io, stop).await,
                false => conversation.http1(io, stop).await,
            }
        };
        tokio::select! {
            biased;
            () = served => {}
            () = self.streams.stuck() => tracing::debug!("a client does not take its answers"),
        }
    }

    /// Serves HTTP/1.1 until its end, and what it may become.
    async fn http1(self: Arc<Self>, io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static, stop: Stop) {
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_buf_size(MAX_HEAD)
            .max_headers(MAX_LINES)
            .half_close(true);
        let conversation = Arc::clone(&self);
        let service = service_fn(move |request: Request<Incoming>| {
            let conversation = Arc::clone(&conversation);
            async move { Ok::<_, Infallible>(exchange::answer(&conversation, request).await) }
        });
        let mut connection = pin!(http.serve_connection(TokioIo::new(io), service).with_upgrades());
        let served = tokio::select! {
            served = connection.as_mut() => served,
            () = stop.draining() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        tracing::debug!(?served, "HTTP ended");
        self.ended().await;
    }

    /// Serves HTTP/2 until its end.
    async fn http2(self: Arc<Self>, io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static, stop: Stop) {
        let mut http = http2::Builder::new(self.outlets.clone());
        http.timer(TokioTimer::new())
            .keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .max_concurrent_streams(MAX_STREAMS)
            .max_pending_accept_reset_streams(MAX_RESETS)
            .max_local_error_reset_streams(MAX_RESETS)
            .max_header_list_size(u32::try_from(MAX_HEAD).unwrap_or(u32::MAX))
            .enable_connect_protocol();
        let conversation = Arc::clone(&self);
        let service = service_fn(move |request: Request<Incoming>| {
            let conversation = Arc::clone(&conversation);
            async move { Ok::<_, Infallible>(exchange::answer(&conversation, request).await) }
        });
        let mut connection = pin!(http.serve_connection(TokioIo::new(io), service));
        let served = tokio::select! {
            served = connection.as_mut() => served,
            () = stop.draining() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        tracing::debug!(?served, "HTTP ended");
        self.ended().await;
    }
}
