//! A mesh like that of a large cluster: names of the usual length, and few of them that differ where
//! few do.

use std::net::Ipv4Addr;

use mesh_xds_types::workload::{Locality, NetworkAddress, Port, PortList, Service, TunnelProtocol, Workload};

/// How many workloads have a service in common.
pub const WORKLOADS_PER_SERVICE: u32 = 10;
const WORKLOADS_PER_NODE: u32 = 50;
const SERVICES_PER_NAMESPACE: u32 = 10;

/// A workload as a cluster has it: names of the usual length, one service, an account of its service.
pub fn workload(number: u32) -> Workload {
    let service = number / WORKLOADS_PER_SERVICE;
    let namespace = format!("namespace-{}", service / SERVICES_PER_NAMESPACE);
    let name = format!("deployment-{service}-5d8f7c9b4-{number:06}");
    Workload {
        uid: format!("Kubernetes//Pod/{namespace}/{name}"),
        name,
        addresses: vec![pod(number).octets().to_vec()],
        tunnel_protocol: TunnelProtocol::Hbone.into(),
        trust_domain: "bench.test".into(),
        service_account: format!("account-{service}"),
        node: format!("node-{}", number / WORKLOADS_PER_NODE),
        canonical_name: format!("deployment-{service}"),
        canonical_revision: "v1".into(),
        workload_name: format!("deployment-{service}"),
        services: [(key(service), PortList { ports: vec![port()] })].into(),
        locality: Some(Locality {
            region: "region".into(),
            zone: format!("zone-{}", number % 3),
            subzone: String::new(),
        }),
        cluster_id: "Kubernetes".into(),
        namespace,
        ..Workload::default()
    }
}

/// The service of ten workloads.
pub fn service(number: u32) -> Service {
    Service {
        name: format!("service-{number}"),
        namespace: format!("namespace-{}", number / SERVICES_PER_NAMESPACE),
        hostname: hostname(number),
        addresses: vec![NetworkAddress {
            address: vip(number).octets().to_vec(),
            ..NetworkAddress::default()
        }],
        ports: vec![port()],
        ..Service::default()
    }
}

fn port() -> Port {
    Port {
        service_port: 80,
        target_port: 8080,
        app_protocol: 0,
    }
}

fn key(service: u32) -> String {
    format!("namespace-{}/{}", service / SERVICES_PER_NAMESPACE, hostname(service))
}

fn hostname(service: u32) -> String {
    format!(
        "service-{service}.namespace-{}.svc.cluster.local",
        service / SERVICES_PER_NAMESPACE
    )
}

/// The address of a workload.
pub fn pod(number: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x0a00_0000 + number)
}

/// The address of a service.
pub fn vip(number: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(0xac10_0000 + number)
}
