//! All that a waypoint knows at one moment: the mesh, and what is to be done for its services and for the
//! workloads behind it.

mod build;
mod frame;
mod guard;
mod index;
mod lead;
mod limits;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::HashMap;
use std::net::IpAddr;
use std::ops::ControlFlow;
use std::sync::Arc;

use hbone::{Authority, Host};
use mesh_policy::traffic::rate::LimitTable;
use mesh_policy::traffic::upstream::BackendTrafficPolicy;
use mesh_policy::traffic::{DestinationRule, Route, RouteTable, Target};
use mesh_xds::store::{self, NetworkAddress, Workload};

pub(super) use self::frame::{Frame, Terms};
pub(super) use self::guard::{Guard, Protection};
use super::addressee::Addressee;
use super::labels::WorkloadLabels;

/// What is known. It never changes: whoever looks at one sees one configuration.
#[derive(Debug)]
pub(super) struct Snapshot {
    pub(super) mesh: store::Snapshot,
    terms: Arc<Terms>,
    pub(super) labels: WorkloadLabels,
    /// Services, by their keys.
    served: HashMap<Arc<str>, Arc<Served>>,
    /// Of all workloads that are asked for by themselves: there is no more to each than that.
    guard: Arc<Guard>,
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

/// What is reached by way of the waypoint.
#[derive(Clone, Debug)]
pub(super) struct Served {
    pub(super) to: Addressee,
    /// By the service's ports; a port without routes is not there.
    routes: Box<[(u16, Routes)]>,
    pub(super) guard: Arc<Guard>,
    /// What is wrong with objects about it.
    problems: Box<[String]>,
}

/// The routes of a port.
#[derive(Clone, Debug)]
pub(super) enum Routes {
    Table(Arc<RouteTable>),
    /// They cannot be carried out, so nothing is.
    Broken,
}

/// A port that requests are sent to.
#[derive(Clone, Debug)]
pub(super) struct Destination {
    pub(super) to: Addressee,
    pub(super) port: u16,
    pub(super) subset: Option<Box<str>>,
    pub(super) rule: Option<Arc<DestinationRule>>,
    pub(super) policy: Option<Arc<BackendTrafficPolicy>>,
}

impl Snapshot {
    /// Whom a tunnel is for, and the port.
    pub(super) fn find(&self, authority: &Authority) -> Result<(Cow<'_, Served>, u16), NotServed> {
        let (mesh, port) = (&self.mesh, authority.port());
        let (service, workload, address) = match authority.host() {
            Host::Ip(ip) => {
                let place = self.place(ip);
                let (service, workload) = (mesh.service_at(&place, None), mesh.workload_at(&place));
                (service, workload, Some(place.address))
            }
            Host::Name(name) => (mesh.service_named(name, None), mesh.workload_named(name), None),
        };
        let Some(service) = service else {
            let workload = Arc::clone(workload.ok_or(NotServed::Unknown)?);
            let served = self.behind(Addressee::Workload { workload, address });
            return Ok((Cow::Owned(served.ok_or(NotServed::Elsewhere)?), port));
        };
        let served = self.served(&service.key).ok_or(NotServed::Elsewhere)?;
        let has_port = service.ports.iter().any(|mapping| mapping.service == port);
        has_port
            .then_some((Cow::Borrowed(&**served), port))
            .ok_or(NotServed::Port)
    }

    /// What was found once, as it is here.
    pub(super) fn find_again(&self, to: &Addressee) -> Option<Cow<'_, Served>> {
        match to {
            Addressee::Service(service) => self.served(&service.key).map(|served| Cow::Borrowed(&**served)),
            Addressee::Workload { .. } => self.behind(to.in_mesh(&self.mesh)?).map(Cow::Owned),
        }
    }

    /// A workload, if it is behind this waypoint. It has no routes: those are of services.
    fn behind(&self, to: Addressee) -> Option<Served> {
        let is_behind =
            matches!(&to, Addressee::Workload { workload, .. } if self.terms.is_before(&self.mesh, workload));
        is_behind.then(|| Served {
            to,
            routes: Box::default(),
            guard: Arc::clone(&self.guard),
            problems: Box::default(),
        })
    }

    /// A service that is served.
    pub(super) fn served(&self, key: &str) -> Option<&Arc<Served>> {
        self.served.get(key)
    }

    /// All services that are.
    pub(super) fn all_served(&self) -> impl Iterator<Item = &Arc<Served>> {
        self.served.values()
    }

    /// Who may use workloads that are asked for by themselves.
    pub(super) fn guard(&self) -> &Guard {
        &self.guard
    }

    /// All that decide who may use anything.
    pub(super) fn guards(&self) -> impl Iterator<Item = &Guard> {
        let of_services = self.served.values().map(|served| &*served.guard);
        of_services.chain([&*self.guard])
    }

    /// How many workloads are asked for by themselves here.
    pub(super) fn count_behind(&self) -> usize {
        let mut count = 0;
        self.mesh.visit_workloads(|workload| {
            count += usize::from(self.terms.is_before(&self.mesh, workload));
            ControlFlow::<()>::Continue(())
        });
        count
    }

    /// What is asked for itself, where no route leads elsewhere.
    pub(super) fn itself(&self, served: &Served, port: u16) -> Destination {
        let service = served.to.service();
        Destination {
            rule: service.and_then(|service| self.rule(&service.key)).cloned(),
            policy: service.and_then(|service| self.backend_policy(&service.key)).cloned(),
            to: served.to.clone(),
            port,
            subset: None,
        }
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
    pub(super) fn workload_at(&self, ip: IpAddr) -> Option<&Arc<Workload>> {
        self.mesh.workload_at(&self.place(ip))
    }

    /// The network that the waypoint is in.
    pub(super) fn network(&self) -> &Arc<str> {
        &self.terms.network
    }

    fn place(&self, ip: IpAddr) -> NetworkAddress {
        NetworkAddress {
            network: Arc::clone(self.network()),
            address: ip.to_canonical(),
        }
    }
}

impl Served {
    /// The routes of a port, if it has any.
    pub(super) fn routes(&self, port: u16) -> Option<&Routes> {
        let mut routes = self.routes.iter();
        routes.find(|(of, _)| *of == port).map(|(_, routes)| routes)
    }

    /// Whether all of it is the same as that of another, and not only alike.
    fn is(&self, other: &Self) -> bool {
        let is_same = match (self.to.service(), other.to.service()) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            _ => false,
        };
        is_same
            && Arc::ptr_eq(&self.guard, &other.guard)
            && self.routes.len() == other.routes.len()
            && self
                .routes
                .iter()
                .zip(&other.routes)
                .all(|(one, other)| one.0 == other.0 && one.1.is(&other.1))
            && self.problems == other.problems
    }
}

impl Routes {
    /// Whether these are the routes of it, in their order of precedence.
    fn are(&self, routes: &[Arc<Route>]) -> bool {
        matches!(self, Self::Table(table) if table.routes() == routes)
    }

    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Table(one), Self::Table(other)) => Arc::ptr_eq(one, other),
            (Self::Broken, Self::Broken) => true,
            _ => false,
        }
    }
}

/// Why a tunnel is not for this waypoint.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotServed {
    #[error("nobody is known there")]
    Unknown,
    #[error("who is there does not name this waypoint")]
    Elsewhere,
    #[error("the service has no such port")]
    Port,
}
