//! What the Gateway API's specification says about HTTPRoute and GRPCRoute, as cases: objects in
//! YAML, requests, and what becomes of them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "test code"
)]

use std::collections::BTreeMap;

use mesh_policy::{
    Budget, ConnectionFacts, Known, PathNormalization, RequestFacts,
    authz::Labels,
    traffic::{
        Choice, ParentRef, RouteRequest, RouteTable, Step, Target,
        attach::{self, Cluster, GatewayRoutes},
        k8s::{self, Manifests},
        retry::{Backoff, Conditions},
    },
};

/// Services `a` to `f` in `infra` and `other`, with port 80, and labels of namespaces.
struct World {
    labels: BTreeMap<&'static str, Labels>,
}

impl Cluster for World {
    fn has_service(&self, namespace: &str, name: &str, port: u16) -> bool {
        ["infra", "other"].contains(&namespace) && ["a", "b", "c", "d", "e", "f"].contains(&name) && port == 80
    }

    fn namespace_labels(&self, namespace: &str) -> Option<&Labels> {
        self.labels.get(namespace)
    }
}

fn world() -> World {
    let labels = |value: &str| Labels::from([("team".to_owned(), value.to_owned())]);
    World {
        labels: BTreeMap::from([("infra", labels("infra")), ("other", labels("other"))]),
    }
}

fn read(text: &str) -> Manifests {
    let manifests = k8s::read("cases.yaml", text, &Budget::new()).unwrap();
    let faults = manifests.rejected.iter().chain(&manifests.impaired);
    let rejected: Vec<_> = faults.map(ToString::to_string).collect();
    assert!(rejected.is_empty(), "{rejected:?}");
    manifests
}

/// The first gateway of a text, with all routes and grants attached.
struct Setup {
    manifests: Manifests,
    attached: GatewayRoutes,
    tables: BTreeMap<Box<str>, RouteTable>,
}

impl Setup {
    fn new(text: &str) -> Self {
        Self::of(read(text))
    }

    fn of(manifests: Manifests) -> Self {
        let attached = attach::gateway(&manifests.gateways[0], &manifests.routes, &manifests.grants, &world());
        let tables = attached.listeners.iter().map(|listener| {
            let table = RouteTable::new(listener.routes.clone(), &Budget::new());
            (listener.listener.clone(), table)
        });
        let tables = tables.collect();
        Self {
            manifests,
            attached,
            tables,
        }
    }

    /// Routes `text` on a gateway with one listener for all hosts.
    fn of_routes(text: &str) -> Self {
        Self::new(&format!("{GATEWAY}---{text}"))
    }

    /// What becomes of a request such as `GET host:port/path name:value`; the port is the listener's,
    /// 80 without one.
    fn ask(&self, request: &str) -> String {
        self.ask_with(request, 0)
    }

    fn ask_with(&self, request: &str, draw: u64) -> String {
        with_request(request, |request, port| {
            let host = request.host().unwrap();
            let Some(listener) = self.manifests.gateways[0].listener(port, host) else {
                return "no listener".to_owned();
            };
            match self.tables[&listener.name].decide(request) {
                None => "404".to_owned(),
                Some(choice) => shown(&choice, request, draw),
            }
        })
    }

    /// The statuses, as `route: reason`, with what is not resolved.
    fn statuses(&self) -> Vec<String> {
        let statuses = self.attached.statuses.iter().map(|status| {
            let accepted = match &status.accepted {
                Ok(()) => "accepted".to_owned(),
                Err(reason) => reason.to_string(),
            };
            let unresolved = status
                .unresolved
                .iter()
                .map(|(target, reason)| format!(", {target} {reason}"));
            format!("{}: {accepted}{}", status.route.name, unresolved.collect::<String>())
        });
        statuses.collect()
    }

    fn check(&self, cases: &[(&str, &str)]) {
        for (request, expected) in cases {
            assert_eq!(self.ask(request), *expected, "{request}");
        }
    }
}

fn with_request<T>(text: &str, ask: impl FnOnce(&RouteRequest<'_>, u16) -> T) -> T {
    let mut words = text.split(' ');
    let (method, url) = (words.next().unwrap(), words.next().unwrap());
    let slash = url.find('/').unwrap();
    let (authority, target) = url.split_at(slash);
    let port = authority.split_once(':').map_or(80, |(_, port)| port.parse().unwrap());
    let headers: Vec<(&str, &str)> = words.map(|word| word.split_once(':').unwrap()).collect();
    let mut buffer = Vec::new();
    let path = PathNormalization::Base
        .normalize(target.as_bytes(), &mut buffer)
        .unwrap();
    let facts = RequestFacts::new(ConnectionFacts::new(), method.as_bytes(), &headers)
        .authority(Known::Present(authority.as_bytes()))
        .path(Known::Present(path));
    let scheme: &[u8] = if [443, 8443].contains(&port) { b"https" } else { b"http" };
    ask(&RouteRequest::new(&facts).port(port).scheme(scheme), port)
}

fn shown(choice: &Choice<'_>, request: &RouteRequest<'_>, draw: u64) -> String {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    match choice.plan(request, || draw).step {
        Step::Redirect { status, location, .. } => format!("{status} {}", text(&location)),
        Step::Fail(failure) => match failure.status() {
            (status, None) => status.to_string(),
            (status, Some(grpc)) => format!("{status} grpc {grpc}"),
        },
        Step::Preflight(_) => "preflight".to_owned(),
        Step::Forward(forward) => {
            let mut shown = match &forward.backend.target {
                Target::Object { name, .. } => name.to_string(),
                other => other.to_string(),
            };
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
        other => panic!("{other:?}"),
    }
}

const GATEWAY: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: gw, namespace: infra}
spec:
  gatewayClassName: any
  listeners:
  - {name: http, port: 80, protocol: HTTP}
  - {name: high, port: 8080, protocol: HTTP}
  - {name: https, port: 443, protocol: HTTPS}
  - {name: high-https, port: 8443, protocol: HTTPS}
";

/// A route of a kind with its rules, as one document.
fn route(kind: &str, name: &str, rest: &str) -> String {
    format!(
        "\napiVersion: gateway.networking.k8s.io/v1\nkind: {kind}\nmetadata: {{name: {name}, namespace: infra}}\n\
         spec:\n  parentRefs: [{{name: gw}}]\n{rest}\n"
    )
}

#[test]
fn paths_are_matched_exactly_and_by_segments() {
    let setup = Setup::of_routes(&route(
        "HTTPRoute",
        "paths",
        "  rules:
  - matches: [{path: {type: Exact, value: /one}}, {path: {type: Exact, value: /two}}]
    backendRefs: [{name: a, port: 80}]
  - matches: [{path: {type: PathPrefix, value: /v2/}}]
    backendRefs: [{name: b, port: 80}]
  - matches: [{path: {type: PathPrefix, value: /v2/example}}]
    backendRefs: [{name: c, port: 80}]
  - matches: [{path: {type: RegularExpression, value: '/r/[0-9]+'}}]
    backendRefs: [{name: d, port: 80}]
",
    ));
    setup.check(&[
        ("GET h/one", "a"),
        ("GET h/two", "a"),
        ("GET h/two?q", "a"),
        ("GET h/one/", "404"),
        ("GET h/One", "404"),
        ("GET h/v2", "b"),
        ("GET h/v2/", "b"),
        ("GET h/v2/x", "b"),
        ("GET h/v2example", "404"),
        ("GET h/v2/example", "c"),
        ("GET h/v2/example/x", "c"),
        ("GET h/v2/examples", "b"),
        ("GET h/r/12", "d"),
        ("GET h/r/12a", "404"),
        ("GET h/", "404"),
    ]);
}

#[test]
fn a_rule_without_matches_takes_all_paths() {
    let setup = Setup::of_routes(&route(
        "HTTPRoute",
        "all",
        "  rules: [{backendRefs: [{name: a, port: 80}]}]",
    ));
    setup.check(&[("GET h/", "a"), ("POST other:8080/x/y", "a")]);
}

#[test]
fn headers_are_matched_all_and_by_the_first_entry_of_a_name() {
    let setup = Setup::of_routes(&route(
        "HTTPRoute",
        "headers",
        "  rules:
  - matches: [{headers: [{name: Version, value: one}]}]
    backendRefs: [{name: a, port: 80}]
  - matches: [{headers: [{name: version, value: two}, {name: VERSION, value: ignored}]}]
    backendRefs: [{name: b, port: 80}]
  - matches: [{headers: [{name: version, value: two}, {name: color, value: orange}]}]
    backendRefs: [{name: c, port: 80}]
  - matches: [{headers: [{name: color, type: RegularExpression, value: 'blue|green'}]}]
    backendRefs: [{name: d, port: 80}]
",
    ));
    setup.check(&[
        ("GET h/ version:one", "a"),
        ("GET h/ VERSION:one", "a"),
        ("GET h/ version:One", "404"),
        ("GET h/ version:two", "b"),
        ("GET h/ version:two color:orange", "c"),
        ("GET h/ version:two color:blue", "b"),
        ("GET h/ color:green", "d"),
        ("GET h/ color:greenish", "404"),
        ("GET h/", "404"),
    ]);
}

#[test]
fn parameters_and_methods_are_matched() {
    let setup = Setup::of_routes(&route(
        "HTTPRoute",
        "query",
        "  rules:
  - matches: [{queryParams: [{name: animal, value: whale}]}]
    backendRefs: [{name: a, port: 80}]
  - matches: [{queryParams: [{name: animal, value: whale}, {name: sea, value: red}]}]
    backendRefs: [{name: b, port: 80}]
  - matches: [{method: POST}]
    backendRefs: [{name: c, port: 80}]
  - matches: [{queryParams: [{name: animal, value: dolphin}, {name: animal, value: whale}]}]
    backendRefs: [{name: d, port: 80}]
",
    ));
    setup.check(&[
        ("GET h/?animal=whale", "a"),
        ("GET h/?animal=Whale", "404"),
        ("GET h/?Animal=whale", "404"),
        ("GET h/?x=1&animal=whale&sea=red", "b"),
        ("GET h/?animal=dolphin", "d"),
        ("GET h/?animal=dolphin&animal=whale", "d"),
        ("POST h/", "c"),
        ("POST h/?animal=whale&sea=red", "c"),
        ("PUT h/", "404"),
    ]);
}

#[test]
fn what_is_more_specific_comes_first_in_the_specified_order() {
    let setup = Setup::of_routes(&route(
        "HTTPRoute",
        "order",
        "  rules:
  - matches: [{path: {type: PathPrefix, value: /}, headers: [{name: x, value: '1'}, {name: y, value: '1'}]}]
    backendRefs: [{name: a, port: 80}]
  - matches: [{path: {type: PathPrefix, value: /p}}]
    backendRefs: [{name: b, port: 80}]
  - matches: [{path: {type: PathPrefix, value: /p}, headers: [{name: x, value: '1'}]}]
    backendRefs: [{name: c, port: 80}]
  - matches: [{path: {type: PathPrefix, value: /p}, method: GET}]
    backendRefs: [{name: d, port: 80}]
  - matches: [{path: {type: PathPrefix, value: /p}, queryParams: [{name: q, value: '1'}]}]
    backendRefs: [{name: e, port: 80}]
  - matches: [{path: {type: Exact, value: /p}}]
    backendRefs: [{name: f, port: 80}]
",
    ));
    setup.check(&[
        ("GET h/p x:1 y:1", "f"),
        ("GET h/p/q x:1 y:1", "d"),
        ("PUT h/p/q?q=1 x:1 y:1", "c"),
        ("PUT h/p/q?q=1", "e"),
        ("PUT h/p/q", "b"),
        ("PUT h/ x:1 y:1", "a"),
    ]);
}

#[test]
fn among_routes_the_older_one_comes_first_and_then_the_name() {
    let rest = |backend: &str| {
        format!("  rules: [{{matches: [{{path: {{value: /p}}}}], backendRefs: [{{name: {backend}, port: 80}}]}}]")
    };
    let created = |text: String, time: &str| {
        text.replace(
            "namespace: infra}",
            &format!("namespace: infra, creationTimestamp: {time}}}"),
        )
    };
    let (young, old) = (
        created(route("HTTPRoute", "aa", &rest("a")), "2026-01-02T03:04:06Z"),
        created(route("HTTPRoute", "zz", &rest("b")), "2026-01-02T03:04:05Z"),
    );
    let ageless = route("HTTPRoute", "bb", &rest("c"));
    assert_eq!(
        Setup::of_routes(&format!("{young}---{old}---{ageless}")).ask("GET h/p"),
        "b"
    );
    assert_eq!(Setup::of_routes(&format!("{ageless}---{young}")).ask("GET h/p"), "a");
    let other = route("HTTPRoute", "ab", &rest("d"));
    assert_eq!(Setup::of_routes(&format!("{ageless}---{other}")).ask("GET h/p"), "d");
    // More is asked for, whatever the age.
    let specific = route(
        "HTTPRoute",
        "zzz",
        "  rules: [{matches: [{path: {value: /p}, method: GET}], backendRefs: [{name: e, port: 80}]}]",
    );
    assert_eq!(Setup::of_routes(&format!("{old}---{specific}")).ask("GET h/p"), "e");
}

#[test]
fn within_a_route_the_first_of_equals_counts() {
    let setup = Setup::of_routes(&route(
        "HTTPRoute",
        "equals",
        "  rules:
  - matches: [{path: {value: /p}, headers: [{name: x, value: '1'}]}]
    backendRefs: [{name: a, port: 80}]
  - matches: [{path: {value: /p}, headers: [{name: y, value: '1'}]}]
    backendRefs: [{name: b, port: 80}]
",
    ));
    setup.check(&[("GET h/p x:1 y:1", "a"), ("GET h/p y:1", "b")]);
}

#[test]
fn the_most_specific_host_comes_first_and_others_are_asked_after_it() {
    let rest = |host: &str, path: &str, backend: &str| {
        format!(
            "  hostnames: ['{host}']\n  rules: [{{matches: [{{path: {{value: {path}}}}}], backendRefs: [{{name: \
             {backend}, port: 80}}]}}]"
        )
    };
    let routes = [
        route("HTTPRoute", "one", &rest("*.example.com", "/long/path", "a")),
        route("HTTPRoute", "two", &rest("foo.example.com", "/", "b")),
        route("HTTPRoute", "three", &rest("*.bar.example.com", "/only", "c")),
        route("HTTPRoute", "four", "  rules: [{backendRefs: [{name: d, port: 80}]}]"),
    ];
    let setup = Setup::of_routes(&routes.join("---"));
    setup.check(&[
        ("GET foo.example.com/long/path", "b"),
        ("GET FOO.example.com:8080/", "b"),
        ("GET x.example.com/long/path", "a"),
        ("GET x.bar.example.com/only", "c"),
        ("GET x.bar.example.com/long/path", "a"),
        ("GET x.bar.example.com/", "d"),
        ("GET example.com/long/path", "d"),
    ]);
}

const LISTENERS: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: gw, namespace: infra}
spec:
  gatewayClassName: any
  listeners:
  - {name: exact, port: 80, protocol: HTTP, hostname: very.specific.com}
  - {name: below, port: 80, protocol: HTTP, hostname: '*.wildcard.io'}
  - {name: deep, port: 80, protocol: HTTP, hostname: '*.foo.wildcard.io'}
";

#[test]
fn hosts_of_listener_and_route_intersect() {
    let rest = |hosts: &str, backend: &str| {
        format!("  hostnames: [{hosts}]\n  rules: [{{backendRefs: [{{name: {backend}, port: 80}}]}}]")
    };
    let routes = [
        LISTENERS.to_owned(),
        route(
            "HTTPRoute",
            "a",
            &rest("non.matching.com, '*.nonmatchingwildcard.io', very.specific.com", "a"),
        ),
        route(
            "HTTPRoute",
            "b",
            &rest("foo.wildcard.io, bar.wildcard.io, foo.bar.wildcard.io", "b"),
        ),
        route("HTTPRoute", "c", &rest("'*.specific.com'", "c")),
        route("HTTPRoute", "d", &rest("'*.anotherwildcard.io'", "d")),
        route("HTTPRoute", "e", &rest("'*.foo.wildcard.io'", "e")),
    ];
    let setup = Setup::new(&routes.join("---"));
    setup.check(&[
        ("GET very.specific.com/", "a"),
        ("GET non.matching.com/", "no listener"),
        ("GET foo.wildcard.io/", "b"),
        ("GET foo.bar.wildcard.io/", "b"),
        ("GET baz.wildcard.io/", "404"),
        ("GET wildcard.io/", "no listener"),
        ("GET x.foo.wildcard.io/", "e"),
        ("GET other.specific.com/", "no listener"),
    ]);
    assert_eq!(
        setup.statuses(),
        [
            "a: accepted",
            "b: accepted",
            "c: accepted",
            "d: no listener is for a host of the route",
            "e: accepted",
        ]
    );
}

#[test]
fn a_listener_takes_its_hosts_from_less_specific_ones() {
    let routes = [
        LISTENERS.to_owned(),
        route("HTTPRoute", "all", "  rules: [{backendRefs: [{name: a, port: 80}]}]")
            .replace("[{name: gw}]", "[{name: gw, sectionName: below}]"),
    ];
    let setup = Setup::new(&routes.join("---"));
    setup.check(&[("GET x.wildcard.io/", "a"), ("GET x.foo.wildcard.io/", "404")]);
}

#[test]
fn parents_name_listeners_by_section_and_port() {
    let with = |name: &str, parent: &str| {
        route("HTTPRoute", name, "  rules: [{backendRefs: [{name: a, port: 80}]}]").replace("[{name: gw}]", parent)
    };
    let routes = [
        with("section", "[{name: gw, sectionName: high}]"),
        with("port", "[{name: gw, port: 443}]"),
        with("nowhere", "[{name: gw, sectionName: lost}]"),
        with("elsewhere", "[{name: other}]"),
    ];
    let setup = Setup::of_routes(&routes.join("---"));
    setup.check(&[
        ("GET h:8080/", "a"),
        ("GET h:443/", "a"),
        ("GET h/", "404"),
        ("GET h:8443/", "404"),
    ]);
    assert_eq!(
        setup.statuses(),
        [
            "nowhere: there is no listener or port that the route refers to",
            "port: accepted",
            "section: accepted",
        ]
    );
}

#[test]
fn listeners_admit_namespaces_and_kinds() {
    let gateway = |allowed: &str| {
        GATEWAY.replace(
            "- {name: http, port: 80, protocol: HTTP}",
            &format!("- {{name: http, port: 80, protocol: HTTP, allowedRoutes: {allowed}}}"),
        )
    };
    let foreign = route("HTTPRoute", "r", "  rules: [{backendRefs: [{name: a, port: 80}]}]")
        .replace("namespace: infra}", "namespace: other}")
        .replace("[{name: gw}]", "[{name: gw, namespace: infra, sectionName: http}]");
    let refused = "r: no listener admits routes of this kind and namespace";
    for (allowed, status, answer) in [
        ("{}", refused, "404"),
        ("{namespaces: {from: Same}}", refused, "404"),
        ("{namespaces: {from: None}}", refused, "404"),
        ("{namespaces: {from: All}}", "r: accepted", "a"),
        (
            "{namespaces: {from: Selector, selector: {matchLabels: {team: other}}}}",
            "r: accepted",
            "a",
        ),
        (
            "{namespaces: {from: Selector, selector: {matchLabels: {team: infra}}}}",
            refused,
            "404",
        ),
        ("{namespaces: {from: All}, kinds: [{kind: GRPCRoute}]}", refused, "404"),
        (
            "{namespaces: {from: All}, kinds: [{kind: HTTPRoute}]}",
            "r: accepted",
            "a",
        ),
    ] {
        let setup = Setup::new(&format!("{}---{foreign}", gateway(allowed)));
        assert_eq!(setup.statuses(), [status], "{allowed}");
        assert_eq!(setup.ask("GET h/"), answer, "{allowed}");
    }
}

#[test]
fn references_to_other_namespaces_have_to_be_granted() {
    let route = route(
        "HTTPRoute",
        "r",
        "  rules: [{backendRefs: [{name: a, namespace: other, port: 80}]}]",
    );
    let grant = |from: &str, to: &str| {
        format!(
            "\napiVersion: gateway.networking.k8s.io/v1beta1\nkind: ReferenceGrant\nmetadata: {{name: g, namespace: \
             other}}\nspec:\n  from: [{from}]\n  to: [{to}]\n"
        )
    };
    let http = "{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: infra}";
    let grpc = "{group: gateway.networking.k8s.io, kind: GRPCRoute, namespace: infra}";
    let elsewhere = "{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: third}";
    for (from, to, answer) in [
        (http, "{group: '', kind: Service}", "a"),
        (http, "{group: '', kind: Service, name: a}", "a"),
        (http, "{group: '', kind: Service, name: b}", "500"),
        (http, "{group: '', kind: Secret}", "500"),
        (grpc, "{group: '', kind: Service}", "500"),
        (elsewhere, "{group: '', kind: Service}", "500"),
    ] {
        let setup = Setup::of_routes(&format!("{route}---{}", grant(from, to)));
        assert_eq!(setup.ask("GET h/"), answer, "{from} {to}");
        let status = if answer == "a" {
            "r: accepted"
        } else {
            "r: accepted, other/a:80 RefNotPermitted"
        };
        assert_eq!(setup.statuses(), [status]);
    }
}

#[test]
fn the_share_of_an_invalid_backend_fails() {
    let setup = Setup::of_routes(&route(
        "HTTPRoute",
        "r",
        "  rules:
  - matches: [{path: {value: /kind}}]
    backendRefs: [{group: example.com, kind: Thing, name: a}]
  - matches: [{path: {value: /lost}}]
    backendRefs: [{name: lost, port: 80}]
  - matches: [{path: {value: /port}}]
    backendRefs: [{name: a, port: 81}]
  - matches: [{path: {value: /half}}]
    backendRefs: [{name: lost, port: 80}, {name: a, port: 80}]
  - matches: [{path: {value: /none}}]
    filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {remove: [x]}}]
  - matches: [{path: {value: /zero}}]
    backendRefs: [{name: a, port: 80, weight: 0}]
",
    ));
    setup.check(&[
        ("GET h/kind", "500"),
        ("GET h/lost", "500"),
        ("GET h/port", "500"),
        ("GET h/none", "500"),
        ("GET h/zero", "500"),
    ]);
    assert_eq!(setup.ask_with("GET h/half", 0), "500");
    assert_eq!(setup.ask_with("GET h/half", u64::MAX), "a");
    assert_eq!(
        setup.statuses(),
        [
            "r: accepted, infra/a InvalidKind, infra/lost:80 BackendNotFound, infra/a:81 BackendNotFound, \
          infra/lost:80 BackendNotFound"
        ]
    );
}

#[test]
fn backends_share_by_weight() {
    let setup = Setup::of_routes(&route(
        "HTTPRoute",
        "r",
        "  rules: [{backendRefs: [{name: a, port: 80, weight: 70}, {name: b, port: 80, weight: 30}, {name: c, port: \
         80, weight: 0}]}]",
    ));
    let mut counts = BTreeMap::new();
    for step in 0..1000_u64 {
        *counts
            .entry(setup.ask_with("GET h/", step * (u64::MAX / 1000) + u64::MAX / 2000))
            .or_insert(0) += 1;
    }
    assert_eq!(counts, BTreeMap::from([("a".to_owned(), 700), ("b".to_owned(), 300)]));
}

#[test]
fn redirects_derive_what_they_do_not_say() {
    let filter = |text: &str| format!("filters: [{{type: RequestRedirect, requestRedirect: {{{text}}}}}]");
    let rest = |cases: &[&str]| {
        let rules = cases
            .iter()
            .enumerate()
            .map(|(at, text)| format!("  - matches: [{{path: {{value: /{at}}}}}]\n    {}\n", filter(text)));
        format!("  rules:\n{}", rules.collect::<String>())
    };
    let setup = Setup::of_routes(&route(
        "HTTPRoute",
        "r",
        &rest(&[
            "hostname: example.org",
            "statusCode: 301, hostname: example.org",
            "scheme: https",
            "scheme: https, port: 8443",
            "port: 8083",
            "scheme: http",
            "path: {type: ReplaceFullPath, replaceFullPath: /full}",
            "path: {type: ReplacePrefixMatch, replacePrefixMatch: /xyz}, statusCode: 308",
            "path: {type: ReplacePrefixMatch, replacePrefixMatch: /}, statusCode: 307",
            "scheme: https, port: 443, statusCode: 303",
        ]),
    ));
    setup.check(&[
        ("GET h/0/x?q=1", "302 http://example.org/0/x?q=1"),
        ("GET h:8080/0", "302 http://example.org:8080/0"),
        ("GET h:443/0", "302 https://example.org/0"),
        ("GET h:8443/0", "302 https://example.org:8443/0"),
        ("GET h/1", "301 http://example.org/1"),
        ("GET h/2", "302 https://h/2"),
        ("GET h:8080/2", "302 https://h/2"),
        ("GET h/3", "302 https://h:8443/3"),
        ("GET h:8080/4", "302 http://h:8083/4"),
        ("GET h:8443/4", "302 https://h:8083/4"),
        ("GET h:8443/5", "302 http://h/5"),
        ("GET h/6/x?q", "302 http://h/full?q"),
        ("GET h/7/x", "308 http://h/xyz/x"),
        ("GET h/8/x", "307 http://h/x"),
        ("GET h:8080/9", "303 https://h/9"),
    ]);
}

#[test]
fn rewrites_change_host_and_path() {
    let setup = Setup::of_routes(&route(
        "HTTPRoute",
        "r",
        "  rules:
  - matches: [{path: {value: /prefix/one}}]
    filters: [{type: URLRewrite, urlRewrite: {hostname: one.example.org, path: {type: ReplacePrefixMatch, \
         replacePrefixMatch: /one}}}]
    backendRefs: [{name: a, port: 80}]
  - matches: [{path: {value: /strip-prefix}}]
    filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /}}}]
    backendRefs: [{name: a, port: 80}]
  - matches: [{path: {value: /full/one}}]
    filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplaceFullPath, replaceFullPath: /one}}}]
    backendRefs: [{name: a, port: 80}]
  - matches: [{path: {value: /host}}]
    filters: [{type: URLRewrite, urlRewrite: {hostname: Two.example.org}}]
    backendRefs: [{name: a, port: 80}]
",
    ));
    setup.check(&[
        ("GET h/prefix/one/two?q=1", "a host one.example.org target /one/two?q=1"),
        ("GET h/prefix/one", "a host one.example.org target /one"),
        ("GET h/strip-prefix/three", "a target /three"),
        ("GET h/strip-prefix", "a target /"),
        ("GET h/full/one/two", "a target /one"),
        ("GET h/host/x", "a host two.example.org"),
    ]);
}

#[test]
fn copies_are_sent_to_who_exists() {
    let setup = Setup::of_routes(&route(
        "HTTPRoute",
        "r",
        "  rules:
  - matches: [{path: {value: /all}}]
    filters:
    - {type: RequestMirror, requestMirror: {backendRef: {name: b, port: 80}}}
    - {type: RequestMirror, requestMirror: {backendRef: {name: c, port: 80}, percent: 50}}
    - {type: RequestMirror, requestMirror: {backendRef: {name: d, port: 80}, fraction: {numerator: 0}}}
    - {type: RequestMirror, requestMirror: {backendRef: {name: lost, port: 80}}}
    backendRefs: [{name: a, port: 80}]
",
    ));
    assert_eq!(setup.ask_with("GET h/all", 0), "a mirror infra/b:80 mirror infra/c:80");
    assert_eq!(setup.ask_with("GET h/all", u64::MAX), "a mirror infra/b:80");
    assert_eq!(setup.statuses(), ["r: accepted, infra/lost:80 BackendNotFound"]);
}

#[test]
fn headers_are_changed_by_rule_and_backend() {
    let setup = Setup::of_routes(&route(
        "HTTPRoute",
        "r",
        "  rules:
  - filters:
    - type: RequestHeaderModifier
      requestHeaderModifier:
        set: [{name: X-Set, value: new}, {name: x-set, value: ignored}]
        add: [{name: X-Add, value: more}]
        remove: [X-Remove]
    - {type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: server, value: rule}]}}
    backendRefs:
    - name: a
      port: 80
      filters:
      - {type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x-backend, value: a}]}}
      - {type: ResponseHeaderModifier, responseHeaderModifier: {add: [{name: x-from, value: a}]}}
",
    ));
    let table = &setup.tables["http"];
    with_request("GET h/", |request, _| {
        let Step::Forward(forward) = table.decide(request).unwrap().plan(request, || 0).step else {
            panic!("not forwarded");
        };
        let mut headers: Vec<(String, String)> = ["X-Set", "x-set", "x-add", "x-REMOVE", "other"]
            .map(|name| (name.to_owned(), "old".to_owned()))
            .to_vec();
        for edits in forward.request_headers {
            edits.apply(&mut headers);
        }
        let expected = [
            ("x-add", "old"),
            ("other", "old"),
            ("x-set", "new"),
            ("x-add", "more"),
            ("x-backend", "a"),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(headers, expected);
        let mut headers = vec![("Server".to_owned(), "app".to_owned())];
        forward.answer.apply(&mut headers);
        let expected = [("x-from", "a"), ("server", "rule")];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(headers, expected);
    });
}

#[test]
fn preflights_are_answered_at_the_gateway() {
    let setup = Setup::of_routes(&route(
        "HTTPRoute",
        "r",
        "  rules:
  - filters: [{type: CORS, cors: {allowOrigins: ['https://*.example.com', 'https://a.org:8443'], allowMethods: \
         [PUT], maxAge: 60}}]
    backendRefs: [{name: a, port: 80}]
",
    ));
    let ask = "access-control-request-method:PUT";
    setup.check(&[
        (&format!("OPTIONS h/ origin:https://b.example.com {ask}"), "preflight"),
        (&format!("OPTIONS h/ origin:https://a.org:8443 {ask}"), "preflight"),
        ("OPTIONS h/ origin:https://b.example.com", "a"),
        ("PUT h/ origin:https://evil.org", "a"),
    ]);
}

#[test]
fn timeouts_and_retries_are_read() {
    let setup = Setup::of_routes(&route(
        "HTTPRoute",
        "r",
        "  rules:
  - timeouts: {request: 1m30s, backendRequest: 500ms}
    retry: {codes: [500, 503], attempts: 3, backoff: 100ms}
    backendRefs: [{name: a, port: 80}]
  - {timeouts: {request: 0s, backendRequest: 2s}, backendRefs: [{name: a, port: 80}]}
",
    ));
    let rules = &setup.manifests.routes[0].rules;
    let ms = |count| Some(std::time::Duration::from_millis(count));
    assert_eq!(
        (rules[0].timeouts.request, rules[0].timeouts.attempt),
        (ms(90_000), ms(500))
    );
    assert_eq!((rules[1].timeouts.request, rules[1].timeouts.attempt), (None, ms(2000)));
    let retries = rules[0].retries.as_ref().unwrap();
    let backoff = Backoff::new().at_least(std::time::Duration::from_millis(100));
    assert_eq!((retries.attempts, retries.backoff), (3, Some(backoff)));
    assert_eq!(retries.conditions, Some(Conditions::unprocessed().statuses([500, 503])));
}

#[test]
fn calls_are_matched_by_service_and_method() {
    let setup = Setup::of_routes(&route(
        "GRPCRoute",
        "g",
        "  hostnames: [grpc.example.com]
  rules:
  - matches: [{method: {service: pkg.Echo, method: Say}}]
    backendRefs: [{name: a, port: 80}]
  - matches: [{method: {service: pkg.Echo}}]
    backendRefs: [{name: b, port: 80}]
  - matches: [{method: {method: Say}}]
    backendRefs: [{name: c, port: 80}]
  - matches: [{method: {type: RegularExpression, service: 'pkg\\.v[0-9]+\\..*', method: 'Get.*'}}]
    backendRefs: [{name: d, port: 80}]
  - matches: [{headers: [{name: version, value: one}]}]
    backendRefs: [{name: e, port: 80}]
",
    ));
    setup.check(&[
        ("POST grpc.example.com/pkg.Echo/Say", "a"),
        ("POST grpc.example.com/pkg.Echo/Say version:one", "a"),
        ("POST grpc.example.com/pkg.Echo/Shout", "b"),
        ("POST grpc.example.com/pkg.Other/Say", "c"),
        ("POST grpc.example.com/pkg.v1.Store/GetItem", "d"),
        ("POST grpc.example.com/pkg.v1.Store/PutItem", "404"),
        ("POST grpc.example.com/pkg.v1.Store/PutItem version:one", "e"),
        ("POST grpc.example.com/pkg.Other/say", "404"),
        ("POST other.example.com/pkg.Echo/Say", "404"),
    ]);
}

#[test]
fn calls_with_longer_services_methods_and_more_headers_come_first() {
    let setup = Setup::of_routes(&route(
        "GRPCRoute",
        "g",
        "  rules:
  - matches: [{method: {method: LongMethodName}}]
    backendRefs: [{name: a, port: 80}]
  - matches: [{method: {service: s.S}}]
    backendRefs: [{name: b, port: 80}]
  - matches: [{method: {service: s.S}, headers: [{name: x, value: '1'}]}]
    backendRefs: [{name: c, port: 80}]
  - matches: [{method: {service: s.S, method: LongMethodName}}]
    backendRefs: [{name: d, port: 80}]
",
    ));
    setup.check(&[
        ("POST h/s.S/LongMethodName x:1", "d"),
        ("POST h/s.S/M x:1", "c"),
        ("POST h/s.S/M", "b"),
        ("POST h/t.T/LongMethodName", "a"),
    ]);
}

#[test]
fn calls_without_a_backend_are_unavailable() {
    let setup = Setup::of_routes(&route(
        "GRPCRoute",
        "g",
        "  rules: [{backendRefs: [{name: lost, port: 80}]}]",
    ));
    assert_eq!(setup.ask("POST h/s.S/M"), "200 grpc 14");
}

#[test]
fn of_two_kinds_for_the_same_hosts_the_older_route_is_accepted() {
    let rest = "  hostnames: ['*.example.com']\n  rules: [{backendRefs: [{name: a, port: 80}]}]";
    let http = route("HTTPRoute", "http", rest);
    let grpc = route(
        "GRPCRoute",
        "grpc",
        "  hostnames: [g.example.com]\n  rules: [{backendRefs: [{name: b, port: 80}]}]",
    );
    let apart = route(
        "GRPCRoute",
        "apart",
        "  hostnames: [g.example.org]\n  rules: [{backendRefs: [{name: c, port: 80}]}]",
    );
    let old = http.replace(
        "namespace: infra}",
        "namespace: infra, creationTimestamp: 2020-01-01T00:00:00Z}",
    );
    let conflict = |loser: &str, winner: &str| format!("{loser}: {winner} is for the same hosts, and first");
    let setup = Setup::of_routes(&format!("{http}---{grpc}---{apart}"));
    assert_eq!(
        setup.statuses(),
        [
            "apart: accepted".to_owned(),
            "grpc: accepted".to_owned(),
            conflict("http", "GRPCRoute `infra/grpc`")
        ]
    );
    let setup = Setup::of_routes(&format!("{old}---{grpc}"));
    assert_eq!(
        setup.statuses(),
        ["http: accepted".to_owned(), conflict("grpc", "HTTPRoute `infra/http`")]
    );
}

#[test]
fn routes_of_a_service_are_for_all_hosts() {
    let text = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: own, namespace: infra}
spec:
  parentRefs: [{group: '', kind: Service, name: a}]
  hostnames: [ignored.example.com]
  rules: [{matches: [{path: {value: /v2}}], backendRefs: [{name: b, port: 80}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: port, namespace: infra}
spec:
  parentRefs: [{group: '', kind: Service, name: a, port: 81}]
  rules: [{backendRefs: [{name: c, port: 80}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: consumer, namespace: other}
spec:
  parentRefs: [{group: '', kind: Service, name: a, namespace: infra}]
  rules: [{backendRefs: [{name: d, port: 80}]}]
";
    let manifests = read(text);
    let attached = attach::service("infra", "a", 80, &manifests.routes, &manifests.grants, &world());
    let accepted = attached
        .statuses
        .iter()
        .map(|status| (&*status.route.name, status.accepted.is_ok()));
    let accepted: Vec<_> = accepted.collect();
    assert_eq!(accepted, [("own", true), ("port", false), ("consumer", false)]);
    let table = RouteTable::new(attached.routes, &Budget::new());
    let ask = |request| {
        with_request(request, |request, _| {
            table.decide(request).map(|choice| shown(&choice, request, 0))
        })
    };
    assert_eq!(ask("GET a.infra/v2").as_deref(), Some("b"));
    assert_eq!(ask("GET a.infra/").as_deref(), None);
}

#[test]
fn requests_of_a_rule_that_cannot_be_carried_out_fail_and_fall_to_no_other() {
    let all = route("HTTPRoute", "all", "  rules: [{backendRefs: [{name: b, port: 80}]}]");
    for (rest, reason) in [
        (
            "filters: [{type: ExtensionRef, extensionRef: {group: x, kind: Y, name: z}}]",
            "`spec.rules[0].filters[0].type` is not supported",
        ),
        (
            "filters: [{type: ExternalAuth, externalAuth: {}}]",
            "`spec.rules[0].filters[0].type` is not supported",
        ),
        (
            "filters: [{type: Teleport}]",
            "`spec.rules[0].filters[0].type` cannot be `Teleport`",
        ),
        (
            "sessionPersistence: {}",
            "`spec.rules[0].sessionPersistence` is not supported",
        ),
        ("teleports: true", "there is no field `spec.rules[0].teleports`"),
    ] {
        let kept =
            format!("  rules: [{{matches: [{{path: {{value: /p}}}}], backendRefs: [{{name: a, port: 80}}], {rest}}}]");
        let text = format!("{GATEWAY}---{all}---{}", route("HTTPRoute", "kept", &kept));
        let setup = Setup::of(k8s::read("r.yaml", &text, &Budget::new()).unwrap());
        setup.check(&[("GET h/p/q", "500"), ("GET h/other", "b")]);
        assert!(setup.manifests.rejected.is_empty());
        let reported: Vec<_> = setup.manifests.impaired.iter().map(ToString::to_string).collect();
        assert_eq!(reported, [format!("HTTPRoute `infra/kept`: r.yaml:25: {reason}")]);
        with_request("GET h/p", |request, _| {
            let Step::Fail(failed) = setup.tables["http"].decide(request).unwrap().plan(request, || 0).step else {
                panic!("not failed");
            };
            assert_eq!(failed.cause.to_string(), format!("r.yaml:25: {reason}"));
        });
    }
}

#[test]
fn the_share_of_a_backend_whose_filters_cannot_be_carried_out_fails() {
    let text = route(
        "GRPCRoute",
        "r",
        "  rules: [{backendRefs: [{name: a, port: 80}, {name: b, port: 80, filters: [{type: ExtensionRef}]}]}]",
    );
    let setup = Setup::of(k8s::read("r.yaml", &format!("{GATEWAY}---{text}"), &Budget::new()).unwrap());
    assert_eq!(setup.ask_with("POST h/s.S/M", 0), "a");
    assert_eq!(setup.ask_with("POST h/s.S/M", u64::MAX), "500");
    assert_eq!(setup.manifests.impaired.len(), 1);
}

#[test]
fn a_route_whose_matches_cannot_be_read_is_left_out_with_what_it_claimed() {
    let text = route(
        "HTTPRoute",
        "r",
        "  hostnames: [a.example.com]\n  rules: [{matches: [{path: {type: RegularExpression, value: '('}}]}]",
    );
    let manifests = k8s::read("r.yaml", &text, &Budget::new()).unwrap();
    assert!(manifests.routes.is_empty());
    let claims = manifests.rejected[0].claimed.as_ref().unwrap();
    assert_eq!(claims.hosts, ["a.example.com".parse().unwrap()]);
    assert_eq!(claims.parents, [ParentRef::gateway("infra", "gw")]);
    let unknown = text.replace("a.example.com", "'*.*'");
    let manifests = k8s::read("r.yaml", &unknown, &Budget::new()).unwrap();
    assert_eq!(manifests.rejected[0].claimed, None);
}

#[test]
fn a_stand_in_takes_what_older_routes_ask_for_no_more_precisely() {
    let rules = |path: &str| {
        format!("  rules: [{{matches: [{{path: {{value: {path}}}}}], backendRefs: [{{name: a, port: 80}}]}}]")
    };
    let older = |name: &str, rules: &str| {
        let dated = format!("{{name: {name}, creationTimestamp: '2020-01-01T00:00:00Z',");
        route("HTTPRoute", name, rules).replace(&format!("{{name: {name},"), &dated)
    };
    let faulty = route("HTTPRoute", "faulty", &rules("admin"));
    for all in ["  rules: [{backendRefs: [{name: a, port: 80}]}]", &rules("/")] {
        let text = [
            GATEWAY.to_owned(),
            older("all", all),
            older("some", &rules("/some")),
            faulty.clone(),
        ];
        let mut manifests = k8s::read("r.yaml", &text.join("---"), &Budget::new()).unwrap();
        let rejected = manifests.rejected.pop().unwrap();
        manifests.stand_in(&rejected);
        let setup = Setup::of(manifests);
        setup.check(&[("GET h/admin", "500"), ("GET h/", "500"), ("GET h/some/more", "a")]);
    }
}

#[test]
fn a_stand_in_keeps_no_other_kind_from_its_listener() {
    let call = "  rules: [{matches: [{method: {service: a.B}}], backendRefs: [{name: a, port: 80}]}]";
    let faulty = route("HTTPRoute", "faulty", "  rules: [{matches: [{path: {value: admin}}]}]");
    let text = [GATEWAY.to_owned(), route("GRPCRoute", "calls", call), faulty];
    let mut manifests = k8s::read("r.yaml", &text.join("---"), &Budget::new()).unwrap();
    let rejected = manifests.rejected.pop().unwrap();
    manifests.stand_in(&rejected);
    let setup = Setup::of(manifests);
    setup.check(&[("POST h/a.B/call", "a"), ("GET h/admin", "500")]);
}

#[test]
fn what_the_api_does_not_have_is_refused_with_its_line() {
    for (rest, expected) in [
        ("  rules: [{matchs: []}]", "there is no field `spec.rules[0].matchs`"),
        (
            "  rules: [{matches: [{path: {value: abc}}]}]",
            "`spec.rules[0].matches[0].path.value` cannot be `abc`",
        ),
        (
            "  rules: [{matches: [{path: {type: RegularExpression, value: '('}}]}]",
            "`spec.rules[0].matches[0].path.value`: `(` is no regular expression",
        ),
        (
            "  rules: [{filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: Host, value: a}]}}]}]",
            "`spec.rules[0].filters[0].requestHeaderModifier.set[0].name`: the header `host` is not for a route to change",
        ),
        (
            "  rules: [{filters: [{type: ExtensionRef, extensionRef: {}}]}]",
            "`spec.rules[0].filters[0].type` is not supported",
        ),
        (
            "  rules: [{filters: [{type: RequestRedirect, requestRedirect: {}}, {type: URLRewrite, urlRewrite: {}}]}]",
            "`requestRedirect` and `urlRewrite` exclude each other",
        ),
        (
            "  rules: [{filters: [{type: CORS, cors: {}}, {type: CORS, cors: {}}]}]",
            "`spec.rules[0].filters[1].type` cannot be `CORS`",
        ),
        (
            "  rules: [{filters: [{type: RequestRedirect, requestRedirect: {}}], backendRefs: [{name: a, port: 80}]}]",
            "`spec.rules[0].backendRefs` and `requestRedirect` exclude each other",
        ),
        (
            "  rules: [{matches: [{path: {type: Exact, value: /a}}], filters: [{type: URLRewrite, urlRewrite: {path: \
             {type: ReplacePrefixMatch, replacePrefixMatch: /b}}}]}]",
            "`spec.rules[0].filters` cannot be `ReplacePrefixMatch`",
        ),
        (
            "  rules: [{backendRefs: [{name: a}]}]",
            "`spec.rules[0].backendRefs[0].port` is missing",
        ),
        (
            "  rules: [{timeouts: {request: 1s, backendRequest: 2s}}]",
            "`spec.rules[0].timeouts.backendRequest` cannot be `2s`",
        ),
        (
            "  rules: [{timeouts: {request: 1.5s}}]",
            "`spec.rules[0].timeouts.request` cannot be `1.5s`",
        ),
        (
            "  rules: [{retry: {codes: [200]}}]",
            "`spec.rules[0].retry.codes` cannot be `200`",
        ),
        (
            "  rules: [{sessionPersistence: {}}]",
            "`spec.rules[0].sessionPersistence` is not supported",
        ),
        ("  hostnames: ['*.*.com']", "`spec.hostnames` cannot be `*.*.com`"),
        (
            "  rules: [{}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}]",
            "`spec.rules` has more than 16 entries",
        ),
    ] {
        let text = route("HTTPRoute", "r", rest);
        let manifests = k8s::read("r.yaml", &text, &Budget::new()).unwrap();
        let found = manifests.rejected.iter().chain(&manifests.impaired).next().unwrap();
        assert_eq!(
            found.to_string(),
            format!("HTTPRoute `infra/r`: r.yaml:7: {expected}"),
            "{rest}"
        );
    }
    let text = route("GRPCRoute", "g", "  rules: [{matches: [{method: {}}]}]");
    let manifests = k8s::read("g.yaml", &text, &Budget::new()).unwrap();
    assert!(manifests.rejected[0].to_string().contains("method.service` is missing"));
}
