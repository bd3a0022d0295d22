use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::Request;
use hyper::body::Frame;
use mesh_policy::traffic::Timeouts;
use mesh_policy::traffic::breaker::Resource;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::world::{App, Gone, Log, World, answer, get, in_turn, post, retries, rule};
use crate::waypoint::body;
use crate::waypoint::upstream::error::Fault;
use crate::waypoint::upstream::order::{Order, Shadow};
use crate::waypoint::upstream::{MOST_SHADOWS, conditions};

const SECOND: Duration = Duration::from_secs(1);

/// Every request has an answer, and was done once.
async fn dead_endpoints_cost_no_request(is_http2: bool, at_once: bool) {
    let log = Log::default();
    let world = Arc::new(World::new(
        is_http2,
        [("dead", App::Dead), ("live", App::answering(200, "live", &log))],
    ));
    let mut asking = JoinSet::new();
    for number in 0..1_000 {
        let world = Arc::clone(&world);
        let request = match number % 2 {
            0 => get(number),
            _ => post(number, "!"),
        };
        asking.spawn(async move { world.ask(request, &world.order()).await });
        if !at_once {
            let (status, text, _) = asking.join_next().await.unwrap().unwrap();
            assert_eq!((status, &*text), (200, "live"));
        }
    }
    for (status, text, _) in asking.join_all().await {
        assert_eq!((status, &*text), (200, "live"));
    }
    let done = log.take();
    assert_eq!((done.len(), done.iter().collect::<BTreeSet<_>>().len()), (1_000, 1_000));
    assert!(world.net.dials("dead") > 0);
}

#[tokio::test(start_paused = true)]
async fn no_request_is_lost_to_a_dead_endpoint_or_done_twice() {
    for is_http2 in [false, true] {
        dead_endpoints_cost_no_request(is_http2, false).await;
        dead_endpoints_cost_no_request(is_http2, true).await;
    }
}

#[test]
fn without_rules_requests_are_tried_again_as_by_istios_waypoints() {
    let istio = "connect-failure,refused-stream,unavailable,cancelled,reset-before-request,503";
    assert_eq!(conditions(), istio.parse().unwrap());
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_a_reason_to_try_elsewhere_if_that_is_safe() {
    for is_http2 in [false, true] {
        let log = Log::default();
        let world = World::new(
            is_http2,
            [
                ("ill", App::answering(503, "ill", &log)),
                ("well", App::answering(200, "well", &log)),
            ],
        );
        let mut order = world.order();
        order.rule = rule(in_turn);
        for number in 0..20 {
            let (status, ..) = world.ask(get(number), &order).await;
            assert_eq!(status, 200);
        }
        let asked = log.take();
        assert!(asked.iter().any(|line| line.starts_with("ill ")));
        let mut refused = 0;
        for number in 0..20 {
            let (status, _, attempts) = world.ask(post(number, ""), &order).await;
            assert_eq!(attempts, 1);
            refused += usize::from(status == 503);
        }
        assert!(refused > 0 && log.take().len() == 20);
    }
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_wants_to_be_left_alone_is() {
    for (after, attempts) in [("1", 2), ("60", 1), ("soon", 2)] {
        let busy = App::http(move |_| async move {
            let mut answer = answer(503, "busy");
            answer.headers_mut().insert("retry-after", after.parse().unwrap());
            Ok(answer)
        });
        let world = World::new(false, [("busy", busy)]);
        let mut order = world.order();
        order.retries = retries(1, "503");
        let began = Instant::now();
        let (status, _, tried) = world.ask(get(1), &order).await;
        assert_eq!((status, tried), (503, attempts), "{after}");
        assert!(began.elapsed() < 2 * SECOND);
    }
}

#[tokio::test(start_paused = true)]
async fn what_all_endpoints_answer_is_the_answer() {
    let log = Log::default();
    let world = World::new(false, [("one", App::answering(503, "one", &log))]);
    let mut order = world.order();
    order.retries = retries(3, "5xx");
    let sent = world.send(get(1), &order).await.unwrap();
    assert_eq!((sent.attempts, sent.flags.to_string()), (4, "URX".to_owned()));
    assert_eq!(sent.response.headers().get("x-envoy-attempt-count"), None);
    assert_eq!(log.take().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_has_its_own_time_and_all_have_theirs() {
    for is_http2 in [false, true] {
        let log = Log::default();
        let hanging = App::http(|_| std::future::pending::<Result<_, Gone>>());
        let world = World::new(
            is_http2,
            [("hangs", hanging), ("well", App::answering(200, "well", &log))],
        );
        let mut order = world.order();
        order.retries = retries(1, "5xx");
        order.timeouts = Timeouts::new(None, Some(SECOND));
        for number in 0..10 {
            let began = Instant::now();
            let (status, _, attempts) = world.ask(get(number), &order).await;
            let waited = u32::try_from(began.elapsed().as_secs()).unwrap();
            assert_eq!((status, attempts), (200, waited + 1));
        }
        world.net.set("well", App::Dead);
        let hung = World::new(
            is_http2,
            [("hangs", App::http(|_| std::future::pending::<Result<_, Gone>>()))],
        );
        let mut order = hung.order();
        order.timeouts = Timeouts::new(Some(3 * SECOND), Some(2 * SECOND));
        let began = Instant::now();
        let error = hung.send(get(1), &order).await.unwrap_err();
        // The first attempt's time is not enough for a second whole one.
        assert!(
            matches!(error.fault, Fault::AttemptTimeout(_) | Fault::Timeout(_)),
            "{error}"
        );
        assert_eq!(error.status(), 504);
        assert!(began.elapsed() <= 3 * SECOND);
    }
}

#[tokio::test(start_paused = true)]
async fn a_dial_that_takes_too_long_is_no_dispatch() {
    let log = Log::default();
    let world = World::new(
        false,
        [("silent", App::Silent), ("live", App::answering(200, "live", &log))],
    );
    let mut order = world.order();
    order.timeouts = Timeouts::new(None, Some(SECOND));
    for number in 0..50 {
        assert_eq!(world.ask(post(number, "x"), &order).await.0, 200);
    }
    assert_eq!(log.take().len(), 50);
}

#[tokio::test(start_paused = true)]
async fn a_call_ends_with_its_clients_time() {
    let world = World::new(
        true,
        [("hangs", App::http(|_| std::future::pending::<Result<_, Gone>>()))],
    );
    let request = Request::post("http://shop/a.B/C")
        .header("content-type", "application/grpc")
        .header("grpc-timeout", "250m")
        .body(body::whole("x"))
        .unwrap();
    let began = Instant::now();
    let error = world.send(request, &world.order()).await.unwrap_err();
    assert_eq!((error.grpc_status(), error.flags().to_string()), (4, "UT".to_owned()));
    assert_eq!(began.elapsed().as_millis(), 250);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_does_not_end_in_time_is_cut_off() {
    for is_http2 in [false, true] {
        let endless = App::http(async |_| Ok(hyper::Response::new(body::Body::new(Endless(false)))));
        let world = World::new(is_http2, [("endless", endless)]);
        let mut order = world.order();
        order.timeouts = Timeouts::new(Some(3 * SECOND), None);
        let sent = world.send(get(1), &order).await.unwrap();
        let mut body = sent.response.into_body();
        let began = Instant::now();
        let end = loop {
            match body.frame().await.unwrap() {
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        assert!(matches!(end, body::BodyError::Timeout), "{end}");
        assert_eq!(began.elapsed().as_secs(), 3);
    }
}

#[tokio::test(start_paused = true)]
async fn who_does_not_read_an_answer_holds_nothing_when_its_time_is_up() {
    for is_http2 in [false, true] {
        let large = App::http(async |_| Ok(answer(200, "x".repeat(1_000_000))));
        let world = World::new(is_http2, [("large", large)]);
        let mut order = world.order();
        order.timeouts = Timeouts::new(Some(3 * SECOND), None);
        let state = world.cluster(&order).state();
        let held = || (state.breaker.in_use(Resource::Requests), state.requests_under_way());
        let sent = world.send(get(1), &order).await.unwrap();
        tokio::time::sleep(2 * SECOND).await;
        assert_eq!(held(), (1, 1));
        tokio::time::sleep(2 * SECOND).await;
        assert_eq!(held(), (0, 0));
        let end = sent.response.into_body().collect().await.unwrap_err();
        assert!(matches!(end, body::BodyError::Timeout), "{end}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_reads_slowly_has_no_more_time_than_others() {
    for is_http2 in [false, true] {
        let large = App::http(async |_| Ok(answer(200, "x".repeat(10_000_000))));
        let world = World::new(is_http2, [("large", large)]);
        let mut order = world.order();
        order.timeouts = Timeouts::new(Some(3 * SECOND), None);
        let mut body = world.send(get(1), &order).await.unwrap().response.into_body();
        let began = Instant::now();
        let end = loop {
            tokio::time::sleep(SECOND / 10).await;
            if let Err(error) = body.frame().await.unwrap() {
                break error;
            }
        };
        assert!(matches!(end, body::BodyError::Timeout), "{end}");
        assert!(began.elapsed() < 4 * SECOND);
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_was_read_in_time_ends_well() {
    for is_http2 in [false, true] {
        let log = Log::default();
        let world = World::new(is_http2, [("well", App::answering(200, "well", &log))]);
        let mut order = world.order();
        order.timeouts = Timeouts::new(Some(3 * SECOND), None);
        for number in 0..10 {
            assert_eq!(world.ask(get(number), &order).await.0, 200);
            tokio::time::sleep(SECOND).await;
        }
        assert_eq!(world.net.dials("well"), 1);
    }
}

/// A chunk, and then nothing more, without an end.
struct Endless(bool);

impl hyper::body::Body for Endless {
    type Data = Bytes;
    type Error = body::BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if std::mem::replace(&mut self.0, true) {
            return Poll::Pending;
        }
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"chunk")))))
    }
}

/// What its requests are copied to is the service itself.
fn mirrored(world: &World) -> Order {
    let mut order = world.order();
    order.shadows.push(Shadow {
        to: order.to.clone(),
        port: 80,
        subset: None,
        rule: None,
        policy: None,
        is_http2: false,
    });
    order
}

#[tokio::test(start_paused = true)]
async fn copies_are_like_requests_and_nobody_waits_for_them() {
    let hosts = Log::default();
    let app = |name: &'static str| {
        let hosts = hosts.clone();
        App::http(move |request| {
            let hosts = hosts.clone();
            async move {
                let (head, body) = request.into_parts();
                let text = body.collect().await.map_err(|_| Gone)?.to_bytes();
                hosts.note(format!("{name} {:?} {}", head.headers["host"], text.len()));
                Ok(answer(200, name))
            }
        })
    };
    let world = World::new(false, [("app", app("app"))]);
    let order = mirrored(&world);
    assert_eq!(world.ask(post(1, "four"), &order).await.0, 200);
    tokio::time::sleep(SECOND).await;
    assert_eq!(hosts.take(), ["app \"shop\" 4", "app \"shop\" 4"]);
    // What is too large to be kept is not copied.
    assert_eq!(world.ask(post(1, &"x".repeat(100_000)), &order).await.0, 200);
    tokio::time::sleep(SECOND).await;
    assert_eq!(hosts.take(), ["app \"shop\" 100000"]);
    // Nor is what goes on by another protocol.
    let mut upgrade = get(1);
    for (name, value) in [("connection", "upgrade"), ("upgrade", "websocket")] {
        upgrade.headers_mut().insert(name, value.parse().unwrap());
    }
    assert_eq!(world.ask(upgrade, &order).await.0, 200);
    tokio::time::sleep(SECOND).await;
    assert_eq!(hosts.take(), ["app \"shop\" 0"]);
}

#[tokio::test(start_paused = true)]
async fn who_does_not_send_all_takes_no_place_of_copies() {
    let log = Log::default();
    let world = Arc::new(World::new(false, [("app", App::answering(200, "app", &log))]));
    let order = Arc::new(mirrored(&world));
    let mut stalled = JoinSet::new();
    for _ in 0..MOST_SHADOWS {
        let (world, order) = (Arc::clone(&world), Arc::clone(&order));
        let request = Request::post("http://shop/a").body(body::Body::new(Endless(false)));
        stalled.spawn(async move { world.send(request.unwrap(), &order).await.map(drop) });
    }
    tokio::time::sleep(SECOND).await;
    assert_eq!(world.ask(post(1, "!"), &order).await.0, 200);
    tokio::time::sleep(SECOND).await;
    assert_eq!(log.take(), ["app POST 1!", "app POST 1!"]);
    assert!(stalled.try_join_next().is_none());
}

#[tokio::test(start_paused = true)]
async fn without_endpoints_there_is_none() {
    let world = World::new(false, []);
    let (status, flags, attempts) = world.ask(get(1), &world.order()).await;
    assert_eq!((status, &*flags, attempts), (503, "UH", 1));
    let mut order = world.order();
    order.subset = Some("v9".into());
    let (status, flags, attempts) = world.ask(get(1), &order).await;
    assert_eq!((status, &*flags, attempts), (503, "NC", 0));
}
