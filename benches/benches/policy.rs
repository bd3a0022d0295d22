//! What a decision costs, by the number of policies: compiled, by a linear scan over rules that were
//! parsed before, and by the naive evaluator of the test kit. And what it costs to compile policies
//! and to look for what is wrong with them.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a benchmark ends with its first failure"
)]

use std::hint::black_box;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use mesh_policy::authz::analyze::Analysis;
use mesh_policy::authz::model::{Operation, OperationField, Rule, Source, SourceField};
use mesh_policy::authz::{AuthorizationPolicy, Compiler, Dialect, PolicySet, TrustDomains};
use mesh_policy::{ConnectionFacts, Facts, Known, NormalizedPath, PathNormalization, Peer, RequestFacts};
use mesh_testkit::policy::{Mesh, decide};

const POLICIES: [usize; 3] = [10, 1_000, 10_000];
const RULES: usize = 10;

/// What the policies of a set ask for.
#[derive(Clone, Copy)]
enum Kind {
    /// Peers, addresses and ports.
    L4,
    /// These, and paths, methods and hosts.
    L7,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::L4 => "l4",
            Self::L7 => "l7",
        }
    }

    fn dialect(self) -> Dialect {
        match self {
            Self::L4 => Dialect::Ztunnel,
            Self::L7 => Dialect::EnvoyHttp,
        }
    }
}

/// One in four denies; every rule is about a workload of its own.
fn policy(kind: Kind, number: usize) -> AuthorizationPolicy {
    let (namespace, name) = (format!("ns-{}", number % 100), format!("policy-{number}"));
    let empty = if number % 4 == 3 {
        AuthorizationPolicy::deny(&namespace, &name)
    } else {
        AuthorizationPolicy::allow(&namespace, &name)
    };
    (0..RULES).fold(empty, |policy, rule| policy.rule(self::rule(kind, number, rule)))
}

fn rule(kind: Kind, number: usize, rule: usize) -> Rule {
    let source = Source::new();
    let source = match rule % 5 {
        0 => source.any_of(
            SourceField::Principals,
            [format!("cluster.local/ns/n-{number}/sa/sa-{rule}")],
        ),
        1 => source.any_of(SourceField::Namespaces, [format!("space-{number}-{rule}")]),
        2 => source.any_of(SourceField::ServiceAccounts, [format!("n-{number}/account-{rule}")]),
        3 => source.any_of(
            SourceField::IpBlocks,
            [format!("10.{}.{}.{}/32", number / 256, number % 256, rule)],
        ),
        _ => source.any_of(
            SourceField::Principals,
            [format!("cluster.local/ns/prefix-{number}-{rule}/*")],
        ),
    };
    let operation = Operation::new();
    let operation = match (kind, rule % 2) {
        (Kind::L4, _) => operation.any_of(OperationField::Ports, ["8080"]),
        (Kind::L7, 0) => operation
            .any_of(OperationField::Methods, ["GET", "POST"])
            .any_of(OperationField::Paths, [format!("/service-{number}/method-{rule}")]),
        (Kind::L7, _) => operation
            .any_of(OperationField::Hosts, [format!("service-{number}.example")])
            .any_of(OperationField::Paths, [format!("/service-{number}/tree-{rule}/*")]),
    };
    Rule::new().from(source).to(operation)
}

fn policies(kind: Kind, count: usize) -> Vec<Arc<AuthorizationPolicy>> {
    (0..count).map(|number| Arc::new(policy(kind, number))).collect()
}

fn compile(kind: Kind, policies: &[Arc<AuthorizationPolicy>]) -> PolicySet {
    Compiler::new(kind.dialect()).compile(policies.iter().cloned()).unwrap()
}

/// Which request: one that the first rule of a policy in the middle allows, or one that none does.
#[derive(Clone, Copy)]
enum Aim {
    Hit,
    Miss,
}

impl Aim {
    fn name(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Miss => "miss",
        }
    }
}

/// Hands the facts of a request to a function.
fn with_facts<T>(kind: Kind, aim: Aim, count: usize, function: impl FnOnce(Facts<'_>) -> T) -> T {
    // Divisible by four, so that the policy allows.
    let number = count / 8 * 4;
    let account = match aim {
        Aim::Hit => "sa-0",
        Aim::Miss => "sa-x",
    };
    let peer = Peer::from(
        &format!("spiffe://cluster.local/ns/n-{number}/sa/{account}")
            .parse()
            .unwrap(),
    );
    let source: IpAddr = "192.0.2.1".parse().unwrap();
    let connection = ConnectionFacts::new()
        .peer(Known::Present(&peer))
        .source_ip(source)
        .remote_ip(source)
        .destination_ip(source)
        .destination_port(8080)
        .sni(Known::Absent);
    let mut buffer = Vec::new();
    let target = format!("/service-{number}/method-0");
    let path: NormalizedPath<'_> = PathNormalization::Base
        .normalize(target.as_bytes(), &mut buffer)
        .unwrap();
    let headers = [("user-agent", "bench"), ("accept", "*/*")];
    let host = format!("service-{number}.example");
    let request = RequestFacts::new(connection, b"GET", &headers)
        .authority(Known::Present(host.as_bytes()))
        .path(Known::Present(path))
        .claims(Known::Absent);
    match kind {
        Kind::L4 => function(Facts::from(&connection)),
        Kind::L7 => function(Facts::from(&request)),
    }
}

/// A rule as an evaluator without an index has it: parsed, in a list.
struct Parsed {
    source: Box<dyn Fn(&Facts<'_>) -> bool>,
    operation: Box<dyn Fn(&Facts<'_>) -> bool>,
}

fn parse(kind: Kind, number: usize, rule: usize) -> Parsed {
    let principal = |facts: &Facts<'_>, test: &dyn Fn(&[u8]) -> bool| {
        let peer = facts.peer().present();
        peer.is_some_and(|peer| peer.uris().iter().filter_map(|name| name.principal()).any(test))
    };
    let within = |text: String| text.into_bytes();
    let source: Box<dyn Fn(&Facts<'_>) -> bool> = match rule % 5 {
        0 => {
            let exact = within(format!("cluster.local/ns/n-{number}/sa/sa-{rule}"));
            Box::new(move |facts| principal(facts, &|text| text == exact))
        }
        1 => {
            let part = within(format!("/ns/space-{number}-{rule}/"));
            Box::new(move |facts| principal(facts, &|text| text.windows(part.len()).any(|window| window == part)))
        }
        2 => {
            let end = within(format!("/ns/n-{number}/sa/account-{rule}"));
            Box::new(move |facts| principal(facts, &|text| text.ends_with(&end)))
        }
        3 => {
            let address: IpAddr = format!("10.{}.{}.{rule}", number / 256, number % 256).parse().unwrap();
            Box::new(move |facts| facts.source_ip() == Known::Present(address))
        }
        _ => {
            let start = within(format!("cluster.local/ns/prefix-{number}-{rule}/"));
            Box::new(move |facts| principal(facts, &|text| text.starts_with(&start)))
        }
    };
    let path =
        |facts: &Facts<'_>, test: &dyn Fn(&[u8]) -> bool| facts.path().present().is_some_and(|path| test(path.path()));
    let operation: Box<dyn Fn(&Facts<'_>) -> bool> = match (kind, rule % 2) {
        (Kind::L4, _) => Box::new(|facts| facts.destination_port() == Known::Present(8080)),
        (Kind::L7, 0) => {
            let exact = within(format!("/service-{number}/method-{rule}"));
            Box::new(move |facts| path(facts, &|text| text == exact))
        }
        (Kind::L7, _) => {
            let start = within(format!("/service-{number}/tree-{rule}/"));
            Box::new(move |facts| path(facts, &|text| text.starts_with(&start)))
        }
    };
    Parsed { source, operation }
}

/// Denials first, then what allows.
fn scan(rules: &[Vec<Parsed>], facts: &Facts<'_>) -> bool {
    let matches = |denies: bool| {
        let of_kind = rules
            .iter()
            .enumerate()
            .filter(move |(number, _)| (number % 4 == 3) == denies);
        let mut rules = of_kind.flat_map(|(_, rules)| rules);
        rules.any(|rule| (rule.source)(facts) && (rule.operation)(facts))
    };
    !matches(true) && matches(false)
}

fn decisions(c: &mut Criterion) {
    for kind in [Kind::L4, Kind::L7] {
        for count in POLICIES {
            let policies = policies(kind, count);
            let set = compile(kind, &policies);
            let plain: Vec<_> = policies
                .iter()
                .map(|policy| AuthorizationPolicy::clone(policy))
                .collect();
            let parsed: Vec<Vec<_>> = (0..count)
                .map(|number| (0..RULES).map(|rule| parse(kind, number, rule)).collect())
                .collect();
            let mesh = Mesh {
                dialect: kind.dialect(),
                trust_domains: TrustDomains::default(),
            };
            for aim in [Aim::Hit, Aim::Miss] {
                let mut group = c.benchmark_group(format!("decide {} {}", kind.name(), aim.name()));
                with_facts(kind, aim, count, |facts| {
                    group.bench_function(BenchmarkId::new("compiled", count), |b| {
                        b.iter(|| set.decide(black_box(facts)));
                    });
                    group.bench_function(BenchmarkId::new("linear scan", count), |b| {
                        b.iter(|| scan(&parsed, black_box(&facts)));
                    });
                    group.bench_function(BenchmarkId::new("naive", count), |b| {
                        b.iter(|| decide(&plain, &mesh, black_box(&facts)));
                    });
                });
                group.finish();
            }
        }
    }
}

fn compilation(c: &mut Criterion) {
    let mut group = c.benchmark_group("compile");
    for kind in [Kind::L4, Kind::L7] {
        let policies = policies(kind, POLICIES[2]);
        group.bench_function(format!("{} 10000 policies", kind.name()), |b| {
            b.iter_with_large_drop(|| compile(kind, &policies));
        });
        let set = compile(kind, &policies);
        let changed = Arc::new(policy(kind, 5_000).dry_run(true));
        group.bench_function(format!("{} one of 10000 policies", kind.name()), |b| {
            b.iter(|| set.with([Arc::clone(&changed)]).unwrap());
        });
    }
    group.finish();
}

fn analysis(c: &mut Criterion) {
    let mut group = c.benchmark_group("lint");
    for kind in [Kind::L4, Kind::L7] {
        let policies = policies(kind, POLICIES[2]);
        let analysis = Analysis::new(Compiler::new(kind.dialect()));
        group.bench_function(format!("{} 10000 policies", kind.name()), |b| {
            b.iter_with_large_drop(|| {
                let report = analysis.run(policies.iter().cloned()).unwrap();
                assert!(report.is_complete());
                report
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = all;
    config = Criterion::default().measurement_time(Duration::from_secs(2)).warm_up_time(Duration::from_millis(500)).sample_size(10);
    targets = decisions, compilation, analysis
}
criterion_main!(all);
