//! The applications: small HTTP servers, and calls between them at a steady rate.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, interval_at};

use super::design::Running;
use super::world::World;

/// What every request is answered with.
static ANSWER: [u8; 1024] = [b'.'; 1024];

/// How an application reaches a service.
#[derive(Clone, Copy, Debug)]
pub enum Entry {
    /// Through a SOCKS5 proxy.
    Socks5 {
        /// Where that is.
        proxy: SocketAddr,
        /// What it is asked for.
        target: SocketAddr,
    },
    /// At a listener that knows which service it is for, or finds out.
    Listener(SocketAddr),
}

/// What applications do.
#[derive(Clone, Copy, Debug)]
pub enum Pattern {
    /// Requests on connections that stay.
    Kept {
        /// Connections to each called service.
        connections: usize,
        /// Requests a second of each workload, over all its connections.
        rate: f64,
    },
    /// A connection for each request.
    New {
        /// Connections a second of each workload.
        rate: f64,
    },
}

/// Serves at every workload's address until dropped.
pub async fn serve(world: &World) -> io::Result<Infallible> {
    let mut servers = JoinSet::new();
    for workload in world.workloads() {
        let listener = TcpListener::bind(workload.app()).await?;
        servers.spawn(serve_one(listener));
    }
    match servers.join_next().await {
        Some(ended) => ended.map_err(io::Error::other)?,
        None => Err(io::Error::other("no workloads")),
    }
}

async fn serve_one(listener: TcpListener) -> io::Result<Infallible> {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (tcp, _) = accepted?;
                tcp.set_nodelay(true)?;
                let answer = service_fn(async |_| {
                    Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(&ANSWER))))
                });
                connections.spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(tcp), answer));
            }
            // Whoever called knows how it went.
            Some(ended) = connections.join_next() => drop(ended),
        }
    }
}

/// Calls that go on until dropped.
#[derive(Debug)]
pub struct Load {
    tasks: JoinSet<io::Result<Infallible>>,
    times: Times,
}

/// How long each request took that was answered.
type Times = Arc<Mutex<Vec<Duration>>>;

impl Load {
    /// Has every workload call `calls` services.
    pub fn start(world: &World, running: &Running, calls: usize, pattern: Pattern) -> io::Result<Self> {
        let times = Times::default();
        let mut callers = Vec::new();
        for workload in world.workloads() {
            for (number, called) in (0..).zip(world.called_by(*workload, calls)) {
                let caller = Caller {
                    from: workload.ip,
                    entry: running.entry(*workload, number, called)?,
                    host: called.hostname(),
                    times: Arc::clone(&times),
                };
                let connections = match pattern {
                    Pattern::Kept { connections, .. } => connections,
                    Pattern::New { .. } => 1,
                };
                callers.extend(std::iter::repeat_n(caller, connections));
            }
        }
        let (Pattern::Kept { rate, .. } | Pattern::New { rate }) = pattern;
        let of_each = callers.len() as f64 / world.workloads().len() as f64;
        let period = Duration::from_secs_f64(of_each / rate);
        let all = callers.len() as f64;
        let start = Instant::now();
        let mut tasks = JoinSet::new();
        for (number, caller) in callers.into_iter().enumerate() {
            // No two at the same time.
            let first = start + period.mul_f64(number as f64 / all);
            match pattern {
                Pattern::Kept { .. } => tasks.spawn(caller.call_on_one(first, period)),
                Pattern::New { .. } => tasks.spawn(caller.call_on_new(first, period)),
            };
        }
        Ok(Self { tasks, times })
    }

    /// The times of the requests since the last look, if all went well.
    pub fn take(&mut self) -> io::Result<Vec<Duration>> {
        if let Some(ended) = self.tasks.try_join_next() {
            ended.map_err(io::Error::other)??;
        }
        Ok(std::mem::take(
            &mut self.times.lock().unwrap_or_else(PoisonError::into_inner),
        ))
    }
}

/// Who calls one service.
#[derive(Clone)]
struct Caller {
    from: IpAddr,
    entry: Entry,
    host: String,
    times: Times,
}

impl Caller {
    async fn call_on_one(self, first: Instant, period: Duration) -> io::Result<Infallible> {
        let mut ticks = interval_at(first, period);
        ticks.tick().await;
        let tcp = self.connect().await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(tcp)).await.map_err(io::Error::other)?;
        let calling = async {
            loop {
                let began = Instant::now();
                self.request(&mut sender).await?;
                self.record(began);
                ticks.tick().await;
            }
        };
        tokio::select! {
            ended = calling => ended,
            lost = connection => Err(io::Error::other(format!("connection lost: {lost:?}"))),
        }
    }

    async fn call_on_new(self, first: Instant, period: Duration) -> io::Result<Infallible> {
        let mut ticks = interval_at(first, period);
        loop {
            ticks.tick().await;
            let began = Instant::now();
            let tcp = self.connect().await?;
            let (mut sender, connection) = http1::handshake(TokioIo::new(tcp)).await.map_err(io::Error::other)?;
            tokio::select! {
                answered = self.request(&mut sender) => answered?,
                lost = connection => return Err(io::Error::other(format!("connection lost: {lost:?}"))),
            }
            self.record(began);
        }
    }

    async fn request(&self, sender: &mut SendRequest<Empty<Bytes>>) -> io::Result<()> {
        let request = Request::get("/").header("host", &self.host).body(Empty::new());
        let request = request.map_err(io::Error::other)?;
        let answer = sender.send_request(request).await.map_err(io::Error::other)?;
        let status = answer.status();
        let body = answer.into_body().collect().await.map_err(io::Error::other)?;
        if status.is_success() && *body.to_bytes() == ANSWER {
            Ok(())
        } else {
            Err(io::Error::other(format!("{} was answered with {status}", self.host)))
        }
    }

    fn record(&self, began: Instant) {
        let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        times.push(began.elapsed());
    }

    /// Connects from the workload's own address.
    async fn connect(&self) -> io::Result<TcpStream> {
        let (Entry::Socks5 { proxy: to, .. } | Entry::Listener(to)) = self.entry;
        let socket = TcpSocket::new_v4()?;
        socket.bind((self.from, 0).into())?;
        let mut tcp = socket.connect(to).await?;
        tcp.set_nodelay(true)?;
        if let Entry::Socks5 { target, .. } = self.entry {
            negotiate(&mut tcp, target).await?;
        }
        Ok(tcp)
    }
}

/// Asks for a connection (RFC 1928 §3-6).
async fn negotiate(tcp: &mut TcpStream, target: SocketAddr) -> io::Result<()> {
    let SocketAddr::V4(target) = target else {
        return Err(io::Error::other("a service with an IPv6 address"));
    };
    tcp.write_all(&[5, 1, 0]).await?;
    tcp.read_exact(&mut [0; 2]).await?;
    let mut request = vec![5, 1, 0, 1];
    request.extend(target.ip().octets());
    request.extend(target.port().to_be_bytes());
    tcp.write_all(&request).await?;
    let mut answer = [0; 10];
    tcp.read_exact(&mut answer).await?;
    match answer {
        [5, 0, ..] => Ok(()),
        _ => Err(io::Error::other(format!("SOCKS5 answered {answer:?} for {target}"))),
    }
}
