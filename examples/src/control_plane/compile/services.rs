//! Services.

use std::collections::BTreeMap;
use std::net::IpAddr;

use mesh_xds_types::workload::{
    LoadBalancing, NetworkAddress, Port, Service as Message, ServiceVisibility, load_balancing,
};

use super::super::objects::{Metadata, Objects, Resolution, Service, ServiceEntry, ServicePort, TargetPort};
use super::octets::octets;
use super::waypoints::{Served, Waypoints};
use super::{Notice, hostname};

const INGRESS_USE_WAYPOINT: &str = "istio.io/ingress-use-waypoint";

/// The messages of all services, by their names.
pub(super) fn compile(
    objects: &Objects,
    waypoints: &Waypoints<'_>,
    notices: &mut Vec<Notice>,
) -> BTreeMap<String, Message> {
    let network = &waypoints.network;
    let mut messages = BTreeMap::new();
    for service in objects.services.values().filter(|service| !service.is_external_name) {
        let message = Message {
            waypoint: waypoints.of(&service.metadata, Served::Service, notices),
            ..of_service(service, network)
        };
        messages.insert(name(&message), message);
    }
    for entry in objects.service_entries.values() {
        let waypoint = waypoints.of(&entry.metadata, Served::Service, notices);
        for host in &entry.hosts {
            let message = Message {
                waypoint: waypoint.clone(),
                ..of_entry(entry, host, network)
            };
            // Of two that are called alike, a Service of Kubernetes counts.
            messages.entry(name(&message)).or_insert(message);
        }
    }
    messages
}

fn name(message: &Message) -> String {
    format!("{}/{}", message.namespace, message.hostname)
}

fn of_service(service: &Service, network: &str) -> Message {
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
        app_protocol: 0,
    }
}
