use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::blocks::Blocks;
use super::convert::{FieldFault, ResourceError};
use super::map::Map;
use super::members::{Endpoint, Endpoints, Members};
use super::model::{Identity, NetworkAddress, Policy, Protocol, Service, Workload};
use super::parts::{ByUid, Parts};
use super::policies::Policies;

/// Resources that may share an address or a hostname. Host-network workloads, which really do share
/// theirs, are not found by address.
const MAX_SHARING: usize = 1024;

/// A mesh at one moment.
///
/// Copies share everything. All lookups are by hash or trie, and answer with references into the
/// snapshot.
#[derive(Clone, Debug)]
pub struct Snapshot {
    workloads: Map<Arc<str>, Arc<Workload>>,
    groups: Map<Arc<str>, Group>,
    services: usize,
    /// By network. Of those there are so few that a search costs less than a hash.
    addresses: Arc<BTreeMap<Arc<str>, Map<IpAddr, Occupants>>>,
    blocks: Map<Arc<str>, Blocks<Shared<Arc<str>>>>,
    hostnames: Map<Arc<str>, Shared<Arc<str>>>,
    /// Workloads by their own hostname.
    workload_hostnames: Map<Arc<str>, Shared<Arc<Workload>>>,
    identities: Map<Arc<Identity>, Parts<Arc<Workload>>>,
    pub(super) policies: Policies,
}

/// What belongs to a service's key. Workloads may come before the service does.
#[derive(Clone, Debug)]
struct Group {
    service: Option<Arc<Service>>,
    endpoints: Members,
}

/// What was found at an address.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Resource<'a> {
    /// A workload.
    Workload(&'a Arc<Workload>),
    /// A service.
    Service(&'a Arc<Service>),
}

/// What has an address. Mostly it is one workload, or one service by its key.
#[derive(Clone, Debug)]
enum Occupants {
    Workload(Arc<Workload>),
    Service(Arc<str>),
    Others(Arc<Crowd>),
}

impl ByUid for Arc<Workload> {
    fn uid(&self) -> &str {
        &self.uid
    }

    /// Nobody chooses among them.
    fn is_like(&self, _: &Self) -> bool {
        false
    }
}

#[derive(Clone, Debug, Default)]
struct Crowd {
    /// The preferred one first.
    workloads: Vec<Arc<Workload>>,
    services: Vec<Arc<str>>,
}

/// A service with its workloads.
pub(crate) type Found<'a> = (&'a Arc<Service>, Endpoints<'a>);

/// A few things in a fixed order.
type Shared<T> = Arc<Vec<T>>;

impl Snapshot {
    pub(super) fn new() -> Self {
        Self {
            workloads: Map::new(),
            groups: Map::new(),
            services: 0,
            addresses: Arc::default(),
            blocks: Map::new(),
            hostnames: Map::new(),
            workload_hostnames: Map::new(),
            identities: Map::new(),
            policies: Policies::default(),
        }
    }

    /// The workload with a uid.
    #[must_use]
    pub fn workload(&self, uid: &str) -> Option<&Arc<Workload>> {
        self.workloads.get(uid)
    }

    /// The service with a key, `namespace/hostname`.
    #[must_use]
    pub fn service(&self, key: &str) -> Option<&Arc<Service>> {
        self.groups.get(key)?.service.as_ref()
    }

    /// The workload at an address. Of several it is one that runs as a Pod, then one that is reached
    /// by HBONE, then the one with the lowest uid. Workloads on the network of their node are not
    /// found: their address is that of many.
    #[must_use]
    pub fn workload_at(&self, address: &NetworkAddress) -> Option<&Arc<Workload>> {
        match self.occupants(address)? {
            Occupants::Workload(workload) => Some(workload),
            Occupants::Service(_) => None,
            Occupants::Others(crowd) => crowd.workloads.first(),
        }
    }

    /// The service at an address, as a client in `namespace` sees it.
    ///
    /// Of several that this client can see it is one of its own namespace, then a canonical one,
    /// then the one with the lowest key. Where no service has the address, one with a block around
    /// it does: one of the client's namespace, then that with the narrowest block, then a canonical
    /// one.
    #[must_use]
    pub fn service_at(&self, address: &NetworkAddress, namespace: Option<&str>) -> Option<&Arc<Service>> {
        self.group_at(address, namespace).map(|(service, _)| service)
    }

    /// As [`service_at`](Self::service_at), with its workloads.
    pub(crate) fn group_at(&self, address: &NetworkAddress, namespace: Option<&str>) -> Option<Found<'_>> {
        let exact = match self.occupants(address) {
            Some(Occupants::Service(key)) => self.visible(key, namespace),
            Some(Occupants::Others(crowd)) => self.choose(&crowd.services, namespace),
            Some(Occupants::Workload(_)) | None => None,
        };
        exact.or_else(|| self.group_around(address, namespace))
    }

    /// The service with a hostname, as a client in `namespace` sees it, chosen as by address.
    #[must_use]
    pub fn service_named(&self, hostname: &str, namespace: Option<&str>) -> Option<&Arc<Service>> {
        self.group_named(hostname, namespace).map(|(service, _)| service)
    }

    /// As [`service_named`](Self::service_named), with its workloads.
    pub(crate) fn group_named(&self, hostname: &str, namespace: Option<&str>) -> Option<Found<'_>> {
        self.choose(self.hostnames.get(hostname)?, namespace)
    }

    /// The workload with a hostname of its own.
    #[must_use]
    pub fn workload_named(&self, hostname: &str) -> Option<&Arc<Workload>> {
        self.workload_hostnames.get(hostname)?.first()
    }

    /// What is at an address: a workload, or else a service.
    #[must_use]
    pub fn at(&self, address: &NetworkAddress, namespace: Option<&str>) -> Option<Resource<'_>> {
        let workload = self.workload_at(address).map(Resource::Workload);
        workload.or_else(|| self.service_at(address, namespace).map(Resource::Service))
    }

    /// Whether a workload or a service has an address for itself: a block around it does not count.
    #[must_use]
    pub fn has_address(&self, address: &NetworkAddress) -> bool {
        self.occupants(address).is_some()
    }

    /// The workloads of the service with a key.
    #[must_use]
    pub fn endpoints(&self, service: &str) -> Endpoints<'_> {
        self.groups
            .get(service)
            .map_or_else(Endpoints::default, |group| Endpoints::new(&group.endpoints))
    }

    /// How many workloads are authenticated as an identity.
    #[must_use]
    pub fn workloads_of(&self, identity: &Identity) -> usize {
        self.identities.get(identity).map_or(0, Parts::len)
    }

    /// Visits the workloads that are authenticated as an identity, until told to stop.
    pub fn visit_identity<'a, B>(
        &'a self,
        identity: &Identity,
        mut visitor: impl FnMut(&'a Arc<Workload>) -> ControlFlow<B>,
    ) -> Option<B> {
        for workload in self.identities.get(identity)?.iter() {
            if let ControlFlow::Break(found) = visitor(workload) {
                return Some(found);
            }
        }
        None
    }

    /// Visits all workloads, in no order, until told to stop.
    pub fn visit_workloads<'a, B>(&'a self, mut visitor: impl FnMut(&'a Arc<Workload>) -> ControlFlow<B>) -> Option<B> {
        self.workloads.visit(|_, workload| visitor(workload))
    }

    /// Visits all services, in no order, until told to stop.
    pub fn visit_services<'a, B>(&'a self, mut visitor: impl FnMut(&'a Arc<Service>) -> ControlFlow<B>) -> Option<B> {
        self.groups.visit(|_, group| match &group.service {
            Some(service) => visitor(service),
            None => ControlFlow::Continue(()),
        })
    }

    /// The policy with a key, `namespace/name`.
    #[must_use]
    pub fn policy(&self, key: &str) -> Option<&Arc<Policy>> {
        self.policies.get(key)
    }

    /// The policies for a workload: the global ones, those of its namespace, and those that it
    /// names. A policy that may be for it and is not known is an error with its key, because it may
    /// be the one that was to protect the workload: one that it names and nobody has, or one that was
    /// refused and of which there is no earlier version.
    pub fn policies_of<'a>(
        &'a self,
        workload: &'a Workload,
    ) -> impl Iterator<Item = Result<&'a Arc<Policy>, &'a Arc<str>>> {
        self.policies.of(workload)
    }

    /// How many workloads there are.
    #[must_use]
    pub fn workload_count(&self) -> usize {
        self.workloads.len()
    }

    /// How many services there are.
    #[must_use]
    pub fn service_count(&self) -> usize {
        self.services
    }

    /// How many policies there are.
    #[must_use]
    pub fn policy_count(&self) -> usize {
        self.policies.len()
    }

    pub(super) fn insert_workload(&mut self, workload: Arc<Workload>) -> Result<(), ResourceError> {
        for (index, address) in found_at(&workload).enumerate() {
            if let Some(Occupants::Others(crowd)) = self.occupants(&address)
                && crowd.workloads.len() >= MAX_SHARING
            {
                let fault = FieldFault::Crowded(crowd.workloads.len());
                return Err(ResourceError::new(format!("addresses[{index}]"), fault));
            }
        }
        self.remove_workload(&workload.uid);
        for address in found_at(&workload) {
            self.occupy(&address, |crowd| {
                crowd.workloads.push(Arc::clone(&workload));
                crowd
                    .workloads
                    .sort_by(|one, other| precedence(one).cmp(&precedence(other)));
            });
        }
        for membership in workload.services.iter() {
            self.change_group(&membership.service, |group| {
                group
                    .endpoints
                    .insert(Endpoint::new(Arc::clone(&workload), Arc::clone(&membership.ports)));
            });
        }
        if let Some(hostname) = &workload.hostname {
            let mut named = self.workload_hostnames.remove(&**hostname).unwrap_or_default();
            let place = named.partition_point(|other| other.uid < workload.uid);
            Arc::make_mut(&mut named).insert(place, Arc::clone(&workload));
            self.workload_hostnames.insert((**hostname).into(), named);
        }
        let mut same = self.identities.remove(&workload.identity).unwrap_or_default();
        same.insert(Arc::clone(&workload));
        self.identities.insert(Arc::clone(&workload.identity), same);
        self.workloads.insert(Arc::clone(&workload.uid), workload);
        Ok(())
    }

    pub(super) fn remove_workload(&mut self, uid: &str) {
        let Some(workload) = self.workloads.remove(uid) else {
            return;
        };
        for address in found_at(&workload) {
            self.occupy(&address, |crowd| crowd.workloads.retain(|other| *other.uid != *uid));
        }
        for membership in workload.services.iter() {
            self.change_group(&membership.service, |group| group.endpoints.remove(uid));
        }
        if let Some(hostname) = &workload.hostname
            && let Some(mut named) = self.workload_hostnames.remove(&**hostname)
        {
            Arc::make_mut(&mut named).retain(|other| *other.uid != *uid);
            if !named.is_empty() {
                self.workload_hostnames.insert((**hostname).into(), named);
            }
        }
        if let Some(mut same) = self.identities.remove(&workload.identity) {
            same.remove(uid);
            if !same.is_empty() {
                self.identities.insert(Arc::clone(&workload.identity), same);
            }
        }
    }

    pub(super) fn insert_service(&mut self, service: &Arc<Service>) -> Result<(), ResourceError> {
        let named = self.hostnames.get(&service.hostname).map_or(0, |named| named.len());
        if named >= MAX_SHARING {
            return Err(ResourceError::new("hostname", FieldFault::Crowded(named)));
        }
        self.remove_service(&service.key);
        for address in &service.addresses {
            self.occupy(address, |crowd| add(&mut crowd.services, &service.key));
        }
        for (block, length) in &service.blocks {
            let mut blocks = self.blocks.remove(&block.network).unwrap_or_else(Blocks::new);
            blocks.change(block.address, *length, |services| {
                let mut services = services.unwrap_or_default();
                add(Arc::make_mut(&mut services), &service.key);
                Some(services)
            });
            self.blocks.insert(Arc::clone(&block.network), blocks);
        }
        let mut named = self.hostnames.remove(&service.hostname).unwrap_or_default();
        add(Arc::make_mut(&mut named), &service.key);
        self.hostnames.insert(Arc::clone(&service.hostname), named);
        self.services += 1;
        self.change_group(&service.key, |group| group.service = Some(Arc::clone(service)));
        Ok(())
    }

    pub(super) fn remove_service(&mut self, key: &str) {
        let Some(service) = self.service(key).cloned() else {
            return;
        };
        for address in &service.addresses {
            self.occupy(address, |crowd| take(&mut crowd.services, key));
        }
        for (block, length) in &service.blocks {
            let Some(mut blocks) = self.blocks.remove(&block.network) else {
                continue;
            };
            blocks.change(block.address, *length, |services| {
                let mut services = services?;
                take(Arc::make_mut(&mut services), key);
                (!services.is_empty()).then_some(services)
            });
            if !blocks.is_empty() {
                self.blocks.insert(Arc::clone(&block.network), blocks);
            }
        }
        if let Some(mut named) = self.hostnames.remove(&service.hostname) {
            take(Arc::make_mut(&mut named), key);
            if !named.is_empty() {
                self.hostnames.insert(Arc::clone(&service.hostname), named);
            }
        }
        self.services -= 1;
        self.change_group(&service.key, |group| group.service = None);
    }

    fn occupants(&self, address: &NetworkAddress) -> Option<&Occupants> {
        self.addresses.get(&address.network)?.get(&address.address)
    }

    fn group_around(&self, address: &NetworkAddress, namespace: Option<&str>) -> Option<Found<'_>> {
        let mut best = None;
        self.blocks
            .get(&address.network)?
            .visit(address.address, |length, services| {
                for found in services.iter().filter_map(|key| self.visible(key, namespace)) {
                    let rank = (is_own(namespace, found.0), length, found.0.is_canonical);
                    if best.is_none_or(|(known, _)| rank > known) {
                        best = Some((rank, found));
                    }
                }
            });
        best.map(|(_, found)| found)
    }

    /// The service that a client in `namespace` means, of those with these keys.
    fn choose(&self, keys: &[Arc<str>], namespace: Option<&str>) -> Option<Found<'_>> {
        let mut best = None;
        for found in keys.iter().filter_map(|key| self.visible(key, namespace)) {
            let rank = (is_own(namespace, found.0), found.0.is_canonical);
            if best.is_none_or(|(known, _)| rank > known) {
                best = Some((rank, found));
            }
        }
        best.map(|(_, found)| found)
    }

    fn visible(&self, key: &str, namespace: Option<&str>) -> Option<Found<'_>> {
        let group = self.groups.get(key)?;
        let service = group.service.as_ref()?;
        let is_visible = !service.is_private || is_own(namespace, service);
        is_visible.then_some((service, Endpoints::new(&group.endpoints)))
    }

    fn occupy(&mut self, address: &NetworkAddress, change: impl FnOnce(&mut Crowd)) {
        let networks = Arc::make_mut(&mut self.addresses);
        let network = networks.entry(Arc::clone(&address.network)).or_insert_with(Map::new);
        let mut crowd = match network.remove(&address.address) {
            None => Crowd::default(),
            Some(Occupants::Workload(workload)) => Crowd {
                workloads: vec![workload],
                ..Crowd::default()
            },
            Some(Occupants::Service(key)) => Crowd {
                services: vec![key],
                ..Crowd::default()
            },
            Some(Occupants::Others(crowd)) => Arc::unwrap_or_clone(crowd),
        };
        change(&mut crowd);
        match (&*crowd.workloads, &*crowd.services) {
            ([], []) => {}
            ([workload], []) => {
                network.insert(address.address, Occupants::Workload(Arc::clone(workload)));
            }
            ([], [key]) => {
                network.insert(address.address, Occupants::Service(Arc::clone(key)));
            }
            _ => {
                network.insert(address.address, Occupants::Others(Arc::new(crowd)));
            }
        }
        if network.len() == 0 {
            networks.remove(&address.network);
        }
    }

    fn change_group(&mut self, key: &Arc<str>, change: impl FnOnce(&mut Group)) {
        let mut group = self.groups.remove(&**key).unwrap_or_else(|| Group {
            service: None,
            endpoints: Members::default(),
        });
        change(&mut group);
        if group.service.is_some() || !group.endpoints.is_empty() {
            self.groups.insert(Arc::clone(key), group);
        }
    }
}

/// The addresses that a workload is found at.
fn found_at(workload: &Workload) -> impl Iterator<Item = NetworkAddress> {
    let addresses: &[IpAddr] = if workload.is_host_network {
        &[]
    } else {
        &workload.addresses
    };
    addresses.iter().map(|address| NetworkAddress {
        network: Arc::clone(&workload.network),
        address: *address,
    })
}

/// The order in which workloads are meant by an address that they share.
fn precedence(workload: &Workload) -> (bool, bool, &str) {
    let is_pod = workload.uid.contains("//Pod/");
    (!is_pod, workload.protocol != Protocol::Hbone, &workload.uid)
}

fn is_own(namespace: Option<&str>, service: &Service) -> bool {
    namespace == Some(&*service.namespace)
}

fn add(keys: &mut Vec<Arc<str>>, key: &Arc<str>) {
    if let Err(place) = keys.binary_search(key) {
        keys.insert(place, Arc::clone(key));
    }
}

fn take(keys: &mut Vec<Arc<str>>, key: &str) {
    keys.retain(|other| **other != *key);
}
