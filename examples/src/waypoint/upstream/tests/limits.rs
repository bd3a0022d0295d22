use std::sync::Arc;
use std::time::Duration;

use mesh_policy::traffic::breaker::Resource;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::bodies::trickle;
use super::world::{App, Gone, Log, World, answer, get, limits, retries};

/// Notes what has begun, and answers as it is allowed to.
fn gated(gate: &Arc<Semaphore>, log: &Log) -> App {
    let (gate, log) = (Arc::clone(gate), log.clone());
    App::http(move |_| {
        log.note("begun");
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
        let world = Arc::new(World::new(is_http2, [("app", gated(&gate, &Log::default()))]));
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
    let world = Arc::new(World::new(false, [("app", gated(&gate, &Log::default()))]));
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
async fn all_who_wait_share_a_connection_when_there_is_one() {
    let (gate, log) = (Arc::new(Semaphore::new(0)), Log::default());
    let world = Arc::new(World::new(true, [("app", gated(&gate, &log))]));
    let mut order = world.order();
    order.rule = limits(|limits| {
        limits.connections = Some(1);
        limits.requests_per_connection = Some(3);
    });
    let mut asking = JoinSet::new();
    for number in 0..6 {
        let (world, order) = (Arc::clone(&world), order.clone());
        asking.spawn(async move { world.ask(get(number), &order).await });
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(log.take().len(), 3);
    gate.add_permits(3);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!((log.take().len(), world.net.dials("app")), (3, 2));
    gate.add_permits(3);
    for (status, ..) in asking.join_all().await {
        assert_eq!(status, 200);
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_gets_a_connection_when_its_upload_has_ended() {
    // Answers each request when its head is there.
    let app = App::raw(async |mut io| {
        for end in [&b"0\r\n\r\n"[..], b"\r\n\r\n"] {
            let mut read = Vec::new();
            while !read.ends_with(b"\r\n\r\n") {
                read.push(io.read_u8().await.unwrap());
            }
            io.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
                .await
                .unwrap();
            while !read.ends_with(end) {
                read.push(io.read_u8().await.unwrap());
            }
        }
    });
    let world = Arc::new(World::new(false, [("app", app)]));
    let mut order = world.order();
    order.rule = limits(|limits| limits.connections = Some(1));
    let (upload, request) = trickle();
    upload.send(Ok("text".into())).await.unwrap();
    assert_eq!(world.ask(request, &order).await.0, 200);
    let mut asking = JoinSet::new();
    let waiting = Arc::clone(&world);
    asking.spawn(async move { waiting.ask(get(1), &order).await });
    tokio::time::sleep(Duration::from_secs(1)).await;
    drop(upload);
    let (status, ..) = tokio::time::timeout(Duration::from_secs(1), asking.join_next())
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert_eq!(status, 200);
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
