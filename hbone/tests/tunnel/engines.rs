//! Each engine against each: they speak the same protocol.

use hbone::metadata::Metadata;
use hbone::{Config, IncomingTunnel, Peer, ResetReason, TunnelError, TunnelRequest, TunnelResponse, fuzzing};
use http::{HeaderName, HeaderValue};
use mesh_testkit::pipe;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

use crate::pair::{Pair, serve, wait};

/// Either engine, on either side.
fn pairings() -> [[Config; 2]; 4] {
    let (tunnel, h2) = (Config::default(), fuzzing::with_h2(Config::default()));
    [[&tunnel, &tunnel], [&tunnel, &h2], [&h2, &tunnel], [&h2, &h2]].map(|pairing| pairing.map(Clone::clone))
}

async fn connect([client, server]: &[Config; 2], handler: impl hbone::Handler) -> Pair {
    let (near, far) = pipe::Builder::new().capacity(10_000).build();
    let mut tasks = JoinSet::new();
    let (drain, server_end) = serve(&mut tasks, far, server, handler);
    let (client, connection) = hbone::client::handshake(near, Peer::unknown(), client).await.unwrap();
    let (ended, client_end) = tokio::sync::oneshot::channel();
    tasks.spawn(async move {
        ended.send(connection.await).ok();
    });
    Pair::of(client, wait(client_end), server_end, drain, tasks)
}

fn field() -> impl Strategy<Value = (String, Vec<u8>)> {
    let value = prop::collection::vec(prop_oneof![0x21_u8..0x7f, 0x80_u8..=0xff], 0..200);
    ("x-[a-z0-9-]{1,30}", value)
}

/// Answers with the fields of the request, and echoes.
async fn mirror(tunnel: IncomingTunnel) {
    let headers = tunnel.request().metadata().headers().clone();
    let mut response = TunnelResponse::new();
    for (name, value) in &headers {
        response = response.with_header(name.clone(), value.clone()).unwrap();
    }
    let mut stream = tunnel.accept(response);
    while let Ok(Some(chunk)) = stream.read_chunk().await {
        if stream.write_chunk(chunk).await.is_err() {
            return;
        }
    }
    stream.shutdown().await.ok();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Heads and bytes arrive as they were sent, and each direction ends by itself.
    #[test]
    fn what_one_engine_sends_the_other_receives(
        tunnels in prop::collection::vec((prop::collection::vec(field(), 0..6), 0_usize..200_000, 1_usize..70_000), 1..4),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        for pairing in pairings() {
            runtime.block_on(async {
                let pair = connect(&pairing, mirror).await;
                let mut tasks = JoinSet::new();
                for (fields, len, chunk) in tunnels.clone() {
                    let client = pair.client.clone();
                    tasks.spawn(async move {
                        let mut metadata = Metadata::new();
                        for (name, value) in &fields {
                            let (name, value) = (name.parse::<HeaderName>().unwrap(), HeaderValue::from_bytes(value).unwrap());
                            metadata = metadata.with_header(name, value).unwrap();
                        }
                        let request = TunnelRequest::new("10.0.0.1:80".parse().unwrap()).with_metadata(metadata.clone());
                        let stream = client.open(request).await.unwrap();
                        assert_eq!(stream.response().headers(), metadata.headers());
                        let sent: Vec<u8> = (0..len).map(|n| (n % 251) as u8).collect();
                        let (mut read, mut write) = stream.into_split();
                        let mut got = Vec::new();
                        let writing = async {
                            for part in sent.chunks(chunk) {
                                write.write_chunk(part.to_vec().into()).await.unwrap();
                            }
                            write.finish().await.unwrap();
                        };
                        let (read, ()) = tokio::join!(read.read_to_end(&mut got), writing);
                        read.unwrap();
                        assert!(got == sent, "{} of {len} bytes came back", got.len());
                    });
                }
                while let Some(joined) = tasks.join_next().await {
                    joined.unwrap();
                }
                drop(pair.client);
                assert_eq!(pair.client_end.await.unwrap(), Ok(()));
                assert_eq!(pair.server_end.await.unwrap(), Ok(()));
            });
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_reset_is_read_as_what_it_was_sent_for() {
    for pairing in pairings() {
        let pair = connect(&pairing, |tunnel: IncomingTunnel| async move {
            let mut stream = tunnel.accept(TunnelResponse::new());
            stream.read_u8().await.unwrap();
            stream.abort();
        })
        .await;
        let mut stream = pair.client.open(crate::pair::request()).await.unwrap();
        stream.write_all(b"x").await.unwrap();
        let TunnelError::Reset(reset) = stream.read_chunk().await.unwrap_err() else {
            panic!("{pairing:?}")
        };
        assert_eq!(reset.reason(), ResetReason::Aborted, "{pairing:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_drain_ends_with_the_last_tunnel() {
    for pairing in pairings() {
        let pair = connect(&pairing, mirror).await;
        let mut stream = pair.client.open(crate::pair::request()).await.unwrap();
        pair.drain.send(()).unwrap();
        pair.client.wait_for(|status| !status.accepting).await;
        assert!(
            pair.client
                .open(crate::pair::request())
                .await
                .unwrap_err()
                .is_unprocessed()
        );
        stream.write_all(b"last").await.unwrap();
        stream.shutdown().await.unwrap();
        let mut got = Vec::new();
        stream.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, b"last");
        assert_eq!(pair.client_end.await.unwrap(), Ok(()), "{pairing:?}");
        assert_eq!(pair.server_end.await.unwrap(), Ok(()), "{pairing:?}");
    }
}
