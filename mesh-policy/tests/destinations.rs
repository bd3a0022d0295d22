//! What DestinationRules and policies of services come to, for the deciders.
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
    Budget,
    authz::TargetRef,
    traffic::{
        DestinationRule, FieldName, HeaderMatch, HeaderTest, Pattern, Retries, Timeouts,
        balance::{AffinityKey, Algorithm, Balance, Cookie, Distribution, Failover, LabelOrder, Warmup},
        breaker::{Limits, RetryLimit},
        k8s,
        outlier::Detection,
        rate::{Action, Descriptors, Limit, LimitKey, LocalLimit},
        retry::{Backoff, Conditions, Policy},
        upstream::{BackendTrafficPolicies, Places, RetryConstraint, Settings},
    },
};

fn rule(rest: &str) -> Result<DestinationRule, String> {
    let text = format!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: r, namespace: n}}\nspec:\n  \
         host: reviews\n{rest}\n"
    );
    let mut manifests = k8s::read("dr.yaml", &text, &Budget::new()).unwrap();
    match manifests.rejected.pop() {
        Some(rejected) => Err(rejected.to_string()),
        None => Ok(Arc::unwrap_or_clone(manifests.destination_rules.pop().unwrap())),
    }
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// What a policy for all ports comes to, beside what is so without one.
fn check(policy: &str, expected: impl FnOnce(&mut Settings)) {
    let rule = rule(&format!("  trafficPolicy: {{{policy}}}")).unwrap();
    let mut settings = Settings::new();
    expected(&mut settings);
    assert_eq!(Settings::of(&rule, 80, None).unwrap(), settings, "{policy}");
}

#[test]
fn without_a_rule_there_are_no_limits_and_nothing_is_left_alone() {
    let settings = Settings::new();
    assert_eq!(settings.balance, Balance::new().panic_threshold(0));
    assert_eq!(settings.limits, Limits::new());
    assert_eq!((&settings.places, &settings.detection), (&Places::Unsaid, &None));
    assert_eq!(settings.connect_timeout, seconds(10));
    assert_eq!(
        (settings.idle_timeout, settings.tcp_idle_timeout),
        (Some(seconds(3_600)), Some(seconds(3_600)))
    );
    assert_eq!(
        (settings.connection_age, settings.requests_per_connection),
        (None, None)
    );
    check("", |_| {});
}

#[test]
fn balancers_are_those_of_istio() {
    let balance = |algorithm| Balance::new().panic_threshold(0).algorithm(algorithm);
    for (name, algorithm) in [
        ("UNSPECIFIED", Algorithm::PeakEwma),
        ("LEAST_REQUEST", Algorithm::LeastRequest),
        ("ROUND_ROBIN", Algorithm::RoundRobin),
        ("RANDOM", Algorithm::Random),
    ] {
        check(&format!("loadBalancer: {{simple: {name}}}"), |settings| {
            settings.balance = balance(algorithm);
        });
    }
    let cookie = || Cookie::new("user");
    for (hash, slots, key) in [
        ("httpHeaderName: X-User", 1_024, AffinityKey::header("x-user")),
        (
            "httpQueryParameterName: id",
            1_024,
            AffinityKey::QueryParameter("id".into()),
        ),
        ("useSourceIp: true, maglev: {}", 65_537, AffinityKey::SourceIp),
        (
            "useSourceIp: true, maglev: {tableSize: 5003}",
            5_003,
            AffinityKey::SourceIp,
        ),
        (
            "useSourceIp: true, ringHash: {minimumRingSize: 4096}",
            4_096,
            AffinityKey::SourceIp,
        ),
        ("useSourceIp: true, minimumRingSize: 2048", 2_048, AffinityKey::SourceIp),
        ("httpCookie: {name: user}", 1_024, AffinityKey::Cookie(cookie())),
        (
            "httpCookie: {name: user, ttl: 0s}",
            1_024,
            AffinityKey::Cookie(cookie().ttl(Duration::ZERO)),
        ),
        (
            "httpCookie: {name: user, path: /a, ttl: 1m}",
            1_024,
            AffinityKey::Cookie(cookie().path("/a").ttl(seconds(60))),
        ),
    ] {
        check(&format!("loadBalancer: {{consistentHash: {{{hash}}}}}"), |settings| {
            settings.balance = balance(Algorithm::Affinity { slots });
            settings.affinity = Some(key);
        });
    }
}

#[test]
fn endpoints_are_warmed_up_where_their_weight_counts() {
    let warmup = || Warmup::new(seconds(30));
    for (said, algorithm, expected) in [
        ("", Algorithm::LeastRequest, Some(warmup())),
        ("simple: LEAST_REQUEST, ", Algorithm::LeastRequest, Some(warmup())),
        ("simple: ROUND_ROBIN, ", Algorithm::RoundRobin, Some(warmup())),
        ("simple: RANDOM, ", Algorithm::Random, None),
    ] {
        check(
            &format!("loadBalancer: {{{said}warmup: {{duration: 30s}}}}"),
            |settings| {
                settings.balance = Balance::new().panic_threshold(0).algorithm(algorithm);
                settings.warmup = expected;
            },
        );
    }
    let full = "loadBalancer: {warmup: {duration: 30s, minimumPercent: 25, aggression: 1.5}}";
    check(full, |settings| {
        settings.balance = Balance::new().panic_threshold(0).algorithm(Algorithm::LeastRequest);
        settings.warmup = Some(warmup().minimum(25).aggression(1.5));
    });
}

#[test]
fn places_come_in_order_where_failures_are_detected() {
    let distribution = Distribution::new().rule(
        "a/*".parse().unwrap(),
        [("a/z1".parse().unwrap(), 80), ("b".parse().unwrap(), 20)],
    );
    for (setting, without, with) in [
        (None, Places::Unsaid, Places::Unsaid),
        (Some("enabled: false"), Places::Alike, Places::Alike),
        (Some("enabled: true"), Places::Unsaid, Places::Near(Failover::new())),
        (
            Some("failover: [{from: a, to: b}]"),
            Places::Unsaid,
            Places::Near(Failover::new().region("a", "b")),
        ),
        (
            Some("failoverPriority: [x, y=1], failover: [{from: a, to: b}]"),
            Places::Unsaid,
            Places::Labels(LabelOrder::new(["x", "y=1"])),
        ),
        (
            Some("distribute: [{from: 'a/*', to: {a/z1: 80, b: 20}}]"),
            Places::Divided(distribution.clone()),
            Places::Divided(distribution),
        ),
    ] {
        let said = setting.map_or_else(String::new, |setting| {
            format!("loadBalancer: {{localityLbSetting: {{{setting}}}}}, ")
        });
        check(&said, |settings| settings.places = without);
        check(&format!("{said}outlierDetection: {{}}"), |settings| {
            settings.places = with;
            settings.detection = Some(Detection::new());
        });
    }
}

#[test]
fn limits_are_those_of_the_connection_pool() {
    check(
        "connectionPool: {tcp: {maxConnections: 100, connectTimeout: 30ms, maxConnectionDuration: 2h, idleTimeout: 5m}, \
         http: {http1MaxPendingRequests: 7, http2MaxRequests: 1000, maxRequestsPerConnection: 10, maxRetries: 4, \
         maxConcurrentStreams: 50}}",
        |settings| {
            settings.limits = Limits::new()
                .connections(100)
                .pending(7)
                .requests(1_000)
                .retries(RetryLimit::AtMost(4));
            settings.connect_timeout = Duration::from_millis(30);
            settings.connection_age = Some(seconds(7_200));
            settings.idle_timeout = Some(seconds(300));
            settings.tcp_idle_timeout = Some(seconds(300));
            settings.requests_per_connection = Some(10);
            settings.streams_per_connection = Some(50);
        },
    );
    check(
        "connectionPool: {http: {idleTimeout: 0s, http2MaxRequests: 0}}",
        |settings| {
            settings.idle_timeout = None;
        },
    );
    check(
        "connectionPool: {tcp: {idleTimeout: 0s}, http: {idleTimeout: 5m}}",
        |settings| {
            settings.idle_timeout = Some(seconds(300));
            settings.tcp_idle_timeout = None;
        },
    );
    for (budget, percent, at_least) in [
        ("", 20, 3),
        ("percent: 25", 25, 3),
        ("percent: 0, minRetryConcurrency: 1", 0, 1),
    ] {
        check(
            &format!("connectionPool: {{http: {{maxRetries: 9}}}}, retryBudget: {{{budget}}}"),
            |settings| {
                settings.limits = Limits::new().retries(RetryLimit::Budget { percent, at_least });
            },
        );
    }
    check(
        "retryBudget: {percent: 30, minRetryConcurrency: 2, budgetInterval: 5s}",
        |settings| {
            settings.limits = Limits::new().retries(RetryLimit::AtMost(u32::MAX));
            let mut constraint = RetryConstraint::default();
            (constraint.percent, constraint.interval) = (30, seconds(5));
            (constraint.at_least, constraint.every) = (2, seconds(5));
            settings.retry_constraint = Some(constraint);
        },
    );
}

#[test]
fn outliers_are_detected_as_written() {
    for (said, detection, panic) in [
        ("", Detection::new(), 0),
        (
            "consecutive5xxErrors: 7, consecutiveGatewayErrors: 3, interval: 5m, baseEjectionTime: 15m, \
             maxEjectionPercent: 60, minHealthPercent: 40",
            Detection::new()
                .consecutive_errors(7)
                .consecutive_gateway_errors(3)
                .interval(seconds(300))
                .base_ejection_time(seconds(900))
                .max_ejection_percent(60),
            40,
        ),
        ("consecutive5xxErrors: 0", Detection::new().consecutive_errors(0), 0),
        (
            "splitExternalLocalOriginErrors: true",
            Detection::new().split_local_failures(5),
            0,
        ),
        (
            "splitExternalLocalOriginErrors: true, consecutiveLocalOriginFailures: 2",
            Detection::new().split_local_failures(2),
            0,
        ),
        ("consecutiveLocalOriginFailures: 2", Detection::new(), 0),
    ] {
        check(&format!("outlierDetection: {{{said}}}"), |settings| {
            settings.detection = Some(detection);
            settings.balance = Balance::new().panic_threshold(panic);
        });
    }
}

#[test]
fn subsets_have_labels_and_ports_their_own_word() {
    let rule = rule(
        "  trafficPolicy:
    loadBalancer: {simple: RANDOM}
    portLevelSettings: [{port: {number: 81}, connectionPool: {tcp: {maxConnections: 5}}}]
  subsets:
  - {name: v3, labels: {version: v3}, trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}}
",
    )
    .unwrap();
    let balance = |algorithm| Balance::new().panic_threshold(0).algorithm(algorithm);
    let all = Settings::of(&rule, 80, None).unwrap();
    assert_eq!((all.balance, all.labels.len()), (balance(Algorithm::Random), 0));
    let port = Settings::of(&rule, 81, None).unwrap();
    assert_eq!(port.balance, Balance::new().panic_threshold(0));
    assert_eq!(port.limits, Limits::new().connections(5));
    let subset = Settings::of(&rule, 80, Some("v3")).unwrap();
    assert_eq!(subset.balance, balance(Algorithm::RoundRobin));
    assert_eq!(subset.labels["version"], "v3");
    assert!(Settings::of(&rule, 80, Some("v4")).is_err());
}

#[test]
fn retries_are_those_of_the_rule() {
    let (settings, timeouts) = (Settings::new(), Timeouts::new(None, Some(seconds(2))));
    let policy = |retries: Option<&Retries>| settings.retry_policy(retries, &timeouts);
    assert_eq!(policy(None), Policy::new().attempt_timeout(Some(seconds(2))));
    assert_eq!(settings.retry_policy(None, &Timeouts::default()), Policy::new());
    let mut retries = Retries::default();
    assert_eq!(
        policy(Some(&retries)),
        Policy::new().retries(0).attempt_timeout(Some(seconds(2)))
    );
    retries.attempts = 5;
    retries.conditions = Some(Conditions::unprocessed());
    retries.backoff = Some(Backoff::from(seconds(1)));
    retries.attempt_timeout = Some(seconds(1));
    retries.ignore_previous_hosts = Some(false);
    let expected = Policy::new()
        .retries(5)
        .conditions(Conditions::unprocessed())
        .backoff(Backoff::from(seconds(1)))
        .attempt_timeout(Some(seconds(1)))
        .elsewhere(false);
    assert_eq!(policy(Some(&retries)), expected);
    // Who belongs to an endpoint asks it again, unless the route says otherwise.
    let hashed = rule("  trafficPolicy: {loadBalancer: {consistentHash: {useSourceIp: true}}}").unwrap();
    let hashed = Settings::of(&hashed, 80, None).unwrap();
    assert_eq!(
        hashed.retry_policy(None, &Timeouts::default()),
        Policy::new().elsewhere(false)
    );
    retries.ignore_previous_hosts = Some(true);
    assert_eq!(hashed.retry_policy(Some(&retries), &timeouts), expected.elsewhere(true));
}

#[test]
fn policies_of_services_add_a_budget() {
    let text = |rest: &str| {
        format!(
            "apiVersion: gateway.networking.x-k8s.io/v1alpha1\nkind: XBackendTrafficPolicy\nmetadata: {{name: p, \
             namespace: n}}\nspec: {{targetRefs: [{{group: '', kind: Service, name: a}}], {rest}}}\n"
        )
    };
    let settings = |rest: &str| {
        let manifests = k8s::read("p.yaml", &text(rest), &Budget::new()).unwrap();
        assert!(manifests.rejected.is_empty(), "{:?}", manifests.rejected);
        let policies = BackendTrafficPolicies::new(manifests.backend_policies);
        Settings::new()
            .with_policy(policies.find("n", "a").unwrap())
            .retry_constraint
    };
    assert_eq!(settings(""), None);
    assert_eq!(settings("retryConstraint: {}"), Some(RetryConstraint::default()));
    let mut expected = RetryConstraint::default();
    (expected.percent, expected.interval) = (30, seconds(5));
    (expected.at_least, expected.every) = (3, seconds(2));
    assert_eq!(
        settings("retryConstraint: {budget: {percent: 30, interval: 5s}, minRetryRate: {count: 3, interval: 2s}}"),
        Some(expected)
    );
    for (rest, expected) in [
        ("sessionPersistence: {}", "`spec.sessionPersistence` is not supported"),
        (
            "retryConstraint: {budget: {percent: 101}}",
            "`spec.retryConstraint.budget.percent` cannot be `101`",
        ),
        (
            "retryConstraint: {minRetryRate: {interval: 0s}}",
            "`spec.retryConstraint.minRetryRate.interval` cannot be `0s`",
        ),
    ] {
        let manifests = k8s::read("p.yaml", &text(rest), &Budget::new()).unwrap();
        assert!(
            manifests.rejected[0].to_string().ends_with(expected),
            "{}",
            manifests.rejected[0]
        );
    }
}

const RATE_LIMITS: &str = "
apiVersion: traffic.mesh.internal/v1
kind: RateLimitPolicy
metadata: {name: p, namespace: n}
spec:
";

#[test]
fn who_is_limited_twice_by_a_policy_is_limited_once() {
    let targets = [
        "Service, name: a",
        "HTTPRoute, name: a",
        "Service, name: b",
        "Service, name: a",
    ];
    let targets = targets.map(|target| format!("{{kind: {target}}}")).join(", ");
    let text = format!("{RATE_LIMITS}  targetRefs: [{targets}]\n  limits: [{{requests: 1}}]\n");
    let manifests = k8s::read("p.yaml", &text, &Budget::new()).unwrap();
    let targets = manifests.rate_limits[0].targets.iter();
    let read: Vec<_> = targets
        .map(|target| (&*target.object.kind, &*target.object.name))
        .collect();
    assert_eq!(read, [("Service", "a"), ("HTTPRoute", "a"), ("Service", "b")]);
}

#[test]
fn rate_limits_are_read_with_their_defaults() {
    let text = format!(
        "{RATE_LIMITS}  targetRefs: [{{kind: Service, name: a}}, {{kind: HTTPRoute, name: r, sectionName: one}}, {{kind: ServiceEntry, name: b}}]
  limits:
  - {{name: all, requests: 100, per: 10s, burst: 200}}
  - {{requests: 5, by: {{type: Identity}}}}
  - {{requests: 1, per: 1m, by: {{type: Header, header: X-User, keys: 64}}}}
  descriptors:
  - entries: [{{type: GenericKey, value: v}}, {{type: RequestHeader, header: X-User, key: user, skipIfAbsent: true}}]
  - entries: [{{type: HeaderMatch, header: x-a, exact: '1', value: one}}, {{type: QueryParameter, parameter: q, key: q}}]
"
    );
    let manifests = k8s::read("p.yaml", &text, &Budget::new()).unwrap();
    assert!(manifests.rejected.is_empty(), "{:?}", manifests.rejected);
    let policy = &manifests.rate_limits[0];
    let limit = |limit, by| LocalLimit { name: None, limit, by };
    let expected = [
        LocalLimit {
            name: Some("all".into()),
            ..limit(Limit::token_bucket(200, 100, seconds(10)), LimitKey::Everyone)
        },
        limit(Limit::new(5, seconds(1)), LimitKey::Identity { keys: 10_000 }),
        limit(
            Limit::new(1, seconds(60)),
            LimitKey::Header {
                name: "x-user".into(),
                keys: 64,
            },
        ),
    ];
    assert_eq!(policy.limits, expected);
    let exact = HeaderMatch {
        name: FieldName::new("x-a").unwrap(),
        test: HeaderTest::Is(Pattern::Exact("1".into())),
    };
    let descriptors = Descriptors::new()
        .with([
            Action::Generic {
                key: "generic_key".into(),
                value: "v".into(),
            },
            Action::Header {
                name: "x-user".into(),
                key: "user".into(),
                optional: true,
            },
        ])
        .with([
            Action::HeaderMatch {
                key: "header_match".into(),
                value: "one".into(),
                tests: vec![exact],
                expected: true,
            },
            Action::QueryParameter {
                name: "q".into(),
                key: "q".into(),
                optional: false,
            },
        ]);
    assert_eq!(policy.descriptors, descriptors);
    let targets: Vec<_> = policy
        .targets
        .iter()
        .map(|target| (&target.object, target.rule.as_deref()))
        .collect();
    let route = TargetRef {
        group: "gateway.networking.k8s.io".into(),
        kind: "HTTPRoute".into(),
        name: "r".into(),
    };
    let entry = TargetRef::service_entry("b");
    assert_eq!(
        targets,
        [(&TargetRef::service("a"), None), (&route, Some("one")), (&entry, None)]
    );
}

#[test]
fn rate_limits_that_say_nothing_or_something_else_are_refused() {
    let target = "targetRefs: [{kind: Service, name: a}]";
    for (rest, expected) in [
        ("limits: [{requests: 1}]".to_owned(), "`spec.targetRefs` is missing"),
        (target.to_owned(), "`spec.limits` is missing"),
        (
            format!("{target}, limits: [{{per: 1s}}]"),
            "`spec.limits[0].requests` is missing",
        ),
        (
            format!("{target}, limits: [{{requests: 1, per: 0s}}]"),
            "`spec.limits[0].per` cannot be `0s`",
        ),
        (
            format!("{target}, limits: [{{requests: 1, by: {{type: Header}}}}]"),
            "`spec.limits[0].by.header` is missing",
        ),
        (
            format!("{target}, limits: [{{requests: 1, by: {{type: Identity, keys: 2000000}}}}]"),
            "`spec.limits[0].by.keys` cannot be `2000000`",
        ),
        (
            "targetRefs: [{kind: Service, name: a, sectionName: b}], limits: [{requests: 1}]".to_owned(),
            "there is no field `spec.targetRefs[0].sectionName`",
        ),
        (
            "targetRefs: [{kind: Pod, name: a}]".to_owned(),
            "`spec.targetRefs[0].kind` cannot be `Pod`",
        ),
        (
            format!("{target}, descriptors: [{{entries: []}}]"),
            "`spec.descriptors[0].entries` is missing",
        ),
        (
            format!("{target}, descriptors: [{{entries: [{{type: Moon}}]}}]"),
            "`spec.descriptors[0].entries[0].type` cannot be `Moon`",
        ),
    ] {
        let text = RATE_LIMITS.replace("spec:\n", &format!("spec: {{{rest}}}\n"));
        let manifests = k8s::read("p.yaml", &text, &Budget::new()).unwrap();
        let shown = manifests.rejected[0].to_string();
        assert!(shown.ends_with(expected), "{shown}");
    }
}

#[test]
fn destination_rules_that_are_not_carried_out_are_refused() {
    for (rest, expected) in [
        (
            "  trafficPolicy: {loadBalancer: {simple: PASSTHROUGH}}",
            "cannot be `PASSTHROUGH`",
        ),
        (
            "  trafficPolicy: {tls: {mode: MUTUAL}}",
            "`spec.trafficPolicy.tls.mode` cannot be `MUTUAL`",
        ),
        (
            "  trafficPolicy: {loadBalancer: {localityLbSetting: {distribute: [{from: a, to: {a: 99}}]}}}",
            "localityLbSetting.distribute[0].to` cannot be `99`",
        ),
        (
            "  trafficPolicy: {loadBalancer: {localityLbSetting: {distribute: [{from: a, to: {a: 100}}], failover: \
             [{from: a, to: b}]}}}",
            "exclude each other",
        ),
        (
            "  trafficPolicy: {loadBalancer: {simple: RANDOM, consistentHash: {useSourceIp: true}}}",
            "exclude each other",
        ),
        (
            "  trafficPolicy: {loadBalancer: {consistentHash: {useSourceIp: true, httpHeaderName: x}}}",
            "exclude each other",
        ),
        (
            "  trafficPolicy: {outlierDetection: {maxEjectionPercent: 101}}",
            "cannot be `101`",
        ),
        (
            "  trafficPolicy: {loadBalancer: {localityLbSetting: {distribute: [{from: '*/a', to: {a: 100}}]}}}",
            "localityLbSetting.distribute[0].from` cannot be `*/a`",
        ),
        ("  workloadSelector: {}", "`spec.workloadSelector` is not supported"),
    ] {
        let error = rule(rest).unwrap_err();
        assert!(error.ends_with(expected), "{error}");
    }
}
