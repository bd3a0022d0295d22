//! The table of routes against a slow and obvious one, and laws that both obey.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "test code"
)]

use std::sync::Arc;

use mesh_policy::{
    Budget, Resource,
    traffic::{
        Backend, Cors, FieldName, Fraction, GrpcMatch, HeaderMatch, HeaderTest, HostPattern, Mirror, OriginMatch,
        PathMatch, Pattern, QueryMatch, Regex, Route, RouteKind, RouteMatch, RouteTable, Rule, SegmentPrefix, Step,
        Target,
    },
};
use mesh_testkit::routes::{Asked, find};
use proptest::{collection::vec, option, prelude::*, sample::select};

/// Few values of each kind, so that rules meet requests and each other.
const HOSTS: [&str; 7] = ["*", "*.b", "*.a.b", "a.b", "c.a.b", "b", "*.c.a.b"];
const REQUEST_HOSTS: [&str; 8] = ["a.b", "A.b:80", "c.a.b", "x.c.a.b", "b", "b.b", "other", "[::1]:80"];
const PATHS: [&str; 7] = ["/", "/a", "/a/", "/a/b", "/ab", "/a/b/c", "/A/b"];
const EXPRESSIONS: [&str; 4] = ["/a.*", "/(a|b)/b", "/[^/]*", ".*c"];
const CALLS: [&str; 3] = ["a", "b", "ab"];
const VALUES: [&str; 4] = ["1", "2", "1,2", ""];
const METHODS: [&str; 3] = ["GET", "PUT", "POST"];
const TIMES: [Option<&str>; 3] = [None, Some("2026-01-01T00:00:00Z"), Some("2025-01-01T00:00:00Z")];
const NAMES: [(&str, &str); 4] = [("a", "x"), ("a-b", "x"), ("a", "y"), ("b", "a")];

fn patterns(values: &'static [&'static str]) -> impl Strategy<Value = Pattern> {
    prop_oneof![
        4 => select(values).prop_map(|text| Pattern::Exact(text.into())),
        1 => select(values).prop_map(|text| Pattern::Prefix(text.into())),
        1 => select(values).prop_map(|text| Pattern::Regex(Regex::new(&format!("{text}.?")).unwrap())),
    ]
}

fn paths(kind: RouteKind) -> BoxedStrategy<PathMatch> {
    let exact = select(&PATHS[..]).prop_map(|path| PathMatch::Exact(path.into()));
    let segments = select(&PATHS[..]).prop_map(|path| PathMatch::Segments(SegmentPrefix::new(path).unwrap()));
    let regex = select(&EXPRESSIONS[..]).prop_map(|text| PathMatch::Regex(Regex::new(text).unwrap()));
    let call = (option::of(patterns(&CALLS)), option::of(patterns(&CALLS)))
        .prop_map(|(service, method)| PathMatch::Grpc(GrpcMatch::new(service, method)));
    match kind {
        RouteKind::Http => prop_oneof![exact, segments, regex].boxed(),
        RouteKind::Grpc => call.boxed(),
        RouteKind::VirtualService => prop_oneof![
            exact,
            regex,
            select(&PATHS[..]).prop_map(|path| PathMatch::Prefix(path.into())),
            select(&PATHS[..]).prop_map(|path| PathMatch::ExactInAnyCase(path.into())),
            select(&PATHS[..]).prop_map(|path| PathMatch::PrefixInAnyCase(path.into())),
        ]
        .boxed(),
    }
}

fn header_matches() -> impl Strategy<Value = HeaderMatch> {
    let tests = prop_oneof![
        Just(HeaderTest::Present),
        Just(HeaderTest::Absent),
        patterns(&VALUES).prop_map(HeaderTest::Is),
        patterns(&VALUES).prop_map(HeaderTest::IsNot),
    ];
    (select(&["x", "Y"][..]), tests).prop_map(|(name, test)| HeaderMatch {
        name: FieldName::new(name).unwrap(),
        test,
    })
}

fn query_matches() -> impl Strategy<Value = QueryMatch> {
    (select(&["q", "r"][..]), option::of(patterns(&VALUES))).prop_map(|(name, value)| QueryMatch {
        name: name.into(),
        value,
    })
}

prop_compose! {
    fn route_matches(kind: RouteKind)(
        path in option::weighted(0.8, paths(kind)),
        method in option::weighted(0.3, patterns(&METHODS)),
        headers in vec(header_matches(), 0..3),
        query in vec(query_matches(), 0..2),
        rest in (option::weighted(0.1, select(&[80_u16, 81][..])), option::weighted(0.1, select(&["n", "m"][..]))),
    ) -> RouteMatch {
        let mut asked = RouteMatch::default();
        asked.path = path;
        asked.method = method;
        asked.headers = headers;
        asked.query = query;
        asked.port = rest.0;
        asked.source_namespace = rest.1.map(Into::into);
        asked
    }
}

fn kinds() -> impl Strategy<Value = RouteKind> {
    prop_oneof![
        4 => Just(RouteKind::Http),
        3 => Just(RouteKind::Grpc),
        1 => Just(RouteKind::VirtualService),
    ]
}

fn routes() -> impl Strategy<Value = Vec<Arc<Route>>> {
    let route = kinds().prop_flat_map(|kind| {
        let rules = vec(vec(route_matches(kind), 0..3), 1..4);
        (Just(kind), rules, vec(select(&HOSTS[..]), 0..3), select(&TIMES[..]))
    });
    vec(route, 1..=NAMES.len()).prop_map(|routes| {
        let named = routes.into_iter().zip(NAMES);
        named
            .map(|((kind, rules, hosts, created), (namespace, name))| {
                let mut route = Route::new(kind, namespace, name);
                route.created = created.map(Into::into);
                route.hosts = hosts.iter().map(|host| host.parse().unwrap()).collect();
                route.hosts.dedup();
                for matches in rules {
                    let mut rule = Rule::default();
                    rule.matches = matches;
                    route.rules.push(rule);
                }
                Arc::new(route)
            })
            .collect()
    })
}

prop_compose! {
    fn requests()(
        method in select(&METHODS[..]),
        host in select(&REQUEST_HOSTS[..]),
        path in prop_oneof![select(&PATHS[..]), select(&["/a/ab", "/b/b", "/x", "/ab/a/b"][..])],
        query in vec((select(&["q", "r", "qr"][..]), option::of(select(&VALUES[..]))), 0..3),
        headers in vec((select(&["x", "X", "y", "z"][..]), select(&VALUES[..])), 0..4),
        namespace in option::of(select(&["n", "m"][..])),
        port in select(&[80, 81][..]),
    ) -> Asked {
        let query: Vec<String> = query
            .into_iter()
            .map(|(name, value)| value.map_or(name.to_owned(), |value| format!("{name}={value}")))
            .collect();
        let target = if query.is_empty() { path.to_owned() } else { format!("{path}?{}", query.join("&")) };
        let headers = headers.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Asked {
            method: method.to_owned(),
            host: host.to_owned(),
            target,
            headers,
            namespace: namespace.map(str::to_owned),
            port,
        }
    }
}

fn table(routes: &[Arc<Route>]) -> RouteTable {
    RouteTable::new(routes.to_vec(), &Budget::new())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn table_and_naive_decide_alike(routes in routes(), requests in vec(requests(), 24)) {
        let table = table(&routes);
        for asked in requests {
            prop_assert_eq!(asked.decide(&table), find(&routes, &asked), "{:?}", asked);
        }
    }

    #[test]
    fn the_order_of_routes_is_irrelevant(routes in routes(), requests in vec(requests(), 8)) {
        let before = table(&routes);
        let reversed: Vec<_> = routes.iter().rev().cloned().collect();
        let after = table(&reversed);
        for asked in requests {
            prop_assert_eq!(asked.decide(&before), asked.decide(&after));
        }
    }

    #[test]
    fn what_was_chosen_matches(routes in routes(), requests in vec(requests(), 8)) {
        let table = table(&routes);
        for asked in requests {
            if let Some((_, _, matched)) = asked.decide(&table) {
                prop_assert!(asked.with(|request| matched.matches(request)));
            }
        }
    }
}

/// A number of draws, the same each time.
fn draws() -> impl FnMut() -> u64 {
    let mut drawn = 0_u64;
    move || {
        drawn = drawn.wrapping_add(0x6a09_e667_f3bc_c909);
        drawn
    }
}

#[test]
fn deciding_and_planning_allocate_nothing() {
    use proptest::{strategy::ValueTree, test_runner::TestRunner};
    let mut runner = TestRunner::deterministic();
    let mut forwarded = 0;
    for _ in 0..60 {
        let mut routes = routes().new_tree(&mut runner).unwrap().current();
        for rule in routes.iter_mut().flat_map(|route| &mut Arc::make_mut(route).rules) {
            let target = |port| Target::service("n", "a", port);
            rule.backends = [1, 2].map(|port| Backend::new(target(port))).into_iter().collect();
            rule.filters.cors = Some(Cors::new(vec![OriginMatch::Any]).into());
            rule.filters.mirrors = vec![Mirror::new(target(3), Fraction::new(1, 2).unwrap())];
        }
        let table = table(&routes);
        for _ in 0..16 {
            let asked = requests().new_tree(&mut runner).unwrap().current();
            let allocations = asked.with(|request| {
                allocation_counter::measure(|| {
                    let Some(choice) = table.decide(request) else { return };
                    let Step::Forward(forward) = choice.plan(request, draws()).step else {
                        return;
                    };
                    forwarded += 1 + forward.mirrors.iter().count();
                })
            });
            assert_eq!(allocations.count_total, 0, "{asked:?}");
        }
    }
    assert!(forwarded > 100, "{forwarded}");
}

/// A route of this name whose only rule asks for an expression on so many headers.
fn of_expression(name: &str, regex: &Regex, headers: usize) -> Arc<Route> {
    let mut asked = RouteMatch::default();
    asked.headers = (0..headers)
        .map(|number| HeaderMatch {
            name: FieldName::new(&format!("x-{number}")).unwrap(),
            test: HeaderTest::Is(Pattern::Regex(regex.clone())),
        })
        .collect();
    let mut rule = Rule::default();
    rule.matches = vec![asked];
    let mut route = Route::new(RouteKind::Http, "n", name);
    route.rules = vec![rule];
    Arc::new(route)
}

#[test]
fn an_expression_is_charged_once_however_often_it_is_used() {
    let (shared, other) = (Regex::new("[a-z]+").unwrap(), Regex::new("[a-z]+x").unwrap());
    let once = of_expression("a", &shared, 1);
    let needed = (1..1 << 20)
        .find(|bytes| {
            let budget = Budget::new().with_limit(Resource::ExpressionBytes, *bytes);
            RouteTable::new([Arc::clone(&once)], &budget).refused().is_empty()
        })
        .unwrap();
    let budget = Budget::new().with_limit(Resource::ExpressionBytes, needed);
    let often = [of_expression("a", &shared, 16), of_expression("b", &shared, 16)];
    assert!(RouteTable::new(often.clone(), &budget).refused().is_empty());
    let [one, two] = often;
    let table = RouteTable::new([of_expression("c", &other, 1), two, one], &budget);
    let refused: Vec<_> = table
        .refused()
        .iter()
        .map(|refused| (&*refused.route.id.name, refused.over.resource))
        .collect();
    assert_eq!(refused, [("c", Resource::ExpressionBytes)]);
}

#[test]
fn what_is_beyond_the_budget_is_refused_alone_and_the_youngest_first() {
    let route = |name: &str, rules: usize| {
        let mut route = Route::new(RouteKind::Http, "n", name);
        route.rules = vec![Rule::default(); rules];
        route.hosts = ["a", "b"].map(|host| host.parse::<HostPattern>().unwrap()).to_vec();
        Arc::new(route)
    };
    let budget = Budget::new().with_limit(Resource::SetItems, 7);
    let mut old = Route::clone(&route("z", 2));
    old.created = Some("2020-01-01T00:00:00Z".into());
    let table = RouteTable::new([route("b", 1), route("a", 2), Arc::new(old)], &budget);
    let names = |routes: Vec<&Arc<Route>>| routes.iter().map(|route| route.id.name.to_string()).collect::<Vec<_>>();
    assert_eq!(names(table.routes().iter().collect()), ["z", "b"]);
    assert_eq!(
        names(table.refused().iter().map(|refused| &refused.route).collect()),
        ["a"]
    );
}
