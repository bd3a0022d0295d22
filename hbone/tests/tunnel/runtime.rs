//! The same on every runtime: one thread or many, whatever the sizes.

use mesh_testkit::payload::{Checksum, Payload};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Builder;

use crate::pair::{background, echo, pair, request};

/// 64 tunnels at once, each with chunks of its own sizes, written and read in its own way.
async fn many_tunnels() {
    let pair = pair(&crate::engine::config(), echo).await;
    let tunnels: Vec<_> = (0..64_u64)
        .map(|seed| {
            let client = pair.client.clone();
            background(async move { one_tunnel(seed, client.open(request()).await.unwrap()).await })
        })
        .collect();
    for tunnel in tunnels {
        tunnel.await.unwrap();
    }
    pair.client.wait_for(|status| status.tunnels == 0).await;
    drop(pair.client);
    assert_eq!(pair.client_end.await.unwrap(), Ok(()));
    assert_eq!(pair.server_end.await.unwrap(), Ok(()));
}

async fn one_tunnel(seed: u64, stream: hbone::TunnelStream) {
    let (mut read, mut write) = stream.into_split();
    let writing = background(async move {
        let mut payload = Payload::new(seed);
        let mut sent = Checksum::default();
        for n in 0..60_u64 {
            let len = ((seed + 1) * 7_919 * (n + 1) % 20_011) as usize;
            let chunk = payload.take(len);
            sent.update(&chunk);
            match seed % 2 {
                0 => write.write_chunk(chunk).await.unwrap(),
                _ => write.write_all(&chunk).await.unwrap(),
            }
        }
        write.finish().await.unwrap();
        sent
    });
    let mut got = Checksum::default();
    let mut buf = vec![0; (seed as usize % 7 + 1) * 1_111];
    loop {
        match seed % 3 {
            0 => match read.read_chunk().await.unwrap() {
                Some(chunk) => got.update(&chunk),
                None => break,
            },
            _ => match read.read(&mut buf).await.unwrap() {
                0 => break,
                n => got.update(&buf[..n]),
            },
        }
    }
    assert_eq!(got, writing.await.unwrap());
}

#[test]
fn many_tunnels_on_one_thread() {
    Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(many_tunnels());
}

#[test]
fn many_tunnels_on_many_threads() {
    let runtime = Builder::new_multi_thread()
        .worker_threads(4)
        .enable_all()
        .build()
        .unwrap();
    for _ in 0..3 {
        runtime.block_on(many_tunnels());
    }
}
