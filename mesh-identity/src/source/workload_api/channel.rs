use std::{
    convert::Infallible,
    error::Error,
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use http::{Uri, uri::PathAndQuery};
use hyper::rt::Executor;
use hyper_util::rt::TokioIo;
use prost::Message;
use thiserror::Error;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    sync::mpsc,
};
use tonic::{Code, Request, Status, Streaming, client::Grpc, metadata::MetadataValue, transport};
use tower_service::Service;

use super::{
    codec::{CountingCodec, MAX_FIELDS, Unreadable},
    endpoint::{Endpoint, Place},
};

/// The largest message that is read: the limit that gRPC sets by default, which agents keep.
const MAX_MESSAGE_BYTES: usize = 4 << 20;
/// The longest wait for a connection; agents are on the same machine.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a silent connection is left alone before it is probed. Servers made with Go's gRPC
/// library, SPIRE's agent among them, end connections that are probed more often than every five
/// minutes.
const PROBE_INTERVAL: Duration = Duration::from_secs(6 * 60);
/// The longest wait for the answer to a probe.
const PROBE_TIMEOUT: Duration = Duration::from_secs(20);
/// How much of a server's message an error repeats, in characters.
const SHOWN_MESSAGE: usize = 200;

/// Shows that a request was meant for a Workload API and was not made on somebody's behalf
/// (SPIFFE Workload Endpoint §3).
const SECURITY_HEADER: &str = "workload.spiffe.io";

/// One gRPC connection, made when it is needed and again when it is lost. It does nothing unless
/// its [`Tasks`] are run.
#[derive(Clone, Debug)]
pub(super) struct Channel(transport::Channel);

impl Channel {
    pub(super) fn to_endpoint(endpoint: &Endpoint) -> (Self, Tasks) {
        match endpoint.place().clone() {
            Place::Unix(path) => Self::over(move || UnixStream::connect(path.clone())),
            Place::Tcp(address) => Self::over(move || TcpStream::connect(address)),
        }
    }

    pub(super) fn over<C, F, Io>(connect: C) -> (Self, Tasks)
    where
        C: Fn() -> F + Send + Sync + 'static,
        F: Future<Output = io::Result<Io>> + Send + 'static,
        Io: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (spawner, queue) = mpsc::unbounded_channel();
        // The name is only what HTTP/2 wants to have in `:authority`.
        let channel = transport::Endpoint::from_static("http://localhost")
            .executor(Spawner(spawner))
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(PROBE_INTERVAL)
            .keep_alive_timeout(PROBE_TIMEOUT)
            .connect_with_connector_lazy(Connector(Arc::new(connect)));
        (Self(channel), Tasks(queue))
    }

    /// Opens a stream of messages.
    pub(super) async fn stream<Q, A>(&self, path: &'static str, request: Q) -> Result<Streaming<A>, RpcError>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let mut client = self.client().await?;
        let path = PathAndQuery::from_static(path);
        let answer = client.server_streaming(with_header(request), path, CountingCodec::<Q, A>::new());
        Ok(answer.await?.into_inner())
    }

    /// Asks one question.
    #[cfg(feature = "jwt")]
    pub(super) async fn call<Q, A>(&self, path: &'static str, request: Q) -> Result<A, RpcError>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let mut client = self.client().await?;
        let path = PathAndQuery::from_static(path);
        let answer = client.unary(with_header(request), path, CountingCodec::<Q, A>::new());
        Ok(answer.await?.into_inner())
    }

    async fn client(&self) -> Result<Grpc<transport::Channel>, RpcError> {
        let mut client = Grpc::new(self.0.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES);
        client.ready().await.map_err(|error| RpcError::lost(&error))?;
        Ok(client)
    }
}

fn with_header<Q>(request: Q) -> Request<Q> {
    let mut request = Request::new(request);
    request
        .metadata_mut()
        .insert(SECURITY_HEADER, MetadataValue::from_static("true"));
    request
}

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Takes the tasks of a channel, for [`Tasks`] to run. They are unbounded in type only: there is one
/// for the channel, two for a connection, of which there is one at a time, and at most two for a call
/// of ours. Calls are the two streams and a bounded number of questions, and nothing that the server
/// sends makes a task.
struct Spawner(mpsc::UnboundedSender<Task>);

impl Executor<Task> for Spawner {
    fn execute(&self, task: Task) {
        // Whoever dropped the runner has dropped all that was at work with it.
        drop(self.0.send(task));
    }
}

/// What a channel has to do.
pub(super) struct Tasks(mpsc::UnboundedReceiver<Task>);

impl Tasks {
    /// Does it, for as long as it is polled.
    pub(super) async fn run(mut self) -> Infallible {
        let mut running = FuturesUnordered::new();
        loop {
            tokio::select! {
                task = self.0.recv() => match task {
                    Some(task) => running.push(task),
                    None => std::future::pending().await,
                },
                Some(()) = running.next() => {}
            }
        }
    }
}

struct Connector<C>(Arc<C>);

impl<C, F, Io> Service<Uri> for Connector<C>
where
    C: Fn() -> F + Send + Sync + 'static,
    F: Future<Output = io::Result<Io>> + Send + 'static,
    Io: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    type Response = TokioIo<Io>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<TokioIo<Io>>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let connecting = (self.0)();
        Box::pin(async move { Ok(TokioIo::new(connecting.await?)) })
    }
}

/// How a call of the Workload API fails.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RpcError {
    /// There is no connection, or no longer.
    #[error("no connection to the workload api{}", kind.map(|kind| format!(": {kind}")).unwrap_or_default())]
    Connection {
        /// What the operating system says, where it was asked.
        kind: Option<io::ErrorKind>,
    },
    /// The server refuses, or its answer is no gRPC.
    #[error("the workload api answers with status {code}: `{message}`")]
    Status {
        /// The gRPC status code.
        code: i32,
        /// The server's explanation, in one line and cut off after 200 characters.
        message: String,
    },
    /// The server took longer than this.
    #[error("no answer from the workload api in {} s", after.as_secs())]
    Timeout {
        /// How long it was given.
        after: Duration,
    },
    /// A message of the server is malformed.
    #[error("the workload api sent a malformed message")]
    Malformed,
    /// A message of the server has so many fields that it was not decoded.
    #[error("the workload api sent a message of more than {MAX_FIELDS} fields")]
    TooManyFields,
    /// The server ended a stream that has no end.
    #[error("the workload api ended the stream")]
    Ended,
}

/// What a failure means for what one has, and for the next attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Consequence {
    /// Keep what there is, and try again.
    Retry,
    /// Use nothing of it any more, and try again (SPIFFE Workload API §4.3).
    Withdraw,
    /// Keep what expires by itself until then, and do not ask again (SPIFFE Workload Endpoint §6).
    GiveUp,
}

impl RpcError {
    pub(super) fn consequence(&self) -> Consequence {
        match self {
            Self::Status { code, .. } => match Code::from_i32(*code) {
                Code::PermissionDenied => Consequence::Withdraw,
                Code::InvalidArgument | Code::Unimplemented => Consequence::GiveUp,
                _ => Consequence::Retry,
            },
            _ => Consequence::Retry,
        }
    }

    fn lost(error: &(dyn Error + 'static)) -> Self {
        let kinds = std::iter::successors(Some(error), |error| (*error).source());
        let kind = kinds
            .filter_map(|error| error.downcast_ref::<io::Error>())
            .map(io::Error::kind)
            .last();
        Self::Connection { kind }
    }
}

impl From<Status> for RpcError {
    /// A status that has a cause was not sent by the server.
    fn from(status: Status) -> Self {
        if let Some(cause) = status.source() {
            return match cause.downcast_ref() {
                Some(Unreadable::Malformed) => Self::Malformed,
                Some(Unreadable::TooManyFields) => Self::TooManyFields,
                None => Self::lost(cause),
            };
        }
        let shown = status.message().chars().take(SHOWN_MESSAGE);
        let message = shown.flat_map(char::escape_debug).collect();
        Self::Status {
            code: status.code().into(),
            message,
        }
    }
}
