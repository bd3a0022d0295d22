//! Any operation may be dropped at any of its awaits, and leaves nothing behind.

use std::sync::Arc;

use hbone::server::{self, Incoming};
use hbone::{Client, IncomingTunnel, Peer, TunnelResponse, TunnelStream};
use mesh_testkit::pipe::{self, Pipe};
use mesh_testkit::poll::{Run, cancel_at_every_await};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::events::Events;
use crate::pair::{Pair, background, over, piped, request, send_all, settle};

/// Reads byte by byte over a link that carries few at a time, so that everything waits often.
fn narrow() -> pipe::Builder {
    pipe::Builder::new().capacity(7).chunk(3)
}

struct World {
    pair: Pair,
    events: Arc<Events>,
}

async fn world() -> World {
    let (events, config) = Events::of(&crate::engine::config());
    let (pair, _control) = piped(narrow(), &config, crate::pair::echo).await;
    World { pair, events }
}

/// No tunnel is left on either side, and a new one works.
async fn check(world: World) {
    let World { pair, events } = world;
    pair.client.wait_for(|status| status.tunnels == 0).await;
    works(&pair.client).await;
    pair.client.wait_for(|status| status.tunnels == 0).await;
    settle().await;
    assert_eq!(events.opened(), events.closed());
    drop(pair.client);
    assert_eq!(pair.client_end.await.unwrap(), Ok(()));
    assert_eq!(pair.server_end.await.unwrap(), Ok(()));
}

async fn works(client: &Client) {
    let mut stream = client.open(request()).await.unwrap();
    send_all(&mut stream, b"still works").await;
    let mut got = Vec::new();
    stream.read_to_end(&mut got).await.unwrap();
    assert_eq!(got, b"still works");
}

#[tokio::test(start_paused = true)]
async fn an_open_leaves_nothing_behind() {
    let polls = cancel_at_every_await(
        world,
        async |world| world.pair.client.open(request()).await.map(drop).unwrap(),
        async |world, _run| check(world).await,
    )
    .await;
    assert!(polls >= 2, "{polls}");
}

#[tokio::test(start_paused = true)]
async fn an_open_that_waits_for_a_place_leaves_nothing_behind() {
    cancel_at_every_await(
        async || {
            let mut config = crate::engine::config();
            config.set_max_tunnels(1);
            let (pair, _control) = piped(narrow(), &config, crate::pair::echo).await;
            let held = pair.client.open(request()).await.unwrap();
            (pair, Some(held))
        },
        async |(pair, held)| {
            let opening = pair.client.open(request());
            tokio::pin!(opening);
            tokio::select! {
                biased;
                _ = &mut opening => panic!("there is no place"),
                () = settle() => {}
            }
            drop(held.take());
            opening.await.map(drop).unwrap();
        },
        async |(pair, held), _run| {
            drop(held);
            pair.client.wait_for(|status| status.tunnels == 0).await;
            works(&pair.client).await;
        },
    )
    .await;
}

/// A world with an open tunnel.
async fn open_world() -> (World, Option<TunnelStream>) {
    let world = world().await;
    let stream = world.pair.client.open(request()).await.unwrap();
    (world, Some(stream))
}

#[tokio::test(start_paused = true)]
async fn a_read_that_was_dropped_has_taken_nothing() {
    let sent: Vec<u8> = (0..100).collect();
    cancel_at_every_await(
        async || {
            let (world, stream) = open_world().await;
            let mut stream = stream.unwrap();
            send_all(&mut stream, &(0..100).collect::<Vec<u8>>()).await;
            (world, stream, Vec::new())
        },
        async |(_, stream, got): &mut (World, TunnelStream, Vec<u8>)| {
            while let Some(chunk) = stream.read_chunk().await.unwrap() {
                got.extend_from_slice(&chunk);
            }
        },
        async |(world, mut stream, mut got), _run| {
            // Whatever came before the drop was counted; the rest is still there.
            stream.read_to_end(&mut got).await.unwrap();
            assert_eq!(got, sent);
            drop(stream);
            check(world).await;
        },
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_write_that_was_dropped_has_written_a_prefix() {
    cancel_at_every_await(
        async || {
            let (world, stream) = open_world().await;
            (world, stream.unwrap(), 0_usize)
        },
        async |(_, stream, written): &mut (World, TunnelStream, usize)| {
            // More than the tunnel holds, so that it waits for the peer.
            for n in 0..20_u8 {
                stream.write_chunk(vec![n; 32 * 1024].into()).await.unwrap();
                *written += 32 * 1024;
            }
        },
        async |(world, stream, written), run| {
            assert!(matches!(run, Run::Cancelled { .. }) || written == 20 * 32 * 1024);
            let (mut read, mut write) = stream.into_split();
            let reading = background(async move {
                let mut got = Vec::new();
                read.read_to_end(&mut got).await.unwrap();
                got
            });
            write.finish().await.unwrap();
            let got = reading.await.unwrap();
            let expected: Vec<u8> = (0..20_u8).flat_map(|n| vec![n; 32 * 1024]).take(written).collect();
            assert!(got == expected, "{} of {written} bytes came back", got.len());
            check(world).await;
        },
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_end_that_was_dropped_is_sent_all_the_same() {
    cancel_at_every_await(
        async || {
            let (world, stream) = open_world().await;
            let mut stream = stream.unwrap();
            stream.write_all(&[7; 100]).await.unwrap();
            (world, stream)
        },
        async |(_, stream): &mut (World, TunnelStream)| stream.finish().await.unwrap(),
        async |(world, mut stream), run| {
            if run == (Run::Cancelled { polls: 0 }) {
                // The call was never made.
                drop(stream);
                return check(world).await;
            }
            let mut got = Vec::new();
            stream.read_to_end(&mut got).await.unwrap();
            assert_eq!(got, [7; 100]);
            drop(stream);
            check(world).await;
        },
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_accept_that_was_dropped_has_taken_nothing() {
    struct Accepting {
        client: Client,
        incoming: Incoming,
    }
    cancel_at_every_await(
        async || {
            let (near, far) = narrow().build();
            let server = background(async {
                let config = crate::engine::config();
                let handshake = server::handshake(far, Peer::unknown(), &config);
                let (incoming, connection) = handshake.await.unwrap();
                background(async { connection.await.ok() });
                incoming
            });
            let config = crate::engine::config();
            let handshake = hbone::client::handshake(near, Peer::unknown(), &config);
            let (client, connection) = handshake.await.unwrap();
            background(async { connection.await.ok() });
            let incoming = server.await.unwrap();
            Accepting { client, incoming }
        },
        async |world: &mut Accepting| {
            let client = world.client.clone();
            let opening = background(async move { client.open(request()).await });
            let tunnel = world.incoming.accept().await.unwrap();
            let stream = tunnel.accept(TunnelResponse::new());
            opening.await.unwrap().map(drop).unwrap();
            drop(stream);
        },
        async |mut world, _run| {
            // The request may wait still; whoever it is for has not lost it.
            let client = world.client.clone();
            let opening = background(async move { client.open(request()).await.map(drop) });
            while !opening.is_finished() {
                let accepted = tokio::time::timeout(std::time::Duration::from_secs(1), world.incoming.accept()).await;
                if let Ok(Some(tunnel)) = accepted {
                    let _stream = tunnel.accept(TunnelResponse::new());
                    settle().await;
                }
            }
            opening.await.unwrap().unwrap();
        },
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_was_dropped_closes_its_stream() {
    let config = crate::engine::config();
    cancel_at_every_await(
        async || {
            let (near, far) = narrow().build();
            let mut tasks = tokio::task::JoinSet::new();
            let (_, end) = crate::pair::serve(&mut tasks, far, &crate::engine::config(), crate::pair::echo);
            (Some(near), end, tasks)
        },
        async |(near, _, _): &mut (Option<Pipe>, _, _)| {
            let made = hbone::client::handshake(near.take().unwrap(), Peer::unknown(), &config).await;
            made.map(drop).unwrap();
        },
        async |(near, end, _tasks), run| {
            // A future that was never polled has not even taken the stream.
            assert_eq!(near.is_some(), run == Run::Cancelled { polls: 0 });
            drop(near);
            end.await.unwrap().ok();
        },
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_was_dropped_resets_its_tunnels() {
    let (near, far) = pipe::pair();
    let mut tasks = tokio::task::JoinSet::new();
    let config = crate::engine::config();
    let (_drain, _end) = crate::pair::serve(&mut tasks, far, &config, crate::pair::stall);
    let (client, connection) = hbone::client::handshake(near, Peer::unknown(), &config).await.unwrap();
    background(async { connection.await.ok() });
    let mut stream = client.open(request()).await.unwrap();
    tasks.shutdown().await;
    stream
        .read_chunk()
        .await
        .expect_err("an abort must not look like an end");
}

#[tokio::test(start_paused = true)]
async fn a_client_dropped_amid_an_open_stops_the_handlers_dial() {
    let tally = crate::events::Tally::default();
    let (near, far) = pipe::pair();
    let pair = over(near, far, &crate::engine::config(), {
        let tally = tally.clone();
        move |tunnel: IncomingTunnel| {
            let alive = tally.begin();
            async move {
                let _held = (alive, tunnel);
                std::future::pending::<()>().await;
            }
        }
    })
    .await;
    tokio::time::timeout(std::time::Duration::from_secs(1), pair.client.open(request()))
        .await
        .unwrap_err();
    settle().await;
    assert_eq!((tally.started(), tally.alive()), (1, 0));
}
