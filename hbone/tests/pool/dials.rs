//! When a pool dials, and what becomes of those who wait.

use std::time::Duration;

use futures_util::future::join_all;
use hbone::pool::DialFailure;
use hbone::{Pool, PoolConfig, PoolError};
use tokio::time::Instant;

use crate::net::{Fate, Net, limited, open, request, until, use_up};

#[tokio::test(start_paused = true)]
async fn a_stampede_dials_only_what_it_fills() {
    let (net, pool) = Net::of_one(100, &PoolConfig::default());
    let tunnels = join_all((0..1000).map(|_| open(&pool))).await;
    assert_eq!(net.dials(1), 10);
    assert_eq!(pool.stats().tunnels, 1000);
    assert_eq!(pool.stats().retries, 0);
    join_all(tunnels.into_iter().map(use_up)).await;
    until(&pool, |stats| stats.tunnels == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_stampede_from_many_threads_dials_only_what_it_fills() {
    let (net, pool) = Net::of_one(100, &PoolConfig::default());
    let mut callers = tokio::task::JoinSet::new();
    let all_open = std::sync::Arc::new(tokio::sync::Barrier::new(1000));
    for _ in 0..1000 {
        let (pool, all_open) = (pool.clone(), all_open.clone());
        callers.spawn(async move {
            let tunnel = open(&pool).await;
            all_open.wait().await;
            use_up(tunnel).await;
        });
    }
    callers.join_all().await;
    assert!(net.dials(1) <= 10, "{} dials", net.dials(1));
    pool.drain(Duration::from_secs(5)).await;
    assert_eq!((pool.stats().tunnels, pool.stats().connections), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_slow_key_does_not_delay_another() {
    let (net, pool) = Net::of_one(100, &PoolConfig::default());
    net.set(2, Fate::Hang);
    let start = Instant::now();
    let slow = async { pool.open(&2, request()).await.unwrap_err() };
    let quick = async {
        use_up(open(&pool).await).await;
        start.elapsed()
    };
    let (error, quick) = tokio::join!(slow, quick);
    assert!(quick < Duration::from_millis(5), "{quick:?}");
    assert!(matches!(error, PoolError::Dial(failure) if matches!(*failure, DialFailure::Timeout)));
}

#[tokio::test(start_paused = true)]
async fn a_dial_into_a_black_hole_fails_at_its_deadline() {
    let (net, pool) = Net::of_one(100, &PoolConfig::default());
    net.set(2, Fate::Hang);
    let tunnel = open(&pool).await;
    let start = Instant::now();
    let errors = join_all((0..50).map(|_| pool.open(&2, request()))).await;
    let late = start.elapsed() - Duration::from_secs(10);
    assert!(late < Duration::from_millis(50), "{late:?}");
    assert!(
        errors
            .into_iter()
            .all(|result| matches!(result, Err(PoolError::Dial(_))))
    );
    use_up(tunnel).await;
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_longer_than_the_acquire_timeout() {
    let mut config = PoolConfig::default();
    config.set_acquire_timeout(Duration::from_secs(3));
    let (net, pool) = Net::of_one(1, &config);
    net.set(2, Fate::Hang);
    let start = Instant::now();
    let error = pool.open(&2, request()).await.unwrap_err();
    assert!(matches!(error, PoolError::Timeout));
    assert_eq!(start.elapsed(), Duration::from_secs(3));
    assert_eq!((pool.stats().waiting, pool.stats().waits_given_up), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_failed_dial_fails_all_that_waited_for_it() {
    let (net, pool) = Net::of_one(100, &PoolConfig::default());
    net.set(1, Fate::Fail);
    let results = join_all((0..200).map(|_| pool.open(&1, request()))).await;
    assert_eq!(net.dials(1), 1);
    for result in results {
        let Err(PoolError::Dial(failure)) = result else {
            panic!("{result:?}");
        };
        assert!(
            matches!(&*failure, DialFailure::Connect(error) if error.kind() == std::io::ErrorKind::ConnectionRefused)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_failure_calls_fail_at_once_until_one_dial_probes() {
    let (net, pool) = Net::of_one(100, &PoolConfig::default());
    net.set(1, Fate::Fail);
    pool.open(&1, request()).await.unwrap_err();
    let mut delays = Vec::new();
    for failures in 1..=6 {
        assert_eq!(net.dials(1), failures);
        let start = Instant::now();
        let Err(PoolError::HeldOff { retry_at, .. }) = pool.open(&1, request()).await else {
            panic!("dialled again at once");
        };
        assert_eq!(start.elapsed(), Duration::ZERO);
        delays.push(retry_at - start.into_std());
        tokio::time::sleep_until(retry_at.into()).await;
        let probes = join_all((0..10).map(|_| pool.open(&1, request()))).await;
        assert!(probes.into_iter().all(|probe| matches!(probe, Err(PoolError::Dial(_)))));
    }
    for (doublings, delay) in delays.into_iter().enumerate() {
        let full = Duration::from_millis(250 << doublings);
        assert!(
            delay > full / 2 - Duration::from_millis(2) && delay <= full,
            "{delay:?} of {full:?}"
        );
    }
    net.set(1, Fate::Serve(limited(100)));
    tokio::time::sleep(Duration::from_secs(10)).await;
    use_up(open(&pool).await).await;
}

#[tokio::test(start_paused = true)]
async fn a_connector_that_panics_fails_its_callers_only() {
    let (net, pool) = Net::of_one(100, &PoolConfig::default());
    net.set(2, Fate::Panic);
    let Err(PoolError::Dial(failure)) = pool.open(&2, request()).await else {
        panic!("the dial did not fail");
    };
    assert!(matches!(*failure, DialFailure::Panicked));
    use_up(open(&pool).await).await;
}

#[tokio::test(start_paused = true)]
async fn more_than_may_wait_fail_at_once() {
    let mut config = PoolConfig::default();
    config.set_max_waiters_per_key(10);
    let (net, pool) = Net::of_one(1, &config);
    net.set(1, Fate::Hang);
    let results = join_all((0..15).map(|_| pool.open(&1, request()))).await;
    let crowded = results
        .iter()
        .filter(|result| matches!(result, Err(PoolError::Crowded)));
    assert_eq!(crowded.count(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_busy_connection_gets_company_without_anybody_waiting() {
    let mut config = PoolConfig::default();
    config.set_spread_above(3);
    let (net, pool) = Net::of_one(100, &config);
    let mut tunnels = vec![open(&pool).await, open(&pool).await, open(&pool).await];
    assert_eq!(net.dials(1), 1);
    tunnels.push(open(&pool).await);
    until(&pool, |stats| stats.connections == 2).await;
    tunnels.push(open(&pool).await);
    tunnels.push(open(&pool).await);
    assert_eq!(net.dials(1), 2);
    assert_eq!((pool.stats().waits, pool.stats().hits), (1, 5));
    join_all(tunnels.into_iter().map(use_up)).await;
}

#[tokio::test(start_paused = true)]
async fn keys_are_forgotten_after_use() {
    let (net, pool) = Net::of_one(100, &PoolConfig::default());
    for key in 2..500 {
        net.set(
            key,
            if key % 2 == 0 {
                Fate::Serve(limited(9))
            } else {
                Fate::Fail
            },
        );
        if let Ok(tunnel) = pool.open(&key, request()).await {
            use_up(tunnel).await;
        }
    }
    assert_eq!(pool.stats().keys, 498);
    tokio::time::sleep(Duration::from_secs(5 * 60 + 1)).await;
    until(&pool, |stats| stats.connections == 0).await;
    assert_eq!(pool.stats().keys, 0);
}

#[tokio::test(start_paused = true)]
async fn the_failures_of_too_many_keys_are_not_all_remembered() {
    let pool = Pool::new(PoolConfig::default(), Net::default());
    for key in 0..3000 {
        pool.open(&key, request()).await.unwrap_err();
    }
    assert_eq!(pool.stats().keys, 1024);
}
