//! What Istio's reference says about VirtualService and DestinationRule, as cases.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "test code"
)]

use std::{sync::Arc, time::Duration};

use mesh_policy::{
    Budget, ConnectionFacts, Known, PathNormalization, Peer, RequestFacts, Resource,
    traffic::{
        Abort, CorsAnswer, Fraction, Route, RouteRequest, RouteTable, Step, attach::VirtualServices, k8s,
        retry::Backoff,
    },
};

fn virtual_service(rest: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: r, namespace: n}}\nspec:\n  \
         hosts: [reviews]\n{rest}\n"
    )
}

fn table(rest: &str) -> RouteTable {
    let manifests = k8s::read("vs.yaml", &virtual_service(rest), &Budget::new()).unwrap();
    let faults = manifests.rejected.iter().chain(&manifests.impaired);
    let faults: Vec<_> = faults.map(ToString::to_string).collect();
    assert!(faults.is_empty(), "{faults:?}");
    let routes = manifests
        .virtual_services
        .iter()
        .map(|service| Arc::clone(&service.route));
    RouteTable::new(routes, &Budget::new())
}

/// What becomes of a request such as `GET /path name:value`, sent to `reviews:9080`.
fn ask(table: &RouteTable, request: &str) -> String {
    let mut words = request.split(' ');
    let (method, target) = (words.next().unwrap(), words.next().unwrap());
    let headers: Vec<(&str, &str)> = words.map(|word| word.split_once(':').unwrap()).collect();
    let mut buffer = Vec::new();
    let path = PathNormalization::Base
        .normalize(target.as_bytes(), &mut buffer)
        .unwrap();
    let peer = Peer::from(&"spiffe://t/ns/front/sa/web".parse().unwrap());
    let connection = ConnectionFacts::new().peer(Known::Present(&peer));
    let facts = RequestFacts::new(connection, method.as_bytes(), &headers)
        .authority(Known::Present(b"reviews:9080"))
        .path(Known::Present(path));
    let request = RouteRequest::new(&facts).port(9080).scheme(b"http");
    let Some(choice) = table.decide(&request) else {
        return "404".to_owned();
    };
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    match choice.plan(&request, || 0).step {
        Step::Redirect { status, location, .. } => format!("{status} {}", text(&location)),
        Step::Respond { response, .. } => format!("{} {}", response.status, text(&response.body)),
        Step::Abort(Abort::Http(status)) => format!("abort {status}"),
        Step::Abort(Abort::Grpc(status)) => format!("abort grpc {status}"),
        Step::Preflight(CorsAnswer::Preflight(headers)) => format!("preflight {}", headers.len()),
        Step::Forward(forward) => {
            let mut shown = forward.backend.target.to_string();
            if let Some(host) = forward.host {
                shown += &format!(" host {host}");
            }
            if let Some(target) = &forward.target {
                shown += &format!(" target {}", text(target));
            }
            for mirror in forward.mirrors.iter() {
                shown += &format!(" mirror {}", mirror.target);
            }
            shown
        }
        other => format!("{other:?}"),
    }
}

fn check(rest: &str, cases: &[(&str, &str)]) {
    let table = table(rest);
    for (request, expected) in cases {
        assert_eq!(ask(&table, request), *expected, "{request}");
    }
}

#[test]
fn the_first_rule_that_matches_counts() {
    check(
        "  http:
  - match: [{uri: {prefix: /ratings}}, {headers: {end-user: {exact: jason}}}]
    route: [{destination: {host: reviews, subset: v2}}]
  - match: [{uri: {exact: /ratings/exact}}]
    route: [{destination: {host: never}}]
  - route: [{destination: {host: reviews, subset: v1, port: {number: 9081}}}]
  - match: [{uri: {prefix: /}}]
    route: [{destination: {host: never}}]
",
        &[
            ("GET /ratings/exact", "reviews subset v2"),
            ("GET /ratingsandmore", "reviews subset v2"),
            ("GET / end-user:jason", "reviews subset v2"),
            ("GET / end-user:jason2", "reviews:9081 subset v1"),
        ],
    );
}

#[test]
fn all_that_a_match_asks_for_counts() {
    check(
        "  http:
  - match: [{uri: {regex: '/v[0-9]+/.*'}}]
    route: [{destination: {host: regex}}]
  - match: [{uri: {exact: /Case}, ignoreUriCase: true}]
    route: [{destination: {host: any-case}}]
  - match: [{method: {exact: POST}, scheme: {exact: http}, authority: {prefix: 'reviews:'}, port: 9080}]
    route: [{destination: {host: post}}]
  - match: [{port: 80}]
    route: [{destination: {host: never}}]
  - match: [{headers: {x-there: {}}}]
    route: [{destination: {host: there}}]
  - match: [{queryParams: {debug: {exact: 'true'}, level: {}}}]
    route: [{destination: {host: query}}]
  - match: [{sourceNamespace: back}]
    route: [{destination: {host: never}}]
  - match: [{sourceNamespace: front, uri: {exact: /front}}]
    route: [{destination: {host: front}}]
  - match: [{withoutHeaders: {x-not: {}, x-other: {exact: a}}}]
    route: [{destination: {host: without}}]
",
        &[
            ("GET /v12/x", "regex"),
            ("GET /v12", "without"),
            ("GET /cASE", "any-case"),
            ("POST /", "post"),
            ("GET / x-there:", "there"),
            ("GET /?level&debug=true", "query"),
            ("GET /?debug=true", "without"),
            ("GET /front", "front"),
            ("GET / x-not:1", "404"),
            ("GET / x-other:a", "404"),
            ("GET / x-other:b", "without"),
        ],
    );
}

#[test]
fn rewrites_replace_what_matched() {
    check(
        "  http:
  - match: [{uri: {prefix: /ratings}}]
    rewrite: {uri: /v1/bookRatings, authority: ratings.example.com}
    route: [{destination: {host: a}}]
  - match: [{uri: {exact: /exact}}]
    rewrite: {uri: /else}
    route: [{destination: {host: b}}]
",
        &[
            (
                "GET /ratings/7?q",
                "a host ratings.example.com target /v1/bookRatings/7?q",
            ),
            ("GET /exact", "b target /else"),
        ],
    );
}

#[test]
fn redirects_and_responses_go_nowhere() {
    check(
        "  http:
  - match: [{uri: {exact: /a}}]
    redirect: {uri: /v1, authority: newratings.default.svc.cluster.local}
  - match: [{uri: {exact: /b}}]
    redirect: {scheme: https, redirectCode: 308}
  - match: [{uri: {exact: /c}}]
    redirect: {derivePort: FROM_PROTOCOL_DEFAULT}
  - match: [{uri: {exact: /d}}]
    redirect: {port: 8080}
  - directResponse: {status: 503, body: {string: no}}
",
        &[
            ("GET /a?q", "301 http://newratings.default.svc.cluster.local:9080/v1?q"),
            ("GET /b", "308 https://reviews/b"),
            ("GET /c", "301 http://reviews/c"),
            ("GET /d", "301 http://reviews:8080/d"),
            ("GET /x", "503 no"),
        ],
    );
}

#[test]
fn faults_mirrors_and_preflights_are_drawn_and_decided() {
    check(
        "  http:
  - match: [{uri: {exact: /a}}]
    fault: {abort: {percentage: {value: 0.1}, httpStatus: 418}}
    route: [{destination: {host: a}}]
  - match: [{uri: {exact: /b}}]
    fault: {abort: {percentage: {value: 100}, grpcStatus: UNAVAILABLE}}
    route: [{destination: {host: a}}]
  - match: [{uri: {exact: /c}}]
    fault: {abort: {httpStatus: 418}}
    route: [{destination: {host: a}}]
  - match: [{uri: {exact: /d}}]
    mirrors: [{destination: {host: b}}, {destination: {host: c}, percentage: {value: 0}}]
    route: [{destination: {host: a}}]
  - match: [{uri: {exact: /e}}]
    mirror: {host: b, subset: v2}
    mirrorPercentage: {value: 50}
    route: [{destination: {host: a}}]
  - corsPolicy: {allowOrigins: [{regex: 'https://.*\\.example\\.com'}], allowMethods: [GET], maxAge: 24h}
    route: [{destination: {host: a}}]
",
        &[
            ("GET /a", "abort 418"),
            ("GET /b", "abort grpc 14"),
            ("GET /c", "a"),
            ("GET /d", "a mirror b"),
            ("GET /e", "a mirror b subset v2"),
            (
                "OPTIONS / origin:https://a.example.com access-control-request-method:GET",
                "preflight 4",
            ),
            ("OPTIONS / origin:https://a.org access-control-request-method:GET", "a"),
        ],
    );
}

#[test]
fn timeouts_and_retries_are_read() {
    let table = table(
        "  http:
  - timeout: 1.5s
    retries: {attempts: 3, perTryTimeout: 500ms, retryOn: 'connect-failure, 503', backoff: 25ms, \
         retryIgnorePreviousHosts: false}
    fault: {delay: {percentage: {value: 100}, fixedDelay: 5s}}
    route: [{destination: {host: a}, weight: 25}, {destination: {host: b}, weight: 75}]
",
    );
    let rule = &table.routes()[0].rules[0];
    assert_eq!(rule.timeouts.request, Some(Duration::from_millis(1500)));
    let retries = rule.retries.as_ref().unwrap();
    assert_eq!(retries.attempts, 3);
    assert_eq!(retries.conditions, Some("connect-failure,503".parse().unwrap()));
    assert_eq!(retries.attempt_timeout, Some(Duration::from_millis(500)));
    assert_eq!(retries.ignore_previous_hosts, Some(false));
    assert_eq!(retries.backoff, Some(Backoff::from(Duration::from_millis(25))));
    assert_eq!(
        rule.filters.fault.unwrap().delay,
        Some((Fraction::percent(100.0).unwrap(), Duration::from_secs(5)))
    );
    let weights: Vec<_> = rule.backends.as_slice().iter().map(|backend| backend.weight).collect();
    assert_eq!(weights, [25, 75]);
}

#[test]
fn what_is_not_carried_out_is_refused_with_its_line() {
    for (rest, expected) in [
        (
            "  http: [{delegate: {name: d}}]",
            "`spec.http[0].delegate` is not supported",
        ),
        ("  tls: [{}]", "`spec.tls` is not supported"),
        (
            "  http: [{match: [{sourceLabels: {a: b}}], route: [{destination: {host: a}}]}]",
            "`spec.http[0].match[0].sourceLabels` is not supported",
        ),
        (
            "  http: [{match: [{headers: {uri: {exact: a}}}], route: [{destination: {host: a}}]}]",
            "`spec.http[0].match[0].headers.uri` is not supported",
        ),
        (
            "  http: [{match: [{uri: {exact: a, prefix: b}}], route: [{destination: {host: a}}]}]",
            "`spec.http[0].match[0].uri.prefix` and `spec.http[0].match[0].uri.exact` exclude each other",
        ),
        (
            "  http: [{rewrite: {uriRegexRewrite: {}}, route: [{destination: {host: a}}]}]",
            "`spec.http[0].rewrite.uriRegexRewrite` is not supported",
        ),
        ("  http: [{}]", "`spec.http[0].route` is missing"),
        (
            "  http: [{redirect: {}, directResponse: {status: 200}}]",
            "`spec.http[0].redirect` and `spec.http[0].directResponse` exclude each other",
        ),
        (
            "  http: [{route: [{destination: {host: a}, weight: 0}, {destination: {host: b}}]}]",
            "`spec.http[0].route[0].weight` cannot be `0`",
        ),
        (
            "  http: [{retries: {retryOn: sometimes}, route: [{destination: {host: a}}]}]",
            "`spec.http[0].retries.retryOn` cannot be `sometimes`",
        ),
        (
            "  http: [{retries: {retryRemoteLocalities: true}, route: [{destination: {host: a}}]}]",
            "`spec.http[0].retries.retryRemoteLocalities` cannot be `true`",
        ),
        (
            "  http: [{headers: {request: {set: {':path': /}}}, route: [{destination: {host: a}}]}]",
            "`spec.http[0].headers.request.set.:path`: `:path` is no name of a header",
        ),
    ] {
        let manifests = k8s::read("vs.yaml", &virtual_service(rest), &Budget::new()).unwrap();
        let found = manifests.rejected.iter().chain(&manifests.impaired).next().unwrap();
        let shown = found.to_string();
        assert!(shown.starts_with("VirtualService `n/r`: vs.yaml:"), "{shown}");
        assert!(shown.ends_with(expected), "{shown}");
    }
}

#[test]
fn what_is_for_gateways_alone_takes_no_request_of_the_mesh() {
    check(
        "  gateways: [edge, mesh]
  http:
  - match: [{uri: {prefix: /a}, gateways: [edge]}]
    route: [{destination: {host: edge}}]
  - match: [{uri: {prefix: /b}, gateways: [edge]}, {uri: {prefix: /a}, gateways: [edge, mesh]}]
    route: [{destination: {host: both}}]
  - route: [{destination: {host: rest}}]
",
        &[("GET /a", "both"), ("GET /b", "rest")],
    );
}

#[test]
fn requests_of_a_rule_that_cannot_be_carried_out_fail_and_fall_to_no_other() {
    for (rest, failing, passing) in [
        (
            "match: [{uri: {prefix: /p}}], delegate: {name: d}",
            "GET /p/q",
            "GET /q",
        ),
        (
            "match: [{uri: {prefix: /p}, sourceLabels: {a: b}}], route: [{destination: {host: a}}]",
            "GET /p",
            "GET /q",
        ),
        (
            "match: [{method: {exact: PUT}, headers: {uri: {exact: x}}}], route: [{destination: {host: a}}]",
            "PUT /",
            "GET /",
        ),
        (
            "match: [{uri: {exact: /p}}], route: [{destination: {host: a}}], mirrorPercent: 5",
            "GET /p",
            "GET /p/q",
        ),
    ] {
        let text = virtual_service(&format!(
            "  http: [{{{rest}}}, {{route: [{{destination: {{host: b}}}}]}}]"
        ));
        let manifests = k8s::read("vs.yaml", &text, &Budget::new()).unwrap();
        assert_eq!((manifests.rejected.len(), manifests.impaired.len()), (0, 1), "{rest}");
        let table = RouteTable::new([Arc::clone(&manifests.virtual_services[0].route)], &Budget::new());
        assert!(ask(&table, failing).contains("is not supported"), "{rest}");
        assert_eq!(ask(&table, passing), "b", "{rest}");
    }
}

#[test]
fn virtual_services_are_attached_by_the_names_of_a_service() {
    let text = |name: &str, rest: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}, namespace: n}}\n\
             spec: {{{rest}, http: [{{route: [{{destination: {{host: a}}}}]}}]}}\n---\n"
        )
    };
    let attached = |services: &[(&str, &str)]| {
        let text: String = services.iter().map(|(name, rest)| text(name, rest)).collect();
        let manifests = k8s::read("vs.yaml", &text, &Budget::new()).unwrap();
        assert!(manifests.rejected.is_empty());
        let services = VirtualServices::new(&manifests.virtual_services);
        let routes = services.of("n", "reviews.n.svc.cluster.local");
        assert!(routes.iter().all(|route| route.hosts.is_empty()));
        let names: Vec<_> = routes.iter().map(|route| route.id.name.to_string()).collect();
        names.join(" ")
    };
    let (short, full) = ("hosts: [reviews]", "hosts: [other, reviews.n.svc.cluster.local]");
    let (near, far, all) = (
        "hosts: ['*.n.svc.cluster.local']",
        "hosts: ['*.cluster.local']",
        "hosts: ['*']",
    );
    assert_eq!(attached(&[("a", short), ("b", full), ("c", near), ("d", all)]), "a b");
    assert_eq!(attached(&[("c", near), ("e", far), ("d", all)]), "c");
    assert_eq!(attached(&[("d", all)]), "d");
    assert_eq!(
        attached(&[("f", "hosts: [ratings]"), ("g", "hosts: [reviews.m.svc.cluster.local]")]),
        ""
    );
    assert_eq!(attached(&[("h", "hosts: [reviews], gateways: [edge]")]), "");
    assert_eq!(
        attached(&[("i", "hosts: [reviews], gateways: [edge, mesh], exportTo: ['.']")]),
        "i"
    );
    assert_eq!(attached(&[("j", "hosts: [reviews], exportTo: ['~']")]), "");
}

/// The routes of `reviews` in `n` after those that were left out have been stood in for.
fn stood_in(text: &str) -> Vec<Arc<Route>> {
    let mut manifests = k8s::read("vs.yaml", text, &Budget::new()).unwrap();
    for rejected in std::mem::take(&mut manifests.rejected) {
        manifests.stand_in(&rejected);
    }
    VirtualServices::new(&manifests.virtual_services).of("n", "reviews.n.svc.cluster.local")
}

#[test]
fn only_who_takes_requests_of_the_mesh_is_stood_in_for() {
    let of_all = |rest: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: r, namespace: n}}\n\
             spec: {{hosts: ['*'], {rest}}}\n"
        )
    };
    let route = "http: [{route: [{destination: {host: a}}]}]";
    for rest in [
        "gateways: [edge], tcp: []".to_owned(),
        format!("gateways: [edge], tcp: [], {route}"),
        format!("exportTo: [m], tcp: [], {route}"),
        "tcp: []".to_owned(),
        "tls: [], http: []".to_owned(),
        "exportTo: ['.'], gateways: [mesh], tls: []".to_owned(),
    ] {
        let text = of_all(&rest);
        let manifests = k8s::read("vs.yaml", &text, &Budget::new()).unwrap();
        assert_eq!(manifests.rejected.len(), 1, "{text}");
        assert!(stood_in(&text).is_empty(), "{text}");
    }
    for rest in [
        format!("tcp: [], {route}"),
        format!("exportTo: ['.'], gateways: [edge, mesh], tcp: [], {route}"),
        // Nobody knows whose these are.
        format!("gateways: edge, {route}"),
        format!("exportTo: m, {route}"),
        "http: a".to_owned(),
        "htp: []".to_owned(),
        "tcp: [], Http: []".to_owned(),
    ] {
        let text = of_all(&rest);
        assert_eq!(stood_in(&text).len(), 1, "{text}");
    }
}

#[test]
fn a_stand_in_comes_before_all_that_are_for_the_same_host() {
    let older = virtual_service("  http: [{route: [{destination: {host: a}}]}]")
        .replace("{name: r,", "{name: all, creationTimestamp: '2020-01-01T00:00:00Z',");
    let faulty = virtual_service("  http: [{match: [{uri: {prefix: admin}}], directResponse: {status: 403}}]");
    let table = RouteTable::new(stood_in(&format!("{older}---\n{faulty}")), &Budget::new());
    assert!(ask(&table, "GET /admin").contains("cannot be `admin`"));
}

const EXAMPLES: &str = include_str!("../testdata/routes.yaml");

#[test]
fn a_line_that_is_missing_or_changed_never_panics() {
    let lines: Vec<&str> = EXAMPLES.lines().collect();
    let (mut taken, mut rejected) = (0, 0);
    for at in 0..lines.len() {
        for value in ["", "- 0", "a: {b: [c]}", "    weight: -1", "      value: '('"] {
            let mut changed = lines.clone();
            changed[at] = value;
            if let Ok(manifests) = k8s::read("r.yaml", &changed.join("\n"), &Budget::new()) {
                taken += manifests.routes.len() + manifests.virtual_services.len();
                rejected += manifests.rejected.len() + manifests.impaired.len();
            }
        }
    }
    for (at, _) in EXAMPLES.match_indices(|sign: char| ",:{}[]".contains(sign)) {
        let (before, after) = EXAMPLES.split_at(at);
        let changed: String = before.chars().chain(after.chars().skip(1)).collect();
        drop(k8s::read("r.yaml", before, &Budget::new()));
        drop(k8s::read("r.yaml", &changed, &Budget::new()));
    }
    assert!(taken > 100 && rejected > 50, "{taken} {rejected}");
}

#[test]
fn the_examples_are_taken_whole() {
    let manifests = k8s::read("r.yaml", EXAMPLES, &Budget::new()).unwrap();
    let faults = manifests.rejected.iter().chain(&manifests.impaired);
    let faults: Vec<_> = faults.map(ToString::to_string).collect();
    assert!(faults.is_empty(), "{faults:?}");
    let counts = [
        manifests.routes.len(),
        manifests.gateways.len(),
        manifests.grants.len(),
        manifests.virtual_services.len(),
        manifests.destination_rules.len(),
        manifests.others.len(),
    ];
    assert_eq!(counts, [2, 1, 1, 1, 1, 1]);
}

#[test]
fn what_a_reader_of_policies_leaves_is_read_the_same() {
    let whole = k8s::read("r.yaml", EXAMPLES, &Budget::new()).unwrap();
    let left = mesh_policy::authz::k8s::read("r.yaml", EXAMPLES, &Budget::new())
        .unwrap()
        .others;
    let left = k8s::read_items("r.yaml", left, &Budget::new());
    assert_eq!(left.routes, whole.routes);
    assert_eq!(left.virtual_services, whole.virtual_services);
    assert_eq!(left.destination_rules, whole.destination_rules);
    assert_eq!((left.gateways, left.grants), (whole.gateways, whole.grants));
    assert_eq!(left.others, whole.others);
}

#[test]
fn expressions_of_a_file_have_a_budget() {
    let budget = Budget::new().with_limit(Resource::ExpressionBytes, 100);
    let manifests = k8s::read("r.yaml", EXAMPLES, &budget).unwrap();
    let faults = manifests.rejected.iter().chain(&manifests.impaired);
    let shown: Vec<_> = faults.map(ToString::to_string).collect();
    assert!(
        shown
            .iter()
            .all(|text| text.ends_with("bytes of compiled regular expressions are more than 100"))
    );
    assert!(!shown.is_empty());
}
