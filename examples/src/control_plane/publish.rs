//! What nodes are told, as resources of the discovery protocol.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use mesh_xds::delta::Published;
use mesh_xds::server::Discovery;
use mesh_xds_types::traffic::Manifest;
use mesh_xds_types::workload::gateway_address::Destination;
use mesh_xds_types::workload::{Address, GatewayAddress, NetworkMode, Service, Workload, address};
use mesh_xds_types::{ADDRESS_TYPE_URL, AUTHORIZATION_TYPE_URL, MANIFEST_TYPE_URL};
use prost::Message;

use super::compile::{self, Mesh};
use super::objects::{Key, Name};

/// Publishes a mesh in place of what was there. Policies come before the workloads that they are
/// attached to, and go after them: no workload is known without its policies.
///
/// So do manifests, each waypoint's for itself.
pub(super) fn publish(discovery: &Discovery, mesh: &Mesh) {
    let manifests = manifests(mesh);
    discovery.update(AUTHORIZATION_TYPE_URL, policies(mesh), []);
    discovery.update_to(MANIFEST_TYPE_URL, manifests.clone());
    discovery.publish(ADDRESS_TYPE_URL, addresses(mesh));
    discovery.publish_to(MANIFEST_TYPE_URL, manifests);
    discovery.publish(AUTHORIZATION_TYPE_URL, policies(mesh));
}

/// The audience that a waypoint is.
pub(super) fn audience(waypoint: &Key) -> Arc<str> {
    waypoint.to_string().into()
}

/// What each waypoint is told.
pub(super) fn manifests(mesh: &Mesh) -> Vec<(Arc<str>, Vec<Published>)> {
    let mut written: BTreeMap<&Name, Published> = BTreeMap::new();
    let programs = mesh.programs.iter();
    let told = programs.map(|(waypoint, program)| {
        let manifests = program.iter().map(|(name, text)| {
            let manifest = written.entry(name).or_insert_with(|| manifest(name, text));
            manifest.clone()
        });
        (audience(waypoint), manifests.collect())
    });
    told.collect()
}

fn manifest(name: &Name, text: &str) -> Published {
    let Name { kind, key } = name;
    let manifest = Manifest {
        kind: kind.clone(),
        namespace: key.namespace.clone(),
        name: key.name.clone(),
        text: text.to_owned(),
    };
    published(&name.to_string(), manifest.encode_to_vec())
}

pub(super) fn policies(mesh: &Mesh) -> impl Iterator<Item = Published> {
    let policies = mesh.policies.iter();
    policies.map(|(name, policy)| published(name, policy.encode_to_vec()))
}

/// Workloads and services.
pub(super) fn addresses(mesh: &Mesh) -> impl Iterator<Item = Published> {
    let workloads = mesh.workloads.values().map(of_workload);
    let mut members: HashMap<&str, Vec<&str>> = HashMap::new();
    for workload in mesh.workloads.values() {
        for name in workload.services.keys() {
            members.entry(name).or_default().push(&workload.uid);
        }
    }
    let services = mesh.services.iter();
    workloads.chain(services.map(move |(name, service)| {
        let members = members.remove(name.as_str()).unwrap_or_default();
        of_service(name, service, members)
    }))
}

/// A workload, which can be asked for by its addresses, and goes to its node without being asked for.
fn of_workload(workload: &Workload) -> Published {
    let aliases = match workload.network_mode() {
        NetworkMode::HostNetwork => Vec::new(),
        NetworkMode::Standard => {
            let addresses = workload.addresses.iter();
            addresses
                .filter_map(|address| alias(&workload.network, address))
                .collect()
        }
    };
    published(&workload.uid, encode_workload(workload))
        .aliases(aliases)
        .node(workload.node.as_str())
        .companions(waypoint(workload.waypoint.as_ref()))
}

/// A service, which can be asked for by its addresses, and is of no use without its workloads.
fn of_service(name: &str, service: &Service, members: Vec<&str>) -> Published {
    let single = service.addresses.iter().filter(|address| address.length.is_none());
    let aliases = single.filter_map(|block| alias(&block.network, &block.address));
    let members = members.into_iter().map(str::to_owned);
    let companions = members.chain(waypoint(service.waypoint.as_ref()));
    let address = Address {
        r#type: Some(address::Type::Service(service.clone())),
    };
    published(name, address.encode_to_vec())
        .aliases(aliases)
        .companions(companions)
}

fn published(name: &str, body: Vec<u8>) -> Published {
    let mut hasher = DefaultHasher::new();
    body.hash(&mut hasher);
    Published::new(name, format!("{:016x}", hasher.finish()), body)
}

/// The same bytes for the same workload, so that its version is the same: a map has no order of its
/// own. A message's encoding is that of its parts, one after the other.
fn encode_workload(workload: &Workload) -> Vec<u8> {
    let mut rest = workload.clone();
    let mut services: Vec<_> = rest.services.drain().collect();
    services.sort_by(|(one, _), (other, _)| one.cmp(other));
    let mut body = rest.encode_to_vec();
    for service in services {
        let part = Workload {
            services: [service].into(),
            ..Workload::default()
        };
        body.append(&mut part.encode_to_vec());
    }
    // Bytes by themselves are encoded as field 1, where an `Address` has its workload.
    body.encode_to_vec()
}

fn alias(network: &str, octets: &[u8]) -> Option<String> {
    compile::address(octets).map(|ip| format!("{network}/{ip}"))
}

/// The service of a waypoint; one without a name is asked for by its address.
fn waypoint(gateway: Option<&GatewayAddress>) -> Option<String> {
    match gateway?.destination.as_ref()? {
        Destination::Hostname(name) => Some(format!("{}/{}", name.namespace, name.hostname)),
        Destination::Address(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use mesh_xds_types::workload::{Port, PortList};

    use super::*;

    #[test]
    fn a_workload_is_always_encoded_alike_and_read_as_it_was() {
        let ports = |target_port| PortList {
            ports: vec![Port {
                service_port: 80,
                target_port,
                app_protocol: 0,
            }],
        };
        let workload = || Workload {
            uid: "c//Pod/shop/till".into(),
            services: (1..100).map(|at| (format!("shop/{at}"), ports(at))).collect(),
            capacity: Some(3),
            ..Workload::default()
        };
        let body = encode_workload(&workload());
        assert_eq!(body, encode_workload(&workload()));
        let read = Address::decode(body.as_slice()).unwrap();
        assert_eq!(read.r#type, Some(address::Type::Workload(workload())));
    }
}
