//! Places on connections: as many as the peer allows, and each used again.

use std::time::Duration;

use futures_util::future::join_all;
use hbone::PoolConfig;
use mesh_testkit::frames::{Frame, setting};
use mesh_testkit::peer::RawServer;
use mesh_testkit::pipe::Pipe;
use tokio::time::Instant;

use crate::net::{Fate, Net, Script, limited, open, request, until, use_up};

#[tokio::test(start_paused = true)]
async fn a_full_connection_is_used_again_when_a_tunnel_ends() {
    let mut config = PoolConfig::default();
    config.set_max_connections_per_key(1);
    let (net, pool) = Net::of_one(2, &config);
    let (first, second) = (open(&pool).await, open(&pool).await);
    let third = async {
        use_up(open(&pool).await).await;
    };
    let end_first = async {
        until(&pool, |stats| stats.waiting == 1).await;
        use_up(first).await;
    };
    tokio::join!(third, end_first);
    use_up(second).await;
    for _ in 0..100 {
        use_up(open(&pool).await).await;
    }
    assert_eq!(net.dials(1), 1);
    until(&pool, |stats| stats.tunnels == 0).await;
}

#[tokio::test(start_paused = true)]
async fn a_reset_tunnel_frees_its_place() {
    let mut config = PoolConfig::default();
    config.set_max_connections_per_key(1);
    let (net, pool) = Net::of_one(1, &config);
    for _ in 0..20 {
        drop(open(&pool).await);
    }
    assert_eq!(net.dials(1), 1);
}

#[tokio::test(start_paused = true)]
async fn waiters_get_places_in_their_order() {
    let mut config = PoolConfig::default();
    config.set_max_connections_per_key(1);
    let (_net, pool) = Net::of_one(1, &config);
    let order = std::sync::Mutex::new(Vec::new());
    join_all((0..20).map(async |n| {
        let tunnel = open(&pool).await;
        order.lock().unwrap().push(n);
        use_up(tunnel).await;
    }))
    .await;
    assert_eq!(*order.lock().unwrap(), (0..20).collect::<Vec<_>>());
}

/// Allows 100 tunnels on the first connection, and after ten of them only one. Answers each, and
/// ends each that is ended.
fn lowers_its_limit(mut server: RawServer<Pipe>, nth: usize) -> Script {
    Box::pin(async move {
        server = server.with_settings(&[(setting::MAX_CONCURRENT_STREAMS, if nth == 1 { 100 } else { 1 })]);
        server.handshake().await;
        for n in 0.. {
            let stream = server.accept().await.stream;
            server.respond(stream, 200).await;
            if n == 9 {
                server
                    .send(Frame::settings(&[(setting::MAX_CONCURRENT_STREAMS, 1)]))
                    .await;
            }
        }
    })
}

#[tokio::test(start_paused = true)]
async fn a_lowered_limit_is_kept_without_a_stall() {
    let (net, pool) = Net::of_one(1, &PoolConfig::default());
    net.set(1, Fate::Script(lowers_its_limit));
    let start = Instant::now();
    let mut tunnels = Vec::new();
    for _ in 0..30 {
        tunnels.push(open(&pool).await);
    }
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    // Ten, or as many more as were under way, on the first connection; one on each other.
    assert!(net.dials(1) >= 19, "{}", net.dials(1));
    assert_eq!(pool.stats().tunnels, 30);
}

#[tokio::test(start_paused = true)]
async fn requests_under_way_when_the_limit_falls_go_elsewhere() {
    let (net, pool) = Net::of_one(1, &PoolConfig::default());
    net.set(1, Fate::Script(lowers_its_limit));
    let start = Instant::now();
    let tunnels = join_all((0..50).map(|_| open(&pool))).await;
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    assert_eq!(pool.stats().tunnels, tunnels.len());
}

/// Allows no tunnel for a second, and then two.
fn opens_late(mut server: RawServer<Pipe>, _: usize) -> Script {
    Box::pin(async move {
        server = server.with_settings(&[(setting::MAX_CONCURRENT_STREAMS, 0)]);
        server.handshake().await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        server
            .send(Frame::settings(&[(setting::MAX_CONCURRENT_STREAMS, 2)]))
            .await;
        loop {
            let stream = server.accept().await.stream;
            server.respond(stream, 200).await;
        }
    })
}

#[tokio::test(start_paused = true)]
async fn a_raised_limit_serves_those_who_wait() {
    let (net, pool) = Net::of_one(1, &PoolConfig::default());
    net.set(1, Fate::Script(opens_late));
    let start = Instant::now();
    let _tunnels = join_all((0..2).map(|_| open(&pool))).await;
    assert!(start.elapsed() < Duration::from_millis(1_100));
    assert_eq!(net.dials(1), 1, "another connection would have had no place either");
}

#[tokio::test(start_paused = true)]
async fn tunnels_go_to_the_least_loaded_connection() {
    let (net, pool) = Net::of_one(2, &PoolConfig::default());
    let mut tunnels = join_all((0..6).map(|_| open(&pool))).await;
    assert_eq!(net.dials(1), 3);
    let last = tunnels.pop().unwrap();
    join_all(tunnels.into_iter().map(use_up)).await;
    // The last is on a connection of its own, and two others are empty.
    net.set(1, Fate::Fail);
    let _two = join_all((0..2).map(|_| open(&pool))).await;
    let _rest = join_all((0..3).map(|_| open(&pool))).await;
    use_up(last).await;
    assert_eq!(net.dials(1), 3);
}

#[tokio::test(start_paused = true)]
async fn at_its_bound_the_pool_gives_up_the_connection_idle_for_longest() {
    let mut config = PoolConfig::default();
    config.set_max_connections(3);
    let (net, pool) = Net::of_one(9, &config);
    for key in 1..=3 {
        net.set(key, Fate::Serve(limited(9)));
        use_up(pool.open(&key, request()).await.unwrap()).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    // Key 1 is used once more, so key 2 is the one that was idle for the longest time.
    use_up(open(&pool).await).await;
    net.set(4, Fate::Serve(limited(9)));
    use_up(pool.open(&4, request()).await.unwrap()).await;
    assert_eq!((pool.stats().connections, pool.stats().evicted_for_room), (3, 1));
    for key in [1, 3, 4] {
        use_up(pool.open(&key, request()).await.unwrap()).await;
        assert_eq!(net.dials(key), 1);
    }
    assert!(net.ends().iter().all(Result::is_ok), "{:?}", net.ends());
}

#[tokio::test(start_paused = true)]
async fn at_its_bound_a_key_waits_until_another_lets_go() {
    let mut config = PoolConfig::default();
    config.set_max_connections(1);
    let (net, pool) = Net::of_one(9, &config);
    net.set(2, Fate::Serve(limited(9)));
    let tunnel = open(&pool).await;
    let other = async { pool.open(&2, request()).await.unwrap() };
    let let_go = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        use_up(tunnel).await;
    };
    let (other, ()) = tokio::join!(other, let_go);
    use_up(other).await;
    assert_eq!((net.dials(1), net.dials(2)), (1, 1));
}
