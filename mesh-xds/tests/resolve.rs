//! Where connections go: each rule by name, and all of them against a slow judge.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "test code"
)]

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use mesh_testkit::xds::oracle::{Lists, Manner, Verdict};
use mesh_testkit::xds::{
    balancing, bytes, gateway, in_service, located, named_gateway, network_address, port, service, workload,
};
use mesh_xds::resolve::{Hop, Place, Query, ResolveError, Route, Target, Via, resolve};
use mesh_xds::store::{Snapshot, Store};
use mesh_xds_types::workload as wire;
use mesh_xds_types::workload::load_balancing::{HealthPolicy, Mode, Scope};
use proptest::prelude::*;

const VIP: &str = "10.96.0.1";

/// A mesh that has these, and the workload `client` at 10.0.0.1.
fn mesh(workloads: &[wire::Workload], services: &[wire::Service]) -> Snapshot {
    let mut store = Store::new();
    store.insert_workload(&workload("client", "10.0.0.1")).unwrap();
    for workload in workloads {
        store.insert_workload(workload).unwrap();
    }
    for service in services {
        store.insert_service(service).unwrap();
    }
    store.snapshot()
}

fn route<'a>(snapshot: &'a Snapshot, source: &str, to: &str, random: u64) -> Result<Route<'a>, ResolveError> {
    let (host, port) = to.rsplit_once(':').unwrap();
    // What lives as long as the snapshot has to come out of it.
    let target = match host.parse() {
        Ok(address) => Target::Address(address),
        Err(_) => Target::Hostname(Box::leak(host.to_owned().into_boxed_str())),
    };
    let source = snapshot.workload(source).unwrap();
    resolve(snapshot, &Query::new(source, target, port.parse().unwrap(), random))
}

fn from_client<'a>(snapshot: &'a Snapshot, to: &str) -> Result<Route<'a>, ResolveError> {
    route(snapshot, "client", to, 0)
}

fn at(text: &str) -> Place<'_> {
    match text.parse::<SocketAddr>() {
        Ok(address) => Place::Address(address),
        Err(_) => {
            let (host, port) = text.rsplit_once(':').unwrap();
            Place::Hostname(host, port.parse().unwrap())
        }
    }
}

/// Peer, authority, and the service account that has to answer.
fn tunnel<'a>(route: &Route<'a>) -> (Place<'a>, Place<'a>, &'a str) {
    match route.hop {
        Hop::Hbone(tunnel) => (
            tunnel.peer,
            tunnel.authority,
            &*tunnel.expected.identity.service_account,
        ),
        other => panic!("no tunnel: {other:?}"),
    }
}

/// The uids that connections go to, over many random numbers.
fn reached(snapshot: &Snapshot, to: &str) -> BTreeSet<String> {
    (0..64_u64)
        .map(|number| route(snapshot, "client", to, number.wrapping_mul(0x9e37_79b9_7f4a_7c15)).unwrap())
        .map(|route| route.workload.unwrap().uid.to_string())
        .collect()
}

fn uids<const N: usize>(uids: [&str; N]) -> BTreeSet<String> {
    uids.map(str::to_owned).into()
}

#[test]
fn an_unknown_destination_passes_as_it_came() {
    let snapshot = mesh(&[], &[]);
    let route = from_client(&snapshot, "192.0.2.9:80").unwrap();
    assert_eq!(
        route.hop,
        Hop::Plain {
            place: at("192.0.2.9:80")
        }
        .clone()
    );
    assert!(route.workload.is_none() && route.service.is_none());
}

#[test]
fn an_unknown_hostname_is_refused() {
    let snapshot = mesh(&[], &[]);
    assert_eq!(
        from_client(&snapshot, "nobody.test:80"),
        Err(ResolveError::UnknownHostname("nobody.test".into()))
    );
}

#[test]
fn an_address_of_another_network_is_unknown_in_ours() {
    let mut elsewhere = workload("elsewhere", "10.0.0.2");
    elsewhere.network = "remote".into();
    let snapshot = mesh(&[elsewhere], &[]);
    assert_eq!(from_client(&snapshot, "10.0.0.2:80").unwrap().workload, None);
}

#[test]
fn a_workload_is_reached_as_it_says() {
    let mut plain = workload("plain", "10.0.0.3");
    plain.tunnel_protocol = 0;
    let snapshot = mesh(&[workload("hbone", "10.0.0.2"), plain], &[]);
    let by_tunnel = from_client(&snapshot, "10.0.0.2:80").unwrap();
    assert_eq!(tunnel(&by_tunnel), (at("10.0.0.2:15008"), at("10.0.0.2:80"), "hbone"));
    let by_tcp = from_client(&snapshot, "10.0.0.3:80").unwrap();
    assert_eq!(
        by_tcp.hop,
        Hop::Plain {
            place: at("10.0.0.3:80")
        }
    );
    assert_eq!(by_tcp.workload.unwrap().uid.as_ref(), "plain");
}

#[test]
fn a_host_network_workload_is_not_known_by_its_address() {
    let mut shared = in_service(workload("shared", "10.0.0.2"), "svc");
    shared.network_mode = wire::NetworkMode::HostNetwork.into();
    let snapshot = mesh(&[shared], &[service("svc", Some(VIP))]);
    assert_eq!(from_client(&snapshot, "10.0.0.2:80").unwrap().workload, None);
    let by_service = from_client(&snapshot, "10.96.0.1:80").unwrap();
    assert_eq!(
        tunnel(&by_service),
        (at("10.0.0.2:15008"), at("10.0.0.2:8080"), "shared")
    );
}

#[test]
fn a_service_leads_to_the_target_port_of_a_workload() {
    let mut own_port = in_service(workload("own", "10.0.0.2"), "svc");
    own_port.services.get_mut("default/svc").unwrap().ports = vec![port(80, 9090)];
    let snapshot = mesh(&[own_port], &[service("svc", Some(VIP))]);
    assert_eq!(
        tunnel(&from_client(&snapshot, "10.96.0.1:80").unwrap()).1,
        at("10.0.0.2:9090")
    );

    let snapshot = mesh(
        &[in_service(workload("pod", "10.0.0.2"), "svc")],
        &[service("svc", Some(VIP))],
    );
    let by_address = from_client(&snapshot, "10.96.0.1:80").unwrap();
    assert_eq!(tunnel(&by_address).1, at("10.0.0.2:8080"));
    assert_eq!(by_address.service.unwrap().hostname.as_ref(), "svc");
    assert_eq!(
        tunnel(&from_client(&snapshot, "svc:80").unwrap()).1,
        at("10.0.0.2:8080")
    );
}

#[test]
fn a_port_that_a_service_does_not_have_is_refused() {
    let mut unnamed = service("unnamed", Some("10.96.0.2"));
    unnamed.ports = vec![port(80, 0)];
    let pod = in_service(in_service(workload("pod", "10.0.0.2"), "svc"), "unnamed");
    let snapshot = mesh(&[pod], &[service("svc", Some(VIP)), unnamed]);
    let refused = |service: &str, port| {
        Err(ResolveError::NoWorkload {
            service: service.into(),
            port,
        })
    };
    assert_eq!(from_client(&snapshot, "10.96.0.1:81"), refused("default/svc", 81));
    assert_eq!(from_client(&snapshot, "10.96.0.2:80"), refused("default/unnamed", 80));
}

#[test]
fn a_service_without_workloads_is_refused() {
    let snapshot = mesh(&[], &[service("svc", Some(VIP))]);
    assert!(matches!(
        from_client(&snapshot, "10.96.0.1:80"),
        Err(ResolveError::NoWorkload { .. })
    ));
}

#[test]
fn unhealthy_workloads_get_nothing_unless_all_may() {
    let mut ill = in_service(workload("ill", "10.0.0.2"), "svc");
    ill.status = wire::WorkloadStatus::Unhealthy.into();
    let fit = in_service(workload("fit", "10.0.0.3"), "svc");
    let mut svc = service("svc", Some(VIP));
    assert_eq!(
        reached(&mesh(&[ill.clone(), fit.clone()], &[svc.clone()]), "10.96.0.1:80"),
        uids(["fit"])
    );
    svc.load_balancing = Some(wire::LoadBalancing {
        health_policy: HealthPolicy::AllowAll.into(),
        ..wire::LoadBalancing::default()
    });
    assert_eq!(
        reached(&mesh(&[ill, fit], &[svc]), "10.96.0.1:80"),
        uids(["fit", "ill"])
    );
}

#[test]
fn switching_the_health_policy_brings_unhealthy_workloads_back() {
    let mut store = Store::new();
    store.insert_workload(&workload("client", "10.0.0.1")).unwrap();
    let mut ill = in_service(workload("ill", "10.0.0.2"), "svc");
    ill.status = wire::WorkloadStatus::Unhealthy.into();
    store.insert_workload(&ill).unwrap();
    let mut svc = service("svc", Some(VIP));
    store.insert_service(&svc).unwrap();
    assert!(from_client(&store.snapshot(), "10.96.0.1:80").is_err());
    svc.load_balancing = Some(wire::LoadBalancing {
        health_policy: HealthPolicy::AllowAll.into(),
        ..wire::LoadBalancing::default()
    });
    store.insert_service(&svc).unwrap();
    assert_eq!(reached(&store.snapshot(), "10.96.0.1:80"), uids(["ill"]));
}

#[test]
fn shares_follow_capacity_and_none_means_none() {
    let capable = |uid, address, capacity| {
        let mut workload = in_service(workload(uid, address), "svc");
        workload.capacity = Some(capacity);
        workload
    };
    let snapshot = mesh(
        &[
            capable("none", "10.0.0.2", 0),
            capable("one", "10.0.0.3", 1),
            capable("three", "10.0.0.4", 3),
        ],
        &[service("svc", Some(VIP))],
    );
    let mut counts = std::collections::BTreeMap::new();
    for step in 0..40_000_u64 {
        let random = step.wrapping_mul(0xd6e8_feb8_6659_fd93);
        let route = route(&snapshot, "client", "10.96.0.1:80", random).unwrap();
        *counts.entry(route.workload.unwrap().uid.to_string()).or_insert(0) += 1;
    }
    assert_eq!(counts.values().sum::<i32>(), 40_000);
    assert!(
        (9_500..10_500).contains(&counts["one"]) && (29_500..30_500).contains(&counts["three"]),
        "{counts:?}"
    );
}

#[test]
fn in_a_long_list_each_has_its_share_whoever_is_beside_it() {
    let capacity = |number: u32| if number.is_multiple_of(50) { 4 } else { 1 };
    let members: Vec<_> = (0..200_u32)
        .map(|number| {
            let mut member = in_service(workload(&format!("w{number:03}"), &format!("10.0.1.{number}")), "svc");
            member.capacity = Some(capacity(number));
            // The first of them are alike for longer than what is looked at together.
            if number > 150 && number.is_multiple_of(3) {
                member.status = wire::WorkloadStatus::Unhealthy.into();
            }
            member
        })
        .collect();
    let snapshot = mesh(&members, &[service("svc", Some(VIP))]);
    let mut counts = std::collections::BTreeMap::new();
    for step in 0..200_000_u64 {
        let random = step.wrapping_mul(0xd6e8_feb8_6659_fd93);
        let route = route(&snapshot, "client", "10.96.0.1:80", random).unwrap();
        *counts.entry(route.workload.unwrap().uid.to_string()).or_insert(0_u32) += 1;
    }
    let fit = |member: &&wire::Workload| member.status == 0;
    let total: u32 = members.iter().filter(fit).filter_map(|member| member.capacity).sum();
    for member in &members {
        let share = if fit(&member) { member.capacity.unwrap() } else { 0 };
        let expected = f64::from(share) / f64::from(total) * 200_000.0;
        let count = f64::from(counts.get(&*member.uid).copied().unwrap_or(0));
        // Five standard deviations.
        assert!(
            (count - expected).abs() <= 5.0 * expected.sqrt(),
            "{}: {count} for {expected}",
            member.uid
        );
    }
}

#[test]
fn failover_takes_the_nearest_group_that_there_is() {
    let near = |uid, address, place| located(in_service(workload(uid, address), "svc"), place);
    let all = [
        near("subzone", "10.0.1.1", "r/z/s"),
        near("zone", "10.0.1.2", "r/z/other"),
        near("region", "10.0.1.3", "r/other/s"),
        near("far", "10.0.1.4", "other/z/s"),
    ];
    let mut svc = service("svc", Some(VIP));
    svc.load_balancing = Some(balancing(Mode::Failover, &[Scope::Region, Scope::Zone, Scope::Subzone]));
    let client = located(workload("client", "10.0.0.1"), "r/z/s");
    for gone in 0..all.len() {
        let left: Vec<_> = [client.clone()]
            .into_iter()
            .chain(all[gone..].iter().cloned())
            .collect();
        assert_eq!(
            reached(&mesh(&left, &[svc.clone()]), "10.96.0.1:80"),
            uids([all[gone].uid.as_str()])
        );
    }
}

#[test]
fn a_workload_without_a_share_does_not_hide_those_further_away() {
    let mut svc = service("svc", Some(VIP));
    svc.load_balancing = Some(balancing(Mode::Failover, &[Scope::Node]));
    let mut near = in_service(workload("near", "10.0.0.2"), "svc");
    near.capacity = Some(0);
    let mut far = in_service(workload("far", "10.0.0.3"), "svc");
    far.node = "other".into();
    assert_eq!(reached(&mesh(&[near, far], &[svc]), "10.96.0.1:80"), uids(["far"]));
}

#[test]
fn strict_refuses_what_is_not_near() {
    let mut svc = service("svc", Some(VIP));
    svc.load_balancing = Some(balancing(Mode::Strict, &[Scope::Node]));
    let here = in_service(workload("here", "10.0.0.2"), "svc");
    let mut there = in_service(workload("there", "10.0.0.3"), "svc");
    there.node = "other".into();
    assert_eq!(
        reached(&mesh(&[here, there.clone()], &[svc.clone()]), "10.96.0.1:80"),
        uids(["here"])
    );
    assert!(from_client(&mesh(&[there], &[svc]), "10.96.0.1:80").is_err());
}

#[test]
fn a_passthrough_service_keeps_the_address() {
    let mut svc = service("svc", Some(VIP));
    svc.load_balancing = Some(balancing(Mode::Passthrough, &[]));
    let snapshot = mesh(&[in_service(workload("pod", "10.0.0.2"), "svc")], &[svc]);
    let route = from_client(&snapshot, "10.96.0.1:80").unwrap();
    assert_eq!(
        route.hop,
        Hop::Plain {
            place: at("10.96.0.1:80")
        }
    );
    assert!(route.service.is_some());
}

#[test]
fn a_passthrough_service_still_goes_by_its_waypoint() {
    let mut svc = service("svc", Some(VIP));
    svc.load_balancing = Some(balancing(Mode::Passthrough, &[]));
    svc.waypoint = Some(gateway("", "10.0.0.9"));
    let snapshot = mesh(&[workload("waypoint", "10.0.0.9")], &[svc]);
    let route = from_client(&snapshot, "10.96.0.1:80").unwrap();
    assert_eq!(
        (route.via, tunnel(&route)),
        (Via::Waypoint, (at("10.0.0.9:15008"), at("10.96.0.1:80"), "waypoint"))
    );
}

/// A waypoint of two workloads behind a service.
fn waypoint_service() -> ([wire::Workload; 2], wire::Service) {
    let mut svc = service("waypoint", Some("10.96.0.9"));
    svc.ports = vec![port(15008, 15008)];
    svc.subject_alt_names = vec!["spiffe://cluster.local/ns/default/sa/any-waypoint".into()];
    (
        ["10.0.9.1", "10.0.9.2"].map(|address| in_service(workload(address, address), "waypoint")),
        svc,
    )
}

#[test]
fn a_service_waypoint_by_address_and_by_hostname_gets_the_original_address() {
    let ([one, two], waypoint) = waypoint_service();
    for destination in [gateway("", "10.96.0.9"), named_gateway("waypoint")] {
        let mut svc = service("svc", Some(VIP));
        svc.waypoint = Some(destination);
        let snapshot = mesh(&[one.clone(), two.clone()], &[svc, waypoint.clone()]);
        assert_eq!(reached(&snapshot, "10.96.0.1:80"), uids(["10.0.9.1", "10.0.9.2"]));
        let route = from_client(&snapshot, "10.96.0.1:80").unwrap();
        let (peer, authority, _) = tunnel(&route);
        assert!(peer == at("10.0.9.1:15008") || peer == at("10.0.9.2:15008"));
        assert_eq!(authority, at("10.96.0.1:80"));
        let Hop::Hbone(hop) = route.hop else { unreachable!() };
        assert_eq!(hop.expected.names.len(), 1, "the waypoint's names, not the service's");
        assert_eq!(tunnel(&from_client(&snapshot, "svc:80").unwrap()).1, at("svc:80"));
    }
}

#[test]
fn a_waypoint_by_the_hostname_of_a_workload_is_found() {
    let mut waypoint = workload("waypoint", "10.0.0.9");
    waypoint.hostname = "waypoint.test".into();
    let mut svc = service("svc", Some(VIP));
    svc.waypoint = Some(named_gateway("waypoint.test"));
    let snapshot = mesh(&[waypoint], &[svc]);
    assert_eq!(
        tunnel(&from_client(&snapshot, "10.96.0.1:80").unwrap()).0,
        at("10.0.0.9:15008")
    );
}

#[test]
fn a_missing_waypoint_is_refused_and_not_gone_around() {
    let mut svc = service("svc", Some(VIP));
    svc.waypoint = Some(named_gateway("nobody"));
    let mut pod = in_service(workload("pod", "10.0.0.2"), "svc");
    pod.waypoint = Some(gateway("", "10.0.0.99"));
    let snapshot = mesh(&[pod], &[svc]);
    assert_eq!(
        from_client(&snapshot, "10.96.0.1:80"),
        Err(ResolveError::NoWaypoint("default/svc".into()))
    );
    assert_eq!(
        from_client(&snapshot, "10.0.0.2:80"),
        Err(ResolveError::NoWaypoint("pod".into()))
    );
}

#[test]
fn a_waypoint_without_workloads_is_refused() {
    let (_, waypoint) = waypoint_service();
    let mut svc = service("svc", Some(VIP));
    svc.waypoint = Some(named_gateway("waypoint"));
    let snapshot = mesh(&[in_service(workload("pod", "10.0.0.2"), "svc")], &[svc, waypoint]);
    assert_eq!(
        from_client(&snapshot, "10.96.0.1:80"),
        Err(ResolveError::NoWaypoint("default/svc".into()))
    );
}

#[test]
fn a_workload_waypoint_applies_to_the_workload_and_not_to_its_service() {
    let mut pod = in_service(workload("pod", "10.0.0.2"), "svc");
    pod.waypoint = Some(gateway("", "10.0.0.9"));
    let snapshot = mesh(&[pod, workload("waypoint", "10.0.0.9")], &[service("svc", Some(VIP))]);
    let by_address = from_client(&snapshot, "10.0.0.2:80").unwrap();
    assert_eq!(
        (by_address.via, tunnel(&by_address)),
        (Via::Waypoint, (at("10.0.0.9:15008"), at("10.0.0.2:80"), "waypoint"))
    );
    let by_service = from_client(&snapshot, "10.96.0.1:80").unwrap();
    assert_eq!(
        (by_service.via, tunnel(&by_service).0),
        (Via::Direct, at("10.0.0.2:15008"))
    );
}

#[test]
fn a_waypoint_goes_straight_to_what_it_serves() {
    let ([one, two], waypoint) = waypoint_service();
    let mut svc = service("svc", Some(VIP));
    svc.waypoint = Some(named_gateway("waypoint"));
    let mut pod = in_service(workload("pod", "10.0.0.2"), "svc");
    pod.waypoint = Some(gateway("", "10.96.0.9"));
    let snapshot = mesh(&[one, two, pod], &[svc, waypoint]);
    for destination in ["10.0.0.2:8080", "10.96.0.1:80"] {
        let direct = route(&snapshot, "10.0.9.1", destination, 0).unwrap();
        assert_eq!(
            (direct.via, tunnel(&direct)),
            (Via::Direct, (at("10.0.0.2:15008"), at("10.0.0.2:8080"), "pod"))
        );
    }
}

#[test]
fn weighted_waypoints_get_their_shares_and_all_zero_means_the_primary() {
    let weighted = |weights: [u32; 2], primary: Option<&str>| {
        let mut svc = service("svc", Some(VIP));
        svc.waypoint = primary.map(|address| gateway("", address));
        svc.weighted_waypoints = ["10.0.0.8", "10.0.0.9"]
            .into_iter()
            .zip(weights)
            .map(|(address, weight)| wire::WeightedWaypoint {
                destination: Some(gateway("", address)),
                weight,
            })
            .collect();
        mesh(
            &[
                workload("stable", "10.0.0.7"),
                workload("old", "10.0.0.8"),
                workload("new", "10.0.0.9"),
            ],
            &[svc],
        )
    };
    let snapshot = weighted([3, 1], Some("10.0.0.7"));
    let news = (0..400_u64)
        .filter(|step| {
            let route = route(&snapshot, "client", "10.96.0.1:80", ((step << 32) / 400) << 32).unwrap();
            route.workload.unwrap().uid.as_ref() == "new"
        })
        .count();
    assert_eq!(news, 100);
    assert_eq!(
        reached(&weighted([0, 0], Some("10.0.0.7")), "10.96.0.1:80"),
        uids(["stable"])
    );
    assert!(
        from_client(&weighted([0, 0], None), "10.96.0.1:80").is_err(),
        "somebody meant it to pass a waypoint"
    );
}

#[test]
fn an_application_tunnel_needs_no_service_port() {
    let mut waypoint = in_service(workload("waypoint", "10.0.0.9"), "waypoint");
    waypoint.application_tunnel = Some(wire::ApplicationTunnel {
        protocol: 1,
        port: 15088,
    });
    let mut behind = service("waypoint", Some("10.96.0.9"));
    behind.ports = Vec::new();
    let mut svc = service("svc", Some(VIP));
    svc.waypoint = Some(gateway("", "10.96.0.9"));
    let snapshot = mesh(&[waypoint], &[svc, behind]);
    assert_eq!(
        tunnel(&from_client(&snapshot, "10.96.0.1:80").unwrap()).0,
        at("10.0.0.9:15008")
    );
}

/// A workload of `svc` in the network `remote`, and the gateway that leads there.
fn remote() -> [wire::Workload; 2] {
    let mut pod = in_service(workload("remote-pod", "10.0.0.2"), "svc");
    pod.network = "remote".into();
    pod.network_gateway = Some(gateway("remote", "192.0.2.1"));
    let mut door = workload("door", "192.0.2.1");
    door.network = "remote".into();
    [pod, door]
}

#[test]
fn a_workload_of_another_network_is_reached_by_a_tunnel_in_a_tunnel() {
    let snapshot = mesh(&remote(), &[service("svc", Some(VIP))]);
    let route = from_client(&snapshot, "10.96.0.1:80").unwrap();
    let Hop::DoubleHbone { outer, inner } = route.hop else {
        panic!("{:?}", route.hop)
    };
    assert_eq!((outer.peer, outer.authority), (at("192.0.2.1:15008"), at("svc:80")));
    assert_eq!(
        (
            &*outer.expected.identity.service_account,
            &*inner.identity.service_account
        ),
        ("door", "remote-pod")
    );
}

#[test]
fn a_network_gateway_may_be_a_service_by_its_hostname() {
    let [mut pod, mut door] = remote();
    pod.network_gateway = Some(named_gateway("east-west"));
    door = in_service(door, "east-west");
    let mut east_west = service("east-west", None);
    east_west.ports = vec![port(15008, 15008)];
    let snapshot = mesh(&[pod, door], &[service("svc", Some(VIP)), east_west]);
    let route = from_client(&snapshot, "10.96.0.1:80").unwrap();
    let Hop::DoubleHbone { outer, .. } = route.hop else {
        panic!("{:?}", route.hop)
    };
    assert_eq!(outer.peer, at("192.0.2.1:15008"));
}

#[test]
fn without_the_gateway_another_network_is_refused() {
    let [pod, _] = remote();
    let snapshot = mesh(std::slice::from_ref(&pod), &[service("svc", Some(VIP))]);
    assert!(matches!(
        from_client(&snapshot, "10.96.0.1:80"),
        Err(ResolveError::NoNetworkGateway(..))
    ));
    let mut stranded = pod;
    stranded.network_gateway = None;
    let snapshot = mesh(&[stranded], &[service("svc", Some(VIP))]);
    assert!(matches!(
        from_client(&snapshot, "10.96.0.1:80"),
        Err(ResolveError::NoWorkload { .. })
    ));
}

#[test]
fn other_networks_are_for_when_there_is_nothing_near() {
    let mut svc = service("svc", Some(VIP));
    svc.load_balancing = Some(balancing(Mode::Failover, &[Scope::Network, Scope::Region]));
    let [pod, door] = remote();
    let near = located(in_service(workload("near", "10.0.0.3"), "svc"), "elsewhere");
    let snapshot = mesh(&[pod.clone(), door.clone(), near], &[svc.clone()]);
    assert_eq!(reached(&snapshot, "10.96.0.1:80"), uids(["near"]));
    assert_eq!(
        reached(&mesh(&[pod, door], &[svc]), "10.96.0.1:80"),
        uids(["remote-pod"])
    );
}

#[test]
fn a_workload_with_several_addresses_is_reached_by_the_one_asked_for() {
    let mut pod = in_service(workload("pod", "10.0.0.2"), "svc");
    pod.addresses = ["10.0.0.2", "10.0.0.3", "2001:db8::2"].map(bytes).to_vec();
    let mut svc = service("svc", Some(VIP));
    svc.addresses.push(network_address("", "2001:db8::96"));
    let snapshot = mesh(&[pod], &[svc]);
    assert_eq!(
        tunnel(&from_client(&snapshot, "10.0.0.3:80").unwrap()).1,
        at("10.0.0.3:80")
    );
    assert_eq!(
        tunnel(&from_client(&snapshot, "10.96.0.1:80").unwrap()).1,
        at("10.0.0.2:8080")
    );
    assert_eq!(
        tunnel(&from_client(&snapshot, "2001:db8::96:80").unwrap()).1,
        at("[2001:db8::2]:8080")
    );
}

#[test]
fn a_family_that_a_service_does_not_have_is_refused() {
    let mut pod = in_service(workload("pod", "10.0.0.2"), "svc");
    pod.addresses.push(bytes("2001:db8::2"));
    let mut svc = service("svc", Some(VIP));
    svc.ip_families = wire::IpFamilies::Ipv6Only.into();
    let snapshot = mesh(&[pod], &[svc]);
    assert!(from_client(&snapshot, "10.96.0.1:80").is_err());
}

#[test]
fn a_workload_without_addresses_is_reached_by_its_hostname() {
    let mut external = in_service(workload("external", "10.0.0.2"), "svc");
    external.addresses.clear();
    external.hostname = "external.test".into();
    external.tunnel_protocol = 0;
    let snapshot = mesh(&[external], &[service("svc", Some(VIP))]);
    let route = from_client(&snapshot, "10.96.0.1:80").unwrap();
    assert_eq!(
        route.hop,
        Hop::Plain {
            place: at("external.test:8080")
        }
    );
}

#[test]
fn an_address_in_a_services_block_is_the_services() {
    let mut svc = service("svc", None);
    svc.addresses = vec![wire::NetworkAddress {
        network: String::new(),
        address: bytes("198.51.100.0"),
        length: Some(24),
    }];
    let snapshot = mesh(&[in_service(workload("pod", "10.0.0.2"), "svc")], &[svc]);
    assert_eq!(reached(&snapshot, "198.51.100.77:80"), uids(["pod"]));
    assert_eq!(from_client(&snapshot, "198.51.101.1:80").unwrap().service, None);
}

/// Small meshes in which much can go wrong.
fn lists() -> impl Strategy<Value = Lists> {
    let workload = (
        0..16_u8,
        any::<[bool; 6]>(),
        0..3_u32,
        0..3_u8,
        prop::option::of(0..4_u8),
    )
        .prop_map(
            |(number, [fit, svc, other, remote, gated, near], capacity, zone, waypoint)| {
                let mut it = located(
                    workload(&format!("w{number}"), &format!("10.0.0.{number}")),
                    &format!("r{}/z{zone}", u8::from(near)),
                );
                it.status = i32::from(!fit);
                it.capacity = Some(capacity);
                if svc {
                    it = in_service(it, "s0");
                }
                if other {
                    it = in_service(it, "s1");
                }
                if remote {
                    it.network = "remote".into();
                }
                if gated {
                    it.network_gateway = Some(gateway("remote", "10.0.0.15"));
                }
                it.waypoint = waypoint.map(waypoint_of);
                it
            },
        );
    let service = (
        0..3_u8,
        prop::option::of(0..4_u8),
        0..4_i32,
        any::<bool>(),
        any::<bool>(),
    )
        .prop_map(|(number, waypoint, mode, allow_all, by_zone)| {
            let mut it = service(&format!("s{number}"), Some(&format!("10.96.0.{number}")));
            it.ports.push(port(15008, 15008));
            it.waypoint = waypoint.map(waypoint_of);
            let preferences = if by_zone {
                vec![Scope::Region, Scope::Zone]
            } else {
                vec![Scope::Region]
            };
            let mut policy = balancing(Mode::try_from(mode).unwrap(), &preferences);
            policy.health_policy = i32::from(allow_all);
            it.load_balancing = Some(policy);
            it
        });
    (
        prop::collection::vec(workload, 1..12),
        prop::collection::vec(service, 0..4),
    )
        .prop_map(|(workloads, services)| {
            let mut lists = Lists::default();
            for workload in workloads {
                if !lists.workloads.iter().any(|known| known.uid == workload.uid) {
                    lists.workloads.push(workload);
                }
            }
            for service in services {
                if !lists.services.iter().any(|known| known.hostname == service.hostname) {
                    lists.services.push(service);
                }
            }
            lists
        })
}

fn waypoint_of(number: u8) -> wire::GatewayAddress {
    match number {
        0 => gateway("", "10.96.0.1"),
        1 => gateway("", "10.0.0.1"),
        2 => named_gateway("s2"),
        _ => gateway("remote", "10.0.0.2"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn the_slow_judge_agrees(lists in lists(), random in any::<u64>(), last in 0..18_u8, to_service in any::<bool>()) {
        let mut store = Store::new();
        for workload in &lists.workloads {
            store.insert_workload(workload).unwrap();
        }
        for service in &lists.services {
            store.insert_service(service).unwrap();
        }
        let snapshot = store.snapshot();
        let address = if to_service { format!("10.96.0.{}", last % 4) } else { format!("10.0.0.{last}") };
        for source in &lists.workloads {
            let verdicts = lists.verdicts(source, &bytes(&address), 80);
            let here = snapshot.workload(&source.uid).unwrap();
            let query = Query::new(here, Target::Address(address.parse().unwrap()), 80, random);
            let found = match resolve(&snapshot, &query) {
                Err(_) => Verdict::Refused,
                Ok(Route { workload: None, .. }) => Verdict::Passes,
                Ok(Route { workload: Some(workload), hop, via, .. }) => {
                    let manner = match (hop, via) {
                        (Hop::DoubleHbone { .. }, _) => Manner::Gateway,
                        (_, Via::Waypoint) => Manner::Waypoint,
                        _ => Manner::Direct,
                    };
                    Verdict::Goes(manner, [workload.uid.to_string()].into())
                }
            };
            let agrees = verdicts.iter().any(|verdict| match (verdict, &found) {
                (Verdict::Goes(manner, uids), Verdict::Goes(found, uid)) => manner == found && uid.is_subset(uids),
                (verdict, found) => verdict == found,
            });
            prop_assert!(agrees, "{} to {address}: {found:?}, not one of {verdicts:?}", source.uid);
        }
    }
}

#[test]
fn routes_are_shared_between_threads() {
    fn check<T: Send + Sync>() {}
    check::<Snapshot>();
    check::<Arc<Store>>();
    check::<Route<'_>>();
}
