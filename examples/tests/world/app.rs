//! Applications at the ends of tunnels.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};

use mesh_testkit::payload::Payload;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::soon;

/// A TCP server; gone when dropped.
pub struct App {
    pub addr: SocketAddr,
    _task: JoinSet<()>,
}

impl App {
    /// Has `serve` treat every connection.
    pub async fn start<F, Fut>(serve: F) -> Self
    where
        F: Fn(TcpStream) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        Self::start_at([127, 0, 0, 1].into(), serve).await
    }

    /// As [`start`](Self::start), at another address.
    pub async fn start_at<F, Fut>(ip: IpAddr, serve: F) -> Self
    where
        F: Fn(TcpStream) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        Self::start_on(TcpListener::bind((ip, 0)).await.unwrap(), serve)
    }

    /// As [`start`](Self::start), with a listener that is there already.
    pub fn start_on<F, Fut>(listener: TcpListener, serve: F) -> Self
    where
        F: Fn(TcpStream) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let addr = listener.local_addr().unwrap();
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                connections.spawn(serve(tcp));
                while connections.try_join_next().is_some() {}
            }
        });
        Self { addr, _task: task }
    }

    /// Sends back what it receives, then its end.
    pub async fn echo() -> Self {
        Self::echo_at([127, 0, 0, 1].into()).await
    }

    /// As [`echo`](Self::echo), at another address.
    pub async fn echo_at(ip: IpAddr) -> Self {
        Self::start_at(ip, echo).await
    }

    /// As [`echo`](Self::echo), with a listener that is there already.
    pub fn echo_on(listener: TcpListener) -> Self {
        Self::start_on(listener, echo)
    }
}

async fn echo(mut tcp: TcpStream) {
    let (mut read, mut write) = tcp.split();
    if copy(&mut read, &mut write).await.is_ok() {
        // The other side may be gone by now.
        drop(write.shutdown().await);
    }
}

/// Sends `len` bytes to an echo and its end, and checks that all come back, and then the end.
pub async fn exchange(tcp: TcpStream, seed: u64, len: usize) {
    let (mut read, mut write) = tcp.into_split();
    let send = async {
        let mut payload = Payload::new(seed);
        let mut left = len;
        while left > 0 {
            let chunk = payload.take(left.min(64 * 1024));
            left -= chunk.len();
            write.write_all(&chunk).await.unwrap();
        }
        write.shutdown().await.unwrap();
    };
    let receive = async {
        let mut payload = Payload::new(seed);
        let mut buf = vec![0; 64 * 1024];
        loop {
            match read.read(&mut buf).await.unwrap() {
                0 => return payload.offset(),
                n => payload.verify(&buf[..n]),
            }
        }
    };
    let ((), received) = soon("echo", async { tokio::join!(send, receive) }).await;
    assert_eq!(received, len as u64);
}
