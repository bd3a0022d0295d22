//! What it costs to find an endpoint for a request and to keep to its limits: picks by the number of
//! endpoints beside a scan of all, and what is asked once for each request or attempt.
#![allow(
    clippy::unwrap_used,
    missing_docs,
    reason = "a benchmark ends with its first failure"
)]

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use mesh_policy::traffic::{
    balance::{Algorithm, Ask, Balance, Endpoint, EndpointSet, Health, Locality},
    breaker::{Breaker, Limits, Resource},
    outlier::{Accrual, Detection, Detector, Gate, Outcome},
    rate::{Bucket, KeyedBuckets, Limit},
    retry::{self, Budget, Call, Failure, Policy},
};

const ENDPOINTS: [u32; 3] = [10, 100, 1_000];
const ALGORITHMS: [(&str, Algorithm); 5] = [
    ("peak ewma", Algorithm::PeakEwma),
    ("least request", Algorithm::LeastRequest),
    ("round robin", Algorithm::RoundRobin),
    ("random", Algorithm::Random),
    ("affinity", Algorithm::Affinity { slots: 65_536 }),
];

/// Endpoints of three priorities and weights, each of which has answered.
fn set(algorithm: Algorithm, count: u32) -> EndpointSet<u32> {
    let endpoints = (0..count).map(|number| {
        Endpoint::new(format!("10.0.{}.{}:8080", number / 256, number % 256), number)
            .priority(number % 3)
            .weight(1 + number % 4)
            .locality(Locality::new("region", (number % 3).to_string(), ""))
    });
    let set = EndpointSet::new(Balance::new().algorithm(algorithm), endpoints).unwrap();
    for number in 0..count * 8 {
        let now = Duration::from_millis(number.into());
        set.pick(Ask::new(), now, random(number.into()))
            .unwrap()
            .begin(now)
            .measure(now + Duration::from_micros(u64::from(number % 3_000)), Duration::ZERO);
    }
    // A third of the best level is ill, so that requests go to two levels.
    set.with_health(|endpoint| match endpoint.target() % 9 {
        0 => Health::Unhealthy,
        _ => Health::Healthy,
    })
}

fn random(number: u64) -> u64 {
    number.wrapping_mul(0x2545_f491_4f6c_dd1d)
}

fn picks(c: &mut Criterion) {
    let mut group = c.benchmark_group("pick");
    let now = Duration::from_secs(60);
    for (name, algorithm) in ALGORITHMS {
        for count in ENDPOINTS {
            let set = set(algorithm, count);
            let mut number = 0;
            group.bench_function(BenchmarkId::new(name, count), |b| {
                b.iter(|| {
                    number += 1;
                    let hash = random(number ^ 0xabcd).rotate_left(19);
                    set.pick(Ask::new().hash(Some(hash)), black_box(now), random(number))
                        .unwrap()
                        .id()
                });
            });
        }
    }
    for count in ENDPOINTS {
        let under_way: Vec<AtomicU32> = (0..count).map(|number| AtomicU32::new(number % 7)).collect();
        group.bench_function(BenchmarkId::new("idlest by a scan of all", count), |b| {
            b.iter(|| {
                let requests = |(_, endpoint): &(usize, &AtomicU32)| endpoint.load(Ordering::Relaxed);
                black_box(&under_way)
                    .iter()
                    .enumerate()
                    .min_by_key(requests)
                    .map(|(at, _)| at)
            });
        });
    }
    group.finish();
}

fn requests(c: &mut Criterion) {
    let mut group = c.benchmark_group("request");
    let now = Duration::from_secs(60);
    let set = set(Algorithm::PeakEwma, 1_000);
    let mut number = 0;
    group.bench_function("pick, begin and finish among 1000", |b| {
        b.iter(|| {
            number += 1;
            let begun = now + Duration::from_micros(number);
            let request = set.pick(Ask::new(), begun, random(number)).unwrap().begin(begun);
            request.measure(begun + Duration::from_micros(number % 3_000), Duration::ZERO);
        });
    });
    let breaker = Breaker::new(Limits::new().requests(100));
    group.bench_function("breaker", |b| {
        b.iter(|| breaker.acquire(black_box(Resource::Requests)).unwrap());
    });
    let monitor = Detector::new(Detection::new(), ["a"]).monitor("a").unwrap();
    group.bench_function("outlier", |b| {
        b.iter(|| monitor.record(black_box(Outcome::Success), now, 1));
    });
    let gate = Gate::new(Arc::new(Accrual::new()));
    group.bench_function("gate", |b| b.iter(|| gate.admit(black_box(now)).unwrap().succeed()));
    let budget = Budget::new();
    group.bench_function("budget, request", |b| b.iter(|| budget.request(black_box(now))));
    group.bench_function("budget, retry", |b| b.iter(|| budget.retry(black_box(now))));
    let (policy, call) = (Policy::new(), Call::new(b"GET"));
    let outcome = retry::Outcome::Failure(Failure::Connect);
    group.bench_function("retry", |b| {
        b.iter(|| policy.decide(black_box(&call), &outcome, now, 7, || Some(())).stop());
    });
    group.finish();
}

fn limits(c: &mut Criterion) {
    let mut group = c.benchmark_group("rate");
    let limit = Limit::new(1_000_000, Duration::from_secs(1));
    let mut number = 0;
    let mut now = || {
        number += 1;
        Duration::from_secs(60) + Duration::from_micros(number)
    };
    let bucket = Bucket::new(limit);
    group.bench_function("bucket", |b| b.iter(|| bucket.check(1, now())));
    let table = KeyedBuckets::new(limit, 10_000, 7);
    let names: Vec<String> = (0..1_000)
        .map(|n| format!("spiffe://cluster.local/ns/shop-{n}/sa/cart"))
        .collect();
    let keys: Vec<_> = names.iter().map(|name| table.key(name.as_bytes())).collect();
    let mut keys = keys.into_iter().cycle();
    group.bench_function("one of 1000 clients, by key", |b| {
        b.iter(|| table.check(keys.next().unwrap(), 1, now()));
    });
    let mut next = names.iter().cycle();
    group.bench_function("one of 1000 clients, by name", |b| {
        b.iter(|| table.check(table.key(next.next().unwrap().as_bytes()), 1, now()));
    });
    let locked: Mutex<HashMap<&str, Bucket>> = Mutex::default();
    let mut next = names.iter().cycle();
    group.bench_function("one of 1000 clients, by a locked map", |b| {
        b.iter(|| {
            let mut buckets = locked.lock().unwrap();
            buckets
                .entry(next.next().unwrap())
                .or_insert_with(|| Bucket::new(limit))
                .check(1, now())
        });
    });
    group.finish();
}

fn updates(c: &mut Criterion) {
    let mut group = c.benchmark_group("update");
    for (name, algorithm) in ALGORITHMS {
        let set = set(algorithm, 1_000);
        group.bench_function(BenchmarkId::new("health of 1000", name), |b| {
            b.iter(|| set.with_health(|_| Health::Healthy));
        });
    }
    group.finish();
}

criterion_group! {
    name = all;
    config = Criterion::default().measurement_time(Duration::from_secs(1)).warm_up_time(Duration::from_millis(300)).sample_size(20);
    targets = picks, requests, limits, updates
}
criterion_main!(all);
