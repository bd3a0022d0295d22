//! Meshes for tests: workloads and services as a control plane would send them, with everything that
//! a test does not speak of left plain.

pub mod oracle;

use std::net::IpAddr;

use mesh_xds_types::workload::{
    GatewayAddress, LoadBalancing, Locality, NamespacedHostname, NetworkAddress, Port, PortList, Service,
    TunnelProtocol, Workload, gateway_address, load_balancing,
};

/// A healthy workload with the namespace `default`, reached by HBONE, without a network.
#[must_use]
pub fn workload(uid: &str, address: &str) -> Workload {
    Workload {
        uid: uid.into(),
        name: uid.into(),
        namespace: "default".into(),
        service_account: uid.into(),
        addresses: vec![bytes(address)],
        tunnel_protocol: TunnelProtocol::Hbone.into(),
        node: "node".into(),
        ..Workload::default()
    }
}

/// A service `HOSTNAME` in the namespace `default` that takes port 80 to 8080. Without an address it
/// is headless.
#[must_use]
pub fn service(hostname: &str, address: Option<&str>) -> Service {
    Service {
        name: hostname.into(),
        namespace: "default".into(),
        hostname: hostname.into(),
        addresses: address
            .map(|address| network_address("", address))
            .into_iter()
            .collect(),
        ports: vec![port(80, 8080)],
        ..Service::default()
    }
}

/// The same workload as part of a service of the namespace `default`.
#[must_use]
pub fn in_service(mut workload: Workload, hostname: &str) -> Workload {
    workload
        .services
        .insert(format!("default/{hostname}"), PortList::default());
    workload
}

/// The same workload in a place that is written `region/zone/subzone`.
#[must_use]
pub fn located(mut workload: Workload, place: &str) -> Workload {
    let mut parts = place.split('/').map(str::to_owned);
    workload.locality = Some(Locality {
        region: parts.next().unwrap_or_default(),
        zone: parts.next().unwrap_or_default(),
        subzone: parts.next().unwrap_or_default(),
    });
    workload
}

/// A preference for places.
#[must_use]
pub fn balancing(mode: load_balancing::Mode, preferences: &[load_balancing::Scope]) -> LoadBalancing {
    LoadBalancing {
        routing_preference: preferences.iter().map(|scope| i32::from(*scope)).collect(),
        mode: mode.into(),
        health_policy: 0,
    }
}

/// A port of a service.
#[must_use]
pub fn port(service: u32, target: u32) -> Port {
    Port {
        service_port: service,
        target_port: target,
        app_protocol: 0,
    }
}

/// A waypoint or gateway by its address, on port 15008.
#[must_use]
pub fn gateway(network: &str, address: &str) -> GatewayAddress {
    GatewayAddress {
        destination: Some(gateway_address::Destination::Address(network_address(network, address))),
        hbone_mtls_port: 15008,
    }
}

/// A waypoint or gateway of the namespace `default` by its hostname, on port 15008.
#[must_use]
pub fn named_gateway(hostname: &str) -> GatewayAddress {
    GatewayAddress {
        destination: Some(gateway_address::Destination::Hostname(NamespacedHostname {
            namespace: "default".into(),
            hostname: hostname.into(),
        })),
        hbone_mtls_port: 15008,
    }
}

/// An address in a network.
#[must_use]
pub fn network_address(network: &str, address: &str) -> NetworkAddress {
    NetworkAddress {
        network: network.into(),
        address: bytes(address),
        length: None,
    }
}

/// An address as the wire has it.
#[must_use]
pub fn bytes(address: &str) -> Vec<u8> {
    match address.parse().expect("an address") {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}
