//! The state of a mesh: what is found, what is refused, and that earlier snapshots stay as they were.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs, reason = "test code")]

use mesh_testkit::clock::ManualClock;
use mesh_testkit::xds::{bytes, gateway, in_service, network_address, port, service, workload};
use mesh_xds::delta::{Client, ClientConfig};
use mesh_xds::store::{AppProtocol, NetworkAddress, Resource, Store};
use mesh_xds_types::core::Node;
use mesh_xds_types::discovery::{self, DeltaDiscoveryResponse};
use mesh_xds_types::security::{Action, Authorization, Scope};
use mesh_xds_types::{AUTHORIZATION_TYPE_URL, workload as wire};
use proptest::prelude::*;
use prost::Message;

fn at(address: &str) -> NetworkAddress {
    NetworkAddress {
        network: "".into(),
        address: address.parse().unwrap(),
    }
}

fn policy(name: &str, namespace: &str, scope: Scope) -> Authorization {
    Authorization {
        name: name.into(),
        namespace: namespace.into(),
        scope: scope.into(),
        ..Authorization::default()
    }
}

#[test]
fn a_snapshot_stays_as_it_was() {
    let mut store = Store::new();
    store.insert_workload(&workload("a", "10.0.0.1")).unwrap();
    let before = store.snapshot();
    store.insert_workload(&workload("b", "10.0.0.2")).unwrap();
    store.remove_address("a");
    assert!(before.workload("a").is_some() && before.workload_at(&at("10.0.0.2")).is_none());
    let after = store.snapshot();
    assert!(after.workload("a").is_none() && after.workload_at(&at("10.0.0.1")).is_none());
    assert_eq!(after.workload_at(&at("10.0.0.2")).unwrap().uid.as_ref(), "b");
}

#[test]
fn a_workload_that_moves_leaves_its_old_places() {
    let mut store = Store::new();
    store.insert_service(&service("svc", None)).unwrap();
    store
        .insert_workload(&in_service(workload("a", "10.0.0.1"), "svc"))
        .unwrap();
    let before = store.snapshot();
    let identity = before.workload("a").unwrap().identity.clone();
    let mut moved = workload("a", "10.0.0.2");
    moved.service_account = "other".into();
    store.insert_workload(&moved).unwrap();
    let after = store.snapshot();
    assert!(after.workload_at(&at("10.0.0.1")).is_none());
    assert!(after.endpoints("default/svc").is_empty());
    assert_eq!((before.workloads_of(&identity), after.workloads_of(&identity)), (1, 0));
}

#[test]
fn workloads_may_come_before_their_service() {
    let mut store = Store::new();
    store
        .insert_workload(&in_service(workload("a", "10.0.0.1"), "svc"))
        .unwrap();
    assert_eq!(
        (
            store.snapshot().service_count(),
            store.snapshot().endpoints("default/svc").len()
        ),
        (0, 1)
    );
    store.insert_service(&service("svc", Some("10.96.0.1"))).unwrap();
    assert_eq!(store.snapshot().endpoints("default/svc").len(), 1);
    store.remove_address("default/svc");
    assert!(store.snapshot().service_at(&at("10.96.0.1"), None).is_none());
    store.insert_service(&service("svc", None)).unwrap();
    assert_eq!(store.snapshot().endpoints("default/svc").len(), 1);
}

#[test]
fn of_workloads_that_share_an_address_pods_come_first_and_then_tunnels() {
    let mut store = Store::new();
    let mut plain = workload("a", "10.0.0.1");
    plain.tunnel_protocol = 0;
    let expected = [
        ("a", plain),
        ("b", workload("b", "10.0.0.1")),
        ("c//Pod/x", workload("c//Pod/x", "10.0.0.1")),
    ];
    for (uid, workload) in expected {
        store.insert_workload(&workload).unwrap();
        assert_eq!(store.snapshot().workload_at(&at("10.0.0.1")).unwrap().uid.as_ref(), uid);
    }
    store.remove_address("c//Pod/x");
    assert_eq!(store.snapshot().workload_at(&at("10.0.0.1")).unwrap().uid.as_ref(), "b");
}

#[test]
fn of_services_with_one_address_the_clients_own_comes_first_and_then_the_canonical_one() {
    let mut store = Store::new();
    for (namespace, canonical, visibility) in [("a", false, 0), ("b", true, 0), ("c", true, 1)] {
        let mut shared = service("host", Some("10.96.0.1"));
        shared.namespace = namespace.into();
        shared.canonical = canonical;
        shared.visibility = visibility;
        store.insert_service(&shared).unwrap();
    }
    let snapshot = store.snapshot();
    let seen = |namespace| {
        snapshot
            .service_at(&at("10.96.0.1"), namespace)
            .unwrap()
            .namespace
            .to_string()
    };
    assert_eq!(
        [
            seen(Some("a")),
            seen(Some("b")),
            seen(Some("c")),
            seen(Some("d")),
            seen(None)
        ],
        ["a", "b", "c", "b", "b"]
    );
    assert_eq!(
        snapshot.service_named("host", Some("a")).unwrap().namespace.as_ref(),
        "a"
    );
}

#[test]
fn of_blocks_the_clients_own_comes_first_and_then_the_narrowest() {
    let mut store = Store::new();
    for (namespace, address, length) in [("a", "198.51.0.0", 16), ("b", "198.51.100.0", 24)] {
        let mut around = service("host", None);
        around.namespace = namespace.into();
        around.addresses = vec![wire::NetworkAddress {
            length: Some(length),
            ..network_address("", address)
        }];
        store.insert_service(&around).unwrap();
    }
    let snapshot = store.snapshot();
    let seen = |namespace| {
        snapshot
            .service_at(&at("198.51.100.7"), namespace)
            .unwrap()
            .namespace
            .to_string()
    };
    assert_eq!([seen(Some("a")), seen(Some("b")), seen(None)], ["a", "b", "b"]);
    // Endpoints that come and go leave one entry, and it is the current one.
    for round in 0..3 {
        let mut pod = workload(&format!("pod-{round}"), "10.0.0.1");
        pod.services.insert("b/host".into(), wire::PortList::default());
        store.insert_workload(&pod).unwrap();
    }
    assert_eq!(store.snapshot().endpoints("b/host").len(), 3);
    store.remove_address("b/host");
    assert_eq!(
        store
            .snapshot()
            .service_at(&at("198.51.100.7"), Some("b"))
            .unwrap()
            .namespace
            .as_ref(),
        "a"
    );
}

#[test]
fn policies_are_found_by_scope_and_missing_ones_are_told() {
    let mut store = Store::new();
    store.insert_policy(policy("g", "root", Scope::Global)).unwrap();
    store.insert_policy(policy("n", "default", Scope::Namespace)).unwrap();
    store.insert_policy(policy("o", "other", Scope::Namespace)).unwrap();
    store
        .insert_policy(policy("s", "default", Scope::WorkloadSelector))
        .unwrap();
    let mut selected = workload("a", "10.0.0.1");
    selected.authorization_policies = vec!["default/s".into(), "default/lost".into()];
    store.insert_workload(&selected).unwrap();
    let snapshot = store.snapshot();
    let found: Vec<_> = snapshot
        .policies_of(snapshot.workload("a").unwrap())
        .map(|policy| policy.map(|policy| policy.key.to_string()).map_err(ToString::to_string))
        .collect();
    let ok = |key: &str| Ok(key.to_owned());
    assert_eq!(
        found,
        [
            ok("root/g"),
            ok("default/n"),
            ok("default/s"),
            Err("default/lost".to_owned())
        ]
    );
    // A policy that changes its scope leaves the old one.
    store
        .insert_policy(policy("g", "root", Scope::WorkloadSelector))
        .unwrap();
    let snapshot = store.snapshot();
    assert_eq!(snapshot.policies_of(snapshot.workload("a").unwrap()).count(), 3);
}

#[test]
fn resources_are_refused_with_field_and_reason() {
    type Change = fn(&mut wire::Workload);
    let with = |change: Change| {
        let mut workload = workload("a", "10.0.0.1");
        change(&mut workload);
        Store::new().insert_workload(&workload).unwrap_err().to_string()
    };
    let cases: [(Change, &str); 9] = [
        (|it| it.uid.clear(), "`uid` is missing"),
        (
            |it| it.addresses.push(vec![1, 2, 3]),
            "`addresses[1]` has 3 bytes, not 4 or 16",
        ),
        (
            |it| it.tunnel_protocol = 2,
            "`tunnel_protocol` is LEGACY_ISTIO_MTLS, which is not supported",
        ),
        (|it| it.tunnel_protocol = 9, "`tunnel_protocol` has the unknown value 9"),
        (|it| it.status = -1, "`status` has the unknown value -1"),
        (
            |it| it.network = "n".repeat(3000),
            "`network` has 3000 bytes, more than 2048",
        ),
        (
            |it| it.waypoint = Some(wire::GatewayAddress::default()),
            "`waypoint.destination` is missing",
        ),
        (
            |it| it.authorization_policies = vec!["x".into()],
            "`authorization_policies` is `x`, not `namespace/name`",
        ),
        (
            |it| {
                it.waypoint = Some(wire::GatewayAddress {
                    hbone_mtls_port: 70_000,
                    ..gateway("", "10.0.0.1")
                });
            },
            "`waypoint.hbone_mtls_port` is 70000, which is no port",
        ),
    ];
    for (change, expected) in cases {
        assert_eq!(with(change), expected);
    }
    let mut block = service("svc", None);
    block.addresses = vec![wire::NetworkAddress {
        length: Some(33),
        ..network_address("", "10.0.0.0")
    }];
    let error = Store::new().insert_service(&block).unwrap_err();
    assert_eq!(
        error.to_string(),
        "`addresses[0].length` is 33, more than the 32 bits of the address"
    );
    let mut zero = service("svc", None);
    zero.ports = vec![port(0, 80)];
    assert_eq!(
        Store::new().insert_service(&zero).unwrap_err().to_string(),
        "`ports[0].service_port` is 0, which is no port"
    );
    assert!(Store::new().insert_policy(policy("a", "b", Scope::Global)).is_ok());
    let slash = Store::new()
        .insert_policy(policy("a/b", "c", Scope::Global))
        .unwrap_err();
    assert_eq!(slash.to_string(), "`name` contains `/`");
}

#[test]
fn protocols_of_ports_are_known_or_undeclared() {
    let declared = [
        (0, AppProtocol::Undeclared),
        (1, AppProtocol::Http1),
        (2, AppProtocol::Http2),
        (3, AppProtocol::Grpc),
        (4, AppProtocol::Tcp),
        (5, AppProtocol::Tls),
        (99, AppProtocol::Undeclared),
    ];
    let mut wire = service("svc", None);
    wire.ports = (81..)
        .zip(declared)
        .map(|(number, (app_protocol, _))| wire::Port {
            app_protocol,
            ..port(number, 80)
        })
        .collect();
    let mut store = Store::new();
    store.insert_service(&wire).unwrap();
    let snapshot = store.snapshot();
    let ports = snapshot.service("default/svc").unwrap().ports.iter();
    let found: Vec<_> = ports.map(|port| port.protocol).collect();
    assert_eq!(found, declared.map(|(_, protocol)| protocol));
    let service = snapshot.service("default/svc").unwrap();
    assert_eq!(
        (service.protocol(84), service.protocol(8080)),
        (AppProtocol::Grpc, AppProtocol::Undeclared)
    );
}

#[test]
fn an_address_is_shared_by_so_many_and_no_more() {
    let mut store = Store::new();
    for number in 0..1024 {
        let host = format!("s{number}");
        store.insert_service(&service(&host, Some("10.96.0.1"))).unwrap();
        let uid = format!("w{number}");
        store.insert_workload(&workload(&uid, "10.96.0.1")).unwrap();
    }
    let errors = [
        store.insert_service(&service("more", Some("10.96.0.1"))),
        store.insert_workload(&workload("more", "10.96.0.1")),
    ];
    for error in errors {
        let error = error.unwrap_err().to_string();
        assert_eq!(error, "`addresses[0]` is shared by 1024 others already");
    }
    let snapshot = store.snapshot();
    assert!(snapshot.service("default/more").is_none() && snapshot.workload("more").is_none());
}

#[test]
fn who_shares_an_address_or_a_hostname_with_all_that_may_can_change() {
    let mut store = Store::new();
    let in_namespace = |number: u32| wire::Service {
        namespace: format!("n{number}"),
        ..service("s", Some("10.96.0.1"))
    };
    for number in 0..1024 {
        store.insert_service(&in_namespace(number)).unwrap();
        let uid = format!("w{number}");
        store.insert_workload(&workload(&uid, "10.96.0.2")).unwrap();
    }
    let mut changed = (in_namespace(7), workload("w7", "10.96.0.2"));
    changed.0.ports.push(port(81, 8081));
    changed.1.service_account = "other".into();
    store.insert_service(&changed.0).unwrap();
    store.insert_workload(&changed.1).unwrap();
    let snapshot = store.snapshot();
    let host = &snapshot.workload("w7").unwrap().identity;
    assert_eq!(snapshot.workloads_of(host), 1);
    let key = format!("n7/{}", changed.0.hostname);
    assert_eq!(snapshot.service(&key).unwrap().ports.len(), 2);
    let hostname = store.insert_service(&in_namespace(1024)).unwrap_err().to_string();
    assert_eq!(hostname, "`hostname` is shared by 1024 others already");
}

#[test]
fn a_refused_change_leaves_what_was_there() {
    let mut store = Store::new();
    store.insert_workload(&workload("a", "10.0.0.1")).unwrap();
    let mut bad = workload("a", "10.0.0.2");
    bad.addresses.push(vec![0]);
    assert!(store.insert_workload(&bad).is_err());
    assert!(store.snapshot().workload_at(&at("10.0.0.1")).is_some());
}

proptest! {
    #[test]
    fn what_comes_and_goes_leaves_nothing(
        steps in prop::collection::vec((0..6_u8, 0..4_u8, any::<bool>(), any::<bool>()), 0..60),
    ) {
        let mut store = Store::new();
        for (number, address, is_service, removes) in steps {
            let (name, host) = (format!("w{number}"), format!("s{number}"));
            let result = match (is_service, removes) {
                (true, true) => { store.remove_address(&format!("default/{host}")); Ok(()) }
                (false, true) => { store.remove_address(&name); Ok(()) }
                (true, false) => store.insert_service(&service(&host, Some(&format!("10.0.0.{address}")))),
                (false, false) => {
                    store.insert_workload(&in_service(workload(&name, &format!("10.0.0.{address}")), &format!("s{}", number % 3)))
                }
            };
            prop_assert!(result.is_ok());
            let snapshot = store.snapshot();
            let found = snapshot.at(&at(&format!("10.0.0.{address}")), None);
            if let Some(Resource::Workload(found)) = found {
                let place = at(&format!("10.0.0.{address}"));
                prop_assert!(found.addresses.contains(&place.address));
                prop_assert!(snapshot.workload(&found.uid).is_some());
            }
        }
        for number in 0..6 {
            store.remove_address(&format!("w{number}"));
            store.remove_address(&format!("default/s{number}"));
        }
        let snapshot = store.snapshot();
        prop_assert_eq!((snapshot.workload_count(), snapshot.service_count()), (0, 0));
        for address in 0..4 {
            let place = at(&format!("10.0.0.{address}"));
            prop_assert!(snapshot.at(&place, None).is_none());
        }
        for number in 0..6 {
            let service = format!("default/s{number}");
            prop_assert!(snapshot.endpoints(&service).is_empty());
        }
    }
}

#[test]
fn bytes_of_both_families_are_addresses() {
    let mut dual = workload("a", "10.0.0.1");
    dual.addresses.push(bytes("2001:db8::1"));
    let mut store = Store::new();
    store.insert_workload(&dual).unwrap();
    assert!(store.snapshot().workload_at(&at("2001:db8::1")).is_some());
}

/// A mesh of a workload in `shop` and one in `bank`, and who tells it of policies.
struct Told {
    store: Store,
    client: Client<()>,
    responses: u32,
}

impl Told {
    fn new() -> Self {
        let mut store = Store::new();
        for namespace in ["shop", "bank"] {
            let mut member = workload(namespace, &format!("10.0.0.{}", namespace.len()));
            member.namespace = namespace.into();
            store.insert_workload(&member).unwrap();
        }
        let mut client = Client::new(ClientConfig::new(Node::default()).all(AUTHORIZATION_TYPE_URL));
        client.connected();
        let responses = 0;
        Self {
            store,
            client,
            responses,
        }
    }

    /// A response with policies and bytes by their names, and names of what is gone; answers who is
    /// refused.
    fn hears(&mut self, policies: &[(&str, Vec<u8>)], removed: &[&str]) -> Vec<String> {
        self.responses += 1;
        let resource = |(name, body): &(&str, Vec<u8>)| discovery::Resource {
            name: (*name).into(),
            resource: Some(prost_types::Any {
                type_url: AUTHORIZATION_TYPE_URL.into(),
                value: body.clone(),
            }),
            ..discovery::Resource::default()
        };
        let response = DeltaDiscoveryResponse {
            type_url: AUTHORIZATION_TYPE_URL.into(),
            nonce: self.responses.to_string(),
            resources: policies.iter().map(resource).collect(),
            removed_resources: removed.iter().map(|name| (*name).to_owned()).collect(),
            ..DeltaDiscoveryResponse::default()
        };
        let push = self.client.receive(response).unwrap();
        let refusals = self.store.apply(&push);
        self.client.settle(push, &refusals);
        refusals.into_iter().map(|refusal| refusal.name).collect()
    }

    /// What may be for a workload and is not known.
    fn unknown(&self, uid: &str) -> Vec<String> {
        let snapshot = self.store.snapshot();
        let workload = snapshot.workload(uid).unwrap();
        let unknown = snapshot.policies_of(workload).filter_map(Result::err);
        unknown.map(|key| key.to_string()).collect()
    }
}

/// A policy with an action that nobody knows.
fn odd(scope: Scope) -> (&'static str, Vec<u8>) {
    let mut odd = policy("odd", "shop", scope);
    odd.action = 77;
    ("shop/odd", odd.encode_to_vec())
}

#[test]
fn a_policy_that_is_not_understood_is_missed_by_those_it_may_be_for() {
    let undecodable = ("shop/odd", vec![0xff]);
    let misnamed = ("shop/odd", policy("x", "bank", Scope::Namespace).encode_to_vec());
    for (resource, shop, bank) in [
        (odd(Scope::Namespace), true, false),
        (odd(Scope::Global), true, true),
        (odd(Scope::WorkloadSelector), false, false),
        (undecodable, true, true),
        (misnamed, true, true),
    ] {
        let mut told = Told::new();
        assert_eq!(told.hears(&[resource], &[]), ["shop/odd"]);
        assert_eq!(
            (told.unknown("shop").len(), told.unknown("bank").len()),
            (shop.into(), bank.into())
        );
        // It is not missed once it is understood, or gone.
        let good = ("shop/odd", policy("odd", "shop", Scope::Namespace).encode_to_vec());
        let mut other = Told::new();
        told.hears(std::slice::from_ref(&good), &[]);
        other.hears(&[odd(Scope::Global)], &[]);
        other.hears(&[], &["shop/odd"]);
        assert_eq!((told.unknown("shop"), other.unknown("shop")), (vec![], vec![]));
        // What was understood stays in force.
        told.hears(&[odd(Scope::Global)], &[]);
        assert_eq!(told.unknown("shop"), Vec::<String>::new());
        assert_eq!(
            told.store.snapshot().policy("shop/odd").unwrap().wire.action,
            i32::from(Action::Allow)
        );
    }
}

#[test]
fn what_was_refused_is_forgotten_when_a_new_stream_does_not_have_it() {
    let mut told = Told::new();
    told.hears(&[odd(Scope::Namespace)], &[]);
    told.hears(&[], &[]);
    assert_eq!(
        told.unknown("shop"),
        ["shop/odd"],
        "the same stream does not repeat itself"
    );
    for is_still_there in [true, false] {
        told.client.disconnected(ManualClock::new().now(), 0);
        told.store.disconnected();
        assert_eq!(told.unknown("shop"), ["shop/odd"]);
        told.client.connected();
        let policies = [odd(Scope::Namespace)];
        told.hears(if is_still_there { &policies } else { &[] }, &[]);
        assert_eq!(told.unknown("shop").is_empty(), !is_still_there);
    }
}

#[test]
fn many_policies_that_are_not_understood_are_missed_by_all() {
    let mut told = Told::new();
    for number in 0..2_000 {
        told.hears(
            &[(&format!("far/{number}"), {
                let mut odd = policy(&number.to_string(), "far", Scope::Namespace);
                odd.action = 77;
                odd.encode_to_vec()
            })],
            &[],
        );
    }
    assert_eq!(told.unknown("shop"), [""]);
}
