use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::Request;
use mesh_policy::traffic::{OutlierRule, Timeouts};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::bodies::trickle;
use super::world::{App, Gone, Log, World, answer, get, in_turn, post, retries, rule};
use crate::waypoint::body;
use crate::waypoint::upstream::error::{Fault, Late};
use crate::waypoint::upstream::order::Order;

const SECOND: Duration = Duration::from_secs(1);

fn count(log: &Log, name: &str) -> usize {
    log.take().iter().filter(|line| line.starts_with(name)).count()
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_fails_is_left_alone_and_comes_back_by_one_request() {
    let log = Log::default();
    let (is_well, gate) = (Arc::new(AtomicBool::new(false)), Arc::new(Semaphore::new(0)));
    let ill = {
        let (log, is_well, gate) = (log.clone(), Arc::clone(&is_well), Arc::clone(&gate));
        App::http(move |_| {
            let (gate, is_well) = (Arc::clone(&gate), is_well.load(Ordering::SeqCst));
            log.note("ill");
            async move {
                if !is_well {
                    return Ok(answer(500, ""));
                }
                gate.acquire().await.map_err(|_| Gone)?.forget();
                Ok(answer(200, ""))
            }
        })
    };
    let world = Arc::new(World::new(
        false,
        [("ill", ill), ("well", App::answering(200, "well", &log))],
    ));
    let mut order = world.order();
    order.retries = retries(0, "");
    order.rule = rule(|policy| {
        in_turn(policy);
        let mut outliers = OutlierRule::default();
        outliers.consecutive_5xx = 3;
        outliers.interval = SECOND;
        outliers.base_ejection = 10 * SECOND;
        outliers.max_ejection_percent = 50;
        policy.outliers = Some(outliers);
    });
    for number in 0..30 {
        world.ask(get(number), &order).await;
    }
    assert_eq!(count(&log, "ill"), 3);
    sleep(9 * SECOND).await;
    for number in 0..10 {
        assert_eq!(world.ask(get(number), &order).await.0, 200);
    }
    assert_eq!(count(&log, "ill"), 0);
    sleep(3 * SECOND).await;

    // While one request tries it, others do not.
    is_well.store(true, Ordering::SeqCst);
    let mut asking = JoinSet::new();
    for number in 0..20 {
        let (world, order) = (Arc::clone(&world), order.clone());
        asking.spawn(async move { world.ask(get(number), &order).await });
    }
    sleep(SECOND).await;
    assert_eq!(count(&log, "ill"), 1);
    gate.add_permits(100);
    for (status, ..) in asking.join_all().await {
        assert_eq!(status, 200);
    }
    for number in 0..10 {
        world.ask(get(number), &order).await;
    }
    assert_eq!(count(&log, "ill"), 5);
}

#[tokio::test(start_paused = true)]
async fn no_more_than_some_are_left_alone() {
    let log = Log::default();
    let world = World::new(false, [("one", App::answering(500, "one", &log)), ("other", App::Dead)]);
    let mut order = world.order();
    order.retries = retries(0, "");
    order.rule = rule(|policy| {
        let mut outliers = OutlierRule::default();
        outliers.max_ejection_percent = 50;
        policy.outliers = Some(outliers);
    });
    let mut statuses = Vec::new();
    for number in 0..100 {
        statuses.push(world.ask(get(number), &order).await.0);
    }
    assert!(!log.take().is_empty() || world.net.dials("other") > 5);
    assert!(statuses.iter().all(|status| [500, 503].contains(status)));
    assert_eq!(world.cluster(&order).state().ejected(), 1);
}

/// An endpoint that does not answer, and is ejected by one failure.
fn hanging(is_http2: bool) -> (World, Order) {
    let hanging = App::http(async |request| {
        let _request = request;
        std::future::pending::<Result<_, Gone>>().await
    });
    let world = World::new(is_http2, [("hangs", hanging)]);
    let mut order = world.order();
    order.retries = retries(3, "5xx");
    order.rule = rule(|policy| {
        let mut outliers = OutlierRule::default();
        outliers.consecutive_5xx = 1;
        outliers.max_ejection_percent = 100;
        policy.outliers = Some(outliers);
        policy.limits.get_or_insert_default().connections = Some(1);
    });
    (world, order)
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_has_its_time_and_does_not_answer_is_ejected() {
    for is_http2 in [false, true] {
        for timeouts in [Timeouts::new(Some(SECOND), None), Timeouts::new(None, Some(SECOND))] {
            let (world, mut order) = hanging(is_http2);
            order.timeouts = timeouts;
            assert_eq!(world.ask(post(1, "text"), &order).await.0, 504);
            assert_eq!(world.cluster(&order).state().ejected(), 1);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_clients_own_time_says_nothing_of_endpoints() {
    for is_http2 in [false, true] {
        for (timeout, own) in [("1n", None), ("250m", None), ("250m", Some(SECOND))] {
            let (world, mut order) = hanging(is_http2);
            order.timeouts = Timeouts::new(own, None);
            let call = Request::post("http://shop/a.B/C")
                .header("content-type", "application/grpc")
                .header("grpc-timeout", timeout)
                .body(body::whole("x"))
                .unwrap();
            let error = world.send(call, &order).await.unwrap_err();
            assert!(matches!(error.fault, Fault::Timeout(Late::Client)), "{error:?}");
            assert_eq!(world.cluster(&order).state().ejected(), 0);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn who_does_not_send_all_of_a_request_says_nothing_of_endpoints() {
    for is_http2 in [false, true] {
        for (last, timeouts) in [
            (900, Timeouts::new(Some(SECOND), None)),
            (5_000, Timeouts::new(Some(SECOND), None)),
            (5_000, Timeouts::new(None, Some(SECOND))),
        ] {
            let (world, mut order) = hanging(is_http2);
            order.timeouts = timeouts;
            order.retries = retries(0, "");
            let (sender, request) = trickle();
            let sending = async {
                sender.send(Ok("one".into())).await.unwrap();
                sleep(Duration::from_millis(last)).await;
                drop(sender.send(Ok("two".into())).await);
                drop(sender);
            };
            let (sent, ()) = tokio::join!(world.send(request, &order), sending);
            assert_eq!(sent.unwrap_err().status(), 504);
            assert_eq!(world.cluster(&order).state().ejected(), 0, "{last}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_others_says_nothing_of_endpoints_and_is_not_tried_again() {
    for timeouts in [Timeouts::new(Some(SECOND), None), Timeouts::new(None, Some(SECOND))] {
        let (world, mut order) = hanging(false);
        let world = Arc::new(world);
        let mut held = JoinSet::new();
        let (first, patient) = (Arc::clone(&world), order.clone());
        held.spawn(async move { first.ask(get(0), &patient).await });
        sleep(SECOND).await;
        order.timeouts = timeouts;
        for number in 1..5 {
            let error = world.send(get(number), &order).await.unwrap_err();
            assert_eq!((error.status().as_u16(), error.attempts), (504, 1), "{error:?}");
            assert_eq!(world.cluster(&order).state().ejected(), 0);
        }
    }
}
