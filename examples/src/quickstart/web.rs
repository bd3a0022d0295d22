//! HTTP: small applications, and requests as workloads make them.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1 as client;
use hyper::header::HOST;
use hyper::http::response::Parts;
use hyper::server::conn::http1 as server;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::client::Connection;
use super::patience::soon;
use super::undeclared::Undeclared;

/// An application that says its name, until dropped.
pub(super) struct Web {
    pub(super) addr: SocketAddr,
    state: Arc<State>,
    _tasks: JoinSet<io::Result<()>>,
}

struct State {
    name: &'static str,
    /// What it answers with.
    status: AtomicU16,
    is_slow: AtomicBool,
    requests: AtomicUsize,
}

/// How long a slow application takes to answer.
const SLOW: Duration = Duration::from_millis(300);

impl Web {
    pub(super) async fn open(ip: IpAddr, name: &'static str) -> io::Result<Self> {
        let listener = TcpListener::bind((ip, 0)).await?;
        let addr = listener.local_addr()?;
        let state = Arc::new(State {
            name,
            status: AtomicU16::new(200),
            is_slow: AtomicBool::new(false),
            requests: AtomicUsize::new(0),
        });
        let (mut tasks, shared) = (JoinSet::new(), Arc::clone(&state));
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (tcp, _) = listener.accept().await?;
                let state = Arc::clone(&shared);
                let service = service_fn(move |_: Request<Incoming>| {
                    let state = Arc::clone(&state);
                    async move { Ok::<_, Infallible>(state.answer().await) }
                });
                connections.spawn(server::Builder::new().serve_connection(TokioIo::new(tcp), service));
                while connections.try_join_next().is_some() {}
            }
        });
        Ok(Self {
            addr,
            state,
            _tasks: tasks,
        })
    }

    /// Answers with another status from now on.
    pub(super) fn answers(&self, status: u16) {
        self.state.status.store(status, Ordering::Relaxed);
    }

    /// Takes its time over each answer from now on, or does no more.
    pub(super) fn slow_down(&self, is_slow: bool) {
        self.state.is_slow.store(is_slow, Ordering::Relaxed);
    }

    /// How many requests it has had.
    pub(super) fn requests(&self) -> usize {
        self.state.requests.load(Ordering::Relaxed)
    }
}

impl State {
    async fn answer(&self) -> Response<Full<Bytes>> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        if self.is_slow.load(Ordering::Relaxed) {
            sleep(SLOW).await;
        }
        let mut answer = Response::new(Full::new(self.name.into()));
        let status = StatusCode::from_u16(self.status.load(Ordering::Relaxed));
        *answer.status_mut() = status.unwrap_or_default();
        answer
    }
}

/// What a service answered.
pub(super) struct Heard {
    pub(super) head: Parts,
    pub(super) body: String,
}

impl Heard {
    pub(super) fn status(&self) -> u16 {
        self.head.status.as_u16()
    }
}

/// Asks on a connection, which nobody needs any more then.
pub(super) async fn ask(
    connection: Connection,
    method: Method,
    host: &str,
    header: Option<(&str, &str)>,
) -> Result<Heard, Undeclared> {
    let (mut send, driver) = client::handshake(TokioIo::new(connection.into_tcp())).await?;
    let mut task = JoinSet::new();
    task.spawn(driver);
    let mut request = Request::builder().method(method).uri("/").header(HOST, host);
    if let Some((name, value)) = header {
        request = request.header(name, value);
    }
    let request = request.body(Full::<Bytes>::default())?;
    let (head, body) = soon("answer", send.send_request(request)).await??.into_parts();
    let body = soon("answer", body.collect()).await??.to_bytes();
    let body = String::from_utf8_lossy(&body).into_owned();
    Ok(Heard { head, body })
}
