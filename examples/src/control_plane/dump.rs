//! The mesh as JSON, for people and for tests. Tokens are not in it.

mod traffic;

use mesh_xds_types::security::string_match::MatchType;
use mesh_xds_types::security::{Address, Authorization, Match, ServiceAccountMatch, StringMatch};
use mesh_xds_types::workload::gateway_address::Destination;
use mesh_xds_types::workload::{
    AppProtocol, GatewayAddress, NetworkAddress, Port, Service, WeightedWaypoint, Workload,
};
use serde_json::{Map, Value, json};

use super::compile::{Mesh, address};

/// Everything that nodes are told, by names, and what there is to know about it.
pub(super) fn dump(mesh: &Mesh) -> Value {
    let notices: Vec<String> = mesh.notices.iter().map(ToString::to_string).collect();
    let mut callers: Vec<_> = mesh.callers.values().collect();
    callers.sort_by_key(|caller| (&caller.account, &caller.node));
    let callers: Vec<Value> = callers
        .into_iter()
        .map(|caller| {
            filled([
                ("account", json!(caller.account.to_string())),
                ("node", json!(caller.node)),
                ("waypoint", json!(caller.waypoint.as_ref().map(ToString::to_string))),
                ("expires", json!(caller.expires.map(|moment| moment.as_secs()))),
            ])
        })
        .collect();
    json!({
        "workloads": mesh.workloads.values().map(workload).collect::<Vec<_>>(),
        "services": mesh.services.values().map(service).collect::<Vec<_>>(),
        "policies": mesh.policies.values().map(policy).collect::<Vec<_>>(),
        "waypoints": traffic::waypoints(mesh),
        "traffic": traffic::statuses(mesh),
        "rejected": traffic::rejected(mesh),
        "callers": callers,
        "notices": notices,
        "passedOver": mesh.passed_over,
    })
}

/// All that a node may know of a workload.
fn workload(workload: &Workload) -> Value {
    let mut services: Vec<_> = workload.services.iter().collect();
    services.sort_unstable_by_key(|(name, _)| *name);
    let services: Map<String, Value> = services
        .into_iter()
        .map(|(name, list)| (name.clone(), ports(&list.ports)))
        .collect();
    let addresses: Vec<_> = workload.addresses.iter().map(|bytes| ip(bytes)).collect();
    let locality = workload
        .locality
        .as_ref()
        .map(|found| format!("{}/{}/{}", found.region, found.zone, found.subzone));
    filled([
        ("uid", json!(workload.uid)),
        ("name", json!(workload.name)),
        ("namespace", json!(workload.namespace)),
        ("serviceAccount", json!(workload.service_account)),
        ("trustDomain", json!(workload.trust_domain)),
        ("addresses", json!(addresses)),
        ("hostname", json!(workload.hostname)),
        ("network", json!(workload.network)),
        ("networkMode", json!(workload.network_mode().as_str_name())),
        ("protocol", json!(workload.tunnel_protocol().as_str_name())),
        ("nativeTunnel", json!(workload.native_tunnel)),
        ("waypoint", gateway(workload.waypoint.as_ref())),
        ("node", json!(workload.node)),
        ("cluster", json!(workload.cluster_id)),
        ("locality", json!(locality)),
        ("canonicalName", json!(workload.canonical_name)),
        ("canonicalRevision", json!(workload.canonical_revision)),
        ("workloadType", json!(workload.workload_type().as_str_name())),
        ("workloadName", json!(workload.workload_name)),
        ("services", Value::Object(services)),
        ("policies", json!(workload.authorization_policies)),
        ("status", json!(workload.status().as_str_name())),
        ("capacity", json!(workload.capacity)),
    ])
}

/// All that a node may know of a service.
fn service(service: &Service) -> Value {
    let addresses: Vec<_> = service.addresses.iter().map(network_address).collect();
    let balancing = service.load_balancing.as_ref().map(|balancing| {
        let preference: Vec<_> = balancing
            .routing_preference()
            .map(|scope| scope.as_str_name())
            .collect();
        filled([
            ("preference", json!(preference)),
            ("mode", json!(balancing.mode().as_str_name())),
            ("health", json!(balancing.health_policy().as_str_name())),
        ])
    });
    filled([
        ("name", json!(service.name)),
        ("namespace", json!(service.namespace)),
        ("hostname", json!(service.hostname)),
        ("addresses", json!(addresses)),
        ("ports", ports(&service.ports)),
        ("appProtocols", protocols(&service.ports)),
        ("subjectAltNames", json!(service.subject_alt_names)),
        ("waypoint", gateway(service.waypoint.as_ref())),
        ("weightedWaypoints", weighted(&service.weighted_waypoints)),
        ("loadBalancing", json!(balancing)),
        ("ipFamilies", json!(service.ip_families().as_str_name())),
        ("canonical", json!(service.canonical)),
        ("ingressUseWaypoint", json!(service.ingress_use_waypoint)),
        ("visibility", json!(service.visibility().as_str_name())),
    ])
}

/// All that a node may know of a policy.
fn policy(policy: &Authorization) -> Value {
    let rules: Vec<Vec<Vec<Value>>> = policy
        .rules
        .iter()
        .map(|rule| {
            let clauses = rule.clauses.iter();
            clauses
                .map(|clause| clause.matches.iter().map(matched).collect())
                .collect()
        })
        .collect();
    json!({
        "name": policy.name,
        "namespace": policy.namespace,
        "scope": policy.scope().as_str_name(),
        "action": policy.action().as_str_name(),
        "dryRun": policy.dry_run,
        "rules": rules,
    })
}

fn matched(found: &Match) -> Value {
    let texts = |texts: &[StringMatch]| json!(texts.iter().map(text).collect::<Vec<_>>());
    let blocks = |blocks: &[Address]| json!(blocks.iter().map(block).collect::<Vec<_>>());
    let accounts = |accounts: &[ServiceAccountMatch]| {
        let name = |account: &ServiceAccountMatch| format!("{}/{}", account.namespace, account.service_account);
        json!(accounts.iter().map(name).collect::<Vec<_>>())
    };
    filled([
        ("namespaces", texts(&found.namespaces)),
        ("notNamespaces", texts(&found.not_namespaces)),
        ("serviceAccounts", accounts(&found.service_accounts)),
        ("notServiceAccounts", accounts(&found.not_service_accounts)),
        ("principals", texts(&found.principals)),
        ("notPrincipals", texts(&found.not_principals)),
        ("sourceIps", blocks(&found.source_ips)),
        ("notSourceIps", blocks(&found.not_source_ips)),
        ("destinationIps", blocks(&found.destination_ips)),
        ("notDestinationIps", blocks(&found.not_destination_ips)),
        ("destinationPorts", json!(found.destination_ports)),
        ("notDestinationPorts", json!(found.not_destination_ports)),
    ])
}

fn text(found: &StringMatch) -> String {
    match &found.match_type {
        Some(MatchType::Exact(text)) => text.clone(),
        Some(MatchType::Prefix(text)) => format!("{text}*"),
        Some(MatchType::Suffix(text)) => format!("*{text}"),
        Some(MatchType::Presence(())) => "*".to_owned(),
        None => String::new(),
    }
}

fn block(found: &Address) -> String {
    format!("{}/{}", ip(&found.address), found.length)
}

fn gateway(gateway: Option<&GatewayAddress>) -> Value {
    let Some((gateway, destination)) = gateway.and_then(|found| Some((found, found.destination.as_ref()?))) else {
        return Value::Null;
    };
    let destination = match destination {
        Destination::Hostname(name) => format!("{}/{}", name.namespace, name.hostname),
        Destination::Address(address) => network_address(address),
    };
    json!({"destination": destination, "port": gateway.hbone_mtls_port})
}

fn weighted(waypoints: &[WeightedWaypoint]) -> Value {
    let waypoints = waypoints.iter().map(|waypoint| {
        let destination = gateway(waypoint.destination.as_ref());
        json!({"weight": waypoint.weight, "waypoint": destination})
    });
    waypoints.collect()
}

fn network_address(found: &NetworkAddress) -> String {
    let length = found.length.map(|length| format!("/{length}")).unwrap_or_default();
    format!("{}/{}{length}", found.network, ip(&found.address))
}

/// Each of the service's with the workload's.
fn ports(ports: &[Port]) -> Value {
    let pairs = ports
        .iter()
        .map(|port| (port.service_port.to_string(), json!(port.target_port)));
    Value::Object(pairs.collect())
}

/// What is declared of the service's ports.
fn protocols(ports: &[Port]) -> Value {
    let declared = ports.iter().filter(|port| port.app_protocol() != AppProtocol::Unknown);
    let pairs = declared.map(|port| (port.service_port.to_string(), json!(port.app_protocol().as_str_name())));
    Value::Object(pairs.collect())
}

fn ip(octets: &[u8]) -> String {
    address(octets).map(|ip| ip.to_string()).unwrap_or_default()
}

/// An object without the fields that say nothing.
fn filled<const N: usize>(fields: [(&str, Value); N]) -> Value {
    let is_filled = |value: &Value| match value {
        Value::Null | Value::Bool(false) => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(values) => !values.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
        Value::Bool(true) | Value::Number(_) => true,
    };
    let fields = fields.into_iter().filter(|(_, value)| is_filled(value));
    Value::Object(fields.map(|(name, value)| (name.to_owned(), value)).collect())
}
