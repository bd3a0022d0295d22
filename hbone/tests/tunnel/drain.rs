//! Shutting down: what is open has until the deadline, what is new is sent elsewhere.

use std::time::Duration;

use hbone::server::ServeError;
use hbone::{Event, IncomingTunnel, Lost, OpenError, ResetReason, TunnelError, TunnelResponse};
use mesh_testkit::frames::{Kind, Reason};
use mesh_testkit::peer::End;
use mesh_testkit::pipe::{self, Direction};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep};

use crate::events::{Events, Tally};
use crate::pair::{background, echo, pair, piped, request, settle, stall};
use crate::raw::{dialled, served};

const DEADLINE: Duration = Duration::from_secs(5);
const SOON: Duration = Duration::from_millis(100);

#[tokio::test(start_paused = true)]
async fn a_draining_server_keeps_every_tunnel_until_the_deadline_and_no_longer() {
    let mut config = crate::engine::config();
    config.set_drain_timeout(DEADLINE);
    let pair = pair(&config, echo).await;
    let mut streams = Vec::new();
    for _ in 0..100 {
        streams.push(pair.client.open(request()).await.unwrap());
    }
    let start = Instant::now();
    pair.drain.send(()).unwrap();
    pair.client.wait_for(|status| !status.accepting).await;
    while start.elapsed() < DEADLINE - SOON {
        for stream in &mut streams {
            stream.write_all(b"alive").await.unwrap();
            let mut got = [0; 5];
            stream.read_exact(&mut got).await.unwrap();
        }
        sleep(Duration::from_millis(300)).await;
    }
    let ended = pair.server_end.await.unwrap();
    assert_eq!(ended, Err(ServeError::Lost(Lost::Drained)));
    assert!(
        start.elapsed() >= DEADLINE && start.elapsed() <= DEADLINE + SOON,
        "{:?}",
        start.elapsed()
    );
    for stream in &mut streams {
        stream
            .read_chunk()
            .await
            .expect_err("an abort must not look like an end");
    }
}

#[tokio::test(start_paused = true)]
async fn a_draining_server_ends_with_its_last_tunnel() {
    let pair = pair(&crate::engine::config(), echo).await;
    let mut stream = pair.client.open(request()).await.unwrap();
    let start = Instant::now();
    pair.drain.send(()).unwrap();
    sleep(Duration::from_secs(1)).await;
    stream.write_all(b"last words").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut got = Vec::new();
    stream.read_to_end(&mut got).await.unwrap();
    assert_eq!(got, b"last words");
    assert_eq!(pair.server_end.await.unwrap(), Ok(()));
    assert_eq!(pair.client_end.await.unwrap(), Ok(()));
    assert!(
        start.elapsed() <= Duration::from_secs(1) + SOON,
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_draining_server_without_tunnels_ends_at_once() {
    let pair = pair(&crate::engine::config(), echo).await;
    let start = Instant::now();
    pair.drain.send(()).unwrap();
    assert_eq!(pair.server_end.await.unwrap(), Ok(()));
    assert_eq!(pair.client_end.await.unwrap(), Ok(()));
    assert!(start.elapsed() <= SOON, "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_ignores_its_tunnel_delays_a_drain_by_two_seconds_at_most() {
    let tally = Tally::default();
    let mut config = crate::engine::config();
    config.set_drain_timeout(DEADLINE);
    let pair = pair(&config, {
        let tally = tally.clone();
        move |tunnel: IncomingTunnel| {
            let alive = tally.begin();
            async move {
                stall(tunnel).await;
                drop(alive);
            }
        }
    })
    .await;
    let _stream = pair.client.open(request()).await.unwrap();
    let start = Instant::now();
    pair.drain.send(()).unwrap();
    pair.server_end.await.unwrap().unwrap_err();
    assert!(
        start.elapsed() <= DEADLINE + Duration::from_secs(2) + SOON,
        "{:?}",
        start.elapsed()
    );
    assert_eq!(tally.alive(), 0);
}

#[tokio::test(start_paused = true)]
async fn tunnels_that_race_a_goaway_are_served() {
    let pipe = pipe::Builder::new().latency(Duration::from_millis(50));
    let (pair, _control) = piped(pipe, &crate::engine::config(), echo).await;
    pair.drain.send(()).unwrap();
    // Requested before the GOAWAY has arrived.
    let mut stream = pair.client.open(request()).await.unwrap();
    stream.write_all(b"in time").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut got = Vec::new();
    stream.read_to_end(&mut got).await.unwrap();
    assert_eq!(got, b"in time");
    assert_eq!(pair.server_end.await.unwrap(), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_tunnel_asked_for_after_a_goaway_is_refused_unprocessed() {
    let pair = pair(&crate::engine::config(), echo).await;
    let _open = pair.client.open(request()).await.unwrap();
    pair.drain.send(()).unwrap();
    pair.client.wait_for(|status| !status.accepting).await;
    let error = pair.client.open(request()).await.unwrap_err();
    assert!(error.is_unprocessed(), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn a_server_announces_its_drain_before_it_names_the_last_stream() {
    let mut served = served(&crate::engine::config(), echo).await;
    let tunnel = served.peer.connect("10.0.0.1:80").await;
    served.peer.expect_headers(tunnel).await;
    served.drain.send(()).unwrap();
    let first = served.peer.expect_goaway(Reason::NO_ERROR).await;
    assert_eq!(first.last_stream(), 0x7fff_ffff);
    let last = served.peer.expect_goaway(Reason::NO_ERROR).await;
    assert_eq!(last.last_stream(), tunnel);
    served.peer.end(tunnel).await;
    served.peer.read_to_end(tunnel).await;
    assert_eq!(served.peer.closed().await, End::Eof);
    assert_eq!(served.end.await.unwrap(), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_draining_client_keeps_its_tunnels_until_the_deadline_and_no_longer() {
    let mut config = crate::engine::config();
    config.set_drain_timeout(DEADLINE);
    let (events, config) = Events::of(&config);
    let pair = pair(&config, echo).await;
    let mut stream = pair.client.open(request()).await.unwrap();
    let start = Instant::now();
    pair.client.drain();
    settle().await;
    assert!(!pair.client.status().accepting);
    let refused = pair.client.open(request()).await.unwrap_err();
    assert!(refused.is_unprocessed(), "{refused:?}");
    while start.elapsed() < DEADLINE - SOON {
        stream.write_all(b"x").await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), b'x');
        sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(pair.client_end.await.unwrap(), Err(Lost::Drained));
    assert!(
        start.elapsed() >= DEADLINE && start.elapsed() <= DEADLINE + SOON,
        "{:?}",
        start.elapsed()
    );
    let error = stream.read_chunk().await.unwrap_err();
    assert_eq!(error, TunnelError::ConnectionLost(Lost::Drained));
    assert_eq!(events.count(|event| matches!(event, Event::DrainStarted { .. })), 1);
}

#[tokio::test(start_paused = true)]
async fn a_draining_client_resets_what_is_left() {
    let mut config = crate::engine::config();
    config.set_drain_timeout(Duration::from_millis(10));
    let mut dialled = dialled(&config).await;
    let client = dialled.client.clone();
    let (_stream, tunnel) = tokio::join!(client.open(request()), dialled.accept());
    dialled.client.drain();
    dialled.peer.expect_rst(tunnel, Reason::CANCEL).await;
    assert_eq!(dialled.peer.closed().await, End::Eof);
}

#[tokio::test(start_paused = true)]
async fn a_client_without_handles_ends_with_its_last_tunnel() {
    let pair = pair(&crate::engine::config(), echo).await;
    let mut stream = pair.client.open(request()).await.unwrap();
    drop(pair.client);
    sleep(Duration::from_secs(60)).await;
    stream.write_all(b"still here").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut got = Vec::new();
    stream.read_to_end(&mut got).await.unwrap();
    assert_eq!(got, b"still here");
    assert_eq!(pair.client_end.await.unwrap(), Ok(()));
    assert_eq!(pair.server_end.await.unwrap(), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_client_leaves_a_server_that_has_gone_away() {
    let mut dialled = dialled(&crate::engine::config()).await;
    let client = dialled.client.clone();
    let (stream, tunnel) = tokio::join!(client.open(request()), dialled.accept());
    let mut stream = stream.unwrap();
    dialled
        .peer
        .send(mesh_testkit::frames::Frame::goaway(tunnel, Reason::NO_ERROR, b""))
        .await;
    client.wait_for(|status| !status.accepting).await;
    dialled.peer.send_data(tunnel, "the rest").await;
    dialled.peer.end(tunnel).await;
    dialled.peer.ping().await;
    assert_eq!(stream.read_chunk().await.unwrap().unwrap(), "the rest");
    assert_eq!(stream.read_chunk().await, Ok(None));
    stream.finish().await.unwrap();
    // The server waits for the client to close, and the client's handle is still there.
    let start = Instant::now();
    assert_eq!(dialled.peer.closed().await, End::Eof);
    assert!(start.elapsed() <= SOON, "{:?}", start.elapsed());
    assert_eq!(dialled.end.await.unwrap(), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_drain_ends_on_time_though_its_peer_is_gone() {
    let mut config = crate::engine::config();
    config.set_drain_timeout(DEADLINE);
    let (pair, control) = piped(pipe::Builder::new(), &config, echo).await;
    let stream = pair.client.open(request()).await.unwrap();
    for direction in Direction::BOTH {
        control.blackhole(direction);
    }
    let start = Instant::now();
    pair.drain.send(()).unwrap();
    pair.server_end.await.unwrap().unwrap_err();
    assert!(start.elapsed() <= DEADLINE + SOON, "{:?}", start.elapsed());
    drop(stream);
}

#[tokio::test(start_paused = true)]
async fn a_drain_waits_for_a_client_that_says_nothing_until_its_deadline() {
    let (near, far) = pipe::pair();
    let mut tasks = tokio::task::JoinSet::new();
    let (drain, end) = crate::pair::serve(&mut tasks, far, &crate::engine::config(), echo);
    settle().await;
    let start = Instant::now();
    drain.send(()).unwrap();
    end.await.unwrap().unwrap();
    assert!(start.elapsed() <= DEADLINE + SOON, "{:?}", start.elapsed());
    drop(near);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_no_handler_takes_in_time_is_answered_with_a_timeout() {
    let mut config = crate::engine::config();
    config.set_response_timeout(Duration::from_secs(3));
    let mut served = served(&config, |tunnel: IncomingTunnel| async move {
        let _tunnel = tunnel;
        std::future::pending::<()>().await;
    })
    .await;
    let start = Instant::now();
    let tunnel = served.peer.connect("10.0.0.1:80").await;
    assert_eq!(served.peer.expect_headers(tunnel).await.fields.status(), 503);
    assert!(
        start.elapsed() <= Duration::from_secs(3) + SOON,
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_not_answered_in_time_is_given_up() {
    let mut config = crate::engine::config();
    config.set_response_timeout(Duration::from_secs(3));
    let mut dialled = dialled(&config).await;
    let client = dialled.client.clone();
    let opening = background(async move { client.open(request()).await.map(drop) });
    let asked = dialled.peer.accept().await;
    let start = Instant::now();
    assert_eq!(opening.await.unwrap(), Err(OpenError::Timeout));
    assert!(
        start.elapsed() <= Duration::from_secs(3) + SOON,
        "{:?}",
        start.elapsed()
    );
    dialled.peer.expect_rst(asked.stream, Reason::CANCEL).await;
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_drops_its_tunnel_unanswered_resets_it() {
    let pair = pair(&crate::engine::config(), |tunnel: IncomingTunnel| async move {
        drop(tunnel);
    })
    .await;
    let error = pair.client.open(request()).await.unwrap_err();
    let OpenError::Failed {
        error: TunnelError::Reset(reset),
        unprocessed: false,
    } = error
    else {
        panic!("{error:?}")
    };
    assert_eq!(reset.reason(), ResetReason::Internal);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_connection_fails_its_tunnels_as_lost() {
    let (near, far) = pipe::pair();
    let config = crate::engine::config();
    let mut tasks = tokio::task::JoinSet::new();
    let (_drain, _end) = crate::pair::serve(&mut tasks, far, &config, |tunnel: IncomingTunnel| async move {
        let mut stream = tunnel.accept(TunnelResponse::new());
        stream.write_all(b"before").await.unwrap();
        std::future::pending::<()>().await;
    });
    let (client, connection) = hbone::client::handshake(near, hbone::Peer::unknown(), &config)
        .await
        .unwrap();
    let connection = background(connection);
    let mut stream = client.open(request()).await.unwrap();
    settle().await;
    connection.abort();
    connection.await.unwrap_err();
    // What had arrived is still there, and then the truth.
    assert_eq!(stream.read_chunk().await.unwrap().unwrap(), "before");
    assert_eq!(
        stream.read_chunk().await,
        Err(TunnelError::ConnectionLost(Lost::Dropped))
    );
    assert!(client.open(request()).await.unwrap_err().is_unprocessed());
    assert_eq!(client.status().tunnels, 0);
}

#[tokio::test(start_paused = true)]
async fn frames_after_the_drain_of_an_unread_connection_are_not_waited_for() {
    let mut served = served(&crate::engine::config(), echo).await;
    served.peer.stop_reading();
    served.drain.send(()).unwrap();
    let start = Instant::now();
    served.end.await.unwrap().ok();
    assert!(
        start.elapsed() <= DEADLINE + Duration::from_secs(1) + SOON,
        "{:?}",
        start.elapsed()
    );
    served.peer.resume_reading();
    served
        .peer
        .expect_frame("GOAWAY", |frame| frame.kind == Kind::GOAWAY)
        .await;
}
