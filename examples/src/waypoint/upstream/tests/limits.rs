use std::sync::Arc;
use std::time::Duration;

use mesh_policy::traffic::breaker::Resource;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::world::{App, Gone, Log, World, answer, get, limits, retries};

/// Answers as it is allowed to.
fn gated(gate: &Arc<Semaphore>) -> App {
    let gate = Arc::clone(gate);
    App::http(move |_| {
        let gate = Arc::clone(&gate);
        async move {
            gate.acquire().await.map_err(|_| Gone)?.forget();
            Ok(answer(200, "well"))
        }
    })
}

#[tokio::test(start_paused = true)]
async fn a_breaker_opens_and_recovers() {
    for is_http2 in [false, true] {
        let gate = Arc::new(Semaphore::new(0));
        let world = Arc::new(World::new(is_http2, [("app", gated(&gate))]));
        let mut order = world.order();
        order.rule = limits(|limits| limits.requests = Some(2));
        let mut held = JoinSet::new();
        for number in 0..2 {
            let (world, order) = (Arc::clone(&world), order.clone());
            held.spawn(async move { world.ask(get(number), &order).await });
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        let error = world.send(get(3), &order).await.unwrap_err();
        assert!(error.is_overload());
        assert_eq!(
            (error.status().as_u16(), error.flags().to_string()),
            (503, "UO".to_owned())
        );
        assert_eq!(error.attempts, 1);
        gate.add_permits(3);
        for (status, ..) in held.join_all().await {
            assert_eq!(status, 200);
        }
        assert_eq!(world.ask(get(4), &order).await.0, 200);
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_counts_until_it_has_ended() {
    for is_http2 in [false, true] {
        let world = World::new(
            is_http2,
            [("app", App::http(async |_| Ok(answer(200, "x".repeat(200_000)))))],
        );
        let order = world.order();
        let sent = world.send(get(1), &order).await.unwrap();
        let state = world.cluster(&order).state();
        assert_eq!(
            (state.breaker.in_use(Resource::Requests), state.requests_under_way()),
            (1, 1)
        );
        drop(sent);
        assert_eq!(
            (state.breaker.in_use(Resource::Requests), state.requests_under_way()),
            (0, 0)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn who_finds_no_connection_waits_as_far_as_there_is_room() {
    let gate = Arc::new(Semaphore::new(0));
    let world = Arc::new(World::new(false, [("app", gated(&gate))]));
    let mut order = world.order();
    order.rule = limits(|limits| {
        limits.connections = Some(1);
        limits.pending_requests = Some(2);
    });
    let mut asking = JoinSet::new();
    for number in 0..4 {
        let (world, order) = (Arc::clone(&world), order.clone());
        asking.spawn(async move { world.ask(get(number), &order).await });
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let (status, flags, _) = asking.join_next().await.unwrap().unwrap();
    assert_eq!((status, &*flags), (503, "UO"));
    gate.add_permits(3);
    for (status, ..) in asking.join_all().await {
        assert_eq!(status, 200);
    }
    assert_eq!(world.net.dials("app"), 1);
}

#[tokio::test(start_paused = true)]
async fn retries_have_a_budget() {
    let log = Log::default();
    let world = World::new(false, [("ill", App::answering(503, "ill", &log))]);
    let mut order = world.order();
    order.retries = retries(3, "5xx");
    order.rule = limits(|limits| limits.retries = Some(0));
    let sent = world.send(get(1), &order).await.unwrap();
    assert_eq!((sent.attempts, sent.flags.to_string()), (1, "UO".to_owned()));
    order.rule = limits(|limits| limits.retries = Some(1));
    let sent = world.send(get(1), &order).await.unwrap();
    assert_eq!(sent.attempts, 4);
    order.retries = retries(0, "5xx");
    let sent = world.send(get(1), &order).await.unwrap();
    assert_eq!((sent.attempts, sent.flags.to_string()), (1, "-".to_owned()));
    let state = world.cluster(&order).state();
    assert_eq!(state.breaker.in_use(Resource::Retries), 0);
}
