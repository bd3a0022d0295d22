//! The table of routes against a slow and obvious one, and laws that both obey.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "test code"
)]

use std::{cmp::Ordering, sync::Arc};

use mesh_policy::{
    Budget, ConnectionFacts, Known, PathNormalization, Peer, RequestFacts, Resource,
    traffic::{
        Backend, Cors, FieldName, Fraction, GrpcMatch, HeaderMatch, HeaderTest, HostPattern, Mirror, OriginMatch,
        PathMatch, Pattern, QueryMatch, Regex, Route, RouteKind, RouteMatch, RouteRequest, RouteTable, Rule,
        SegmentPrefix, Step, Target,
    },
};
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
        1 => Just(RouteKind::Grpc),
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

/// A request that holds its parts.
#[derive(Clone, Debug)]
struct Asked {
    method: &'static str,
    host: &'static str,
    target: String,
    headers: Vec<(&'static str, &'static str)>,
    namespace: Option<&'static str>,
    port: u16,
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
        Asked { method, host, target, headers, namespace, port }
    }
}

impl Asked {
    fn with<T>(&self, ask: impl FnOnce(&RouteRequest<'_>) -> T) -> T {
        let id = self
            .namespace
            .map(|namespace| format!("spiffe://t/ns/{namespace}/sa/s"));
        let peer = id.map(|id| Peer::from(&id.parse().unwrap()));
        let mut buffer = Vec::new();
        let path = PathNormalization::Base
            .normalize(self.target.as_bytes(), &mut buffer)
            .unwrap();
        let connection = ConnectionFacts::new().peer(peer.as_ref().into());
        let facts = RequestFacts::new(connection, self.method.as_bytes(), &self.headers)
            .authority(Known::Present(self.host.as_bytes()))
            .path(Known::Present(path));
        ask(&RouteRequest::new(&facts).port(self.port))
    }

    fn decide(&self, table: &RouteTable) -> Option<(String, usize, RouteMatch)> {
        self.with(|request| {
            let choice = table.decide(request)?;
            let matched = choice.matched().clone();
            Some((choice.route().id.to_string(), choice.rule_index(), matched))
        })
    }
}

/// Finds the rule by comparing each with each.
fn naive(routes: &[Arc<Route>], asked: &Asked) -> Option<(String, usize, RouteMatch)> {
    let host = asked
        .host
        .strip_suffix(":80")
        .unwrap_or(asked.host)
        .to_ascii_lowercase();
    let mut hosts: Vec<String> = routes.iter().flat_map(|route| naive_hosts(route)).collect();
    hosts.retain(|pattern| match pattern.strip_prefix('*') {
        Some(suffix) => host.len() > suffix.len() && host.ends_with(suffix) || suffix.is_empty(),
        None => *pattern == host,
    });
    hosts.sort_by_key(|pattern| (pattern.starts_with('*'), std::cmp::Reverse(pattern.len())));
    hosts.dedup();
    for pattern in hosts {
        let mut rules = Vec::new();
        let mut has_virtual_service = false;
        for route in routes.iter().filter(|route| naive_hosts(route).contains(&pattern)) {
            has_virtual_service |= route.id.kind == RouteKind::VirtualService;
            for (at, rule) in route.rules.iter().enumerate() {
                let all = vec![RouteMatch::default()];
                let matches = if rule.matches.is_empty() { &all } else { &rule.matches };
                rules.extend(matches.iter().map(|one| (route, at, one.clone())));
            }
        }
        // Stable, so that what is alike stays in the order of rules.
        rules.sort_by(|one, other| naive_order((one.0, &one.2), (other.0, &other.2)));
        if let Some((route, at, one)) = rules.into_iter().find(|(_, _, one)| naive_matches(one, asked)) {
            return Some((route.id.to_string(), at, one));
        }
        if has_virtual_service {
            return None;
        }
    }
    None
}

fn naive_hosts(route: &Route) -> Vec<String> {
    let hosts: Vec<String> = route.hosts.iter().map(ToString::to_string).collect();
    if hosts.is_empty() { vec!["*".to_owned()] } else { hosts }
}

fn naive_order(one: (&Arc<Route>, &RouteMatch), other: (&Arc<Route>, &RouteMatch)) -> Ordering {
    let kinds = [RouteKind::Grpc, RouteKind::Http, RouteKind::VirtualService];
    let kind = |route: &Route| kinds.iter().position(|kind| *kind == route.id.kind).unwrap();
    let by_kind = kind(one.0).cmp(&kind(other.0));
    let scores = |(route, asked): (&Arc<Route>, &RouteMatch)| -> Vec<usize> {
        let length = |pattern: &Option<Pattern>| match pattern {
            None => 0,
            Some(Pattern::Exact(text) | Pattern::Prefix(text)) => text.len(),
            Some(Pattern::Regex(regex)) => regex.as_str().len(),
            Some(_) => unreachable!(),
        };
        match (route.id.kind, &asked.path) {
            (RouteKind::VirtualService, _) => vec![],
            (RouteKind::Grpc, Some(PathMatch::Grpc(call))) => {
                vec![length(&call.service), length(&call.method), asked.headers.len()]
            }
            (RouteKind::Grpc, _) => vec![0, 0, asked.headers.len()],
            (RouteKind::Http, path) => {
                let (class, length) = match path {
                    Some(PathMatch::Exact(_)) => (3, 0),
                    Some(PathMatch::Segments(prefix)) => (2, prefix.as_str().len()),
                    None => (2, 0),
                    Some(PathMatch::Regex(regex)) => (1, regex.as_str().len()),
                    Some(_) => unreachable!(),
                };
                vec![
                    class,
                    length,
                    asked.method.is_some().into(),
                    asked.headers.len(),
                    asked.query.len(),
                ]
            }
        }
    };
    let age = |route: &Route| route.created.clone().unwrap_or_else(|| "9999".into());
    let name = |route: &Route| format!("{}/{}", route.id.namespace, route.id.name);
    by_kind
        .then_with(|| scores(other).cmp(&scores(one)))
        .then_with(|| age(one.0).cmp(&age(other.0)))
        .then_with(|| name(one.0).cmp(&name(other.0)))
}

fn naive_matches(one: &RouteMatch, asked: &Asked) -> bool {
    let (path, query) = asked.target.split_once('?').unwrap_or((&asked.target, ""));
    let is_path = match &one.path {
        None => true,
        Some(PathMatch::Exact(value)) => **value == *path,
        Some(PathMatch::Segments(prefix)) => format!("{path}/").starts_with(&format!("{}/", prefix.as_str())),
        Some(PathMatch::Prefix(value)) => path.starts_with(&**value),
        Some(PathMatch::ExactInAnyCase(value)) => value.to_lowercase() == path.to_lowercase(),
        Some(PathMatch::PrefixInAnyCase(value)) => path.to_lowercase().starts_with(&value.to_lowercase()),
        Some(PathMatch::Regex(regex)) => regex.matches(path.as_bytes()),
        Some(PathMatch::Grpc(call)) => match path.split('/').collect::<Vec<_>>()[..] {
            ["", service, method] => {
                let is = |pattern: &Option<Pattern>, text| pattern.as_ref().is_none_or(|one| naive_pattern(one, text));
                is(&call.service, service) && is(&call.method, method)
            }
            _ => false,
        },
        Some(_) => unreachable!(),
    };
    let is_header = |header: &HeaderMatch| {
        let lines = asked
            .headers
            .iter()
            .filter(|(name, _)| name.eq_ignore_ascii_case(header.name.as_str()));
        let lines: Vec<&str> = lines.map(|(_, value)| *value).collect();
        match &header.test {
            HeaderTest::Present => !lines.is_empty(),
            HeaderTest::Absent => lines.is_empty(),
            HeaderTest::Is(pattern) => !lines.is_empty() && naive_pattern(pattern, &lines.join(",")),
            HeaderTest::IsNot(pattern) => !naive_pattern(pattern, &lines.join(",")),
            _ => unreachable!(),
        }
    };
    let is_parameter = |parameter: &QueryMatch| {
        let parameters = query.split('&').map(|text| text.split_once('=').unwrap_or((text, "")));
        let first = parameters.into_iter().find(|(name, _)| **name == *parameter.name);
        first.is_some_and(|(_, value)| parameter.value.as_ref().is_none_or(|one| naive_pattern(one, value)))
    };
    is_path
        && one
            .method
            .as_ref()
            .is_none_or(|pattern| naive_pattern(pattern, asked.method))
        && one.headers.iter().all(is_header)
        && one.query.iter().all(is_parameter)
        && one.port.is_none_or(|port| port == asked.port)
        && one
            .source_namespace
            .as_ref()
            .is_none_or(|wanted| asked.namespace == Some(wanted))
}

fn naive_pattern(pattern: &Pattern, text: &str) -> bool {
    match pattern {
        Pattern::Exact(value) => **value == *text,
        Pattern::Prefix(value) => text.starts_with(&**value),
        Pattern::Regex(regex) => regex.matches(text.as_bytes()),
        _ => unreachable!(),
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
            prop_assert_eq!(asked.decide(&table), naive(&routes, &asked), "{:?}", asked);
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
            rule.filters.cors = Some(Cors::new(vec![OriginMatch::Any]));
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
