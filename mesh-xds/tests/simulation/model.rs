//! What a node was told, kept as simply as can be.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use mesh_xds::delta::Push;
use mesh_xds::store::{Identity, NetworkAddress, Snapshot, Store};
use mesh_xds_types::AUTHORIZATION_TYPE_URL;
use mesh_xds_types::security::{Authorization, Scope};
use mesh_xds_types::workload::{Address, Workload, address};
use prost::Message;

use crate::truth::{NAMESPACES, Truth, addresses};

/// By the name that something was sent under, what it is; and by what it is, its latest content.
#[derive(Default)]
pub struct Model {
    pub addresses: BTreeMap<String, String>,
    pub bodies: BTreeMap<String, Vec<u8>>,
    pub policies: BTreeMap<String, Authorization>,
    /// Policies that never could be used, which may be for anybody: whether they are from an earlier
    /// stream.
    pub missed: BTreeMap<String, bool>,
}

impl Model {
    /// Takes a response, and tells which resources have to be refused.
    pub fn apply(&mut self, push: &Push) -> BTreeSet<String> {
        let mut bad = BTreeSet::new();
        for resource in push.resources() {
            let (name, body) = (&resource.name, &resource.resource.as_ref().unwrap().value);
            let is_taken = match push.type_url() {
                AUTHORIZATION_TYPE_URL => self.put_policy(name, body),
                _ => self.put_address(name, body),
            };
            if !is_taken {
                bad.insert(name.clone());
            }
        }
        for name in push.removed() {
            match push.type_url() {
                AUTHORIZATION_TYPE_URL => {
                    self.policies.remove(name);
                    self.missed.remove(name);
                }
                _ => self.remove_address(name),
            }
        }
        if push.type_url() == AUTHORIZATION_TYPE_URL && !push.is_part() {
            self.missed.retain(|_, is_earlier| !*is_earlier);
        }
        bad
    }

    /// The stream ended.
    pub fn disconnected(&mut self) {
        self.missed.values_mut().for_each(|is_earlier| *is_earlier = true);
    }

    pub fn remove_address(&mut self, name: &str) {
        self.addresses.remove(name);
        let named: BTreeSet<_> = self.addresses.values().cloned().collect();
        self.bodies.retain(|key, _| named.contains(key));
    }

    pub fn workloads(&self) -> impl Iterator<Item = Workload> {
        self.bodies.values().filter_map(|body| match decode(body) {
            address::Type::Workload(workload) => Some(workload),
            address::Type::Service(_) => None,
        })
    }

    /// Whether a workload with an identity is there, perhaps only on a node.
    pub fn has_identity(&self, identity: &Identity, node: Option<&str>) -> bool {
        self.workloads().any(|workload| {
            workload.namespace == *identity.namespace
                && workload.service_account == *identity.service_account
                && node.is_none_or(|node| workload.node == node)
        })
    }

    /// Whether anything has an address.
    pub fn has_address(&self, address: &[u8]) -> bool {
        self.bodies.values().any(|body| match decode(body) {
            address::Type::Workload(workload) => workload.addresses.iter().any(|own| own == address),
            address::Type::Service(service) => service.addresses.iter().any(|own| own.address == address),
        })
    }

    /// A snapshot has just what it should have.
    pub fn check(&self, snapshot: &Snapshot) {
        let mut store = Store::new();
        for body in self.bodies.values() {
            match decode(body) {
                address::Type::Workload(workload) => store.insert_workload(&workload).unwrap(),
                address::Type::Service(service) => store.insert_service(&service).unwrap(),
            }
        }
        for policy in self.policies.values() {
            store.insert_policy(policy.clone()).unwrap();
        }
        assert_eq!(view(snapshot), view(&store.snapshot()));
        snapshot.visit_workloads(|workload| {
            let same = self.workloads().filter(|other| {
                other.namespace == *workload.identity.namespace
                    && other.service_account == *workload.identity.service_account
            });
            assert_eq!(snapshot.workloads_of(&workload.identity), same.count());
            ControlFlow::<()>::Continue(())
        });
    }

    /// No policy is lost: a workload has all of its own that were there before it and still are, or
    /// that went after it, and is told of those that are missing. What was released may have come
    /// once more, and stays without the server's knowledge.
    pub fn check_policies(&self, snapshot: &Snapshot, truth: &Truth, released: &BTreeSet<String>) {
        let current = self.addresses.iter().filter(|(name, _)| !released.contains(*name));
        let current: BTreeSet<&str> = current.map(|(_, key)| key.as_str()).collect();
        snapshot.visit_workloads(|workload| {
            if !current.contains(&*workload.uid) {
                return ControlFlow::<()>::Continue(());
            }
            let published: u64 = workload.workload_name.parse().unwrap();
            let is_alive = truth.workloads.contains_key(&*workload.uid);
            let died = truth.dead_workloads.get(&*workload.uid).copied();
            let gone = truth
                .dead_policies
                .iter()
                .filter(|(_, gone)| !is_alive && died.is_some_and(|died| died <= *gone));
            for policy in truth.policies.values().chain(gone.map(|(policy, _)| policy)) {
                let key = format!("{}/{}", policy.wire.namespace, policy.wire.name);
                let concerns = match Scope::try_from(policy.wire.scope) {
                    Ok(Scope::Global) => true,
                    Ok(Scope::Namespace) => policy.wire.namespace == *workload.identity.namespace,
                    _ => workload.policies.iter().any(|own| **own == *key),
                };
                if concerns && policy.since <= published {
                    assert!(
                        self.policies.contains_key(&key),
                        "`{}` of {published}, gone at {died:?}, is known without `{key}` of {}",
                        workload.uid,
                        policy.since
                    );
                }
            }
            let told: BTreeSet<_> = snapshot
                .policies_of(workload)
                .map(|policy| policy.map_or_else(|missing| format!("no {missing}"), |policy| policy.key.to_string()))
                .collect();
            assert_eq!(told, self.policies_of(workload), "{}", workload.uid);
            ControlFlow::<()>::Continue(())
        });
    }

    fn policies_of(&self, workload: &mesh_xds::store::Workload) -> BTreeSet<String> {
        let general = self.policies.iter().filter(|(_, policy)| match policy.scope() {
            Scope::Global => true,
            Scope::Namespace => policy.namespace == *workload.identity.namespace,
            Scope::WorkloadSelector => false,
        });
        let selected = workload.policies.iter().map(|key| {
            let is_known = self.policies.contains_key(&**key);
            if is_known { key.to_string() } else { format!("no {key}") }
        });
        let missed = self.missed.keys().map(|key| format!("no {key}"));
        general
            .map(|(key, _)| key.clone())
            .chain(selected)
            .chain(missed)
            .collect()
    }

    fn put_policy(&mut self, name: &str, body: &[u8]) -> bool {
        let policy = Authorization::decode(body).unwrap();
        let is_good = Scope::try_from(policy.scope).is_ok();
        if is_good {
            self.policies.insert(name.to_owned(), policy);
            self.missed.remove(name);
        } else if !self.policies.contains_key(name) {
            self.missed.insert(name.to_owned(), false);
        }
        is_good
    }

    fn put_address(&mut self, name: &str, body: &[u8]) -> bool {
        let key = match decode(body) {
            address::Type::Workload(workload) if workload.addresses.iter().any(|bytes| bytes.len() == 3) => {
                return false;
            }
            address::Type::Workload(workload) => workload.uid,
            address::Type::Service(service) => format!("{}/{}", service.namespace, service.hostname),
        };
        self.remove_address_unless(name, &key);
        self.addresses.insert(name.to_owned(), key.clone());
        self.bodies.insert(key, body.to_owned());
        true
    }

    /// A name that meant something else does not any more.
    fn remove_address_unless(&mut self, name: &str, key: &str) {
        if self.addresses.get(name).is_some_and(|known| known != key) {
            self.remove_address(name);
        }
    }
}

pub fn decode(body: &[u8]) -> address::Type {
    Address::decode(body).unwrap().r#type.unwrap()
}

/// All that a snapshot says.
fn view(snapshot: &Snapshot) -> BTreeMap<String, String> {
    let mut view = BTreeMap::new();
    let mut say = |about: String, what: &dyn std::fmt::Debug| drop(view.insert(about, format!("{what:?}")));
    let uids = |endpoints: mesh_xds::store::Endpoints<'_>| {
        let mut uids = Vec::new();
        endpoints.visit(|endpoint| {
            uids.push(endpoint.workload().uid.to_string());
            ControlFlow::<()>::Continue(())
        });
        uids
    };
    snapshot.visit_workloads(|workload| {
        say(workload.uid.to_string(), workload);
        let mut same = Vec::new();
        snapshot.visit_identity(&workload.identity, |other| {
            same.push(other.uid.to_string());
            ControlFlow::<()>::Continue(())
        });
        same.sort();
        say(format!("like {}", workload.uid), &same);
        for membership in workload.services.iter() {
            say(
                format!("with {}", membership.service),
                &uids(snapshot.endpoints(&membership.service)),
            );
        }
        ControlFlow::<()>::Continue(())
    });
    snapshot.visit_services(|service| {
        say(service.key.to_string(), service);
        say(format!("in {}", service.key), &uids(snapshot.endpoints(&service.key)));
        say(
            format!("named {}", service.hostname),
            &snapshot
                .service_named(&service.hostname, None)
                .map(|service| &service.key),
        );
        ControlFlow::<()>::Continue(())
    });
    for address in addresses() {
        let network = "".into();
        let address = NetworkAddress { network, address };
        say(
            format!("workload at {}", address.address),
            &snapshot.workload_at(&address).map(|workload| &workload.uid),
        );
        for namespace in NAMESPACES.map(Some).into_iter().chain([None]) {
            say(
                format!("service at {} for {namespace:?}", address.address),
                &snapshot.service_at(&address, namespace).map(|service| &service.key),
            );
        }
    }
    let counts = (
        snapshot.workload_count(),
        snapshot.service_count(),
        snapshot.policy_count(),
    );
    say("counts".to_owned(), &counts);
    view
}
