use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mesh_policy::traffic::OutlierRule;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::world::{App, Gone, Log, World, answer, get, in_turn, retries, rule};

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
    tokio::time::sleep(9 * SECOND).await;
    for number in 0..10 {
        assert_eq!(world.ask(get(number), &order).await.0, 200);
    }
    assert_eq!(count(&log, "ill"), 0);
    tokio::time::sleep(3 * SECOND).await;

    // While one request tries it, others do not.
    is_well.store(true, Ordering::SeqCst);
    let mut asking = JoinSet::new();
    for number in 0..20 {
        let (world, order) = (Arc::clone(&world), order.clone());
        asking.spawn(async move { world.ask(get(number), &order).await });
    }
    tokio::time::sleep(SECOND).await;
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
