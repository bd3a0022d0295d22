//! Meshes from files, and what is said of files that are none.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs, reason = "test code")]

use std::collections::BTreeMap;

use mesh_xds::local::read;
use mesh_xds::resolve::{Hop, Query, Target, resolve};
use mesh_xds::store::{AppProtocol, PolicyScope, Protocol};
use mesh_xds_types::security::string_match::MatchType;
use proptest::prelude::*;

const POLICY: &str = "- {namespace: n, name: p, scope: Namespace, action: Deny, dryRun: false, rules: []}\n";

const MESH: &str = r#"
workloads:
- uid: cart
  name: cart
  namespace: shop
  serviceAccount: cart
  trustDomain: cluster.local
  workloadIps: [10.0.0.1, "2001:db8::1"]
  node: node-1
  services: {}
- uid: till
  namespace: shop
  workloadIps: ["10.0.0.2"]
  protocol: HBONE
  network: ""
  waypoint:
    destination: {namespace: shop, hostname: waypoint.shop}
    hboneMtlsPort: 15008
  nativeTunnel: true
  applicationTunnel: {protocol: PROXY, port: 15088}
  authorizationPolicies: [shop/selected]
  status: Unhealthy
  locality: {region: r, zone: z}
  capacity: 3
  services:
    shop/till.shop: {80: 8080}
services:
- name: till
  namespace: shop
  hostname: till.shop
  vips: ["/10.96.0.1", "remote/10.97.0.0/16"]
  ports: {80: 9090, 90: 9090}
  appProtocols: {90: gRPC}
  subjectAltNames: [spiffe://cluster.local/ns/shop/sa/till]
  loadBalancer: {routingPreferences: [Region, Zone], mode: Failover, healthPolicy: AllowAll}
  canonical: true
  visibility: Namespace
policies:
- name: selected
  namespace: shop
  scope: WorkloadSelector
  action: Deny
  dryRun: false
  rules:
  - - - principals: [{exact: cluster.local/ns/shop/sa/cart}, presence]
        notSourceIps: [10.0.0.0/8]
        destinationPorts: [80]
"#;

#[test]
fn everything_in_a_file_is_in_the_mesh() {
    let mesh = read("mesh.yaml", MESH).unwrap().snapshot();
    let till = mesh.workload("till").unwrap();
    assert_eq!(
        (till.protocol, till.capacity, till.is_healthy, till.native_tunnel),
        (Protocol::Hbone, 3, false, true)
    );
    assert_eq!(till.application_tunnel.unwrap().port, Some(15088));
    assert_eq!(till.identity.spiffe_id(), "spiffe://cluster.local/ns/shop/sa/default");
    let service = mesh.service("shop/till.shop").unwrap();
    assert!(service.is_private && service.is_canonical && service.balancing.allows_unhealthy);
    assert_eq!((service.addresses.len(), service.blocks.len()), (1, 1));
    let protocols = service.ports.iter().map(|port| (port.service, port.protocol));
    assert_eq!(
        BTreeMap::from_iter(protocols),
        [(80, AppProtocol::Undeclared), (90, AppProtocol::Grpc)].into()
    );
    let policies: Vec<_> = mesh.policies_of(till).map(Result::unwrap).collect();
    assert_eq!(policies.len(), 1);
    assert_eq!(policies[0].scope, PolicyScope::Selector);
    let found = &policies[0].wire.rules[0].clauses[0].matches[0];
    assert_eq!(found.principals[1].match_type, Some(MatchType::Presence(())));
    assert_eq!(found.not_source_ips[0].length, 8);

    let source = mesh.workload("cart").unwrap();
    let query = Query::new(source, Target::Address([10, 96, 0, 1].into()), 80, 0);
    let Hop::Hbone(tunnel) = resolve(&mesh, &query).unwrap().hop else {
        unreachable!()
    };
    assert_eq!(*tunnel.expected.identity, *till.identity);
}

#[test]
fn an_empty_file_is_an_empty_mesh() {
    for text in ["", "# nothing", "---\n", "workloads: []\nservices:\n"] {
        assert_eq!(read("f", text).unwrap().snapshot().workload_count(), 0, "{text:?}");
    }
}

#[test]
fn errors_name_file_line_and_field() {
    let workload = |line: &str| format!("workloads:\n- uid: a\n  {line}\n");
    let cases = [
        (workload("protocl: HBONE"), "f.yaml, line 3: `protocl` is unknown"),
        (
            workload("protocol: QUIC"),
            "f.yaml, line 3: `protocol` is not `TCP` or `HBONE`",
        ),
        (
            workload("workloadIps: [10.0.0]"),
            "f.yaml, line 3: `workloadIps` is not an IP address",
        ),
        (
            workload("nativeTunnel: yes"),
            "f.yaml, line 3: `nativeTunnel` is not `true` or `false`",
        ),
        (
            workload("services: {svc: {80: 80}}"),
            "f.yaml, line 2: `services` is `svc`, not `namespace/name`",
        ),
        (
            workload("services: {ns/svc: {80: 70000}}"),
            "f.yaml, line 2: `services[ns/svc].ports[0].target_port` is 70000, which is no port",
        ),
        (
            workload("waypoint: {hboneMtlsPort: 1}"),
            "f.yaml, line 3: `destination` is missing",
        ),
        (workload("uid: b"), "f.yaml, line 3: `uid` is there more than once"),
        ("workloads:\n- name: a\n".into(), "f.yaml, line 2: `uid` is missing"),
        ("workloads: {}\n".into(), "f.yaml, line 1: `workloads` is not a list"),
        ("services:\n- name: a\n".into(), "f.yaml, line 2: `hostname` is missing"),
        (
            "services:\n- hostname: a\n  vips: [10.0.0.1]\n".into(),
            "f.yaml, line 3: `vips` is not `network/IP` or `network/IP/LENGTH`",
        ),
        (
            "services:\n- hostname: a\n  ports: {80: 80}\n  appProtocols: {81: TCP}\n".into(),
            "f.yaml, line 4: `81` is not one of the service's ports",
        ),
        (
            "services:\n- hostname: a\n  ports: {80: 80}\n  appProtocols: {80: QUIC}\n".into(),
            "f.yaml, line 4: `80` is not a protocol",
        ),
        (
            "policies:\n- name: a\n  rules: []\n".into(),
            "f.yaml, line 2: `scope` is missing",
        ),
        (
            format!("policies:\n{POLICY}{}{POLICY}", POLICY.replace("name: p", "name: q")),
            "f.yaml, line 4: `n/p` is there more than once",
        ),
        (
            "a: &x 1\n".into(),
            "f.yaml, line 1: anchors and aliases are not supported",
        ),
        (
            "---\n{}\n---\n{}\n".into(),
            "f.yaml, line 3: no YAML: a second document",
        ),
        ("{[]: 1}\n".into(), "f.yaml, line 1: a field's name is not a text"),
        (
            "[".repeat(100),
            "f.yaml, line 1: values lie in each other more than 32 times",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(read("f.yaml", &text).unwrap_err().to_string(), expected, "{text}");
    }
}

#[test]
fn a_rule_that_is_not_understood_refuses_its_policy() {
    for found in [
        "sourceIps: [10.0.0.0/40]",
        "sourceIps: [x]",
        "namespaces: [{regex: x}]",
        "namespaces: [x]",
        "ports: [80]",
    ] {
        let text = format!(
            "policies:\n- name: a\n  scope: Global\n  action: Allow\n  dryRun: false\n  rules: [[[{{{found}}}]]]\n"
        );
        assert_eq!(read("f", &text).unwrap_err().line, 6, "{found}");
    }
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "\\PC*") {
        let _mesh = read("f", &text);
    }

    #[test]
    fn a_file_with_any_change_is_read_or_refused(place in 0..MESH.len(), with in "\\PC{0,3}", take in 0..9_usize) {
        if let (Some(before), Some(after)) = (MESH.get(..place), MESH.get((place + take).min(MESH.len())..)) {
            let _mesh = read("f", &format!("{before}{with}{after}"));
        }
    }
}
