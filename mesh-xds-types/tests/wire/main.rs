//! The messages on the wire: bytes written by hand from the published field numbers, fields that
//! are not known, and what is written is read.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "test code")]

mod bytes;
#[cfg(all(feature = "ext-authz", feature = "rate-limit"))]
mod external;

use std::collections::HashMap;

use mesh_xds_types::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource};
use mesh_xds_types::security::{Authorization, string_match::MatchType};
use mesh_xds_types::traffic::Manifest;
use mesh_xds_types::workload::{self, GatewayAddress, address, gateway_address};
use mesh_xds_types::{auth, core, rpc, security};
use proptest::prelude::*;
use prost::Message;

use self::bytes::{field, number, read};

#[test]
fn workload_fields_have_their_published_numbers() {
    let workload: workload::Workload = read(&[
        field(1, b"name"),
        field(2, b"ns"),
        field(3, &[10, 0, 0, 1]),
        field(4, b"net"),
        number(5, 1),
        field(6, b"td"),
        field(7, b"sa"),
        field(9, b"node"),
        field(10, b"canonical"),
        field(11, b"v1"),
        number(12, 2),
        field(13, b"owner"),
        number(14, 1),
        field(16, b"ns/policy"),
        number(17, 1),
        field(18, b"cluster"),
        field(19, &number(3, 15008)),
        field(20, b"uid"),
        field(21, b"host"),
        field(
            22,
            &[
                field(1, b"ns/svc"),
                field(2, &field(1, &[number(1, 80), number(2, 8080), number(3, 2)].concat())),
            ]
            .concat(),
        ),
        field(23, &[number(1, 1), number(2, 15080)].concat()),
        field(24, &[field(1, b"r"), field(2, b"z"), field(3, b"s")].concat()),
        number(25, 1),
        field(26, &field(1, b"extension")),
        field(27, &number(1, 7)),
    ])
    .unwrap();
    let expected = workload::Workload {
        uid: "uid".into(),
        name: "name".into(),
        namespace: "ns".into(),
        addresses: vec![vec![10, 0, 0, 1]],
        hostname: "host".into(),
        network: "net".into(),
        tunnel_protocol: workload::TunnelProtocol::Hbone.into(),
        trust_domain: "td".into(),
        service_account: "sa".into(),
        waypoint: None,
        network_gateway: Some(GatewayAddress {
            destination: None,
            hbone_mtls_port: 15008,
        }),
        node: "node".into(),
        canonical_name: "canonical".into(),
        canonical_revision: "v1".into(),
        workload_type: workload::WorkloadType::Pod.into(),
        workload_name: "owner".into(),
        native_tunnel: true,
        application_tunnel: Some(workload::ApplicationTunnel {
            protocol: workload::application_tunnel::Protocol::Proxy.into(),
            port: 15080,
        }),
        services: HashMap::from([(
            "ns/svc".into(),
            workload::PortList {
                ports: vec![workload::Port {
                    service_port: 80,
                    target_port: 8080,
                    app_protocol: workload::AppProtocol::Http2.into(),
                }],
            },
        )]),
        authorization_policies: vec!["ns/policy".into()],
        status: workload::WorkloadStatus::Unhealthy.into(),
        cluster_id: "cluster".into(),
        locality: Some(workload::Locality {
            region: "r".into(),
            zone: "z".into(),
            subzone: "s".into(),
        }),
        network_mode: workload::NetworkMode::HostNetwork.into(),
        extensions: vec![workload::Extension {
            name: "extension".into(),
            config: None,
        }],
        capacity: Some(7),
    };
    assert_eq!(workload, expected);
}

#[test]
fn service_fields_have_their_published_numbers() {
    let block = [field(1, b"net"), field(2, &[10, 0, 0, 0]), number(3, 8)].concat();
    let gateway = [field(1, &[field(1, b"ns"), field(2, b"gw")].concat()), number(3, 15008)].concat();
    let service: workload::Service = read(&[
        field(1, b"name"),
        field(2, b"ns"),
        field(3, b"host"),
        field(4, &block),
        field(5, &number(1, 80)),
        field(6, b"san"),
        field(7, &field(2, &field(2, &[10, 0, 0, 1]))),
        field(8, &[field(1, &[6, 1]), number(2, 2), number(3, 1)].concat()),
        number(9, 3),
        number(11, 1),
        number(12, 1),
        field(13, &[field(1, &gateway), number(2, 30)].concat()),
        number(14, 1),
    ])
    .unwrap();
    let expected = workload::Service {
        name: "name".into(),
        namespace: "ns".into(),
        hostname: "host".into(),
        addresses: vec![workload::NetworkAddress {
            network: "net".into(),
            address: vec![10, 0, 0, 0],
            length: Some(8),
        }],
        ports: vec![workload::Port {
            service_port: 80,
            target_port: 0,
            app_protocol: 0,
        }],
        subject_alt_names: vec!["san".into()],
        waypoint: Some(GatewayAddress {
            destination: Some(gateway_address::Destination::Address(workload::NetworkAddress {
                network: String::new(),
                address: vec![10, 0, 0, 1],
                length: None,
            })),
            hbone_mtls_port: 0,
        }),
        load_balancing: Some(workload::LoadBalancing {
            routing_preference: vec![
                workload::load_balancing::Scope::Network.into(),
                workload::load_balancing::Scope::Region.into(),
            ],
            mode: workload::load_balancing::Mode::Failover.into(),
            health_policy: workload::load_balancing::HealthPolicy::AllowAll.into(),
        }),
        ip_families: workload::IpFamilies::Dual.into(),
        extensions: Vec::new(),
        canonical: true,
        ingress_use_waypoint: true,
        weighted_waypoints: vec![workload::WeightedWaypoint {
            destination: Some(GatewayAddress {
                destination: Some(gateway_address::Destination::Hostname(workload::NamespacedHostname {
                    namespace: "ns".into(),
                    hostname: "gw".into(),
                })),
                hbone_mtls_port: 15008,
            }),
            weight: 30,
        }],
        visibility: workload::ServiceVisibility::Namespace.into(),
    };
    assert_eq!(service, expected);
}

#[test]
fn an_address_is_a_workload_or_a_service() {
    let workload: workload::Address = read(&[field(1, &field(20, b"uid"))]).unwrap();
    assert!(matches!(workload.r#type, Some(address::Type::Workload(workload)) if workload.uid == "uid"));
    let service: workload::Address = read(&[field(2, &field(3, b"host"))]).unwrap();
    assert!(matches!(service.r#type, Some(address::Type::Service(service)) if service.hostname == "host"));
}

#[test]
fn authorization_fields_have_their_published_numbers() {
    let texts = |number, kind| field(number, &field(kind, b"x"));
    let accounts = |number| field(number, &[field(1, b"ns"), field(2, b"sa")].concat());
    let blocks = |field_number| field(field_number, &[field(1, &[10, 0, 0, 0]), number(2, 8)].concat());
    let policy: Authorization = read(&[
        field(1, b"name"),
        field(2, b"ns"),
        number(3, 2),
        number(4, 1),
        field(
            5,
            &field(
                1,
                &field(
                    2,
                    &[
                        texts(1, 1),
                        texts(2, 2),
                        texts(3, 3),
                        field(4, &field(4, b"")),
                        blocks(5),
                        blocks(6),
                        blocks(7),
                        blocks(8),
                        field(9, &[80]),
                        field(10, &[81]),
                        accounts(11),
                        accounts(12),
                    ]
                    .concat(),
                ),
            ),
        ),
        number(6, 1),
    ])
    .unwrap();
    let text = |kind: fn(String) -> MatchType| {
        vec![security::StringMatch {
            match_type: Some(kind("x".into())),
        }]
    };
    let block = vec![security::Address {
        address: vec![10, 0, 0, 0],
        length: 8,
    }];
    let account = vec![security::ServiceAccountMatch {
        namespace: "ns".into(),
        service_account: "sa".into(),
    }];
    let expected = security::Match {
        namespaces: text(MatchType::Exact),
        not_namespaces: text(MatchType::Prefix),
        principals: text(MatchType::Suffix),
        not_principals: vec![security::StringMatch {
            match_type: Some(MatchType::Presence(())),
        }],
        source_ips: block.clone(),
        not_source_ips: block.clone(),
        destination_ips: block.clone(),
        not_destination_ips: block,
        destination_ports: vec![80],
        not_destination_ports: vec![81],
        service_accounts: account.clone(),
        not_service_accounts: account,
        extensions: Vec::new(),
    };
    assert_eq!(
        (policy.scope(), policy.action(), policy.dry_run),
        (security::Scope::WorkloadSelector, security::Action::Deny, true)
    );
    assert_eq!(
        policy.rules,
        [security::Rule {
            clauses: vec![security::Clause {
                matches: vec![expected]
            }]
        }]
    );
}

#[test]
fn discovery_fields_have_their_published_numbers() {
    let request: DeltaDiscoveryRequest = read(&[
        field(1, &[field(1, b"node"), field(10, b"feature")].concat()),
        field(2, b"type"),
        field(3, b"wanted"),
        field(4, b"unwanted"),
        field(5, &[field(1, b"held"), field(2, b"v1")].concat()),
        field(6, b"nonce"),
        field(7, &[number(1, 3), field(2, b"why")].concat()),
    ])
    .unwrap();
    let expected = DeltaDiscoveryRequest {
        node: Some(core::Node {
            id: "node".into(),
            client_features: vec!["feature".into()],
            ..core::Node::default()
        }),
        type_url: "type".into(),
        resource_names_subscribe: vec!["wanted".into()],
        resource_names_unsubscribe: vec!["unwanted".into()],
        initial_resource_versions: HashMap::from([("held".into(), "v1".into())]),
        response_nonce: "nonce".into(),
        error_detail: Some(rpc::Status {
            code: 3,
            message: "why".into(),
            details: Vec::new(),
        }),
    };
    assert_eq!(request, expected);

    let body = [field(1, b"url"), field(2, b"bytes")].concat();
    let resource = [field(1, b"v1"), field(2, &body), field(3, b"name"), field(4, b"alias")].concat();
    let response: DeltaDiscoveryResponse = read(&[
        field(1, b"v"),
        field(2, &resource),
        field(4, b"type"),
        field(5, b"nonce"),
        field(6, b"gone"),
    ])
    .unwrap();
    let expected = DeltaDiscoveryResponse {
        system_version_info: "v".into(),
        resources: vec![Resource {
            version: "v1".into(),
            resource: Some(prost_types::Any {
                type_url: "url".into(),
                value: b"bytes".to_vec(),
            }),
            name: "name".into(),
            aliases: vec!["alias".into()],
            ttl: None,
        }],
        type_url: "type".into(),
        nonce: "nonce".into(),
        removed_resources: vec!["gone".into()],
    };
    assert_eq!(response, expected);
}

#[test]
fn certificate_fields_have_their_published_numbers() {
    let request: auth::IstioCertificateRequest = read(&[field(1, b"csr"), number(3, 60)]).unwrap();
    assert_eq!((request.csr.as_str(), request.validity_duration), ("csr", 60));
    let response: auth::IstioCertificateResponse = read(&[field(1, b"leaf"), field(1, b"root")]).unwrap();
    assert_eq!(response.cert_chain, ["leaf", "root"]);
}

#[test]
fn manifest_fields_have_their_numbers() {
    let parts = [
        field(1, b"HTTPRoute"),
        field(2, b"shop"),
        field(3, b"cart"),
        field(4, b"{}"),
    ];
    let expected = Manifest {
        kind: "HTTPRoute".into(),
        namespace: "shop".into(),
        name: "cart".into(),
        text: "{}".into(),
    };
    assert_eq!(expected.encode_to_vec(), parts.concat());
    let later = [field(5, b"later"), number(6, 1)];
    assert_eq!(read::<Manifest>(&[parts.concat(), later.concat()]).unwrap(), expected);
    assert!(read::<Manifest>(&[field(4, b"\xff")]).is_err(), "no text");
}

#[test]
fn a_workload_is_written_as_these_bytes() {
    let workload = workload::Workload {
        uid: "u".into(),
        addresses: vec![vec![10, 0, 0, 1]],
        tunnel_protocol: 1,
        ..workload::Workload::default()
    };
    assert_eq!(
        workload.encode_to_vec(),
        [0x1a, 4, 10, 0, 0, 1, 0x28, 1, 0xa2, 0x01, 1, b'u']
    );
}

#[test]
fn unknown_fields_and_enum_values_are_no_failure() {
    let workload: workload::Workload =
        read(&[field(20, b"uid"), field(4000, b"later"), number(5, 99), number(4001, 1)]).unwrap();
    assert_eq!(workload.uid, "uid");
    assert_eq!(
        workload.tunnel_protocol, 99,
        "left to those who know what it would mean"
    );
}

#[test]
fn truncated_messages_are_errors() {
    let whole = field(1, &field(20, b"uid"));
    for length in 1..whole.len() {
        let cut = whole.get(..length).unwrap();
        assert!(
            workload::Address::decode(cut).is_err(),
            "{length} bytes of {}",
            whole.len()
        );
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _address = workload::Address::decode(bytes.as_slice());
        let _policy = Authorization::decode(bytes.as_slice());
        let _request = DeltaDiscoveryRequest::decode(bytes.as_slice());
        let _response = DeltaDiscoveryResponse::decode(bytes.as_slice());
        let _manifest = Manifest::decode(bytes.as_slice());
    }

    #[test]
    fn a_manifest_that_is_written_is_read(
        (kind, namespace, name, text) in (".*", ".*", ".*", ".*"),
    ) {
        let manifest = Manifest { kind, namespace, name, text };
        prop_assert_eq!(Manifest::decode(manifest.encode_to_vec().as_slice()).unwrap(), manifest);
    }

    #[test]
    fn what_is_written_is_read(
        uid in ".*",
        addresses in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..17), 0..4),
        capacity in prop::option::of(any::<u32>()),
        ports in prop::collection::hash_map(".{0,9}", any::<(u32, u32)>(), 0..4),
    ) {
        let services = ports.into_iter().map(|(service, (service_port, target_port))| {
            let port = workload::Port { service_port, target_port, app_protocol: 0 };
            (service, workload::PortList { ports: vec![port] })
        });
        let address = workload::Address {
            r#type: Some(address::Type::Workload(workload::Workload {
                uid,
                addresses,
                capacity,
                services: services.collect(),
                ..workload::Workload::default()
            })),
        };
        prop_assert_eq!(workload::Address::decode(address.encode_to_vec().as_slice()).unwrap(), address);
    }
}
