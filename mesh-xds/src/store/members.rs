use std::ops::ControlFlow;
use std::sync::Arc;

use super::model::{Addresses, Identity, NetworkAddress, PortMapping, Protocol, Service, Workload};
use super::parts::{ByUid, Parts};

/// A workload as part of a service.
///
/// What balancing asks of every workload lies in here, and what a connection needs of the one that it
/// chooses: a workload is a place in memory of its own, which is far away in a large mesh.
#[derive(Clone, Debug)]
pub struct Endpoint {
    workload: Arc<Workload>,
    ports: Arc<[PortMapping]>,
    network: Arc<str>,
    pub(crate) identity: Arc<Identity>,
    pub(crate) addresses: Addresses,
    pub(crate) protocol: Protocol,
    capacity: u32,
    pub(crate) is_healthy: bool,
    pub(crate) has_v4: bool,
    pub(crate) has_v6: bool,
    pub(crate) has_hostname: bool,
    pub(crate) has_network_gateway: bool,
    pub(crate) has_application_tunnel: bool,
}

/// The workloads of a service.
#[derive(Clone, Copy, Debug, Default)]
pub struct Endpoints<'a>(Option<&'a Members>);

pub(super) type Members = Parts<Endpoint>;

/// What belongs to a service's key. Workloads may come before the service does.
#[derive(Clone, Debug, Default)]
pub(super) struct Group {
    pub(super) service: Option<Arc<Service>>,
    pub(super) members: Members,
}

/// A service with its workloads.
pub(crate) type Found<'a> = (&'a Arc<Service>, Endpoints<'a>);

impl ByUid for Endpoint {
    fn uid(&self) -> &str {
        &self.workload.uid
    }

    /// Alike are those of which balancing without preferences knows no better one.
    fn is_like(&self, other: &Self) -> bool {
        self.ports == other.ports && self.is_in(&other.network) && self.traits() == other.traits()
    }
}

impl Endpoint {
    pub(super) fn new(workload: Arc<Workload>, ports: Arc<[PortMapping]>) -> Self {
        Self {
            network: Arc::clone(&workload.network),
            identity: Arc::clone(&workload.identity),
            addresses: workload.addresses.clone(),
            protocol: workload.protocol,
            capacity: workload.capacity,
            is_healthy: workload.is_healthy,
            has_v4: workload.addresses.iter().any(|address| address.is_ipv4()),
            has_v6: workload.addresses.iter().any(|address| address.is_ipv6()),
            has_hostname: workload.hostname.is_some(),
            has_network_gateway: workload.network_gateway.is_some(),
            has_application_tunnel: workload.application_tunnel.is_some(),
            workload,
            ports,
        }
    }

    /// The workload.
    #[must_use]
    pub fn workload(&self) -> &Arc<Workload> {
        &self.workload
    }

    /// The workload's port for one of the service's: its own, or else that of the service. `None` if
    /// the service has no such port, or says that the workload has to name its own and it does not.
    #[must_use]
    pub fn target_port(&self, service: &Service, port: u16) -> Option<u16> {
        let find = |ports: &[PortMapping]| {
            let mapping = ports.iter().find(|mapping| mapping.service == port);
            mapping.and_then(|mapping| mapping.target)
        };
        find(&self.ports).or_else(|| find(&service.ports))
    }

    /// The workload's share of the traffic.
    #[must_use]
    pub fn capacity(&self) -> u32 {
        self.capacity
    }

    fn traits(&self) -> (u32, [bool; 6]) {
        let traits = [
            self.is_healthy,
            self.has_v4,
            self.has_v6,
            self.has_hostname,
            self.has_network_gateway,
            self.has_application_tunnel,
        ];
        (self.capacity, traits)
    }

    pub(crate) fn is_in(&self, network: &Arc<str>) -> bool {
        // Networks are few and their names kept once.
        Arc::ptr_eq(&self.network, network) || self.network == *network
    }
}

impl Group {
    /// The service as a client in `namespace` sees it.
    pub(super) fn visible(&self, namespace: Option<&str>) -> Option<Found<'_>> {
        let service = self.service.as_ref()?;
        let is_visible = !service.is_private || service.is_own(namespace);
        is_visible.then_some((service, self.endpoints()))
    }

    pub(super) fn endpoints(&self) -> Endpoints<'_> {
        Endpoints(Some(&self.members))
    }

    /// The key of the service, if that is known.
    pub(super) fn key(&self) -> Option<&Arc<str>> {
        self.service.as_ref().map(|service| &service.key)
    }

    /// The addresses of the service, if that is known.
    pub(super) fn addresses(&self) -> &[NetworkAddress] {
        self.service.as_ref().map_or(&[], |service| &service.addresses)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.service.is_none() && self.members.is_empty()
    }
}

impl<'a> Endpoints<'a> {
    /// Visits the workloads in the order of their uids, until told to stop.
    pub fn visit<B>(self, mut visitor: impl FnMut(&'a Endpoint) -> ControlFlow<B>) -> Option<B> {
        for endpoint in self.0?.iter() {
            if let ControlFlow::Break(found) = visitor(endpoint) {
                return Some(found);
            }
        }
        None
    }

    /// The workloads by stretches, and whether those in one are all alike.
    pub(crate) fn stretches(self) -> impl Iterator<Item = (&'a [Endpoint], bool)> {
        self.0.into_iter().flat_map(Members::stretches)
    }

    /// How many there are.
    #[must_use]
    pub fn len(self) -> usize {
        self.0.map_or(0, Members::len)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0.is_none_or(Members::is_empty)
    }

    /// The part of the workload with a uid.
    #[must_use]
    pub fn get(self, uid: &str) -> Option<&'a Endpoint> {
        self.0?.get(uid)
    }
}
