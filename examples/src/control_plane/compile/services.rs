//! Services.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::IpAddr;

use mesh_policy::authz::attach::ServiceKind;
use mesh_xds_types::workload::{
    LoadBalancing, NetworkAddress, Port, Service as Message, ServiceVisibility, load_balancing,
};

use super::super::objects::{self, Key, Metadata, Objects, Resolution, ServiceEntry, ServicePort, TargetPort};
use super::octets::octets;
use super::waypoints::{Attached, Served, Waypoints};
use super::{Notice, hostname};

const INGRESS_USE_WAYPOINT: &str = "istio.io/ingress-use-waypoint";

/// A service that a waypoint serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Service {
    pub(super) key: Key,
    pub(super) kind: ServiceKind,
    pub(super) hostname: String,
}

/// The services of each waypoint.
pub(super) type ByWaypoint = BTreeMap<Key, Vec<Service>>;

/// The messages of all services, by their names.
pub(super) fn compile(
    objects: &Objects,
    waypoints: &Waypoints<'_>,
    notices: &mut Vec<Notice>,
) -> (BTreeMap<String, Message>, ByWaypoint) {
    let network = &waypoints.network;
    let (mut messages, mut served) = (BTreeMap::new(), ByWaypoint::new());
    let mut serve = |attached: &Attached, service: &Service| {
        for gateway in &attached.gateways {
            served.entry(gateway.clone()).or_default().push(service.clone());
        }
    };
    for service in objects.services.values().filter(|service| !service.is_external_name) {
        let attached = waypoints.of(&service.metadata, Served::Service, notices);
        let message = of_service(service, network);
        serve(
            &attached,
            &Service::new(&service.metadata, ServiceKind::Service, &message.hostname),
        );
        messages.insert(name(&message), with_waypoints(message, attached));
    }
    for entry in objects.service_entries.values() {
        let attached = waypoints.of(&entry.metadata, Served::Service, notices);
        for host in &entry.hosts {
            // Of two that are called alike, a Service of Kubernetes counts.
            if let Entry::Vacant(vacant) = messages.entry(format!("{}/{host}", entry.metadata.key.namespace)) {
                serve(
                    &attached,
                    &Service::new(&entry.metadata, ServiceKind::ServiceEntry, host),
                );
                vacant.insert(with_waypoints(of_entry(entry, host, network), attached.clone()));
            }
        }
    }
    (messages, served)
}

impl Service {
    fn new(metadata: &Metadata, kind: ServiceKind, hostname: &str) -> Self {
        Self {
            key: metadata.key.clone(),
            kind,
            hostname: hostname.to_owned(),
        }
    }
}

fn with_waypoints(message: Message, attached: Attached) -> Message {
    Message {
        waypoint: attached.waypoint,
        weighted_waypoints: attached.weighted,
        ..message
    }
}

fn name(message: &Message) -> String {
    format!("{}/{}", message.namespace, message.hostname)
}

fn of_service(service: &objects::Service, network: &str) -> Message {
    let key = &service.metadata.key;
    let addresses = service.addresses.iter();
    Message {
        hostname: hostname(key),
        addresses: addresses.map(|ip| address(network, *ip, None)).collect(),
        ports: service.ports.iter().map(|port| of_port(port, 0)).collect(),
        load_balancing: service.balancing.clone(),
        ip_families: service.families.into(),
        canonical: true,
        ..named(&service.metadata)
    }
}

fn of_entry(entry: &ServiceEntry, host: &str, network: &str) -> Message {
    let passes = entry.resolution == Resolution::None;
    let addresses = entry.addresses.iter();
    let visibility = match entry.is_private {
        true => ServiceVisibility::Namespace,
        false => ServiceVisibility::Public,
    };
    Message {
        hostname: host.to_owned(),
        addresses: addresses.map(|(ip, length)| address(network, *ip, *length)).collect(),
        ports: entry
            .ports
            .iter()
            .map(|port| of_port(port, port.number.into()))
            .collect(),
        subject_alt_names: entry.names.clone(),
        load_balancing: passes.then(|| LoadBalancing {
            mode: load_balancing::Mode::Passthrough.into(),
            ..LoadBalancing::default()
        }),
        visibility: visibility.into(),
        ..named(&entry.metadata)
    }
}

fn named(metadata: &Metadata) -> Message {
    Message {
        name: metadata.key.name.clone(),
        namespace: metadata.key.namespace.clone(),
        ingress_use_waypoint: metadata.label(INGRESS_USE_WAYPOINT) == Some("true"),
        ..Message::default()
    }
}

fn address(network: &str, ip: IpAddr, length: Option<u8>) -> NetworkAddress {
    NetworkAddress {
        network: network.to_owned(),
        address: octets(ip),
        length: length.map(u32::from),
    }
}

/// A port with its target, or `otherwise` if each workload has its own.
fn of_port(port: &ServicePort, otherwise: u32) -> Port {
    Port {
        service_port: port.number.into(),
        target_port: match port.target {
            TargetPort::Number(number) => number.into(),
            TargetPort::Name(_) => otherwise,
        },
        app_protocol: port.protocol.into(),
    }
}
