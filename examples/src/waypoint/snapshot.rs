//! All that a waypoint knows at one moment: the mesh, and what is to be done for its services.

mod build;
mod frame;
mod limits;

use std::collections::HashMap;
use std::sync::Arc;

use hbone::{Authority, Host};
use mesh_policy::authz::PolicySet;
use mesh_policy::jwt::Authenticator;
use mesh_policy::traffic::rate::LimitTable;
use mesh_policy::traffic::upstream::BackendTrafficPolicy;
use mesh_policy::traffic::{DestinationRule, RouteTable, Target};
use mesh_xds::store::{self, NetworkAddress, Service, Workload};

pub(super) use self::frame::{Frame, Terms};

/// What is known. It never changes: whoever looks at one sees one configuration.
#[derive(Debug)]
pub(super) struct Snapshot {
    pub(super) mesh: store::Snapshot,
    pub(super) network: Arc<str>,
    served: HashMap<Arc<str>, Arc<Served>>,
    /// Where routes lead.
    targets: HashMap<Target, Destination>,
    /// How requests reach services, by the services' keys.
    rules: HashMap<Arc<str>, Arc<DestinationRule>>,
    backend_policies: HashMap<Arc<str>, Arc<BackendTrafficPolicy>>,
    /// How many requests are too many, with what has been counted.
    limits: LimitTable,
    /// What is wrong with objects.
    pub(super) problems: Vec<String>,
}

/// A service whose traffic passes the waypoint.
#[derive(Debug)]
pub(super) struct Served {
    pub(super) service: Arc<Service>,
    /// By the service's ports; a port without routes is not there.
    routes: HashMap<u16, Routes>,
    pub(super) protection: Protection,
    /// Whose tokens are believed, or why nobody's request can be judged.
    pub(super) authenticator: Result<Arc<Authenticator>, Arc<str>>,
}

/// The routes of a port.
#[derive(Debug)]
pub(super) enum Routes {
    Table(Arc<RouteTable>),
    /// They cannot be carried out, so nothing is.
    Broken,
}

/// Who may use a service.
#[derive(Clone, Debug)]
pub(super) enum Protection {
    Policies(Arc<PolicySet>),
    /// Nobody, because a policy that counts is not to be had.
    Closed(Arc<str>),
}

/// A port of a service that requests are sent to.
#[derive(Clone, Debug)]
pub(super) struct Destination {
    pub(super) service: Arc<Service>,
    pub(super) port: u16,
    pub(super) subset: Option<Box<str>>,
    pub(super) rule: Option<Arc<DestinationRule>>,
    pub(super) policy: Option<Arc<BackendTrafficPolicy>>,
}

impl Snapshot {
    /// The port of a service that a tunnel is for.
    pub(super) fn find(&self, authority: &Authority) -> Result<(&Arc<Served>, u16), NotServed> {
        let service = match authority.host() {
            Host::Ip(ip) => self.mesh.service_at(
                &NetworkAddress {
                    network: Arc::clone(&self.network),
                    address: ip.to_canonical(),
                },
                None,
            ),
            Host::Name(name) => self.mesh.service_named(name, None),
        };
        let service = service.ok_or(NotServed::Unknown)?;
        let served = self.served(&service.key).ok_or(NotServed::Elsewhere)?;
        let port = authority.port();
        let has_port = service.ports.iter().any(|mapping| mapping.service == port);
        has_port.then_some((served, port)).ok_or(NotServed::Port)
    }

    /// A service that is served.
    pub(super) fn served(&self, key: &str) -> Option<&Arc<Served>> {
        self.served.get(key)
    }

    /// All that are.
    pub(super) fn all_served(&self) -> impl Iterator<Item = &Arc<Served>> {
        self.served.values()
    }

    /// Where a route leads.
    pub(super) fn destination(&self, target: &Target) -> Option<&Destination> {
        self.targets.get(target)
    }

    /// How requests reach a service.
    pub(super) fn rule(&self, service: &str) -> Option<&Arc<DestinationRule>> {
        self.rules.get(service)
    }

    /// What the service's own policy says about that.
    pub(super) fn backend_policy(&self, service: &str) -> Option<&Arc<BackendTrafficPolicy>> {
        self.backend_policies.get(service)
    }

    /// Whoever has an address.
    pub(super) fn workload_at(&self, ip: std::net::IpAddr) -> Option<&Arc<Workload>> {
        self.mesh.workload_at(&NetworkAddress {
            network: Arc::clone(&self.network),
            address: ip.to_canonical(),
        })
    }
}

impl Served {
    /// The routes of a port, if it has any.
    pub(super) fn routes(&self, port: u16) -> Option<&Routes> {
        self.routes.get(&port)
    }
}

/// Why a tunnel is not for this waypoint.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotServed {
    #[error("no service is known there")]
    Unknown,
    #[error("the service does not name this waypoint")]
    Elsewhere,
    #[error("the service has no such port")]
    Port,
}
