use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;
use std::sync::Arc;
use std::time::Duration;

use hbone::Authority;
use http_body_util::BodyExt;
use mesh_identity::PeerPolicy;
use mesh_policy::authz::Labels;
use mesh_policy::traffic::upstream::{BackendTrafficPolicy, RetryConstraint};
use mesh_policy::traffic::{BalanceRule, DestinationRule, HashKey, LocalityRule, OutlierRule, Subset};
use mesh_testkit::xds::{gateway, in_service, located, workload};
use mesh_xds_types::workload::{TunnelProtocol, Workload, WorkloadStatus};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Semaphore;
use tokio::time::advance;

use super::world::{App, Log, World, answer, get, in_turn, post, retries, rule};
use crate::proxy::stretch::Spot;
use crate::waypoint::addressee::Addressee;
use crate::waypoint::labels::WorkloadLabels;
use crate::waypoint::upstream::order::{Order, Shadow};
use crate::waypoint::upstream::site::Way;

/// How often each application is asked, by its name.
async fn asked(world: &World, order: &Order, times: usize) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for number in 0..times {
        *counts.entry(world.ask(get(number), order).await.1).or_default() += 1;
    }
    counts
}

fn named(names: &[&'static str]) -> World {
    let log = Log::default();
    World::new(false, names.iter().map(|name| (*name, App::answering(200, name, &log))))
}

fn counted(counts: &[(&str, usize)]) -> BTreeMap<String, usize> {
    counts
        .iter()
        .map(|(name, count)| ((*name).to_owned(), *count))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn a_subset_is_of_the_endpoints_with_its_labels() {
    let mut world = named(&["one", "two"]);
    let version = |uid: &str, at: &str, version: &str| Workload {
        canonical_revision: version.to_owned(),
        ..in_service(workload(uid, at), "shop")
    };
    world.workloads(&[version("one", "10.0.1.1", "v1"), version("two", "10.0.1.2", "v2")]);
    let mut rule = DestinationRule::new("default", "shop", "shop".parse().unwrap());
    for version in ["v1", "v2", "v3"] {
        let labels = [("version".to_owned(), version.to_owned())].into();
        rule.subsets.push(Subset::new(version, labels, Default::default()));
    }
    let mut order = world.order();
    order.rule = Some(Arc::new(rule));
    for (subset, expected) in [("v1", "one"), ("v2", "two"), ("v3", "UH")] {
        order.subset = Some(subset.into());
        assert_eq!(asked(&world, &order, 10).await, counted(&[(expected, 10)]));
    }
}

/// A pod of the service, by its whole uid.
fn pod(uid: &str, at: &str) -> Workload {
    Workload {
        service_account: "shop".to_owned(),
        ..in_service(workload(uid, at), "shop")
    }
}

/// What pods of the namespace `default` are labelled with.
fn labels(pods: &[(&str, &str, &str)]) -> WorkloadLabels {
    let labels = pods.iter().map(|(pod, name, value)| {
        let labels = Labels::from([((*name).to_owned(), (*value).to_owned())]);
        (format!("Pod/default/{pod}").into(), Arc::new(labels))
    });
    labels.collect()
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_whose_label_changes_goes_to_another_subset_and_ends_what_it_began() {
    const PODS: [&str; 2] = ["c//Pod/default/one", "c//Pod/default/two"];
    let (held, log) = (Arc::new(Semaphore::new(0)), Log::default());
    let until = Arc::clone(&held);
    let slow = App::http(move |_| {
        let until = Arc::clone(&until);
        async move {
            let _held = until.acquire().await;
            Ok(answer(200, "one"))
        }
    });
    let mut world = World::new(false, [(PODS[0], slow), (PODS[1], App::answering(200, "two", &log))]);
    let workloads = [pod(PODS[0], "10.0.1.1"), pod(PODS[1], "10.0.1.2")];
    world.labelled(&workloads, labels(&[("one", "track", "new"), ("two", "track", "old")]));
    let mut rule = DestinationRule::new("default", "shop", "shop".parse().unwrap());
    for track in ["new", "old"] {
        let labels = [("track".to_owned(), track.to_owned())].into();
        rule.subsets.push(Subset::new(track, labels, Default::default()));
    }
    let [mut new, mut old] = [world.order(), world.order()];
    let rule = Arc::new(rule);
    for (order, subset) in [(&mut new, "new"), (&mut old, "old")] {
        order.rule = Some(Arc::clone(&rule));
        order.subset = Some(subset.into());
    }
    assert_eq!(asked(&world, &old, 5).await, counted(&[("two", 5)]));
    let under_way = async { world.upstream.send(get(0), &new).await.unwrap() };
    let changed = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let labels = labels(&[("one", "track", "old"), ("two", "track", "new")]);
        world.relabel(&workloads, labels);
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(asked(&world, &new, 5).await, counted(&[("two", 5)]));
        held.add_permits(1_000);
    };
    let (sent, ()) = tokio::join!(under_way, changed);
    assert_eq!(sent.response.into_body().collect().await.unwrap().to_bytes(), "one");
    assert_eq!(asked(&world, &old, 5).await, counted(&[("one", 5)]));
}

#[tokio::test(start_paused = true)]
async fn a_label_counts_before_what_the_mesh_makes_of_labels() {
    let mut world = named(&["c//Pod/default/one"]);
    let one = Workload {
        canonical_name: "shop".to_owned(),
        canonical_revision: "v1".to_owned(),
        ..pod("c//Pod/default/one", "10.0.1.1")
    };
    let mut rule = DestinationRule::new("default", "shop", "shop".parse().unwrap());
    for (name, value) in [("app", "shop"), ("app", "till"), ("version", "v1")] {
        let labels = [(name.to_owned(), value.to_owned())].into();
        rule.subsets.push(Subset::new(value, labels, Default::default()));
    }
    let mut order = world.order();
    order.rule = Some(Arc::new(rule));
    for (label, found) in [
        (("app", "till"), ["UH", "c//Pod/default/one", "c//Pod/default/one"]),
        (("version", ""), ["c//Pod/default/one", "UH", "UH"]),
    ] {
        world.labelled(std::slice::from_ref(&one), labels(&[("one", label.0, label.1)]));
        for (subset, expected) in ["shop", "till", "v1"].into_iter().zip(found) {
            order.subset = Some(subset.into());
            assert_eq!(
                asked(&world, &order, 1).await,
                counted(&[(expected, 1)]),
                "{label:?} {subset}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn near_endpoints_are_asked_until_too_many_of_them_are_ill() {
    let mut world = named(&["near", "far"]);
    let of = |uid: &str, at: &str, place: &str| located(in_service(workload(uid, at), "shop"), place);
    let here = located(workload("waypoint", "10.0.0.9"), "r/z/s");
    let endpoints = [of("near", "10.0.1.1", "r/z/s"), of("far", "10.0.1.2", "r/other/s")];
    let workloads = [vec![here], endpoints.to_vec()].concat();
    world.workloads(&workloads);
    let mut order = world.order();
    order.rule = rule(|policy| {
        in_turn(policy);
        let mut outliers = OutlierRule::default();
        outliers.max_ejection_percent = 100;
        policy.outliers = Some(outliers);
    });
    assert_eq!(asked(&world, &order, 20).await, counted(&[("near", 20)]));
    world.net.set("near", App::Dead);
    // The connections to it are gone with it.
    world.workloads(&workloads[..1]);
    tokio::time::sleep(Duration::from_secs(20)).await;
    world.workloads(&workloads);
    // Five failures in a row, of three attempts each, are two requests.
    asked(&world, &order, 2).await;
    assert_eq!(asked(&world, &order, 20).await, counted(&[("far", 20)]));
}

#[tokio::test(start_paused = true)]
async fn what_is_to_stay_on_a_node_does_whatever_rules_say_of_places() {
    let mut world = named(&["near", "far"]);
    let on = |node: &str, workload: Workload| Workload {
        node: node.to_owned(),
        ..located(workload, "r/z/s")
    };
    world.local(&[
        on("here", workload("waypoint", "10.0.0.9")),
        on("here", in_service(workload("near", "10.0.1.1"), "shop")),
        on("there", in_service(workload("far", "10.0.1.2"), "shop")),
    ]);
    let mut order = world.order();
    for places in [None, Some(LocalityRule::Ignored)] {
        order.rule = rule(|policy| policy.balancer.get_or_insert_default().locality = places);
        assert_eq!(asked(&world, &order, 20).await, counted(&[("near", 20)]));
    }
}

/// Near endpoints are preferred, and none is ejected.
fn near_first(world: &World) -> Order {
    let mut order = world.order();
    order.rule = rule(|policy| {
        let mut outliers = OutlierRule::default();
        outliers.max_ejection_percent = 0;
        policy.outliers = Some(outliers);
    });
    order
}

#[tokio::test(start_paused = true)]
async fn no_request_is_lost_where_all_near_endpoints_are_dead_and_a_far_one_lives() {
    for near in [&["a"][..], &["a", "b"], &["a", "b", "c", "d", "e"]] {
        for is_http2 in [false, true] {
            let log = Log::default();
            let dead = near.iter().map(|uid| (*uid, App::Dead));
            let mut world = World::new(is_http2, dead.chain([("far", App::answering(200, "far", &log))]));
            world.divided(near, &["far"]);
            let order = near_first(&world);
            for number in 0..100 {
                let (status, text, attempts) = world.ask(post(number, "!"), &order).await;
                assert_eq!((status, &*text), (200, "far"), "{near:?}");
                assert!(attempts >= 2, "the near ones are asked first");
            }
            assert_eq!(log.take().len(), 100);
            assert_eq!(world.cluster(&order).state().ejected(), 0);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_stays_near_while_one_there_has_not_failed_it() {
    for (well, expected) in [
        (&["near", "far"][..], (200, "near")),
        (&["far"], (200, "far")),
        // As far away as it is, nobody else has the answer.
        (&[], (503, "far")),
    ] {
        let log = Log::default();
        let apps = ["ill", "near", "far"].map(|name| {
            let status = if well.contains(&name) { 200 } else { 503 };
            (name, App::answering(status, name, &log))
        });
        let mut world = World::new(false, apps);
        world.divided(&["ill", "near"], &["far"]);
        let order = near_first(&world);
        for number in 0..50 {
            let (status, text, _) = world.ask(get(number), &order).await;
            assert_eq!((status, &*text), expected);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn endpoints_are_expected_to_be_who_they_are() {
    let mut world = named(&["tunnelled", "plain"]);
    let mut plain = in_service(workload("plain", "10.0.1.2"), "shop");
    plain.tunnel_protocol = TunnelProtocol::None.into();
    world.workloads(&[in_service(workload("tunnelled", "10.0.1.1"), "shop"), plain]);
    let state = world.cluster(&world.order()).state();
    let ways = state.by_uid();
    let Way::Tunnel(stretch) = &ways["tunnelled"].site.way else {
        panic!("no tunnel");
    };
    assert_eq!(stretch.peer, Spot::Addr("10.0.1.1:15008".parse().unwrap()));
    assert_eq!(stretch.authority, "10.0.1.1:8080".parse::<Authority>().unwrap());
    let own = "spiffe://cluster.local/ns/default/sa/tunnelled".parse().unwrap();
    assert_eq!(stretch.servers, PeerPolicy::one_of([own]));
    assert!(matches!(&ways["plain"].site.way, Way::Plain(Spot::Addr(addr)) if addr.to_string() == "10.0.1.2:8080"));
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_of_another_network_is_reached_through_its_gateway() {
    let mut world = named(&["near", "far", "stranded"]);
    let far = |uid: &str, door: Option<&str>| Workload {
        network: "remote".to_owned(),
        network_gateway: door.map(|door| gateway("remote", door)),
        ..in_service(workload(uid, "10.0.1.2"), "shop")
    };
    let door = Workload {
        network: "remote".to_owned(),
        ..workload("door", "192.0.2.1")
    };
    let near = in_service(workload("near", "10.0.1.1"), "shop");
    let own = workload("waypoint", "10.0.0.9");
    let mut workloads = vec![near, far("far", Some("192.0.2.1")), far("stranded", None), door, own];
    world.workloads(&workloads);
    let order = world.order();
    let state = world.cluster(&order).state();
    let ways = state.by_uid();
    assert_eq!(ways.len(), 2, "{:?}", ways.keys());
    let Way::Within { outer, servers } = &ways["far"].site.way else {
        panic!("{:?}", ways["far"].site.way);
    };
    let id = |account: &str| {
        format!("spiffe://cluster.local/ns/default/sa/{account}")
            .parse()
            .unwrap()
    };
    assert_eq!(outer.peer, Spot::Addr("192.0.2.1:15008".parse().unwrap()));
    assert_eq!(outer.authority, "shop:80".parse::<Authority>().unwrap());
    assert_eq!(
        (&outer.servers, servers),
        (&PeerPolicy::one_of([id("door")]), &PeerPolicy::one_of([id("far")]))
    );
    assert_eq!(asked(&world, &order, 50).await.len(), 2);
    // Without the gateway there is no way there.
    workloads.remove(3);
    world.workloads(&workloads);
    assert_eq!(asked(&world, &order, 20).await, counted(&[("near", 20)]));
}

#[tokio::test(start_paused = true)]
async fn a_services_policy_bounds_retries_in_a_time() {
    let log = Log::default();
    let world = World::new(false, [("ill", App::answering(503, "ill", &log))]);
    let mut order = world.order();
    order.retries = retries(1, "5xx");
    let mut policy = BackendTrafficPolicy::new("default", "shop");
    let mut constraint = RetryConstraint::default();
    constraint.percent = 0;
    constraint.at_least = 2;
    constraint.every = constraint.interval;
    policy.retries = Some(constraint);
    order.policy = Some(Arc::new(policy));
    for number in 0..20 {
        world.ask(get(number), &order).await;
    }
    assert_eq!(log.take().len(), 22);
    tokio::time::sleep(Duration::from_secs(11)).await;
    for number in 0..20 {
        world.ask(get(number), &order).await;
    }
    assert_eq!(log.take().len(), 22);
}

#[tokio::test(start_paused = true)]
async fn copies_leave_what_is_known_of_a_service() {
    let world = named(&["app"]);
    let mut order = world.order();
    order.policy = Some(Arc::new(BackendTrafficPolicy::new("default", "shop")));
    order.shadows.push(Shadow {
        to: order.to.clone(),
        port: order.port,
        subset: None,
        rule: None,
        policy: order.policy.clone(),
        is_http2: false,
    });
    let before = world.cluster(&order).state();
    for number in 0..5 {
        assert_eq!(world.ask(get(number), &order).await.0, 200);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!(Arc::ptr_eq(&before, &world.cluster(&order).state()));
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_is_new_is_spared() {
    let mut world = named(&["old", "new"]);
    world.mesh(&["old"]);
    let mut order = world.order();
    order.rule = rule(|policy| {
        in_turn(policy);
        let balancer = policy.balancer.get_or_insert_default();
        balancer.warmup = Some(mesh_policy::traffic::WarmupRule::new(
            Duration::from_secs(60),
            None,
            None,
        ));
    });
    asked(&world, &order, 1).await;
    world.mesh(&["old", "new"]);
    let order = Order {
        to: Addressee::Service(Arc::clone(&world.service)),
        ..order
    };
    let new = async |world: &World| asked(world, &order, 110).await["new"];
    let first = new(&world).await;
    assert!((8..=13).contains(&first), "{first}");
    tokio::time::sleep(Duration::from_secs(30)).await;
    let half = new(&world).await;
    assert!((30..=42).contains(&half), "{half}");
    tokio::time::sleep(Duration::from_secs(35)).await;
    assert_eq!(new(&world).await, 55);
}

#[tokio::test(start_paused = true)]
async fn bytes_go_to_an_endpoint_that_can_be_reached() {
    let echo = App::raw(|mut io| async move {
        let mut word = [0; 4];
        drop(io.read_exact(&mut word).await);
        drop(io.write_all(&word).await);
    });
    let world = World::new(false, [("dead", App::Dead), ("live", echo)]);
    let order = world.order();
    for _ in 0..20 {
        let mut link = world.upstream.connect(&order).await.unwrap();
        assert_eq!(&*link.endpoint.uid, "live");
        assert_eq!(world.cluster(&order).state().requests_under_way(), 1);
        link.io.write_all(b"ping").await.unwrap();
        let mut word = [0; 4];
        link.io.read_exact(&mut word).await.unwrap();
        assert_eq!(&word, b"ping");
    }
    assert_eq!(world.cluster(&order).state().requests_under_way(), 0);
    world.net.set("live", App::Dead);
    let error = world.upstream.connect(&order).await.err().unwrap();
    assert_eq!((error.flags().to_string(), error.attempts), ("UF".to_owned(), 3));
}

/// The order for a workload by itself.
fn alone(world: &World, uid: &str, port: u16) -> Order {
    let workload = world.endpoints.workload(uid).unwrap();
    let address = workload.addresses.first().copied();
    Order {
        to: Addressee::Workload { workload, address },
        port,
        ..world.order()
    }
}

#[tokio::test(start_paused = true)]
async fn a_workload_by_itself_is_asked_however_it_is() {
    let mut world = named(&["one", "two"]);
    let ill = Workload {
        status: WorkloadStatus::Unhealthy.into(),
        capacity: Some(0),
        ..in_service(workload("one", "10.0.1.1"), "shop")
    };
    let well = in_service(workload("two", "10.0.1.2"), "shop");
    world.workloads(&[ill.clone(), well.clone()]);
    let (service, order) = (world.order(), alone(&world, "one", 8080));
    assert_eq!(asked(&world, &service, 10).await, counted(&[("two", 10)]));
    assert_eq!(asked(&world, &order, 10).await, counted(&[("one", 10)]));
    // Another one has its address.
    let moved = [workload("one", "10.0.1.3"), workload("two", "10.0.1.1")];
    world.workloads(&moved);
    assert_eq!(asked(&world, &order, 1).await, counted(&[("NC", 1)]));
    world.workloads(&[well]);
    assert_eq!(asked(&world, &order, 1).await, counted(&[("NC", 1)]));
}

#[tokio::test(start_paused = true)]
async fn a_workload_by_itself_is_reached_by_what_it_was_asked_for() {
    let mut world = named(&["both", "named", "far"]);
    let mut both = workload("both", "10.0.1.1");
    both.addresses
        .push("2001:db8::1".parse::<Ipv6Addr>().unwrap().octets().to_vec());
    let by_name = Workload {
        addresses: Vec::new(),
        hostname: "named.test".to_owned(),
        tunnel_protocol: TunnelProtocol::None.into(),
        ..workload("named", "10.0.1.2")
    };
    let far = Workload {
        network: "remote".to_owned(),
        ..workload("far", "10.0.1.3")
    };
    world.workloads(&[both, by_name, far]);
    let way = |uid: &str, address: Option<&str>| {
        let to = Addressee::Workload {
            workload: world.endpoints.workload(uid).unwrap(),
            address: address.map(|address| address.parse().unwrap()),
        };
        let state = world
            .cluster(&Order {
                to,
                port: 9000,
                ..world.order()
            })
            .state();
        let site = state.by_uid().get(uid).map(|target| Arc::clone(&target.site));
        site.map(|site| match &site.way {
            Way::Tunnel(stretch) => format!("{:?} {}", stretch.peer, stretch.authority),
            way => format!("{way:?}"),
        })
    };
    for (uid, address, expected) in [
        ("both", Some("10.0.1.1"), Some("Addr(10.0.1.1:15008) 10.0.1.1:9000")),
        (
            "both",
            Some("2001:db8::1"),
            Some("Addr([2001:db8::1]:15008) [2001:db8::1]:9000"),
        ),
        ("named", None, Some("Plain(Name(\"named.test\", 9000))")),
        ("far", Some("10.0.1.3"), None),
    ] {
        assert_eq!(way(uid, address).as_deref(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_workload_by_itself_is_asked_again_only_if_it_heard_nothing() {
    let log = Log::default();
    let mut world = World::new(false, [("one", App::answering(503, "one", &log))]);
    world.mesh(&["one"]);
    let order = alone(&world, "one", 8080);
    assert_eq!(world.ask(get(1), &order).await, (503, "one".to_owned(), 1));
    assert_eq!(world.ask(get(1), &world.order()).await.2, 3);
}

#[tokio::test(start_paused = true)]
async fn only_so_many_ports_of_a_workload_are_remembered() {
    let mut world = named(&["one"]);
    world.mesh(&["one"]);
    for port in 1..=1000 {
        world.cluster(&alone(&world, "one", port));
    }
    assert_eq!(world.endpoints.known(), 16);
    world.cluster(&world.order());
    tokio::select! {
        () = world.endpoints.keep() => {}
        () = tokio::time::sleep(Duration::from_secs(6 * 60)) => {}
    }
    assert_eq!(world.endpoints.known(), 1, "the service");
}

/// Whoever asks for all ports does not have that one forgotten which others use.
#[tokio::test(start_paused = true)]
async fn a_port_that_answers_is_not_forgotten_for_those_that_do_not() {
    let mut world = named(&["one"]);
    world.mesh(&["one"]);
    let used = alone(&world, "one", 8080);
    assert_eq!(asked(&world, &used, 1).await, counted(&[("one", 1)]));
    let bytes = alone(&world, "one", 9000);
    drop(world.upstream.connect(&bytes).await.unwrap());
    let before = [&used, &bytes].map(|order| world.cluster(order));
    for port in 1..=100 {
        advance(Duration::from_secs(1)).await;
        world.cluster(&alone(&world, "one", port));
    }
    for (order, before) in [&used, &bytes].into_iter().zip(before) {
        assert!(Arc::ptr_eq(&world.cluster(order), &before), "{}", order.port);
    }
}

#[tokio::test(start_paused = true)]
async fn the_port_that_was_asked_for_longest_ago_is_forgotten() {
    let mut world = named(&["one"]);
    world.mesh(&["one"]);
    let cluster = |port| world.cluster(&alone(&world, "one", port));
    let before: Vec<_> = (1..=16).map(cluster).collect();
    advance(Duration::from_millis(1)).await;
    let _again = [1, 3].map(cluster);
    advance(Duration::from_millis(1)).await;
    cluster(17);
    assert!(Arc::ptr_eq(&cluster(1), &before[0]));
    assert!(Arc::ptr_eq(&cluster(3), &before[2]));
    assert!(!Arc::ptr_eq(&cluster(2), &before[1]));
}

#[tokio::test(start_paused = true)]
async fn bytes_stay_with_the_endpoint_of_their_source() {
    const UIDS: [&str; 4] = ["a", "b", "c", "d"];
    let hold = || App::raw(|io| async move { drop(io) });
    let world = World::new(false, UIDS.map(|uid| (uid, hold())));
    let mut order = world.order();
    order.rule = rule(|policy| {
        policy.balancer.get_or_insert_default().algorithm = Some(BalanceRule::Hash {
            key: HashKey::SourceIp,
            table_size: None,
        });
    });
    let mut ends = BTreeSet::new();
    for client in 0..20 {
        let mut ends_of_one = BTreeSet::new();
        for port in 1..=5 {
            order.source_addr = Some(([10, 0, 1, client], port).into());
            let link = world.upstream.connect(&order).await.unwrap();
            ends_of_one.insert(link.endpoint.uid.to_string());
        }
        assert_eq!(ends_of_one.len(), 1, "{ends_of_one:?}");
        ends.append(&mut ends_of_one);
    }
    assert!(ends.len() > 1, "each has an endpoint of its own");
    // Nothing about a connection says where it belongs.
    order.source_addr = None;
    world.upstream.connect(&order).await.unwrap();
}
