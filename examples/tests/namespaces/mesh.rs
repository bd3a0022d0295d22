//! Who lives on the two nodes, and what their proxies are told of it.

use std::net::{IpAddr, SocketAddr};

use mesh_identity::SpiffeId;

use crate::net::{FAR, Host, NEAR};

/// Where the echo of each pod listens.
pub const PORT: u16 = 8080;

/// Where a proxy answers operators, at its node's address.
pub const ADMIN_PORT: u16 = 15020;

/// A pod.
pub struct Pod {
    pub host: Host,
    pub name: &'static str,
    number: u8,
    pub kind: Kind,
    /// What else is known of it.
    fields: &'static str,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Its node's proxy carries its connections.
    Captured,
    /// It is in no mesh.
    Plain,
    /// It takes tunnels itself.
    Native,
    /// As a captured one, but the near node takes it for one of another network.
    Remote,
}

const fn pod(host: Host, name: &'static str, number: u8, kind: Kind, fields: &'static str) -> Pod {
    Pod {
        host,
        name,
        number,
        kind,
        fields,
    }
}

pub const PODS: [Pod; 12] = [
    pod(NEAR, "cart", 1, Kind::Captured, ""),
    pod(NEAR, "spy", 2, Kind::Captured, ""),
    pod(
        FAR,
        "till",
        1,
        Kind::Captured,
        "services: {shop/counter.shop.svc: {80: 8080}, shop/named.shop.svc: {80: 8080}}",
    ),
    pod(
        FAR,
        "bank",
        2,
        Kind::Captured,
        "services: {shop/counter.shop.svc: {80: 8080}}",
    ),
    pod(FAR, "old", 9, Kind::Plain, ""),
    pod(
        FAR,
        "waypoint",
        3,
        Kind::Native,
        "hostname: waypoint.example, services: {shop/waypoint.shop.svc: {15008: 15008}}",
    ),
    // Behind the waypoint.
    pod(
        FAR,
        "inn",
        4,
        Kind::Captured,
        "waypoint: {destination: {address: 10.2.0.3}}, \
         services: {shop/inn.shop.svc: {80: 8080}, shop/inn-by-service.shop.svc: {80: 8080}, \
         shop/inn-by-workload.shop.svc: {80: 8080}}",
    ),
    // Before the other network, as the near node sees it.
    pod(
        FAR,
        "gateway",
        5,
        Kind::Native,
        "services: {shop/gateway.shop.svc: {15008: 15008}}",
    ),
    pod(
        FAR,
        "isle",
        6,
        Kind::Remote,
        "networkGateway: {destination: {address: 10.2.0.5}}, services: {shop/isle.shop.svc: {80: 8080}}",
    ),
    pod(
        FAR,
        "reef",
        7,
        Kind::Remote,
        "networkGateway: {destination: {namespace: shop, hostname: gateway.shop.svc}}, \
         services: {shop/reef.shop.svc: {80: 8080}}",
    ),
    // Waypoints in the sandbox of a node's proxy.
    pod(FAR, "ferry", 8, Kind::Captured, ""),
    pod(
        FAR,
        "pier",
        10,
        Kind::Captured,
        "applicationTunnel: {protocol: PROXY, port: 15088}",
    ),
];

/// The addresses of services, and what else is known of them.
const SERVICES: [(&str, u8, &str); 11] = [
    ("counter", 1, "ports: {80: 8080, 81: 8080}"),
    ("named", 2, "ports: {80: 1}"),
    (
        "inn",
        3,
        "ports: {80: 8080}, waypoint: {destination: {address: 10.2.0.3}}",
    ),
    (
        "inn-by-service",
        4,
        "ports: {80: 8080}, waypoint: {destination: {namespace: shop, hostname: waypoint.shop.svc}}",
    ),
    (
        "inn-by-workload",
        5,
        "ports: {80: 8080}, waypoint: {destination: {namespace: shop, hostname: waypoint.example}}",
    ),
    ("waypoint", 6, "ports: {15008: 15008}"),
    ("gateway", 7, "ports: {15008: 15008}"),
    ("isle", 8, "ports: {80: 8080}"),
    ("reef", 9, "ports: {80: 8080}"),
    (
        "sand",
        10,
        "ports: {80: 8080}, waypoint: {destination: {address: 10.2.0.8}}",
    ),
    (
        "dock",
        11,
        "ports: {80: 8080}, waypoint: {destination: {address: 10.2.0.10}}",
    ),
];

impl Pod {
    pub fn ip(&self) -> IpAddr {
        self.host.pod(self.number)
    }

    /// Whether its node's proxy carries its connections.
    pub fn is_captured(&self) -> bool {
        matches!(self.kind, Kind::Captured | Kind::Remote)
    }
}

pub fn named(pod: &str) -> &'static Pod {
    PODS.iter().find(|known| known.name == pod).unwrap()
}

/// The address of a pod's echo.
pub fn echo(pod: &str) -> SocketAddr {
    SocketAddr::new(named(pod).ip(), PORT)
}

/// The address of a service, port 80.
pub fn vip(service: &str) -> SocketAddr {
    let (_, number, _) = SERVICES.iter().find(|(name, ..)| *name == service).unwrap();
    SocketAddr::new([10, 96, 0, *number].into(), 80)
}

pub fn identity(account: &str) -> SpiffeId {
    format!("spiffe://cluster.local/ns/shop/sa/{account}").parse().unwrap()
}

/// The mesh as a node's proxy is told of it. Nodes are workloads, too.
pub fn mesh(viewer: Host, policies: &str) -> String {
    let pods = PODS.iter().map(|pod| {
        let protocol = if pod.kind == Kind::Plain { "TCP" } else { "HBONE" };
        let is_far_off = pod.kind == Kind::Remote && viewer.name == NEAR.name;
        let (network, node) = match pod.kind {
            Kind::Remote if is_far_off => ("remote", pod.host.name),
            Kind::Captured | Kind::Remote => ("''", pod.host.name),
            Kind::Plain | Kind::Native => ("''", "nowhere"),
        };
        workload(
            pod.name,
            pod.ip(),
            node,
            &format!("protocol: {protocol}, network: {network}, {}", pod.fields),
        )
    });
    let nodes = [NEAR, FAR].map(|host| workload(&node(host), host.ip.into(), host.name, "protocol: HBONE"));
    let services = SERVICES.iter().map(|(name, number, fields)| {
        format!("- {{name: {name}, namespace: shop, hostname: {name}.shop.svc, vips: [/10.96.0.{number}], {fields}}}\n")
    });
    format!(
        "workloads:\n{}{}services:\n{}policies:\n{policies}",
        pods.collect::<String>(),
        nodes.concat(),
        services.collect::<String>()
    )
}

/// The name of a node's own workload.
pub fn node(host: Host) -> String {
    format!("{}-node", host.name)
}

fn workload(name: &str, ip: IpAddr, node: &str, fields: &str) -> String {
    format!(
        "- {{uid: {name}, name: {name}, namespace: shop, serviceAccount: {name}, workloadIps: [{ip}], \
         node: {node}, {fields}}}\n"
    )
}
