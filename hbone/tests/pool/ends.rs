//! How connections, calls and the pool itself end.

use std::time::Duration;

use futures_util::future::join_all;
use hbone::{Lost, PoolConfig, PoolError, TunnelError};
use mesh_testkit::poll::{Run, cancel_at_every_await};
use tokio::time::Instant;

use crate::net::{Fate, Net, TestPool, limited, open, request, until, use_up};

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_closed_in_order() {
    let (net, pool) = Net::of_one(100, &PoolConfig::default());
    use_up(open(&pool).await).await;
    tokio::time::sleep(Duration::from_secs(299)).await;
    use_up(open(&pool).await).await;
    assert_eq!(net.dials(1), 1);
    tokio::time::sleep(Duration::from_secs(299)).await;
    assert_eq!(pool.stats().connections, 1);
    tokio::time::sleep(Duration::from_secs(2)).await;
    until(&pool, |stats| stats.connections == 0).await;
    assert_eq!((pool.stats().evicted_idle, pool.stats().keys), (1, 0));
    assert_eq!(net.ends(), [Ok(())]);
}

#[tokio::test(start_paused = true)]
async fn an_open_tunnel_keeps_its_connection() {
    let (_net, pool) = Net::of_one(100, &PoolConfig::default());
    let tunnel = open(&pool).await;
    tokio::time::sleep(Duration::from_secs(30 * 60)).await;
    use_up(tunnel).await;
    assert_eq!(pool.stats().evicted_idle, 0);
}

#[tokio::test(start_paused = true)]
async fn an_old_connection_takes_no_more_tunnels_and_ends_with_its_last() {
    let mut config = PoolConfig::default();
    config.set_max_age(Some(Duration::from_secs(800)));
    let (net, pool) = Net::of_one(100, &config);
    let old = open(&pool).await;
    tokio::time::sleep(Duration::from_secs(699)).await;
    drop(open(&pool).await);
    assert_eq!(net.dials(1), 1, "it lives for seven eighths of its age at least");
    tokio::time::sleep(Duration::from_secs(102)).await;
    assert_eq!(pool.stats().evicted_aged, 1);
    let new = open(&pool).await;
    assert_eq!((net.dials(1), pool.stats().connections), (2, 2));
    tokio::time::sleep(Duration::from_secs(600)).await;
    use_up(old).await;
    until(&pool, |stats| stats.connections == 1).await;
    use_up(new).await;
    assert_eq!(net.ends(), [Ok(())]);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_call_leaves_nothing() {
    cancel_at_every_await(
        async || Net::of_one(1, &PoolConfig::default()).1,
        async |pool| use_up(open(pool).await).await,
        async |pool, run| {
            until(&pool, |stats| {
                (stats.tunnels, stats.waiting, stats.dialing) == (0, 0, 0)
            })
            .await;
            use_up(open(&pool).await).await;
            until(&pool, |stats| stats.tunnels == 0).await;
            if let Run::Cancelled { polls: 0 } = run {
                assert_eq!(pool.stats().dials, 1);
            }
        },
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_cancelled_while_it_waits_leaves_the_place_to_others() {
    let mut config = PoolConfig::default();
    config.set_max_connections_per_key(1);
    cancel_at_every_await(
        async || {
            let (_, pool) = Net::of_one(1, &config);
            let holder = open(&pool).await;
            (pool, Some(holder))
        },
        async |(pool, holder)| {
            let wait = async { drop(open(pool).await) };
            let let_go = async { drop(holder.take()) };
            tokio::join!(wait, let_go);
        },
        async |(pool, holder), _| {
            drop(holder);
            use_up(open(&pool).await).await;
            until(&pool, |stats| (stats.tunnels, stats.waiting) == (0, 0)).await;
        },
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_dial_goes_on_when_its_first_caller_has_left() {
    let (net, pool) = Net::of_one(100, &PoolConfig::default());
    let first = tokio::time::timeout(Duration::ZERO, pool.open(&1, request()));
    let (first, second) = tokio::join!(first, pool.open(&1, request()));
    assert!(first.is_err() || first.is_ok_and(|tunnel| tunnel.is_ok()));
    use_up(second.unwrap()).await;
    assert_eq!(net.dials(1), 1);
}

#[tokio::test(start_paused = true)]
async fn dropping_the_pool_stops_its_connections() {
    let (net, pool) = Net::of_one(100, &PoolConfig::default());
    let mut tunnel = open(&pool).await;
    let clone = pool.clone();
    drop(pool);
    use_up(open(&clone).await).await;
    drop(clone);
    let error = tunnel.read_chunk().await.unwrap_err();
    assert_eq!(error, TunnelError::ConnectionLost(Lost::Dropped));
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!(net.ends().len(), 1, "the server's side has ended too");
}

#[tokio::test(start_paused = true)]
async fn a_drain_waits_for_tunnels() {
    let (net, pool) = Net::of_one(10, &PoolConfig::default());
    let tunnels = join_all((0..100).map(|_| open(&pool))).await;
    let start = Instant::now();
    let last = async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert!(matches!(pool.open(&1, request()).await, Err(PoolError::Closed)));
        join_all(tunnels.into_iter().map(use_up)).await;
    };
    tokio::join!(pool.drain(Duration::from_secs(60)), last);
    assert!(start.elapsed() < Duration::from_millis(5_100), "{:?}", start.elapsed());
    assert_eq!((pool.stats().connections, pool.stats().keys), (0, 0));
    assert!(net.ends().iter().all(Result::is_ok));
}

#[tokio::test(start_paused = true)]
async fn a_drain_resets_what_is_left_at_its_deadline() {
    let (net, pool) = Net::of_one(10, &PoolConfig::default());
    net.set(2, Fate::Hang);
    let mut tunnel = open(&pool).await;
    let start = Instant::now();
    let waiting = pool.open(&2, request());
    let (waiting, ()) = tokio::join!(waiting, async {
        tokio::time::sleep(Duration::from_millis(1)).await;
        pool.drain(Duration::from_secs(2)).await;
    });
    assert!(matches!(waiting, Err(PoolError::Closed)));
    assert!(start.elapsed() <= Duration::from_millis(2_105), "{:?}", start.elapsed());
    assert_eq!(
        tunnel.read_chunk().await,
        Err(TunnelError::ConnectionLost(Lost::Drained))
    );
}

/// Opens tunnels on five keys; some calls give up early, some drop what they got, some use it.
async fn churn(pool: TestPool, seed: u64) {
    join_all((0..60).map(|n| {
        let (pool, key) = (&pool, 1 + (n % 5) as u16);
        async move {
            let patience = Duration::from_millis((seed * 7 + n * 3) % 11);
            match tokio::time::timeout(patience, pool.open(&key, request())).await {
                Ok(Ok(tunnel)) if n % 3 == 0 => use_up(tunnel).await,
                Ok(Ok(tunnel)) => drop(tunnel),
                Ok(Err(error)) => panic!("{error}"),
                Err(_) => {}
            }
        }
    }))
    .await;
}

fn five_keys() -> TestPool {
    let mut config = PoolConfig::default();
    config.set_max_connections(20).set_spread_above(2);
    let (net, pool) = Net::of_one(7, &config);
    for key in 2..6 {
        net.set(key, Fate::Serve(limited(u32::from(key))));
    }
    pool
}

#[tokio::test(start_paused = true)]
async fn churn_leaves_nothing_behind() {
    let pool = five_keys();
    for round in 0..20 {
        churn(pool.clone(), round).await;
    }
    until(&pool, |stats| {
        (stats.tunnels, stats.waiting, stats.dialing) == (0, 0, 0)
    })
    .await;
    tokio::time::sleep(Duration::from_secs(301)).await;
    until(&pool, |stats| (stats.connections, stats.keys) == (0, 0)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn churn_on_many_threads_leaves_nothing_behind() {
    let pool = five_keys();
    let mut threads = tokio::task::JoinSet::new();
    for thread in 0..8 {
        let pool = pool.clone();
        threads.spawn(async move {
            for round in 0..10 {
                churn(pool.clone(), thread + 8 * round).await;
            }
        });
    }
    threads.join_all().await;
    pool.drain(Duration::from_secs(10)).await;
    let stats = pool.stats();
    assert_eq!(
        (stats.tunnels, stats.waiting, stats.connections),
        (0, 0, 0),
        "{stats:?}"
    );
}
