//! Where a tunnel for a workload of this node leads.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use hbone::{Authority, Host, Rejection};
use mesh_xds::store::{Gateway, GatewayDestination, Resource, Service, Snapshot, Workload};

use super::mesh::{Mesh, Resident};
use super::node::has;

/// A place, and what is told there before the tunnel's bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) addr: SocketAddr,
    /// What the workload is told by the PROXY protocol that the tunnel was for.
    pub(super) announced: Option<SocketAddr>,
}

/// Where a tunnel on a connection to a workload at `ip` leads: to an address of the workload, or to
/// a service that it belongs to. As a waypoint it may be asked for what it is one of; one that has
/// tunnels go to a port of their own may be asked for anything.
pub(super) fn target(
    mesh: &Mesh,
    (resident, ip): (&Resident, IpAddr),
    authority: &Authority,
) -> Result<Target, Rejection> {
    let (workload, port) = (&resident.workload, authority.port());
    let tunnel = workload.application_tunnel;
    let is_told = tunnel.is_some_and(|tunnel| tunnel.is_proxy_protocol);
    let asked = match authority.host() {
        Host::Ip(asked) if tunnel.is_some() || asked.to_canonical() == ip || has(workload, asked) => {
            SocketAddr::new(asked.to_canonical(), port)
        }
        Host::Ip(asked) if is_waypoint_of_address(mesh, workload, asked) => SocketAddr::new(ip, port),
        Host::Ip(_) => return Err(Rejection::DestinationMismatch),
        Host::Name(name) if is_told => {
            let service = mesh.snapshot.service_named(name, Some(&workload.identity.namespace));
            let vip = service.and_then(|service| service.addresses.iter().find(|vip| vip.network == mesh.network));
            let vip = vip.ok_or(Rejection::UnknownDestination)?;
            SocketAddr::new(vip.address, port)
        }
        Host::Name(name) => {
            let port = port_of(&mesh.snapshot, workload, name, port).ok_or(Rejection::UnknownDestination)?;
            SocketAddr::new(ip, port)
        }
    };
    Ok(match tunnel {
        Some(tunnel) => Target {
            addr: SocketAddr::new(ip, tunnel.port.unwrap_or(asked.port())),
            announced: is_told.then_some(asked),
        },
        None => Target {
            addr: asked,
            announced: None,
        },
    })
}

/// The workload's port for that of a service of its, or of one whose waypoint it is.
fn port_of(snapshot: &Snapshot, workload: &Workload, hostname: &str, port: u16) -> Option<u16> {
    let general = |service: &Service| {
        let mapping = service.ports.iter().find(|mapping| mapping.service == port);
        mapping.and_then(|mapping| mapping.target)
    };
    let memberships = workload.services.iter();
    let mut own = memberships
        .filter_map(|membership| Some((membership, snapshot.service(&membership.service)?)))
        .filter(|(_, service)| *service.hostname == *hostname)
        .peekable();
    if own.peek().is_some() {
        return own.find_map(|(membership, service)| {
            let mapping = membership.ports.iter().find(|mapping| mapping.service == port);
            mapping.map_or_else(|| general(service), |mapping| mapping.target)
        });
    }
    snapshot
        .service_named(hostname, Some(&workload.identity.namespace))
        .filter(|service| is_waypoint_of(snapshot, workload, service))
        .and_then(|service| general(service))
}

fn is_waypoint_of_address(mesh: &Mesh, workload: &Workload, ip: IpAddr) -> bool {
    let snapshot = &mesh.snapshot;
    match snapshot.at(&mesh.key(ip), None) {
        Some(Resource::Workload(behind)) => {
            let mut waypoint = behind.waypoint.iter();
            waypoint.any(|gateway| is_behind(snapshot, gateway, workload))
        }
        Some(Resource::Service(service)) => is_waypoint_of(snapshot, workload, service),
        _ => false,
    }
}

fn is_waypoint_of(snapshot: &Snapshot, workload: &Workload, service: &Service) -> bool {
    let weighted = service.weighted_waypoints.iter().map(|(gateway, _)| gateway);
    let mut waypoints = service.waypoint.iter().chain(weighted);
    waypoints.any(|gateway: &Arc<Gateway>| is_behind(snapshot, gateway, workload))
}

/// Whether a workload is a gateway, or one of those that are.
fn is_behind(snapshot: &Snapshot, gateway: &Gateway, workload: &Workload) -> bool {
    let (service, found) = match &gateway.destination {
        GatewayDestination::Address(place) => (snapshot.service_at(place, None), snapshot.workload_at(place)),
        GatewayDestination::Hostname { namespace, hostname } => (
            snapshot
                .service_named(hostname, Some(namespace))
                .filter(|service| service.namespace == *namespace),
            snapshot
                .workload_named(hostname)
                .filter(|found| found.identity.namespace == *namespace),
        ),
        _ => return false,
    };
    match service {
        Some(service) => snapshot.endpoints(&service.key).get(&workload.uid).is_some(),
        None => found.is_some_and(|found| found.uid == workload.uid),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node_proxy::residents::Residents;
    use crate::proxy::view::View;

    const MESH: &str = "
workloads:
- {uid: a, namespace: shop, workloadIps: [10.0.0.1, 'fd00::1'], node: here, services: {shop/s.svc: {80: 8080}}}
- {uid: w, namespace: shop, workloadIps: [10.0.0.2], node: here, services: {shop/w.svc: {15008: 15008}}}
- {uid: b, namespace: shop, workloadIps: [10.0.0.3], waypoint: {destination: {address: 10.0.0.2}}}
- {uid: c, namespace: shop, workloadIps: [10.0.0.4], waypoint: {destination: {namespace: shop, hostname: w.svc}}}
- {uid: d, namespace: shop, workloadIps: [10.0.0.5], waypoint: {destination: {address: 10.0.0.1}}}
- {uid: p, namespace: shop, workloadIps: [10.0.0.6], node: here, applicationTunnel: {protocol: PROXY, port: 15088}}
- {uid: n, namespace: shop, workloadIps: [10.0.0.7], node: here, applicationTunnel: {protocol: NONE, port: 15088}}
services:
- {name: s, namespace: shop, hostname: s.svc, vips: [/10.96.0.1], ports: {80: 8080, 81: 8081}}
- {name: v, namespace: shop, hostname: v.svc, vips: [/10.96.0.2], ports: {80: 8080}, waypoint: {destination: {address: 10.0.0.2}}}
- {name: w, namespace: shop, hostname: w.svc, vips: [/10.96.0.3], ports: {15008: 15008}}
";

    #[test]
    fn tunnels_lead_to_the_workload_and_nowhere_else() {
        let (mut residents, mesh) = Residents::new("here", "", "cluster.local".parse().unwrap());
        residents.update(mesh_xds::local::read("mesh.yaml", MESH).unwrap().snapshot());
        let mesh = mesh.borrow();
        for (to, authority, leads_to) in [
            (1, "10.0.0.1:80", Ok("10.0.0.1:80")),
            (1, "[::ffff:10.0.0.1]:80", Ok("10.0.0.1:80")),
            (1, "[fd00::1]:80", Ok("[fd00::1]:80")),
            (1, "s.svc:80", Ok("10.0.0.1:8080")),
            (1, "s.svc:81", Ok("10.0.0.1:8081")),
            (1, "s.svc:82", Err(Rejection::UnknownDestination)),
            (1, "v.svc:80", Err(Rejection::UnknownDestination)),
            (1, "10.0.0.3:80", Err(Rejection::DestinationMismatch)),
            (1, "10.96.0.1:80", Err(Rejection::DestinationMismatch)),
            (2, "10.0.0.3:80", Ok("10.0.0.2:80")),
            (2, "10.0.0.4:80", Ok("10.0.0.2:80")),
            (2, "10.0.0.5:80", Err(Rejection::DestinationMismatch)),
            (2, "10.96.0.2:80", Ok("10.0.0.2:80")),
            (2, "10.96.0.1:80", Err(Rejection::DestinationMismatch)),
            (2, "v.svc:80", Ok("10.0.0.2:8080")),
            (2, "s.svc:80", Err(Rejection::UnknownDestination)),
            (6, "1.2.3.4:80", Ok("10.0.0.6:15088 for 1.2.3.4:80")),
            (6, "v.svc:80", Ok("10.0.0.6:15088 for 10.96.0.2:80")),
            (6, "nobody.svc:80", Err(Rejection::UnknownDestination)),
            (7, "1.2.3.4:80", Ok("10.0.0.7:15088")),
        ] {
            let ip = [10, 0, 0, to].into();
            let resident = mesh.resident_at(ip).unwrap();
            let found = target(&mesh, (resident, ip), &authority.parse().unwrap());
            let found = found.map(|Target { addr, announced }| match announced {
                None => addr.to_string(),
                Some(announced) => format!("{addr} for {announced}"),
            });
            assert_eq!(found, leads_to.map(str::to_owned), "{to} {authority}");
        }
    }
}
