//! A SPIFFE Workload API that says what a test tells it to, and changes its mind in the middle.
//!
//! It is spelled out on HTTP/2 frames and shares no code with the client that it tests, so that a misreading of the
//! protocol would have to be made twice. What an agent would refuse, it refuses: a request without the security header
//! is answered with `InvalidArgument`.

mod grpc;
mod message;
mod protobuf;

use std::fmt;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, duplex};
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

pub use message::{X509Entry, X509Message, jwt_bundles, jwt_svids, validated};

/// gRPC status codes that matter to clients of a Workload API.
pub mod code {
    #![expect(missing_docs, reason = "they are the names that gRPC has for them")]

    pub const INVALID_ARGUMENT: u16 = 3;
    pub const PERMISSION_DENIED: u16 = 7;
    pub const UNIMPLEMENTED: u16 = 12;
    pub const INTERNAL: u16 = 13;
    pub const UNAVAILABLE: u16 = 14;
}

/// Bytes that a pipe to the server holds.
const PIPE: usize = 64 * 1024;

/// What is said on a stream, or in answer to a call.
#[derive(Clone, Debug)]
pub enum Reply {
    /// This message. A stream stays open after it.
    Message(Vec<u8>),
    /// An error status with its explanation.
    Status(u16, String),
    /// The orderly end of the stream, without a message.
    End,
    /// Bytes that are sent as they are, in place of a framed message; the stream stays open.
    Raw(Vec<u8>),
    /// Nothing, for as long as it lasts.
    Silence,
}

impl From<X509Message> for Reply {
    fn from(message: X509Message) -> Self {
        Self::Message(message.encode())
    }
}

/// A call that the server received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The method's name, such as `FetchX509SVID`.
    pub method: String,
    /// Whether the security header was there.
    pub has_header: bool,
    /// The request's fields with their numbers, in order.
    pub fields: Vec<(u8, String)>,
}

type Answer = Arc<dyn Fn(&Call) -> Reply + Send + Sync>;

/// The server. It is gone, with all connections, when dropped.
pub struct FakeWorkloadApi {
    shared: Arc<Shared>,
    tasks: Arc<Mutex<JoinSet<()>>>,
    listener: Mutex<Option<(PathBuf, AbortHandle)>>,
}

struct Shared {
    x509: watch::Sender<Reply>,
    jwt_bundles: watch::Sender<Reply>,
    answer: Mutex<Answer>,
    calls: watch::Sender<Vec<Call>>,
    /// Counts the times that all connections were cut.
    cuts: watch::Sender<u64>,
    refusing: watch::Sender<bool>,
}

impl FakeWorkloadApi {
    /// A server that denies permission until it is told what to say.
    #[must_use]
    #[expect(
        clippy::new_without_default,
        reason = "a server is made on purpose: two defaults would be two servers"
    )]
    pub fn new() -> Self {
        let denied = || Reply::Status(code::PERMISSION_DENIED, "no identity issued".to_owned());
        let shared = Shared {
            x509: watch::Sender::new(denied()),
            jwt_bundles: watch::Sender::new(denied()),
            answer: Mutex::new(Arc::new(move |_| denied())),
            calls: watch::Sender::default(),
            cuts: watch::Sender::default(),
            refusing: watch::Sender::default(),
        };
        Self {
            shared: Arc::new(shared),
            tasks: Arc::default(),
            listener: Mutex::default(),
        }
    }

    /// Says this on every X.509 stream, now and when one is opened.
    pub fn say_x509(&self, reply: impl Into<Reply>) {
        self.shared.x509.send_replace(reply.into());
    }

    /// Says this on every JWT bundles stream, now and when one is opened.
    pub fn say_jwt_bundles(&self, reply: Reply) {
        self.shared.jwt_bundles.send_replace(reply);
    }

    /// Answers `FetchJWTSVID` and `ValidateJWTSVID` by this function from now on.
    pub fn answer(&self, answer: impl Fn(&Call) -> Reply + Send + Sync + 'static) {
        *self.shared.answer.lock().unwrap() = Arc::new(answer);
    }

    /// The calls so far, streams among them, in the order in which they came.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        self.shared.calls.borrow().clone()
    }

    /// Waits until there were so many calls.
    pub async fn called(&self, times: usize) {
        let mut calls = self.shared.calls.subscribe();
        calls.wait_for(|calls| calls.len() >= times).await.unwrap();
    }

    /// Cuts all connections in the middle of whatever is said on them.
    pub fn cut(&self) {
        self.shared.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Refuses connections by [`connector`](Self::connector), or no longer. Those that are there stay.
    pub fn refuse(&self, refusing: bool) {
        self.shared.refusing.send_replace(refusing);
    }

    /// Listens on a Unix socket, until [`stop`](Self::stop).
    ///
    /// # Panics
    ///
    /// When the socket cannot be made.
    pub fn listen(&self, path: &Path) {
        let listener = UnixListener::bind(path).unwrap();
        // It is one of the tasks, which would never end if they held themselves.
        let (shared, tasks) = (Arc::clone(&self.shared), Arc::downgrade(&self.tasks));
        let accept = async move {
            while let Ok((stream, _)) = listener.accept().await {
                let Some(tasks) = tasks.upgrade() else { return };
                tasks.lock().unwrap().spawn(grpc::serve(Arc::clone(&shared), stream));
            }
        };
        let accepting = self.tasks.lock().unwrap().spawn(accept);
        let before = self.listener.lock().unwrap().replace((path.to_owned(), accepting));
        assert!(before.is_none(), "the server listens already");
    }

    /// Listens no longer, removes the socket, and cuts all connections: the agent was stopped.
    ///
    /// # Panics
    ///
    /// When the server does not listen.
    pub fn stop(&self) {
        let (path, accepting) = self
            .listener
            .lock()
            .unwrap()
            .take()
            .expect("the server does not listen");
        accepting.abort();
        std::fs::remove_file(path).unwrap();
        self.cut();
    }

    /// Serves a stream that the test has made.
    pub fn serve(&self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        self.tasks
            .lock()
            .unwrap()
            .spawn(grpc::serve(Arc::clone(&self.shared), stream));
    }

    /// Makes connections in memory, for tests whose time is virtual.
    pub fn connector(&self) -> impl Fn() -> Connecting + Send + Sync + 'static {
        let (shared, tasks) = (Arc::clone(&self.shared), Arc::downgrade(&self.tasks));
        move || {
            let tasks = tasks.upgrade().filter(|_| !*shared.refusing.borrow());
            let Some(tasks) = tasks else {
                return Connecting(Some(Err(io::ErrorKind::ConnectionRefused.into())));
            };
            let (near, far) = duplex(PIPE);
            tasks.lock().unwrap().spawn(grpc::serve(Arc::clone(&shared), far));
            Connecting(Some(Ok(near)))
        }
    }
}

impl fmt::Debug for FakeWorkloadApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FakeWorkloadApi")
            .field("calls", &self.calls())
            .finish_non_exhaustive()
    }
}

/// A connection in memory, which is there at once or refused at once.
#[derive(Debug)]
pub struct Connecting(Option<io::Result<DuplexStream>>);

impl Future for Connecting {
    type Output = io::Result<DuplexStream>;

    fn poll(mut self: std::pin::Pin<&mut Self>, _: &mut std::task::Context<'_>) -> std::task::Poll<Self::Output> {
        std::task::Poll::Ready(self.0.take().expect("polled again after it was ready"))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::net::UnixStream;

    use super::*;

    #[tokio::test]
    async fn with_the_server_go_its_connections_and_its_socket() {
        let path = std::env::temp_dir().join(format!("fake-workload-api-{}.sock", std::process::id()));
        drop(std::fs::remove_file(&path));
        let server = FakeWorkloadApi::new();
        let connect = server.connector();
        server.listen(&path);
        let mut by_socket = UnixStream::connect(&path).await.unwrap();
        let mut in_memory = connect().await.unwrap();
        // The server's preface shows that the connection was accepted.
        assert!(by_socket.read_u8().await.is_ok());
        assert!(in_memory.read_u8().await.is_ok());
        drop(server);
        let mut rest = Vec::new();
        drop(by_socket.read_to_end(&mut rest).await);
        drop(in_memory.read_to_end(&mut rest).await);
        assert!(connect().await.is_err());
        assert!(UnixStream::connect(&path).await.is_err());
        std::fs::remove_file(&path).unwrap();
    }
}
