//! Endpoints that fail, are slow, cannot be reached and come back, in all orders.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http_body_util::BodyExt;
use mesh_policy::traffic::breaker::Resource;
use mesh_policy::traffic::{OutlierRule, Timeouts};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::world::{App, Gone, World, answer, get, in_turn, post, retries, rule};
use crate::waypoint::upstream::order::Order;

const NAMES: [&str; 4] = ["a", "b", "c", "d"];
const REQUESTS: usize = 300;
/// Retries that may be under way at a time.
const RETRIES: u32 = 3;
const IN_ALL: Duration = Duration::from_secs(5);
const MILLI: Duration = Duration::from_millis(1);

/// How an endpoint is at a time.
#[derive(Clone, Copy, Debug)]
enum Manner {
    Well,
    Fails,
    Slow,
    Leaves,
    Gone,
}

/// Numbers that are the same for the same seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    fn manner(&mut self) -> Manner {
        match self.below(8) {
            0 | 1 => Manner::Fails,
            2 => Manner::Slow,
            3 => Manner::Leaves,
            4 | 5 => Manner::Gone,
            _ => Manner::Well,
        }
    }
}

/// What all endpoints saw.
#[derive(Default)]
struct Seen {
    manners: Mutex<BTreeMap<&'static str, Manner>>,
    /// How often each request was begun.
    begun: Mutex<BTreeMap<String, u32>>,
}

impl Seen {
    fn app(self: &Arc<Self>, name: &'static str) -> App {
        let seen = Arc::clone(self);
        App::http(move |request| {
            let seen = Arc::clone(&seen);
            async move {
                let manner = seen.manners.lock().unwrap()[name];
                let (head, body) = request.into_parts();
                let number = head.headers["x-number"].to_str().unwrap().to_owned();
                *seen
                    .begun
                    .lock()
                    .unwrap()
                    .entry(format!("{} {number}", head.method))
                    .or_default() += 1;
                body.collect().await.map_err(|_| Gone)?;
                match manner {
                    Manner::Well => sleep(5 * MILLI).await,
                    Manner::Slow => sleep(2_000 * MILLI).await,
                    Manner::Fails | Manner::Gone => return Ok(answer(503, name)),
                    Manner::Leaves => return Err(Gone),
                }
                Ok(answer(200, name))
            }
        })
    }
}

fn order(world: &World) -> Order {
    let mut order = world.order();
    order.retries = retries(2, "5xx");
    order.timeouts = Timeouts::new(Some(IN_ALL), Some(1_000 * MILLI));
    order.rule = rule(|policy| {
        in_turn(policy);
        policy.limits.get_or_insert_default().retries = Some(RETRIES);
        let mut outliers = OutlierRule::default();
        outliers.consecutive_5xx = 3;
        outliers.interval = 500 * MILLI;
        outliers.base_ejection = 2_000 * MILLI;
        outliers.max_ejection_percent = 50;
        policy.outliers = Some(outliers);
    });
    order
}

fn set(world: &World, seen: &Arc<Seen>, name: &'static str, manner: Manner) {
    seen.manners.lock().unwrap().insert(name, manner);
    let app = match manner {
        Manner::Gone => App::Dead,
        _ => seen.app(name),
    };
    world.net.set(name, app);
}

/// What holds at the end of every run, whatever happened.
async fn run(seed: u64, is_http2: bool) {
    let (seen, mut dice) = (Arc::<Seen>::default(), Dice(seed));
    let world = Arc::new(World::new(is_http2, NAMES.map(|name| (name, App::Dead))));
    let order = Arc::new(order(&world));
    for name in NAMES {
        set(&world, &seen, name, Manner::Well);
    }
    let mut asking = JoinSet::new();
    for number in 0..REQUESTS {
        if dice.below(20) == 0 {
            let name = NAMES[dice.below(4) as usize];
            set(&world, &seen, name, dice.manner());
        }
        let (world, order) = (Arc::clone(&world), Arc::clone(&order));
        let request = match dice.below(2) {
            0 => get(number),
            _ => post(number, "text"),
        };
        let gives_up = dice.below(20) == 0;
        asking.spawn(async move {
            let began = Instant::now();
            match gives_up {
                true => drop(tokio::time::timeout(20 * MILLI, world.ask(request, &order)).await),
                false => drop(world.ask(request, &order).await),
            }
            assert!(began.elapsed() <= IN_ALL + MILLI, "never late");
            let state = world.cluster(&order).state();
            assert!(state.ejected() <= 2, "half of them at most");
            let retries = state.breaker.in_use(Resource::Retries);
            assert!(retries <= RETRIES, "seed {seed}: {retries} retries");
        });
        sleep(Duration::from_millis(dice.below(40))).await;
    }
    // None is lost: each has ended.
    asking.join_all().await;

    let begun = std::mem::take(&mut *seen.begun.lock().unwrap());
    for (request, times) in &begun {
        let most = if request.starts_with("POST") { 1 } else { 3 };
        assert!(*times <= most, "seed {seed}: {request} was done {times} times");
    }

    // What is well again is asked again, once its time is up: no ejection lasts longer than ten base
    // times here, for there were fewer in a row.
    for name in NAMES {
        set(&world, &seen, name, Manner::Well);
    }
    sleep(Duration::from_secs(30)).await;
    for number in 0..20 {
        world.ask(get(number), &order).await;
    }
    let mut asked = BTreeMap::<String, usize>::new();
    for number in 0..40 {
        let (status, text, _) = world.ask(get(number), &order).await;
        assert_eq!(status, 200, "seed {seed}");
        *asked.entry(text).or_default() += 1;
    }
    assert_eq!(asked, NAMES.map(|name| (name.to_owned(), 10)).into(), "seed {seed}");
    let state = world.cluster(&order).state();
    let places = [Resource::Pending, Resource::Requests, Resource::Retries];
    assert_eq!(places.map(|resource| state.breaker.in_use(resource)), [0; 3]);
    assert_eq!((state.requests_under_way(), state.ejected()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn no_request_is_lost_or_done_twice_and_what_is_well_comes_back() {
    for seed in 0..10 {
        run(seed, false).await;
        run(seed, true).await;
    }
}

/// Answers, and ends the connection: the next request finds out anew whether the endpoint is there.
fn once() -> App {
    App::http(async |_| {
        let mut answer = answer(200, "well");
        let close = hyper::header::HeaderValue::from_static("close");
        answer.headers_mut().insert(hyper::header::CONNECTION, close);
        Ok(answer)
    })
}

#[tokio::test(start_paused = true)]
async fn near_endpoints_may_come_and_go_while_a_far_one_is_there() {
    for seed in 0..20 {
        let mut dice = Dice(seed);
        let mut world = World::new(false, NAMES.into_iter().chain(["far"]).map(|name| (name, once())));
        world.divided(&NAMES, &["far"]);
        let mut order = world.order();
        order.rule = rule(|policy| policy.outliers = Some(OutlierRule::default()));
        let (world, order) = (Arc::new(world), Arc::new(order));
        let mut asking = JoinSet::new();
        for number in 0..REQUESTS {
            if dice.below(4) == 0 {
                let name = NAMES[dice.below(4) as usize];
                let app = if dice.below(4) == 0 { once() } else { App::Dead };
                world.net.set(name, app);
            }
            let (world, order) = (Arc::clone(&world), Arc::clone(&order));
            asking.spawn(async move { world.ask(post(number, "text"), &order).await });
            sleep(Duration::from_millis(dice.below(100))).await;
        }
        for (status, text, attempts) in asking.join_all().await {
            assert_eq!((status, &*text), (200, "well"), "seed {seed}, {attempts} attempts");
        }
        assert!(world.net.dials("far") > 0 && NAMES.iter().all(|name| world.net.dials(name) > 0));
    }
}
