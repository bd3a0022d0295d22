use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hbone::Authority;
use mesh_identity::PeerPolicy;
use mesh_policy::traffic::upstream::{BackendTrafficPolicy, RetryConstraint};
use mesh_policy::traffic::{DestinationRule, OutlierRule, Subset};
use mesh_testkit::xds::{in_service, located, workload};
use mesh_xds_types::workload::{TunnelProtocol, Workload};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::world::{App, Log, World, get, in_turn, post, retries, rule};
use crate::proxy::stretch::Spot;
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
        service: Arc::clone(&order.service),
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
        service: Arc::clone(&world.service),
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
