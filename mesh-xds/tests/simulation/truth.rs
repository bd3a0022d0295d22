//! The mesh as it is, whoever knows of it.

use std::collections::{BTreeMap, BTreeSet};

use mesh_testkit::xds::{bytes, service, workload};
use mesh_xds::delta::{Published, Server};
use mesh_xds_types::security::{Authorization, Scope};
use mesh_xds_types::workload::{Address, PortList, Service, Workload, address};
use mesh_xds_types::{ADDRESS_TYPE_URL, AUTHORIZATION_TYPE_URL};
use prost::Message;

use crate::chance::Chance;

pub const NODES: [&str; 3] = ["n0", "n1", "n2"];
pub const NAMESPACES: [&str; 2] = ["default", "shop"];
const WORKLOADS: u64 = 10;
const SERVICES: u64 = 4;
const POLICIES: u64 = 6;
/// Fewer than workloads, so that some are used again or shared.
const ADDRESSES: u64 = 8;

/// Everything, with the moments at which it changed. A moment is the number of a step in publishing.
#[derive(Default)]
pub struct Truth {
    moment: u64,
    pub workloads: BTreeMap<String, Workload>,
    pub services: BTreeMap<String, Service>,
    pub policies: BTreeMap<String, Policy>,
    /// Workloads that are gone, and since when.
    pub dead_workloads: BTreeMap<String, u64>,
    /// Policies that are gone.
    pub dead_policies: Vec<(Policy, u64)>,
}

#[derive(Clone)]
pub struct Policy {
    pub wire: Authorization,
    /// Since when it is there in a form that can be used.
    pub since: u64,
}

/// Names of what is to be put and to be taken away.
#[derive(Default)]
pub struct Change {
    policies: BTreeSet<String>,
    addresses: BTreeSet<String>,
    dead_policies: BTreeSet<String>,
    dead_addresses: BTreeSet<String>,
}

/// What the control plane makes versions of.
#[derive(Clone, Copy)]
pub enum Versions {
    /// The content, so that they mean the same after a restart.
    Content,
    /// Which run of the control plane it is, besides.
    Run(u64),
}

impl Truth {
    /// Changes a few things.
    pub fn change(&mut self, chance: &mut Chance) -> Change {
        let mut change = Change::default();
        self.moment += 1;
        for _ in 0..chance.between(1, 5) {
            match chance.below(20) {
                0..=7 => self.put_workload(chance, &mut change),
                8..=9 => {
                    let uid = format!("w{}", chance.below(WORKLOADS));
                    change.dead_addresses.insert(uid);
                }
                10..=12 => {
                    let wire = random_service(chance);
                    let key = format!("{}/{}", wire.namespace, wire.hostname);
                    change.dead_addresses.remove(&key);
                    self.services.insert(key, wire);
                }
                13 => {
                    let number = chance.below(SERVICES);
                    change.dead_addresses.insert(format!("{}/s{number}", namespace(number)));
                }
                14..=17 => self.put_policy(chance, &mut change),
                _ => {
                    let number = chance.below(POLICIES);
                    change.dead_policies.insert(format!("{}/p{number}", namespace(number)));
                }
            }
        }
        // Its members may be others.
        change.addresses.extend(self.services.keys().cloned());
        change.addresses.retain(|name| !change.dead_addresses.contains(name));
        change.policies.retain(|name| !change.dead_policies.contains(name));
        self.moment += 1;
        for name in &change.dead_addresses {
            self.services.remove(name);
            if self.workloads.remove(name).is_some() {
                self.dead_workloads.insert(name.clone(), self.moment);
            }
        }
        self.moment += 1;
        for name in &change.dead_policies {
            let dead = self.policies.remove(name).map(|policy| (policy, self.moment));
            self.dead_policies.extend(dead);
        }
        change
    }

    /// Tells a server of a change: policies before what they protect, and gone after it.
    pub fn tell(&self, change: &Change, versions: Versions, server: &mut Server, step: usize) {
        let policies = change.policies.iter().filter_map(|name| self.policy(name, versions));
        let addresses = change.addresses.iter().filter_map(|name| self.address(name, versions));
        let gone = |names: &BTreeSet<String>| names.iter().cloned().collect::<Vec<_>>();
        match step {
            0 => server.update(AUTHORIZATION_TYPE_URL, policies, []),
            1 => {
                let dead = gone(&change.dead_addresses);
                server.update(ADDRESS_TYPE_URL, addresses, dead.iter().map(String::as_str));
            }
            _ => {
                let dead = gone(&change.dead_policies);
                server.update(AUTHORIZATION_TYPE_URL, [], dead.iter().map(String::as_str));
            }
        }
    }

    /// Tells a server of everything.
    pub fn tell_all(&self, versions: Versions, server: &mut Server) {
        let policies = self.policies.keys().filter_map(|name| self.policy(name, versions));
        server.publish(AUTHORIZATION_TYPE_URL, policies);
        let names = self.workloads.keys().chain(self.services.keys());
        let addresses = names.filter_map(|name| self.address(name, versions));
        server.publish(ADDRESS_TYPE_URL, addresses);
    }

    /// The content behind a name: a resource's own, or an address of workloads.
    pub fn find(&self, type_url: &str, name: &str) -> Option<Vec<u8>> {
        if type_url == AUTHORIZATION_TYPE_URL {
            return self.policies.get(name).map(|policy| policy.wire.encode_to_vec());
        }
        let direct = self.body(name);
        let by_alias = || {
            let mut names = self.workloads.keys().chain(self.services.keys()).collect::<Vec<_>>();
            names.sort();
            let found = names
                .into_iter()
                .find(|own| self.aliases(own).contains(&name.to_owned()));
            self.body(found?)
        };
        direct.or_else(by_alias)
    }

    fn put_workload(&mut self, chance: &mut Chance, change: &mut Change) {
        let number = chance.below(WORKLOADS);
        let uid = format!("w{number}");
        let mut wire = workload(&uid, &format!("10.0.0.{}", chance.below(ADDRESSES)));
        wire.namespace = namespace(number).into();
        wire.service_account = format!("a{}", chance.below(3));
        wire.node = (*chance.pick(&NODES)).into();
        // When it was published last.
        wire.workload_name = (self.moment + 1).to_string();
        wire.status = i32::from(chance.one_in(5));
        // One at most: a map has no order of its own, and contents are compared as bytes.
        if chance.one_in(2) {
            let service = chance.below(SERVICES);
            let key = format!("{}/s{service}", namespace(service));
            wire.services.insert(key, PortList::default());
        }
        if chance.one_in(3) {
            wire.authorization_policies = vec![format!("{}/p5", namespace(5))];
        }
        if chance.one_in(12) {
            wire.addresses = vec![vec![1, 2, 3]];
        }
        change.dead_addresses.remove(&uid);
        change.addresses.insert(uid.clone());
        self.workloads.insert(uid, wire);
    }

    fn put_policy(&mut self, chance: &mut Chance, change: &mut Change) {
        let number = chance.below(POLICIES);
        let key = format!("{}/p{number}", namespace(number));
        let scope = match number {
            0 => Scope::Global,
            1..=4 => Scope::Namespace,
            _ => Scope::WorkloadSelector,
        };
        let is_bad = chance.one_in(12);
        let wire = Authorization {
            name: format!("p{number}"),
            namespace: namespace(number).into(),
            scope: if is_bad { 77 } else { scope.into() },
            action: i32::from(chance.one_in(2)),
            ..Authorization::default()
        };
        let before = self.policies.get(&key).filter(|before| before.wire.scope != 77);
        let since = before.map_or(self.moment, |before| before.since);
        let policy = Policy {
            wire,
            // One that never could be used does not count.
            since: if is_bad { u64::MAX } else { since },
        };
        change.dead_policies.remove(&key);
        change.policies.insert(key.clone());
        self.policies.insert(key, policy);
    }

    fn policy(&self, name: &str, versions: Versions) -> Option<Published> {
        let body = self.policies.get(name)?.wire.encode_to_vec();
        Some(Published::new(name, versions.of(&body), body))
    }

    fn address(&self, name: &str, versions: Versions) -> Option<Published> {
        let body = self.body(name)?;
        let published = Published::new(name, versions.of(&body), body).aliases(self.aliases(name));
        let published = match self.workloads.get(name) {
            Some(workload) => published.node(workload.node.as_str()),
            None => published,
        };
        let members = self
            .workloads
            .iter()
            .filter(|(_, workload)| workload.services.contains_key(name));
        Some(published.companions(members.map(|(uid, _)| uid.as_str())))
    }

    fn body(&self, name: &str) -> Option<Vec<u8>> {
        let workload = self.workloads.get(name).cloned().map(address::Type::Workload);
        let service = || self.services.get(name).cloned().map(address::Type::Service);
        let r#type = Some(workload.or_else(service)?);
        Some(Address { r#type }.encode_to_vec())
    }

    fn aliases(&self, name: &str) -> Vec<String> {
        let workload = self.workloads.get(name).map(|workload| workload.addresses.clone());
        let service = || {
            let addresses = self.services.get(name)?.addresses.iter();
            Some(addresses.map(|address| address.address.clone()).collect())
        };
        let addresses: Vec<Vec<u8>> = workload.or_else(service).unwrap_or_default();
        let addresses = addresses
            .iter()
            .filter_map(|bytes| <[u8; 4]>::try_from(bytes.as_slice()).ok());
        addresses
            .map(|octets| format!("/{}", std::net::Ipv4Addr::from(octets)))
            .collect()
    }
}

impl Versions {
    fn of(self, body: &[u8]) -> String {
        let hash = body.iter().fold(14_695_981_039_346_656_037_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(1_099_511_628_211)
        });
        match self {
            Self::Content => format!("{hash:x}"),
            Self::Run(run) => format!("{run}/{hash:x}"),
        }
    }
}

/// A name that may mean something, or may have meant or come to mean something.
pub fn random_name(chance: &mut Chance) -> String {
    match chance.below(4) {
        0 => format!("w{}", chance.below(WORKLOADS)),
        1 => format!("/{}", random_address(chance)),
        2 => "nowhere".to_owned(),
        _ => {
            let number = chance.below(SERVICES);
            format!("{}/s{number}", namespace(number))
        }
    }
}

pub fn random_address(chance: &mut Chance) -> String {
    match chance.one_in(2) {
        true => format!("10.0.0.{}", chance.below(ADDRESSES)),
        false => format!("10.1.0.{}", chance.below(SERVICES)),
    }
}

/// All addresses that anything may have.
pub fn addresses() -> impl Iterator<Item = std::net::IpAddr> {
    let of = |net: u8, count: u64| (0..count).map(move |host| [10, net, 0, u8::try_from(host).unwrap()].into());
    of(0, ADDRESSES).chain(of(1, SERVICES))
}

fn random_service(chance: &mut Chance) -> Service {
    let number = chance.below(SERVICES);
    let mut wire = service(&format!("s{number}"), Some(&format!("10.1.0.{number}")));
    wire.namespace = namespace(number).into();
    wire.canonical = chance.one_in(2);
    if chance.one_in(3) {
        // One that belongs to a workload, too.
        wire.addresses[0].address = bytes(&random_address(chance));
    }
    wire
}

/// Where what has a number lives.
fn namespace(number: u64) -> &'static str {
    if number % 3 == 2 { NAMESPACES[1] } else { NAMESPACES[0] }
}
