//! Tunnels that the peer did not process are opened elsewhere, and no others.

use std::time::Duration;

use futures_util::future::join_all;
use hbone::{OpenError, PoolConfig, PoolError};
use mesh_testkit::frames::{Frame, Reason, setting};
use mesh_testkit::peer::RawServer;
use mesh_testkit::pipe::{Cut, Direction, Pipe};

use crate::net::{Fate, Net, Script, open, request, until, use_up};

/// Refuses every tunnel of the first connection, and takes those of the others.
fn refuses_on_the_first(mut server: RawServer<Pipe>, nth: usize) -> Script {
    Box::pin(async move {
        server.handshake().await;
        loop {
            let stream = server.accept().await.stream;
            if nth == 1 {
                server.reset(stream, Reason::REFUSED_STREAM).await;
            } else {
                server.respond(stream, 200).await;
            }
        }
    })
}

#[tokio::test(start_paused = true)]
async fn refused_tunnels_are_opened_elsewhere() {
    let (net, pool) = Net::of_one(1, &PoolConfig::default());
    net.set(1, Fate::Script(refuses_on_the_first));
    let tunnels = join_all((0..100).map(|_| open(&pool))).await;
    assert_eq!((pool.stats().retries, net.dials(1)), (100, 2));
    drop(tunnels);
    until(&pool, |stats| stats.tunnels == 0).await;
}

/// Takes one tunnel of the first connection, and no more than one after that.
fn goes_away_after_one(mut server: RawServer<Pipe>, nth: usize) -> Script {
    Box::pin(async move {
        server.handshake().await;
        let first = server.accept().await.stream;
        server.respond(first, 200).await;
        if nth == 1 {
            server.accept().await;
            server.send(Frame::goaway(first, Reason::NO_ERROR, b"")).await;
        }
        loop {
            let stream = server.accept().await.stream;
            if nth != 1 {
                server.respond(stream, 200).await;
            }
        }
    })
}

#[tokio::test(start_paused = true)]
async fn tunnels_above_a_goaway_are_opened_elsewhere() {
    let (net, pool) = Net::of_one(1, &PoolConfig::default());
    net.set(1, Fate::Script(goes_away_after_one));
    let tunnels = join_all((0..50).map(|_| open(&pool))).await;
    assert_eq!(net.dials(1), 2);
    assert_eq!(pool.stats().retries, 49);
    assert_eq!(pool.stats().connections, 2, "the first tunnel goes on");
    drop(tunnels);
    until(&pool, |stats| stats.connections == 1).await;
}

/// Allows ten tunnels; says nothing to those of the first connection, and then goes away.
fn goes_away_when_full(mut server: RawServer<Pipe>, nth: usize) -> Script {
    Box::pin(async move {
        server = server.with_settings(&[(setting::MAX_CONCURRENT_STREAMS, 10)]);
        server.handshake().await;
        for n in 1.. {
            let stream = server.accept().await.stream;
            if nth != 1 {
                server.respond(stream, 200).await;
                server.end(stream).await;
            } else if n == 10 {
                server.send(Frame::goaway(0, Reason::NO_ERROR, b"")).await;
            }
        }
    })
}

#[tokio::test(start_paused = true)]
async fn nobody_is_sent_to_a_connection_that_goes_away() {
    let mut config = PoolConfig::default();
    config.set_max_connections_per_key(1);
    let (net, pool) = Net::of_one(1, &config);
    net.set(1, Fate::Script(goes_away_when_full));
    join_all((0..40).map(async |_| drop(open(&pool).await))).await;
    assert_eq!((net.dials(1), pool.stats().retries), (2, 10));
}

/// Allows ten tunnels, and says nothing to those of the first connection.
fn is_silent_at_first(mut server: RawServer<Pipe>, nth: usize) -> Script {
    Box::pin(async move {
        server = server.with_settings(&[(setting::MAX_CONCURRENT_STREAMS, 10)]);
        server.handshake().await;
        loop {
            let stream = server.accept().await.stream;
            if nth != 1 {
                server.respond(stream, 200).await;
            }
        }
    })
}

#[tokio::test(start_paused = true)]
async fn nobody_is_sent_to_a_connection_that_is_lost() {
    for cut in [Cut::Reset, Cut::Eof] {
        let mut config = PoolConfig::default();
        config.set_max_connections_per_key(1);
        let (net, pool) = Net::of_one(1, &config);
        net.set(1, Fate::Script(is_silent_at_first));
        let calls = join_all((0..20).map(|_| pool.open(&1, request())));
        let cut = async {
            until(&pool, |stats| (stats.tunnels, stats.waiting) == (10, 10)).await;
            net.control(0).cut(cut);
        };
        let (results, ()) = tokio::join!(calls, cut);
        let dead = |error: &PoolError<_>| matches!(error, PoolError::Open(_)) && !error.is_unprocessed();
        let failed = results.iter().filter(|result| result.as_ref().is_err_and(dead));
        assert_eq!(failed.count(), 10, "only those whose requests were out");
        assert_eq!(pool.stats().retries, 0);
    }
}

/// Refuses everything everywhere.
fn refuses_always(mut server: RawServer<Pipe>, _: usize) -> Script {
    Box::pin(async move {
        server.handshake().await;
        loop {
            let stream = server.accept().await.stream;
            server.reset(stream, Reason::REFUSED_STREAM).await;
        }
    })
}

#[tokio::test(start_paused = true)]
async fn tries_are_bounded() {
    let (net, pool) = Net::of_one(1, &PoolConfig::default());
    net.set(1, Fate::Script(refuses_always));
    let error = pool.open(&1, request()).await.unwrap_err();
    assert!(error.is_unprocessed());
    assert!(matches!(error, PoolError::Open(OpenError::Failed { .. })));
    assert_eq!((pool.stats().retries, net.dials(1)), (2, 3));
}

#[tokio::test(start_paused = true)]
async fn with_one_connection_at_most_a_refused_tunnel_is_tried_there_again() {
    fn refuses_once(mut server: RawServer<Pipe>, _: usize) -> Script {
        Box::pin(async move {
            server.handshake().await;
            let first = server.accept().await.stream;
            server.reset(first, Reason::REFUSED_STREAM).await;
            let second = server.accept().await.stream;
            server.respond(second, 200).await;
            server.closed().await;
        })
    }
    let mut config = PoolConfig::default();
    config.set_max_connections_per_key(1);
    let (net, pool) = Net::of_one(1, &config);
    net.set(1, Fate::Script(refuses_once));
    let _tunnel = open(&pool).await;
    assert_eq!(net.dials(1), 1);
}

/// Answers each request with 503.
fn is_unavailable(mut server: RawServer<Pipe>, _: usize) -> Script {
    Box::pin(async move {
        server.handshake().await;
        loop {
            let stream = server.accept().await.stream;
            server.respond(stream, 503).await;
        }
    })
}

/// Resets each request as if it had been processed.
fn gives_up(mut server: RawServer<Pipe>, _: usize) -> Script {
    Box::pin(async move {
        server.handshake().await;
        loop {
            let stream = server.accept().await.stream;
            server.reset(stream, Reason::INTERNAL_ERROR).await;
        }
    })
}

#[tokio::test(start_paused = true)]
async fn what_may_have_been_processed_is_never_tried_again() {
    let (net, pool) = Net::of_one(1, &PoolConfig::default());
    for (key, script) in [(1, is_unavailable as fn(_, _) -> _), (2, gives_up)] {
        net.set(key, Fate::Script(script));
        let error = pool.open(&key, request()).await.unwrap_err();
        assert!(
            matches!(error, PoolError::Open(_)) && !error.is_unprocessed(),
            "{error:?}"
        );
        assert_eq!(net.dials(key), 1);
    }
    assert_eq!(pool.stats().retries, 0);
}

/// Ends each connection right after its handshake.
fn leaves_at_once(mut server: RawServer<Pipe>, _: usize) -> Script {
    Box::pin(async move {
        server.handshake().await;
        server.send(Frame::goaway(0, Reason::NO_ERROR, b"")).await;
        server.closed().await;
    })
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_never_takes_a_tunnel_is_not_dialled_in_a_loop() {
    let (net, pool) = Net::of_one(1, &PoolConfig::default());
    net.set(1, Fate::Script(leaves_at_once));
    let results = join_all((0..100).map(|_| pool.open(&1, request()))).await;
    assert!(results.iter().all(Result::is_err));
    assert!(net.dials(1) <= 3, "{} dials", net.dials(1));
    assert_eq!(pool.stats().waiting, 0);
}

#[tokio::test(start_paused = true)]
async fn a_connection_in_a_black_hole_is_replaced() {
    let (net, pool) = Net::of_one(100, &PoolConfig::default());
    let tunnel = open(&pool).await;
    for direction in Direction::BOTH {
        net.control(0).blackhole(direction);
    }
    tokio::time::sleep(Duration::from_secs(20)).await;
    until(&pool, |stats| stats.connections == 0).await;
    assert_eq!(pool.stats().lost, 1);
    drop(tunnel);
    use_up(open(&pool).await).await;
    assert_eq!(net.dials(1), 2);
}

#[tokio::test(start_paused = true)]
async fn nobody_is_sent_to_a_connection_that_is_given_up() {
    let mut config = PoolConfig::default();
    config
        .set_max_connections_per_key(1)
        .set_acquire_timeout(Duration::from_secs(60));
    let (net, pool) = Net::of_one(10, &config);
    let tunnels = join_all((0..10).map(|_| open(&pool))).await;
    for direction in Direction::BOTH {
        net.control(0).blackhole(direction);
    }
    join_all((0..30).map(async |_| use_up(open(&pool).await).await)).await;
    assert_eq!((net.dials(1), pool.stats().retries), (2, 0));
    drop(tunnels);
}
