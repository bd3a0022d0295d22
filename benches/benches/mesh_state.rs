//! The state of a mesh: what it takes in memory, what a change costs, and what a question costs.
//!
//! ```text
//! cargo bench -p mesh-benches --bench mesh_state
//! ```
//!
//! Memory is printed before the timings: bytes that are allocated and not freed, for each workload,
//! with the services and indexes that belong to them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    missing_docs,
    reason = "a benchmark ends with its first failure"
)]

use std::hint::black_box;
use std::net::IpAddr;
use std::sync::Arc;

use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use mesh_benches::mesh::{WORKLOADS_PER_SERVICE, pod, service, vip, workload};
use mesh_xds::resolve::{Query, Target, resolve};
use mesh_xds::store::{NetworkAddress, Snapshot, Store};

/// What the largest mesh of the timings has; the memory is told for more sizes.
const SIZES: [u32; 3] = [1_000, 10_000, 100_000];

fn mesh(workloads: u32) -> Store {
    let mut store = Store::new();
    for number in 0..workloads / WORKLOADS_PER_SERVICE {
        store.insert_service(&service(number)).unwrap();
    }
    for number in 0..workloads {
        store.insert_workload(&workload(number)).unwrap();
    }
    store
}

/// Resident memory of the process, in bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .expect("a resident size");
    line.split_whitespace()
        .nth(1)
        .expect("a number")
        .parse::<u64>()
        .expect("kilobytes")
        * 1024
}

fn memory(_: &mut Criterion) {
    let before = resident();
    let store = mesh(100_000);
    let bytes = resident() - before;
    eprintln!(
        "memory: {} bytes for each of 100000 workloads (resident), limit 1024",
        bytes / 100_000
    );
    drop(black_box(store));
}

fn apply(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("apply");
    for size in SIZES {
        let mut store = mesh(size);
        // Somebody looks, so that each change has to copy its way.
        let mut readers: Vec<Snapshot> = vec![store.snapshot()];
        let mut changed = workload(size / 2);
        let mut health = 0;
        group.bench_function(BenchmarkId::new("one workload", size), |bencher| {
            bencher.iter(|| {
                health = 1 - health;
                changed.status = health;
                store.insert_workload(&changed).unwrap();
                readers[0] = store.snapshot();
            });
        });
    }
    group.sample_size(10);
    for size in [1_000, 10_000] {
        group.bench_function(BenchmarkId::new("whole mesh", size), |bencher| {
            bencher.iter_batched(|| (), |()| mesh(size), BatchSize::PerIteration);
        });
    }
    group.finish();
}

fn questions(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("question");
    for size in SIZES {
        let snapshot = mesh(size).snapshot();
        let network: Arc<str> = "".into();
        let addresses: Vec<_> = (0..1024)
            .map(|step| NetworkAddress {
                network: Arc::clone(&network),
                address: IpAddr::V4(pod((step * 7919) % size)),
            })
            .collect();
        let mut turn = 0;
        group.bench_function(BenchmarkId::new("workload at one address", size), |bencher| {
            bencher.iter(|| snapshot.workload_at(black_box(&addresses[1])).unwrap());
        });
        group.bench_function(BenchmarkId::new("workload at one of 1024 addresses", size), |bencher| {
            bencher.iter(|| {
                turn = (turn + 1) % addresses.len();
                snapshot.workload_at(black_box(&addresses[turn])).unwrap()
            });
        });
        let source = snapshot.workload_at(&addresses[0]).unwrap();
        let services = size / WORKLOADS_PER_SERVICE;
        let queries: Vec<_> = (0..1024_u32)
            .map(|step| {
                let target = Target::Address(IpAddr::V4(vip((step * 7919) % services)));
                Query::new(source, target, 80, u64::from(step).wrapping_mul(0x9e37_79b9_7f4a_7c15))
            })
            .collect();
        group.bench_function(BenchmarkId::new("route to one service", size), |bencher| {
            bencher.iter(|| resolve(&snapshot, black_box(&queries[1])).unwrap());
        });
        // Each from memory rather than from the processor's caches, as far as the mesh is larger.
        group.bench_function(BenchmarkId::new("route to one of 1024 services", size), |bencher| {
            bencher.iter(|| {
                turn = (turn + 1) % queries.len();
                resolve(&snapshot, black_box(&queries[turn])).unwrap()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, memory, apply, questions);
criterion_main!(benches);
