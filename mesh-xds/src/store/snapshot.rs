use std::net::IpAddr;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::blocks::Blocks;
use super::convert::{FieldFault, ResourceError};
use super::groups::{Groups, found_at};
use super::map::Map;
use super::members::{Endpoints, Found, Group};
use super::model::{Identity, NetworkAddress, Policy, Service, Workload};
use super::occupants::Occupants;
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
    groups: Groups,
    blocks: Map<Arc<str>, Blocks<Shared<Arc<str>>>>,
    hostnames: Map<Arc<str>, Shared<Arc<str>>>,
    /// Workloads by their own hostname.
    workload_hostnames: Map<Arc<str>, Shared<Arc<Workload>>>,
    identities: Map<Arc<Identity>, Parts<Arc<Workload>>>,
    pub(super) policies: Policies,
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

impl ByUid for Arc<Workload> {
    fn uid(&self) -> &str {
        &self.uid
    }

    /// Nobody chooses among them.
    fn is_like(&self, _: &Self) -> bool {
        false
    }
}

/// A few things in a fixed order.
type Shared<T> = Arc<Vec<T>>;

impl Snapshot {
    pub(super) fn new() -> Self {
        Self {
            workloads: Map::new(),
            groups: Groups::new(),
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
        self.workload_in(&address.network, address.address)
    }

    /// The service at an address, as a client in `namespace` sees it.
    ///
    /// Of several that this client can see it is one of its own namespace, then a canonical one,
    /// then the one with the lowest key. Where no service has the address, one with a block around
    /// it does: one of the client's namespace, then that with the narrowest block, then a canonical
    /// one.
    #[must_use]
    pub fn service_at(&self, address: &NetworkAddress, namespace: Option<&str>) -> Option<&Arc<Service>> {
        let found = self.group_at(&address.network, address.address, namespace);
        found.map(|(service, _)| service)
    }

    /// As [`workload_at`](Self::workload_at), without a network's name to be counted.
    pub(crate) fn workload_in(&self, network: &str, address: IpAddr) -> Option<&Arc<Workload>> {
        self.groups.at(network, address)?.workloads().first()
    }

    /// As [`service_at`](Self::service_at), with its workloads.
    pub(crate) fn group_at(&self, network: &str, address: IpAddr, namespace: Option<&str>) -> Option<Found<'_>> {
        let groups = self.groups.at(network, address).map_or(&[][..], Occupants::groups);
        let exact = choose(groups.iter().map(|group| &**group), namespace);
        exact.or_else(|| self.group_around(network, address, namespace))
    }

    /// The service with a hostname, as a client in `namespace` sees it, chosen as by address.
    #[must_use]
    pub fn service_named(&self, hostname: &str, namespace: Option<&str>) -> Option<&Arc<Service>> {
        self.group_named(hostname, namespace).map(|(service, _)| service)
    }

    /// As [`service_named`](Self::service_named), with its workloads.
    pub(crate) fn group_named(&self, hostname: &str, namespace: Option<&str>) -> Option<Found<'_>> {
        let keys = self.hostnames.get(hostname)?;
        choose(keys.iter().filter_map(|key| self.groups.get(key)), namespace)
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
        self.groups.at(&address.network, address.address).is_some()
    }

    /// The workloads of the service with a key.
    #[must_use]
    pub fn endpoints(&self, service: &str) -> Endpoints<'_> {
        self.groups
            .get(service)
            .map_or_else(Endpoints::default, Group::endpoints)
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
        self.groups.visit(|group| match &group.service {
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
        self.groups.services()
    }

    /// How many policies there are.
    #[must_use]
    pub fn policy_count(&self) -> usize {
        self.policies.len()
    }

    pub(super) fn insert_workload(&mut self, workload: Arc<Workload>) -> Result<(), ResourceError> {
        for (index, address) in found_at(&workload).iter().enumerate() {
            let occupants = self.groups.at(&workload.network, *address);
            let sharing = occupants.into_iter().flat_map(Occupants::workloads);
            let others = sharing.filter(|other| other.uid != workload.uid);
            check_sharing(others, || format!("addresses[{index}]"))?;
        }
        self.remove_workload(&workload.uid);
        self.groups.insert_workload(&workload);
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
        self.groups.remove_workload(&workload);
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
        let named = self.hostnames.get(&service.hostname).into_iter();
        let others = named.flat_map(|named| &**named).filter(|key| **key != service.key);
        check_sharing(others, || "hostname".to_owned())?;
        for (index, place) in service.addresses.iter().enumerate() {
            let occupants = self.groups.at(&place.network, place.address);
            let sharing = occupants.into_iter().flat_map(Occupants::groups);
            let others = sharing.filter(|group| group.key() != Some(&service.key));
            check_sharing(others, || format!("addresses[{index}]"))?;
        }
        self.remove_service(&service.key);
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
        self.groups.insert_service(service);
        Ok(())
    }

    pub(super) fn remove_service(&mut self, key: &str) {
        let Some(service) = self.service(key).cloned() else {
            return;
        };
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
        self.groups.remove_service(&service);
    }

    fn group_around(&self, network: &str, address: IpAddr, namespace: Option<&str>) -> Option<Found<'_>> {
        let mut best = None;
        self.blocks.get(network)?.visit(address, |length, keys| {
            let groups = keys.iter().filter_map(|key| self.groups.get(key));
            for found in groups.filter_map(|group| group.visible(namespace)) {
                let rank = (found.0.is_own(namespace), length, found.0.is_canonical);
                if best.is_none_or(|(known, _)| rank > known) {
                    best = Some((rank, found));
                }
            }
        });
        best.map(|(_, found)| found)
    }
}

/// The service that a client in `namespace` means, of those of these groups.
fn choose<'a>(groups: impl Iterator<Item = &'a Group>, namespace: Option<&str>) -> Option<Found<'a>> {
    let rank = |(service, _): &Found<'_>| (service.is_own(namespace), service.is_canonical);
    // One by itself, which most are, is not ranked.
    let mut visible = groups.filter_map(|group| group.visible(namespace));
    let first = visible.next()?;
    Some(visible.fold(
        first,
        |best, found| if rank(&found) > rank(&best) { found } else { best },
    ))
}

/// `others` are those beside the one that comes, which may be there in an earlier version.
fn check_sharing(others: impl Iterator, field: impl FnOnce() -> String) -> Result<(), ResourceError> {
    let others = others.count();
    if others < MAX_SHARING {
        return Ok(());
    }
    Err(ResourceError::new(field(), FieldFault::Crowded(others)))
}

fn add(keys: &mut Vec<Arc<str>>, key: &Arc<str>) {
    if let Err(place) = keys.binary_search(key) {
        keys.insert(place, Arc::clone(key));
    }
}

fn take(keys: &mut Vec<Arc<str>>, key: &str) {
    keys.retain(|other| **other != *key);
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use mesh_testkit::xds::{in_service, network_address, service, workload};
    use proptest::prelude::*;

    use super::super::convert::{self, Interner};
    use super::*;

    const NETWORKS: [&str; 2] = ["", "other"];
    const ADDRESSES: u8 = 4;

    #[derive(Clone, Debug)]
    enum Step {
        /// A workload with an address, as part of services.
        Workload(u8, u8, BTreeSet<u8>),
        /// A service with addresses, perhaps the same twice, each in one of the networks.
        Service(u8, Vec<(usize, u8)>),
        RemoveWorkload(u8),
        RemoveService(u8),
        /// Somebody looks from now on.
        Keep,
    }

    /// What was told: services of workloads, and addresses of services.
    #[derive(Clone, Debug, Default)]
    struct Told {
        workloads: BTreeMap<u8, BTreeSet<u8>>,
        services: BTreeMap<u8, BTreeSet<(usize, u8)>>,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let place = (0..NETWORKS.len(), 0..ADDRESSES);
        let services = prop::collection::btree_set(0..4_u8, 0..3);
        let step = prop_oneof![
            3 => (0..6_u8, 0..ADDRESSES, services).prop_map(|(uid, address, of)| Step::Workload(uid, address, of)),
            3 => (0..4_u8, prop::collection::vec(place, 0..4)).prop_map(|(key, places)| Step::Service(key, places)),
            1 => (0..6_u8).prop_map(Step::RemoveWorkload),
            1 => (0..4_u8).prop_map(Step::RemoveService),
            1 => Just(Step::Keep),
        ];
        prop::collection::vec(step, 0..60)
    }

    fn take_step(snapshot: &mut Snapshot, told: &mut Told, texts: &mut Interner, step: Step) {
        match step {
            Step::Workload(uid, address, of) => {
                let alone = workload(&format!("w{uid}"), &format!("10.0.0.{address}"));
                let wire = of.iter().fold(alone, |wire, key| in_service(wire, &format!("s{key}")));
                let workload = convert::workload(&wire, texts).unwrap();
                snapshot.insert_workload(Arc::new(workload)).unwrap();
                told.workloads.insert(uid, of);
            }
            Step::Service(key, places) => {
                let mut wire = service(&format!("s{key}"), None);
                let address = |(network, address): &(usize, u8)| {
                    network_address(NETWORKS[*network], &format!("10.0.0.{address}"))
                };
                wire.addresses = places.iter().map(address).collect();
                let service = convert::service(&wire, texts).unwrap();
                snapshot.insert_service(&Arc::new(service)).unwrap();
                told.services.insert(key, places.into_iter().collect());
            }
            Step::RemoveWorkload(uid) => {
                snapshot.remove_workload(&format!("w{uid}"));
                told.workloads.remove(&uid);
            }
            Step::RemoveService(key) => {
                snapshot.remove_service(&format!("default/s{key}"));
                told.services.remove(&key);
            }
            Step::Keep => {}
        }
    }

    fn check(snapshot: &Snapshot, told: &Told) -> Result<(), TestCaseError> {
        for key in 0..4 {
            let mut uids = Vec::new();
            snapshot.endpoints(&format!("default/s{key}")).visit(|endpoint| {
                uids.push(endpoint.workload().uid.to_string());
                ControlFlow::<()>::Continue(())
            });
            let members = told.workloads.iter().filter(|(_, of)| of.contains(&key));
            let expected: Vec<_> = members.map(|(uid, _)| format!("w{uid}")).collect();
            prop_assert_eq!(uids, expected);
        }
        for (index, network) in NETWORKS.iter().enumerate() {
            for address in 0..ADDRESSES {
                let occupants = snapshot.groups.at(network, [10, 0, 0, address].into());
                let groups = occupants.map_or(&[][..], Occupants::groups);
                let there = told
                    .services
                    .iter()
                    .filter(|(_, places)| places.contains(&(index, address)));
                let keys: Vec<_> = there.map(|(key, _)| format!("default/s{key}")).collect();
                prop_assert_eq!(groups.len(), keys.len());
                for (group, key) in groups.iter().zip(keys) {
                    let by_key = snapshot.groups.get(&key).unwrap();
                    prop_assert!(
                        std::ptr::eq(&**group, by_key),
                        "{key} at 10.0.0.{address} in `{network}`"
                    );
                }
            }
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn an_address_leads_to_the_group_that_the_key_leads_to(steps in steps()) {
            let (mut snapshot, mut told, mut texts) = (Snapshot::new(), Told::default(), Interner::default());
            let mut kept = Vec::new();
            for step in steps {
                if let Step::Keep = step {
                    kept.push((snapshot.clone(), told.clone()));
                }
                take_step(&mut snapshot, &mut told, &mut texts, step);
                check(&snapshot, &told)?;
            }
            for (snapshot, told) in kept {
                check(&snapshot, &told)?;
            }
        }
    }
}
