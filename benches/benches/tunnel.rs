//! What one tunnel operation costs inside a process, without sockets.
#![allow(
    clippy::unwrap_used,
    missing_docs,
    reason = "a benchmark ends with its first failure"
)]

use std::future::pending;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use hbone::{
    Client, Config, IncomingTunnel, Lost, Peer, Pool, PoolConfig, TunnelRequest, TunnelResponse, client, server, tls,
};
use mesh_benches::pki::Pki;
use mesh_identity::tls::{ClientTls, ServerTls};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

/// Bytes of one bulk transfer.
const BULK: usize = 16 * 1024 * 1024;

fn benches(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    handshakes(c, &runtime);
    tunnels(c, &runtime);
}

fn handshakes(c: &mut Criterion, runtime: &Runtime) {
    let folder = std::env::temp_dir().join(format!("tunnel-bench-{}", std::process::id()));
    let (client_tls, server_tls) = Pki::create(&folder).unwrap().tls().unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    let mut group = c.benchmark_group("handshake");
    group.bench_function("http2", |b| {
        b.iter(|| runtime.block_on(async { black_box(connect().await) }));
    });
    group.bench_function("mutual tls and http2", |b| {
        b.iter(|| runtime.block_on(async { black_box(connect_tls(&client_tls, &server_tls).await) }));
    });
    group.finish();
}

fn tunnels(c: &mut Criterion, runtime: &Runtime) {
    let (client, _connection) = runtime.block_on(connect());
    let mut group = c.benchmark_group("tunnel");
    group.bench_function("open and close, warm connection", |b| {
        b.iter(|| runtime.block_on(async { close(open(&client).await).await }));
    });
    let pool = Pool::new(PoolConfig::default(), |_key: ()| connect_pooled());
    group.bench_function("open and close, through a pool", |b| {
        b.iter(|| runtime.block_on(async { close(pool.open(&(), request()).await.unwrap()).await }));
    });
    let mut stream = runtime.block_on(open(&client));
    group.bench_function("echo of 64 bytes", |b| {
        b.iter(|| {
            runtime.block_on(async {
                stream.write_all(&[7; 64]).await.unwrap();
                stream.read_exact(&mut [0; 64]).await.unwrap();
            });
        });
    });
    group.throughput(Throughput::Bytes(BULK as u64));
    let payload = Bytes::from(vec![7; 64 * 1024]);
    group.bench_function("bulk echo", |b| {
        b.iter_batched(
            || runtime.block_on(open(&client)),
            |stream| runtime.block_on(bulk(stream, &payload)),
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

async fn open(client: &Client) -> hbone::TunnelStream {
    client.open(request()).await.unwrap()
}

fn request() -> TunnelRequest {
    TunnelRequest::new("10.0.0.1:80".parse().unwrap())
}

async fn close(mut stream: hbone::TunnelStream) {
    stream.shutdown().await.unwrap();
    assert_eq!(stream.read_chunk().await, Ok(None));
}

async fn bulk(stream: hbone::TunnelStream, payload: &Bytes) {
    let (mut read, mut write) = stream.into_split();
    let send = async {
        for _ in 0..BULK / payload.len() {
            write.write_chunk(payload.clone()).await.unwrap();
        }
        write.finish().await.unwrap();
    };
    let receive = async {
        let mut received = 0;
        while let Some(chunk) = read.read_chunk().await.unwrap() {
            received += chunk.len();
        }
        assert_eq!(received, BULK);
    };
    tokio::join!(send, receive);
}

async fn echo(tunnel: IncomingTunnel) {
    let mut stream = tunnel.accept(TunnelResponse::new());
    while let Ok(Some(chunk)) = stream.read_chunk().await {
        if stream.write_chunk(chunk).await.is_err() {
            return;
        }
    }
    if let Err(error) = stream.finish().await {
        assert!(error.blame() != hbone::Blame::Local, "{error}");
    }
}

/// A client whose server echoes, over a pipe; the tasks live as long as the set.
async fn connect() -> (Client, JoinSet<()>) {
    let (near, far) = duplex(1024 * 1024);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        server::serve(far, Peer::unknown(), &Config::default(), Arc::new(echo), pending())
            .await
            .ok();
    });
    let (client, connection) = client::handshake(near, Peer::unknown(), &Config::default())
        .await
        .unwrap();
    tasks.spawn(async move {
        connection.await.ok();
    });
    (client, tasks)
}

/// A client and what drives both ends of its connection.
async fn connect_pooled() -> Result<(Client, impl Future<Output = Result<(), Lost>>), client::HandshakeError> {
    let (near, far) = duplex(1024 * 1024);
    let config = Config::default();
    let serving =
        async move { server::serve(far, Peer::unknown(), &Config::default(), Arc::new(echo), pending()).await };
    let mut serving = Box::pin(serving);
    let (client, mut connection) = tokio::select! {
        connected = client::handshake(near, Peer::unknown(), &config) => connected?,
        _ = &mut serving => unreachable!("the client is still there"),
    };
    let driver = async move {
        tokio::select! {
            ended = &mut connection => ended,
            _ = serving => connection.await,
        }
    };
    Ok((client, driver))
}

async fn connect_tls(client_tls: &ClientTls, server_tls: &ServerTls) -> Client {
    let (near, far): (DuplexStream, DuplexStream) = duplex(1024 * 1024);
    let config = Config::default();
    let serving = async {
        let (stream, peer) = tls::accept(far, server_tls, &config).await.unwrap();
        server::serve(stream, peer, &config, Arc::new(echo), pending())
            .await
            .ok();
    };
    let calling = async {
        let (stream, peer) = tls::connect(near, client_tls, &config).await.unwrap();
        let (client, _connection) = client::handshake(stream, peer, &config).await.unwrap();
        client
    };
    tokio::select! {
        client = calling => client,
        () = serving => unreachable!("the client is still there"),
    }
}

criterion_group! {
    name = all;
    config = Criterion::default().measurement_time(Duration::from_secs(3)).sample_size(20);
    targets = benches
}
criterion_main!(all);
