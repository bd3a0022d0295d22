//! The state of a mesh: what it takes in memory, what a change costs, and what a question costs.
//!
//! ```text
//! cargo bench -p mesh-benches --bench mesh_state
//! ```
//!
//! A table comes before the timings: for meshes of four sizes the resident bytes for each workload,
//! with the services and indexes that belong to them; how long the whole mesh takes, and the change
//! of one workload while somebody looks; and what a question for an address and the route to a
//! service take, each for one of 16, which the processor has at hand, and for one of 1024, which it
//! has to fetch.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    missing_docs,
    reason = "a benchmark ends with its first failure"
)]

use std::fmt;
use std::hint::black_box;
use std::net::IpAddr;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group};
use mesh_benches::mesh::{WORKLOADS_PER_SERVICE, pod, service, vip, workload};
use mesh_xds::resolve::{Query, Target, resolve};
use mesh_xds::store::{NetworkAddress, Snapshot, Store};
use tokio::time::Instant;

/// Workloads of the meshes.
const SIZES: [u32; 3] = [1_000, 10_000, 100_000];
const TABLE_SIZES: [u32; 4] = [1_000, 10_000, 100_000, 500_000];

/// In the environment, the size of the only mesh to measure.
const SIZE: &str = "MESH_STATE_SIZE";

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

/// What a mesh of one size takes.
#[derive(Debug)]
struct Row {
    workloads: u32,
    /// Resident bytes for each workload, with its share of services and indexes.
    bytes: u64,
    whole: Duration,
    change: Duration,
    /// A lookup, and a route, among few destinations and among many.
    lookups: [Duration; 2],
    routes: [Duration; 2],
}

/// How many destinations are few, and how many are many.
const DESTINATIONS: [usize; 2] = [16, 1024];

impl Row {
    fn measure(workloads: u32) -> Self {
        let before = resident();
        let mut store = Store::new();
        let mut whole = Duration::ZERO;
        for number in 0..workloads / WORKLOADS_PER_SERVICE {
            let service = service(number);
            whole += time(|| store.insert_service(&service).unwrap());
        }
        for number in 0..workloads {
            let workload = workload(number);
            whole += time(|| store.insert_workload(&workload).unwrap());
        }
        let bytes = resident().saturating_sub(before) / u64::from(workloads);
        let mut reader = store.snapshot();
        let change = best_of_nine(1_000, |turn| {
            let mut changed = workload(turn.wrapping_mul(7919) % workloads);
            changed.status = 1;
            // Somebody looks, so that each change has to copy its way.
            time(|| {
                store.insert_workload(&changed).unwrap();
                reader = store.snapshot();
            })
        });
        let network: Arc<str> = "".into();
        let address = |turn: u32| NetworkAddress {
            network: Arc::clone(&network),
            address: IpAddr::V4(pod(turn.wrapping_mul(7919) % workloads)),
        };
        let addresses: Vec<_> = (0..1024).map(address).collect();
        let source = reader.workload_at(&addresses[0]).unwrap();
        let services = workloads / WORKLOADS_PER_SERVICE;
        let query = |turn: u32| {
            let target = Target::Address(IpAddr::V4(vip(turn.wrapping_mul(7919) % services)));
            Query::new(source, target, 80, u64::from(turn).wrapping_mul(0x9e37_79b9_7f4a_7c15))
        };
        let queries: Vec<_> = (0..1024).map(query).collect();
        Self {
            workloads,
            bytes,
            whole,
            change,
            lookups: DESTINATIONS.map(|few| {
                each(addresses.get(..few).unwrap_or(&addresses), |address| {
                    reader.workload_at(black_box(address)).is_some()
                })
            }),
            routes: DESTINATIONS.map(|few| {
                each(queries.get(..few).unwrap_or(&queries), |query| {
                    resolve(&reader, black_box(query)).is_ok()
                })
            }),
        }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = |time: Duration| time.as_secs_f64() * 1e6;
        write!(
            f,
            "{:>9}{:>9}{:>12.1}{:>12.2}{:>9.0}{:>9.0}{:>10.0}{:>10.0}",
            self.workloads,
            self.bytes,
            micros(self.whole) / 1e3,
            micros(self.change),
            micros(self.lookups[0]) * 1e3,
            micros(self.lookups[1]) * 1e3,
            micros(self.routes[0]) * 1e3,
            micros(self.routes[1]) * 1e3
        )
    }
}

/// What a question takes that is put to each destination in turn.
fn each<T>(destinations: &[T], ask: impl Fn(&T) -> bool) -> Duration {
    best_of_nine(1, |_| {
        time(|| {
            for destination in destinations.iter().cycle().take(100_000) {
                black_box(ask(destination));
            }
        }) / 100_000
    })
}

/// The least of nine means of some runs: machines are noisy, and noise only adds.
fn best_of_nine(runs: u32, mut run: impl FnMut(u32) -> Duration) -> Duration {
    let mean = |round: u32| (0..runs).map(|at| run(round * runs + at)).sum::<Duration>() / runs;
    (0..9).map(mean).min().unwrap_or_default()
}

fn time(run: impl FnOnce()) -> Duration {
    let began = Instant::now();
    run();
    began.elapsed()
}

/// One process for each size, so that none has the memory of another.
fn table(sizes: &[u32]) {
    eprintln!("workloads  bytes/w    whole ms   change us  at ns:16   1024  route ns:16  1024");
    for size in sizes {
        let program = std::env::current_exe().expect("a path");
        let row = Command::new(program).env(SIZE, size.to_string()).output();
        eprint!("{}", String::from_utf8_lossy(&row.expect("a row").stderr));
    }
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

criterion_group!(benches, apply, questions);

fn main() {
    if let Ok(size) = std::env::var(SIZE) {
        eprintln!("{}", Row::measure(size.parse().expect("a number")));
        return;
    }
    // As a test it only has to run.
    let is_test = std::env::args().any(|arg| arg == "--test");
    table(if is_test { &SIZES[..1] } else { &TABLE_SIZES });
    benches();
    Criterion::default().configure_from_args().final_summary();
}
