//! Bytes through a tunnel: all of them, in order, with an end each way.

use hbone::{IncomingTunnel, TunnelResponse};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::pair::{echo, pair, request, send_all};

#[tokio::test]
async fn what_is_sent_comes_back() {
    let pair = pair(&crate::engine::config(), echo).await;
    let mut stream = pair.client.open(request()).await.unwrap();
    send_all(&mut stream, b"hello").await;
    let mut got = Vec::new();
    stream.read_to_end(&mut got).await.unwrap();
    assert_eq!(got, b"hello");
}

#[tokio::test]
async fn a_large_echo_is_byte_exact() {
    let pair = pair(&crate::engine::config(), echo).await;
    let stream = pair.client.open(request()).await.unwrap();
    let sent: Vec<u8> = (0..20_000_000_u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let (mut read, mut write) = stream.into_split();
    let copy = sent.clone();
    let writer = async move {
        write.write_all(&copy).await.unwrap();
        write.shutdown().await.unwrap();
    };
    let mut got = Vec::new();
    let (read, ()) = tokio::join!(read.read_to_end(&mut got), writer);
    read.unwrap();
    assert!(got == sent);
}

#[tokio::test]
async fn a_server_may_end_first() {
    let pair = pair(&crate::engine::config(), |tunnel: IncomingTunnel| async move {
        let mut stream = tunnel.accept(TunnelResponse::new());
        stream.shutdown().await.unwrap();
        let mut got = Vec::new();
        stream.read_to_end(&mut got).await.unwrap();
        assert_eq!(got.len(), 1 << 20);
    })
    .await;
    let mut stream = pair.client.open(request()).await.unwrap();
    assert_eq!(stream.read_chunk().await, Ok(None));
    send_all(&mut stream, &vec![7; 1 << 20]).await;
    drop(stream);
    pair.client.drain();
    pair.client_end.await.unwrap().unwrap();
}
