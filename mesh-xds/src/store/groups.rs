use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::map::Map;
use super::members::{Endpoint, Group};
use super::model::{NetworkAddress, Service, Workload};
use super::occupants::{Crowd, Occupants};

/// Services with their workloads, by key and by address, and workloads by address.
///
/// An address leads straight to the group of a service, because that is the way of nearly every
/// connection and each step on it may be one into memory. So this always holds: at the addresses of
/// a known service, and nowhere else, is the very group that its key leads to.
#[derive(Clone, Debug)]
pub(super) struct Groups {
    by_key: Map<Arc<str>, Arc<Group>>,
    /// By network. Of those there are so few that a search costs less than a hash.
    by_address: Arc<BTreeMap<Arc<str>, Map<IpAddr, Occupants>>>,
    services: usize,
}

impl Groups {
    pub(super) fn new() -> Self {
        Self {
            by_key: Map::new(),
            by_address: Arc::default(),
            services: 0,
        }
    }

    pub(super) fn insert_workload(&mut self, workload: &Arc<Workload>) {
        for address in found_at(workload) {
            self.occupy(&workload.network, *address, |crowd| crowd.add_workload(workload));
        }
        for membership in workload.services.iter() {
            let endpoint = Endpoint::new(Arc::clone(workload), Arc::clone(&membership.ports));
            self.change(&membership.service, |group| group.members.insert(endpoint));
        }
    }

    pub(super) fn remove_workload(&mut self, workload: &Workload) {
        for address in found_at(workload) {
            self.occupy(&workload.network, *address, |crowd| {
                crowd.remove_workload(&workload.uid);
            });
        }
        for membership in workload.services.iter() {
            self.change(&membership.service, |group| group.members.remove(&workload.uid));
        }
    }

    /// Adds the service of a key that has none.
    pub(super) fn insert_service(&mut self, service: &Arc<Service>) {
        self.services += 1;
        self.change(&service.key, |group| group.service = Some(Arc::clone(service)));
    }

    pub(super) fn remove_service(&mut self, service: &Service) {
        self.services -= 1;
        self.change(&service.key, |group| group.service = None);
    }

    pub(super) fn get(&self, key: &str) -> Option<&Group> {
        self.by_key.get(key).map(|group| &**group)
    }

    pub(super) fn at(&self, network: &str, address: IpAddr) -> Option<&Occupants> {
        self.by_address.get(network)?.get(&address)
    }

    /// How many services are known.
    pub(super) fn services(&self) -> usize {
        self.services
    }

    /// Visits all groups, in no order, until told to stop.
    pub(super) fn visit<'a, B>(&'a self, mut visitor: impl FnMut(&'a Group) -> ControlFlow<B>) -> Option<B> {
        self.by_key.visit(|_, group| visitor(group))
    }

    /// Changes the group of a key, wherever it is found.
    fn change(&mut self, key: &Arc<str>, change: impl FnOnce(&mut Group)) {
        // Nobody but snapshots holds it while it is changed, so that without them it stays in place.
        let mut group = self.by_key.remove(&**key).unwrap_or_default();
        for NetworkAddress { network, address } in group.addresses() {
            self.occupy(network, *address, |crowd| crowd.remove_group(&group));
        }
        change(Arc::make_mut(&mut group));
        for NetworkAddress { network, address } in group.addresses() {
            self.occupy(network, *address, |crowd| crowd.add_group(&group));
        }
        if !group.is_empty() {
            self.by_key.insert(Arc::clone(key), group);
        }
    }

    fn occupy(&mut self, network: &Arc<str>, address: IpAddr, change: impl FnOnce(&mut Crowd)) {
        let networks = Arc::make_mut(&mut self.by_address);
        let places = networks.entry(Arc::clone(network)).or_insert_with(Map::new);
        let mut crowd = Crowd::of(places.remove(&address));
        change(&mut crowd);
        if let Some(occupants) = crowd.into_occupants() {
            places.insert(address, occupants);
        }
        if places.len() == 0 {
            networks.remove(network);
        }
    }
}

/// The addresses that a workload is found at. That of a node is shared by all on it, and tells of none.
pub(super) fn found_at(workload: &Workload) -> &[IpAddr] {
    if workload.is_host_network {
        &[]
    } else {
        &workload.addresses
    }
}
