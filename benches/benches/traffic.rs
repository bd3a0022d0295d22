//! What it costs to find the route of a request, by the number of routes: in a table, and by a linear
//! scan over matches that were sorted before.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a benchmark ends with its first failure"
)]

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use mesh_policy::traffic::{
    FieldName, HeaderMatch, HeaderTest, PathMatch, Pattern, Route, RouteKind, RouteMatch, RouteRequest, RouteTable,
    Rule, SegmentPrefix,
};
use mesh_policy::{Budget, ConnectionFacts, Known, PathNormalization, RequestFacts};

const ROUTES: [usize; 3] = [10, 100, 1_000];

/// What the routes of a table have in common.
#[derive(Clone, Copy)]
enum Kind {
    /// Each is for a host of its own.
    Hosts,
    /// Each is for a path of its own, an exact one or a prefix, of one host.
    Paths,
    /// As for paths, and each rule asks for a method and a header.
    Headers,
}

impl Kind {
    const ALL: [(&str, Self); 3] = [
        ("hosts", Self::Hosts),
        ("paths", Self::Paths),
        ("headers", Self::Headers),
    ];

    fn route(self, number: usize) -> Arc<Route> {
        let mut route = Route::new(RouteKind::Http, "shop", &format!("route-{number}"));
        let host = match self {
            Self::Hosts => format!("host-{number}.example.com"),
            Self::Paths | Self::Headers => "shop.example.com".to_owned(),
        };
        route.hosts = vec![host.parse().unwrap()];
        for is_exact in [true, false] {
            let path = format!("/api/v1/service-{number}/items");
            let mut asked = RouteMatch::default();
            asked.path = Some(if is_exact {
                PathMatch::Exact(path.into())
            } else {
                PathMatch::Segments(SegmentPrefix::new(&path).unwrap())
            });
            if matches!(self, Self::Headers) {
                let name = FieldName::new("x-tier").unwrap();
                let test = HeaderTest::Is(Pattern::Exact("gold".into()));
                asked.method = Some(Pattern::Exact("GET".into()));
                asked.headers.push(HeaderMatch { name, test });
            }
            let mut rule = Rule::default();
            rule.matches.push(asked);
            route.rules.push(rule);
        }
        Arc::new(route)
    }

    fn host(self, number: usize) -> String {
        match self {
            Self::Hosts => format!("host-{number}.example.com:8080"),
            Self::Paths | Self::Headers => "shop.example.com:8080".to_owned(),
        }
    }
}

fn decide(criterion: &mut Criterion) {
    for (name, kind) in Kind::ALL {
        let mut group = criterion.benchmark_group(format!("route_{name}"));
        for count in ROUTES {
            let routes: Vec<_> = (0..count).map(|number| kind.route(number)).collect();
            let table = RouteTable::new(routes.clone(), &Budget::new());
            let linear: Vec<_> = routes
                .iter()
                .flat_map(|route| {
                    route
                        .rules
                        .iter()
                        .map(|rule| (route.hosts[0].clone(), rule.matches[0].clone()))
                })
                .collect();
            let number = count / 2;
            for (outcome, target) in [
                ("exact", format!("/api/v1/service-{number}/items")),
                ("prefix", format!("/api/v1/service-{number}/items/4711?sort=age")),
                ("miss", format!("/api/v2/service-{number}/items/4711")),
            ] {
                let host = kind.host(number);
                let headers = HEADERS;
                let mut buffer = Vec::new();
                let path = PathNormalization::Base
                    .normalize(target.as_bytes(), &mut buffer)
                    .unwrap();
                let facts = RequestFacts::new(ConnectionFacts::new(), b"GET", &headers)
                    .authority(Known::Present(host.as_bytes()))
                    .path(Known::Present(path));
                let request = RouteRequest::new(&facts).port(8080).scheme(b"http");
                assert_eq!(table.decide(&request).is_some(), outcome != "miss");
                group.bench_function(BenchmarkId::new(outcome, count), |bencher| {
                    bencher.iter(|| black_box(table.decide(black_box(&request))));
                });
                group.bench_function(BenchmarkId::new(format!("{outcome}_linear"), count), |bencher| {
                    bencher.iter(|| {
                        let request = black_box(&request);
                        let host = request.host().unwrap();
                        let mut all = linear.iter();
                        black_box(all.find(|(pattern, asked)| pattern.matches(host) && asked.matches(request)))
                    });
                });
            }
        }
        group.finish();
    }
}

/// As many as a browser sends.
const HEADERS: [(&str, &str); 8] = [
    ("user-agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36"),
    ("accept", "text/html,application/xhtml+xml"),
    ("accept-language", "en-GB,en;q=0.9"),
    ("accept-encoding", "gzip, deflate, br"),
    ("x-request-id", "f3c9b2a0-0c4b-4be8-9f0e-5a2f6d3f2b11"),
    ("x-tier", "gold"),
    ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
    ("cookie", "session=abcdef0123456789"),
];

fn build(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("route_table");
    for count in ROUTES {
        let routes: Vec<_> = (0..count).map(|number| Kind::Headers.route(number)).collect();
        group.bench_function(BenchmarkId::from_parameter(count), |bencher| {
            bencher.iter(|| RouteTable::new(routes.clone(), &Budget::new()));
        });
    }
    group.finish();
}

criterion_group!(benches, decide, build);
criterion_main!(benches);
