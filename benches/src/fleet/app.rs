//! The applications: small HTTP servers, and calls between them at a steady rate.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, interval_at};

use super::design::Running;
use super::world::World;
use crate::http::{self, Client, Version};
use crate::load::{Load, Times};

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
                connections.spawn(http::answer(tcp));
            }
            // Whoever called knows how it went.
            Some(ended) = connections.join_next() => drop(ended),
        }
    }
}

/// Has every workload call `calls` services.
pub fn start(world: &World, running: &Running, calls: usize, pattern: Pattern) -> io::Result<Load> {
    let mut load = Load::default();
    let mut callers = Vec::new();
    for workload in world.workloads() {
        for (number, called) in (0..).zip(world.called_by(*workload, calls)) {
            let caller = Caller {
                from: workload.ip,
                entry: running.entry(*workload, number, called)?,
                host: called.hostname(),
                times: load.times(),
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
    for (number, caller) in callers.into_iter().enumerate() {
        // No two at the same time.
        let first = start + period.mul_f64(number as f64 / all);
        match pattern {
            Pattern::Kept { .. } => load.spawn(caller.call_on_one(first, period)),
            Pattern::New { .. } => load.spawn(caller.call_on_new(first, period)),
        }
    }
    Ok(load)
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
        let (mut client, connection) = Client::open(self.connect().await?, Version::Http1, &self.host).await?;
        let calling = async {
            loop {
                let due = ticks.tick().await;
                client.ask().await?;
                self.times.record(due);
            }
        };
        tokio::select! {
            ended = calling => ended,
            lost = connection => Err(lost),
        }
    }

    async fn call_on_new(self, first: Instant, period: Duration) -> io::Result<Infallible> {
        let mut ticks = interval_at(first, period);
        loop {
            let due = ticks.tick().await;
            let (mut client, connection) = Client::open(self.connect().await?, Version::Http1, &self.host).await?;
            tokio::select! {
                answered = client.ask() => answered?,
                lost = connection => return Err(lost),
            }
            self.times.record(due);
        }
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
