//! Whom traffic is for.

use std::net::IpAddr;
use std::sync::Arc;

use mesh_xds::store::{AppProtocol, Service, Snapshot, Workload};

/// A service, or one workload, whatever services it belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Addressee {
    Service(Arc<Service>),
    Workload {
        workload: Arc<Workload>,
        /// The one that it was asked for by; none if that was its name.
        address: Option<IpAddr>,
    },
}

impl Addressee {
    /// The service's key, or the workload's uid.
    pub(super) fn key(&self) -> &Arc<str> {
        match self {
            Self::Service(service) => &service.key,
            Self::Workload { workload, .. } => &workload.uid,
        }
    }

    pub(super) fn service(&self) -> Option<&Arc<Service>> {
        match self {
            Self::Service(service) => Some(service),
            Self::Workload { .. } => None,
        }
    }

    /// What is declared to be spoken on a port. A workload's ports are declared by the services that it
    /// belongs to, as far as they agree.
    pub(super) fn protocol(&self, mesh: &Snapshot, port: u16) -> AppProtocol {
        match self {
            Self::Service(service) => service.protocol(port),
            Self::Workload { workload, .. } => declared(mesh, workload, port).unwrap_or_default(),
        }
    }

    /// Whether both mean the same, however much that has changed.
    pub(super) fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Service(one), Self::Service(other)) => one.key == other.key,
            (
                Self::Workload { workload, address },
                Self::Workload {
                    workload: other,
                    address: at,
                },
            ) => workload.uid == other.uid && address == at,
            _ => false,
        }
    }

    /// The same as a mesh has it, if it does.
    pub(super) fn in_mesh(&self, mesh: &Snapshot) -> Option<Self> {
        match self {
            Self::Service(service) => mesh.service(&service.key).cloned().map(Self::Service),
            Self::Workload { workload, address } => {
                let workload = mesh.workload(&workload.uid)?;
                let is_there = address.is_none_or(|address| workload.addresses.contains(&address));
                is_there.then(|| Self::Workload {
                    workload: Arc::clone(workload),
                    address: *address,
                })
            }
        }
    }
}

/// What all services say whose traffic comes to this port of a workload. None if there are none such, or
/// they differ.
fn declared(mesh: &Snapshot, workload: &Workload, port: u16) -> Option<AppProtocol> {
    let parts = workload.services.iter().filter_map(|membership| {
        let service = mesh.service(&membership.service)?;
        Some((service, mesh.endpoints(&service.key).get(&workload.uid)?))
    });
    let mut protocols = parts.flat_map(|(service, endpoint)| {
        let leads_here = move |from: u16| endpoint.target_port(service, from) == Some(port);
        let mappings = service.ports.iter().filter(move |mapping| leads_here(mapping.service));
        mappings.map(|mapping| mapping.protocol)
    });
    let first = protocols.next()?;
    protocols.all(|protocol| protocol == first).then_some(first)
}

#[cfg(test)]
mod tests {
    use mesh_testkit::xds::{in_service, service, workload};
    use mesh_xds::store::Store;
    use mesh_xds_types::workload as wire;

    use super::*;

    /// A port of a service, the workload's, and what is spoken there.
    type Declared = (u32, u32, wire::AppProtocol);

    /// What is declared of port 6379 of a workload that belongs to services with these ports.
    fn of_workload(services: &[&[Declared]]) -> AppProtocol {
        let mut store = Store::new();
        let mut member = workload("cache", "10.0.1.1");
        for (number, ports) in services.iter().enumerate() {
            let name = format!("s{number}");
            let ports = ports.iter().map(|(service_port, target_port, protocol)| wire::Port {
                service_port: *service_port,
                target_port: *target_port,
                app_protocol: (*protocol).into(),
            });
            let service = wire::Service {
                ports: ports.collect(),
                ..service(&name, None)
            };
            store.insert_service(&service).unwrap();
            member = in_service(member, &name);
        }
        store.insert_workload(&member).unwrap();
        let mesh = store.snapshot();
        let workload = Arc::clone(mesh.workload("cache").unwrap());
        let address = workload.addresses.first().copied();
        Addressee::Workload { workload, address }.protocol(&mesh, 6379)
    }

    #[test]
    fn a_workloads_port_is_what_all_its_services_say() {
        use wire::AppProtocol::{Http11, Tcp, Unknown};
        let cases: [(&[&[Declared]], AppProtocol); 7] = [
            (&[], AppProtocol::Undeclared),
            (&[&[(80, 6379, Tcp)]], AppProtocol::Tcp),
            (&[&[(6379, 80, Tcp)]], AppProtocol::Undeclared),
            (&[&[(80, 6379, Tcp), (81, 8080, Http11)]], AppProtocol::Tcp),
            (&[&[(80, 6379, Tcp)], &[(81, 6379, Tcp)]], AppProtocol::Tcp),
            (&[&[(80, 6379, Tcp)], &[(80, 6379, Http11)]], AppProtocol::Undeclared),
            (&[&[(80, 6379, Tcp), (81, 6379, Unknown)]], AppProtocol::Undeclared),
        ];
        for (services, expected) in cases {
            assert_eq!(of_workload(services), expected, "{services:?}");
        }
    }
}
