//! What the node knows, for people: the mesh, its own workloads and their certificates. No keys.

use std::fmt;
use std::ops::ControlFlow;

use mesh_identity::Svid;
use mesh_policy::authz::PolicySet;
use mesh_xds::store::{Gateway, GatewayDestination, Protocol, Service, Workload};
use serde_json::{Value, json};

use super::mesh::{Protection, Resident};
use super::node::Node;
use crate::proxy::admin::Operated;

impl Operated for Node {
    fn is_ready(&self) -> bool {
        *self.is_synced.borrow()
    }

    fn metrics(&self) -> Result<String, fmt::Error> {
        self.telemetry.metrics.to_text()
    }

    fn dump(&self) -> Value {
        dump(self)
    }
}

fn dump(node: &Node) -> Value {
    let mesh = node.mesh();
    let (mut workloads, mut services) = (Vec::new(), Vec::new());
    mesh.snapshot.visit_workloads(|found| {
        workloads.push(workload(found));
        ControlFlow::<()>::Continue(())
    });
    mesh.snapshot.visit_services(|found| {
        services.push(service(found));
        ControlFlow::<()>::Continue(())
    });
    let mut residents: Vec<_> = mesh.residents.values().map(|found| resident(found)).collect();
    for values in [&mut workloads, &mut services, &mut residents] {
        values.sort_by_cached_key(Value::to_string);
    }
    let snapshot = node.credentials.follower().snapshot();
    json!({
        "workloads": workloads,
        "services": services,
        "residents": residents,
        "certificates": snapshot.svids().iter().map(|svid| certificate(svid)).collect::<Vec<_>>(),
        "connections": node.telemetry.metrics.connections(),
    })
}

fn workload(workload: &Workload) -> Value {
    json!({
        "uid": &*workload.uid,
        "name": workload.name(),
        "namespace": &*workload.identity.namespace,
        "serviceAccount": &*workload.identity.service_account,
        "trustDomain": &*workload.identity.trust_domain,
        "network": &*workload.network,
        "workloadIps": &*workload.addresses,
        "protocol": match workload.protocol {
            Protocol::Hbone => "HBONE",
            _ => "TCP",
        },
        "node": &*workload.node,
        "status": if workload.is_healthy { "Healthy" } else { "Unhealthy" },
        "waypoint": workload.waypoint.as_deref().map(gateway),
        "services": workload.services.iter().map(|membership| &*membership.service).collect::<Vec<_>>(),
        "authorizationPolicies": workload.policies.iter().map(|key| &**key).collect::<Vec<_>>(),
    })
}

fn service(service: &Service) -> Value {
    let ports = service
        .ports
        .iter()
        .map(|port| (port.service.to_string(), json!(port.target)));
    let vips = service.addresses.iter();
    json!({
        "name": &*service.name,
        "namespace": &*service.namespace,
        "hostname": &*service.hostname,
        "vips": vips.map(|vip| format!("{}/{}", vip.network, vip.address)).collect::<Vec<_>>(),
        "ports": ports.collect::<serde_json::Map<_, _>>(),
        "waypoint": service.waypoint.as_deref().map(gateway),
    })
}

fn gateway(gateway: &Gateway) -> String {
    let port = gateway.hbone_port;
    match &gateway.destination {
        GatewayDestination::Address(place) => format!("{}/{}:{port}", place.network, place.address),
        GatewayDestination::Hostname { namespace, hostname } => format!("{namespace}/{hostname}:{port}"),
        _ => "unknown".to_owned(),
    }
}

fn resident(resident: &Resident) -> Value {
    let protection = resident.protection.borrow();
    json!({
        "uid": &*resident.workload.uid,
        "identity": resident.id.to_string(),
        "policies": match &*protection {
            Protection::Policies(set) => Some(names(set)),
            Protection::Closed(_) => None,
        },
        "closed": match &*protection {
            Protection::Policies(_) => None,
            Protection::Closed(reason) => Some(&**reason),
        },
    })
}

fn names(set: &PolicySet) -> Vec<String> {
    let mut names: Vec<_> = set.policies().map(|policy| policy.name().to_string()).collect();
    names.sort();
    names
}

fn certificate(svid: &Svid) -> Value {
    json!({
        "identity": svid.id().to_string(),
        "notAfter": svid.not_after().as_secs(),
        "certificates": svid.chain().len(),
    })
}
