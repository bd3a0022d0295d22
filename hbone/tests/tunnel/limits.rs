//! How many tunnels there may be, and what becomes of those beyond.

use std::time::Duration;

use hbone::server::{self, HandshakeError};
use hbone::{Event, IncomingTunnel, Lost, OpenError, Peer, TunnelError, TunnelResponse};
use mesh_testkit::frames::{Frame, Kind, Reason, setting};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

use crate::events::{Events, Tally};
use crate::pair::{background, echo, pair, request, send_all, settle, stall};
use crate::raw::{dialled, dialled_as, served};

#[tokio::test(start_paused = true)]
async fn a_server_refuses_what_is_beyond_its_limit_and_serves_the_rest() {
    let mut served = served(&crate::engine::config(), stall).await;
    assert_eq!(served.peer.peer_setting(setting::MAX_CONCURRENT_STREAMS), Some(200));
    let mut open = Vec::new();
    for _ in 0..200 {
        open.push(served.peer.connect("10.0.0.1:80").await);
    }
    for stream in &open {
        assert_eq!(served.peer.expect_headers(*stream).await.fields.status(), 200);
    }
    for _ in 0..300 {
        let beyond = served.peer.connect("10.0.0.1:80").await;
        served.peer.expect_rst(beyond, Reason::REFUSED_STREAM).await;
    }
    served.peer.reset(open[0], Reason::CANCEL).await;
    served.peer.ping().await;
    settle().await;
    // The handler of the tunnel that is gone ignores that, and has two seconds to notice.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let next = served.peer.connect("10.0.0.1:80").await;
    assert_eq!(served.peer.expect_headers(next).await.fields.status(), 200);
}

#[tokio::test(start_paused = true)]
async fn there_are_never_more_handlers_than_tunnels_may_be_open() {
    let mut config = crate::engine::config();
    config.set_max_tunnels(10);
    let tally = Tally::default();
    let mut served = served(&config, {
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
    // Answered, and then reset: no premature reset, but a handler that lingers each.
    for _ in 0..200 {
        let stream = served.peer.connect("10.0.0.1:80").await;
        settle().await;
        served.peer.send_data(stream, vec![0; 1_000]).await;
        served.peer.reset(stream, Reason::CANCEL).await;
    }
    assert!(tally.most() <= 10, "{} handlers at a time", tally.most());
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(tally.alive(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_client_follows_a_limit_that_shrinks_and_grows() {
    let mut dialled = dialled(&crate::engine::config()).await;
    let client = dialled.client.clone();
    let mut streams = Vec::new();
    for _ in 0..5 {
        let (stream, id) = tokio::join!(client.open(request()), dialled.accept());
        streams.push((stream.unwrap(), id));
    }
    dialled
        .peer
        .send(Frame::settings(&[(setting::MAX_CONCURRENT_STREAMS, 1)]))
        .await;
    client.wait_for(|status| status.limit == 1).await;
    let waiting: Vec<_> = (0..3)
        .map(|_| {
            let client = client.clone();
            background(async move { client.open(request()).await })
        })
        .collect();
    // The five that are open work, and no sixth appears while any of them is.
    for (mut stream, id) in streams {
        dialled.peer.expect_quiet(Duration::from_millis(100)).await;
        stream.write_all(b"x").await.unwrap();
        assert_eq!(dialled.peer.expect_data(id).await.body(), "x");
        stream.shutdown().await.unwrap();
        dialled.peer.end(id).await;
        assert!(dialled.peer.read_to_end(id).await.is_empty());
        assert_eq!(stream.read_chunk().await, Ok(None));
    }
    for opening in waiting {
        let id = dialled.accept().await;
        dialled.peer.expect_quiet(Duration::from_millis(100)).await;
        let mut stream = opening.await.unwrap().unwrap();
        stream.shutdown().await.unwrap();
        dialled.peer.end(id).await;
        dialled.peer.read_to_end(id).await;
        assert_eq!(stream.read_chunk().await, Ok(None));
    }
    dialled
        .peer
        .send(Frame::settings(&[(setting::MAX_CONCURRENT_STREAMS, 50)]))
        .await;
    client.wait_for(|status| status.limit == 50).await;
    dialled
        .peer
        .send(Frame::settings(&[(setting::MAX_CONCURRENT_STREAMS, 10_000)]))
        .await;
    assert_eq!(client.wait_for(|status| status.limit > 50).await.limit, 200);
}

#[tokio::test(start_paused = true)]
async fn the_limit_is_known_before_the_first_tunnel() {
    let pipe = mesh_testkit::pipe::Builder::new().capacity(10);
    let announce = |peer: mesh_testkit::peer::RawServer<_>| peer.with_settings(&[(setting::MAX_CONCURRENT_STREAMS, 3)]);
    let dialled = dialled_as(pipe, announce, &crate::engine::config()).await;
    let status = dialled.client.wait_for(|status| status.accepting).await;
    assert_eq!(status.limit, 3);
}

#[tokio::test(start_paused = true)]
async fn a_tunnel_waits_for_the_reset_of_the_one_whose_place_it_takes() {
    let mut dialled = dialled(&crate::engine::config()).await;
    let client = dialled.client.clone();
    dialled
        .peer
        .send(Frame::settings(&[(setting::MAX_CONCURRENT_STREAMS, 1)]))
        .await;
    client.wait_for(|status| status.limit == 1).await;
    let (first, id) = tokio::join!(client.open(request()), dialled.accept());
    let second = background(async move { client.open(request()).await.map(drop) });
    settle().await;
    drop(first);
    let next = dialled
        .peer
        .expect_frame("next", |frame| frame.kind != Kind::WINDOW_UPDATE)
        .await
        .frame;
    assert_eq!((next.kind, next.stream), (Kind::RST_STREAM, id));
    dialled.accept().await;
    second.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn whoever_gives_up_waiting_makes_room_for_others() {
    let mut config = crate::engine::config();
    config
        .set_max_tunnels(3)
        .set_response_timeout(Duration::from_secs(3_600));
    let mut dialled = dialled(&config).await;
    let client = dialled.client.clone();
    dialled
        .peer
        .send(Frame::settings(&[(setting::MAX_CONCURRENT_STREAMS, 0)]))
        .await;
    client.wait_for(|status| status.limit == 0).await;
    for _ in 0..20 {
        let patient = tokio::time::timeout(Duration::from_secs(1), client.open(request()));
        patient
            .await
            .expect_err("there is room to wait, and nothing comes of it");
    }
    settle().await;
    assert_eq!(client.status().tunnels, 0);
}

#[tokio::test(start_paused = true)]
async fn more_than_may_wait_are_refused_unprocessed() {
    let mut config = crate::engine::config();
    config.set_max_tunnels(3);
    let mut dialled = dialled(&config).await;
    let client = dialled.client.clone();
    dialled
        .peer
        .send(Frame::settings(&[(setting::MAX_CONCURRENT_STREAMS, 0)]))
        .await;
    client.wait_for(|status| status.limit == 0).await;
    let mut waiting = JoinSet::new();
    for _ in 0..3 {
        let client = client.clone();
        waiting.spawn(async move { client.open(request()).await.map(drop) });
    }
    settle().await;
    let error = client.open(request()).await.unwrap_err();
    assert!(error.is_unprocessed());
    assert!(waiting.try_join_next().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_refused_stream_was_not_processed() {
    let mut dialled = dialled(&crate::engine::config()).await;
    let client = dialled.client.clone();
    let opening = background(async move { client.open(request()).await.map(drop) });
    let asked = dialled.peer.accept().await;
    dialled.peer.reset(asked.stream, Reason::REFUSED_STREAM).await;
    dialled.peer.ping().await;
    assert!(opening.await.unwrap().unwrap_err().is_unprocessed());
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_was_reset_otherwise_may_have_been_processed() {
    for reason in [
        Reason::NO_ERROR,
        Reason::PROTOCOL_ERROR,
        Reason::INTERNAL_ERROR,
        Reason::CANCEL,
        Reason::CONNECT_ERROR,
        Reason::ENHANCE_YOUR_CALM,
        Reason(0xbeef),
    ] {
        let mut dialled = dialled(&crate::engine::config()).await;
        let client = dialled.client.clone();
        let opening = background(async move { client.open(request()).await.map(drop) });
        let asked = dialled.peer.accept().await;
        dialled.peer.reset(asked.stream, reason).await;
        dialled.peer.ping().await;
        let error = opening.await.unwrap().unwrap_err();
        let OpenError::Failed {
            error: TunnelError::Reset(reset),
            unprocessed: false,
        } = error
        else {
            panic!("{reason:?}: {error:?}")
        };
        assert_eq!(u32::from(reset.code()), reason.0);
    }
}

#[tokio::test(start_paused = true)]
async fn only_streams_above_the_last_of_a_goaway_were_not_processed() {
    for reason in [Reason::NO_ERROR, Reason::INTERNAL_ERROR] {
        let mut dialled = dialled(&crate::engine::config()).await;
        let client = dialled.client.clone();
        let openings: Vec<_> = (0..3)
            .map(|_| {
                let client = client.clone();
                background(async move { client.open(request()).await.map(drop) })
            })
            .collect();
        let mut asked = Vec::new();
        for _ in 0..3 {
            asked.push(dialled.peer.accept().await.stream);
        }
        dialled.peer.send(Frame::goaway(asked[1], reason, b"")).await;
        settle().await;
        dialled.control.cut(mesh_testkit::pipe::Cut::Eof);
        let mut unprocessed = Vec::new();
        for opening in openings {
            unprocessed.push(opening.await.unwrap().unwrap_err().is_unprocessed());
        }
        assert_eq!(unprocessed, [false, false, true], "{reason:?}");
        assert!(dialled.end.await.unwrap().is_err());
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_connection_may_have_processed_what_was_sent_and_nothing_else() {
    let mut dialled = dialled(&crate::engine::config()).await;
    let client = dialled.client.clone();
    let sent = background({
        let client = client.clone();
        async move { client.open(request()).await.map(drop) }
    });
    dialled.peer.accept().await;
    dialled.control.cut(mesh_testkit::pipe::Cut::Reset);
    assert!(!sent.await.unwrap().unwrap_err().is_unprocessed());
    dialled.end.await.unwrap().unwrap_err();
    assert!(client.open(request()).await.unwrap_err().is_unprocessed());
}

#[tokio::test(start_paused = true)]
async fn any_success_opens_a_tunnel_and_any_other_status_is_a_refusal() {
    for status in [200, 201, 204, 299] {
        let mut dialled = dialled(&crate::engine::config()).await;
        let client = dialled.client.clone();
        let opening = background(async move { client.open(request()).await });
        let asked = dialled.peer.accept().await;
        dialled.peer.respond(asked.stream, status).await;
        opening.await.unwrap().unwrap();
    }
    for status in [300, 400, 401, 403, 404, 429, 500, 503, 504, 599] {
        let mut dialled = dialled(&crate::engine::config()).await;
        let client = dialled.client.clone();
        let opening = background(async move { client.open(request()).await.map(drop) });
        let asked = dialled.peer.accept().await;
        dialled.peer.respond(asked.stream, status).await;
        dialled.peer.ping().await;
        let error = opening.await.unwrap().unwrap_err();
        let OpenError::Refused(refusal) = error else {
            panic!("{error:?}")
        };
        assert_eq!(refusal.status().as_u16(), status);
    }
}

#[tokio::test(start_paused = true)]
async fn a_panicking_handler_ends_its_tunnel_alone() {
    let (events, config) = Events::of(&crate::engine::config());
    let pair = pair(&config, |tunnel: IncomingTunnel| async move {
        match tunnel.request().authority().port() {
            1 => panic!("before the answer"),
            2 => {
                let mut stream = tunnel.accept(TunnelResponse::new());
                stream.read_chunk().await.unwrap();
                panic!("after the answer");
            }
            _ => echo(tunnel).await,
        }
    })
    .await;
    let mut neighbour = pair.client.open(request()).await.unwrap();
    let to = |port: u16| hbone::TunnelRequest::new(format!("10.0.0.1:{port}").parse().unwrap());
    let error = pair.client.open(to(1)).await.unwrap_err();
    assert!(!error.is_unprocessed());
    let mut broken = pair.client.open(to(2)).await.unwrap();
    broken.write_all(b"x").await.unwrap();
    let TunnelError::Reset(reset) = broken.read_chunk().await.unwrap_err() else {
        panic!()
    };
    assert_eq!(reset.code(), hbone::ErrorCode::INTERNAL_ERROR);
    send_all(&mut neighbour, b"unharmed").await;
    let mut got = Vec::new();
    neighbour.read_to_end(&mut got).await.unwrap();
    assert_eq!(got, b"unharmed");
    settle().await;
    assert_eq!(events.count(|event| matches!(event, Event::HandlerPanicked)), 2);
}

#[tokio::test(start_paused = true)]
async fn tunnels_are_refused_once_nobody_accepts_any() {
    let (near, far) = mesh_testkit::pipe::pair();
    let config = crate::engine::config();
    let (server, client) = tokio::join!(
        server::handshake(far, Peer::unknown(), &config),
        hbone::client::handshake(near, Peer::unknown(), &config)
    );
    let ((incoming, served), (client, connection)) = (server.unwrap(), client.unwrap());
    let _driven = [
        background(async { served.await.err() }),
        background(async { connection.await.err() }),
    ];
    drop(incoming);
    assert!(client.open(request()).await.unwrap_err().is_unprocessed());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_speaks_no_http2_is_a_failed_handshake() {
    let (near, far) = tokio::io::duplex(1_024);
    drop(near);
    let made = server::handshake(far, Peer::unknown(), &crate::engine::config()).await;
    assert!(matches!(made, Err(HandshakeError::Lost(Lost::Io(_)))), "{made:?}");
}
