//! The application at both ends of a hop pair: what it sends, and how long that takes.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Bytes of one application write.
const CHUNK: usize = 256 * 1024;

/// Time for bulk senders to fill the buffers on their way.
const SPIN_UP: Duration = Duration::from_millis(200);

/// Asks the server to count what it gets and answer with the number.
const SINK: u8 = b'S';
/// Asks the server to send as many bytes as the next eight say.
const SOURCE: u8 = b'D';
/// Asks the server to send back what it gets.
const ECHO: u8 = b'E';

/// Serves the three requests until dropped.
pub async fn serve(listener: TcpListener) -> io::Result<()> {
    let mut tasks = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (tcp, _) = accepted?;
                tcp.set_nodelay(true)?;
                tasks.spawn(answer(tcp));
            }
            Some(ended) = tasks.join_next() => drop(ended),
        }
    }
}

async fn answer(mut tcp: TcpStream) -> io::Result<()> {
    match tcp.read_u8().await? {
        SINK => {
            let mut buf = vec![0; CHUNK];
            let mut total = 0_u64;
            loop {
                match tcp.read(&mut buf).await? {
                    0 => break,
                    n => total += n as u64,
                }
            }
            tcp.write_u64(total).await?;
        }
        SOURCE => {
            let mut left = tcp.read_u64().await?;
            let buf = vec![7; CHUNK];
            while left > 0 {
                let n = left.min(CHUNK as u64) as usize;
                tcp.write_all(&buf[..n]).await?;
                left -= n as u64;
            }
        }
        ECHO => {
            let mut buf = vec![0; 16 * 1024];
            loop {
                match tcp.read(&mut buf).await? {
                    0 => break,
                    n => tcp.write_all(&buf[..n]).await?,
                }
            }
        }
        other => return Err(io::Error::new(io::ErrorKind::InvalidData, format!("request {other}"))),
    }
    tcp.shutdown().await
}

async fn connect(addr: SocketAddr, request: u8) -> io::Result<TcpStream> {
    let mut tcp = TcpStream::connect(addr).await?;
    tcp.set_nodelay(true)?;
    tcp.write_u8(request).await?;
    Ok(tcp)
}

/// Sends `bytes` over each of `connections`, and waits until all have arrived.
pub async fn upload(addr: SocketAddr, connections: usize, bytes: u64) -> io::Result<Duration> {
    let start = now();
    let mut tasks = JoinSet::new();
    for _ in 0..connections {
        tasks.spawn(async move {
            let mut tcp = connect(addr, SINK).await?;
            let buf = vec![7; CHUNK];
            let mut left = bytes;
            while left > 0 {
                let n = left.min(CHUNK as u64) as usize;
                tcp.write_all(&buf[..n]).await?;
                left -= n as u64;
            }
            tcp.shutdown().await?;
            let arrived = tcp.read_u64().await?;
            check(arrived == bytes, "upload is incomplete")
        });
    }
    all(tasks).await?;
    Ok(start.elapsed())
}

/// Receives `bytes` over each of `connections`.
pub async fn download(addr: SocketAddr, connections: usize, bytes: u64) -> io::Result<Duration> {
    let start = now();
    let mut tasks = JoinSet::new();
    for _ in 0..connections {
        tasks.spawn(async move {
            let mut tcp = connect(addr, SOURCE).await?;
            tcp.write_u64(bytes).await?;
            let mut buf = vec![0; CHUNK];
            let mut total = 0;
            loop {
                match tcp.read(&mut buf).await? {
                    0 => break,
                    n => total += n as u64,
                }
            }
            check(total == bytes, "download is incomplete")
        });
    }
    all(tasks).await?;
    Ok(start.elapsed())
}

/// Sends 64 bytes and waits for them, `trips` times; the time of each.
pub async fn round_trips(addr: SocketAddr, trips: usize) -> io::Result<Vec<Duration>> {
    let mut tcp = connect(addr, ECHO).await?;
    let mut buf = [0; 64];
    let mut times = Vec::with_capacity(trips);
    for _ in 0..trips {
        let start = now();
        tcp.write_all(&[7; 64]).await?;
        tcp.read_exact(&mut buf).await?;
        times.push(start.elapsed());
    }
    Ok(times)
}

/// As [`round_trips`], while `bulk` other connections send as much as they can.
pub async fn round_trips_beside(addr: SocketAddr, trips: usize, bulk: usize) -> io::Result<Vec<Duration>> {
    let mut senders = JoinSet::new();
    for _ in 0..bulk {
        senders.spawn(async move {
            let mut tcp = connect(addr, SINK).await?;
            let buf = vec![7; CHUNK];
            loop {
                tcp.write_all(&buf).await?;
            }
        });
    }
    tokio::time::sleep(SPIN_UP).await;
    tokio::select! {
        times = round_trips(addr, trips) => times,
        Some(ended) = senders.join_next() => ended.map_err(io::Error::other)?,
    }
}

/// Sends as much as it can over each of `connections` for `time`; the bytes that arrived on each.
pub async fn race(addr: SocketAddr, connections: usize, time: Duration) -> io::Result<Vec<u64>> {
    let mut tasks = JoinSet::new();
    let deadline = tokio::time::Instant::now() + time;
    for _ in 0..connections {
        tasks.spawn(async move {
            let mut tcp = connect(addr, SINK).await?;
            let buf = vec![7; CHUNK];
            while let Ok(sent) = tokio::time::timeout_at(deadline, tcp.write(&buf)).await {
                sent?;
            }
            tcp.shutdown().await?;
            tcp.read_u64().await
        });
    }
    let mut arrived = Vec::with_capacity(connections);
    while let Some(joined) = tasks.join_next().await {
        arrived.push(joined.map_err(io::Error::other)??);
    }
    Ok(arrived)
}

/// Opens a connection, has one byte echoed and closes it, `opens` times over `parallel` tasks.
pub async fn opens(addr: SocketAddr, opens: usize, parallel: usize) -> io::Result<Duration> {
    let start = now();
    let mut tasks = JoinSet::new();
    for _ in 0..parallel {
        tasks.spawn(async move {
            for _ in 0..opens / parallel {
                let mut tcp = connect(addr, ECHO).await?;
                tcp.write_u8(1).await?;
                tcp.read_u8().await?;
                tcp.shutdown().await?;
                check(tcp.read(&mut [0]).await? == 0, "no end after the echo")?;
            }
            Ok(())
        });
    }
    all(tasks).await?;
    Ok(start.elapsed())
}

/// Opens `count` connections that have echoed one byte and are idle.
pub async fn hold(addr: SocketAddr, count: usize) -> io::Result<Vec<TcpStream>> {
    let mut held = Vec::with_capacity(count);
    for _ in 0..count {
        let mut tcp = connect(addr, ECHO).await?;
        tcp.write_u8(1).await?;
        tcp.read_u8().await?;
        held.push(tcp);
    }
    Ok(held)
}

async fn all(mut tasks: JoinSet<io::Result<()>>) -> io::Result<()> {
    while let Some(joined) = tasks.join_next().await {
        joined.map_err(io::Error::other)??;
    }
    Ok(())
}

fn check(holds: bool, what: &'static str) -> io::Result<()> {
    if holds {
        Ok(())
    } else {
        Err(io::Error::new(io::ErrorKind::UnexpectedEof, what))
    }
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
fn now() -> Instant {
    Instant::now()
}
