//! A node: the client of the protocol, what it makes of it, and connections that it opens.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use mesh_xds::delta::{Client, ClientConfig, DemandError, Outcome, Push};
use mesh_xds::resolve::{Hop, Query, Target, resolve};
use mesh_xds::store::Store;
use mesh_xds_types::core;
use mesh_xds_types::{ADDRESS_TYPE_URL, AUTHORIZATION_TYPE_URL};
use prost_types::{Struct, Value, value::Kind};

use crate::chance::Chance;
use crate::desk::Desk;
use crate::model::{Model, decode};
use crate::truth::{Truth, random_address, random_name};
use mesh_xds_types::workload::address;

pub struct Node {
    pub name: &'static str,
    pub is_on_demand: bool,
    pub client: Client<u64>,
    store: Store,
    pub model: Model,
    pub desk: Desk,
    /// A response that it is at work on, and until when.
    pub at_work: Option<(u64, Push)>,
    /// What each waits for, and how long.
    waiters: BTreeMap<u64, (String, Instant)>,
    /// Names that were asked for, and that no longer are.
    wanted: BTreeSet<String>,
    released: BTreeSet<String>,
    /// Names of the latest response.
    told: BTreeSet<String>,
    serial: u64,
    /// Connections opened, for the test to see that there are some.
    pub opened: u64,
}

impl Node {
    pub fn new(name: &'static str, is_on_demand: bool) -> Self {
        let value = Value {
            kind: Some(Kind::StringValue(name.to_owned())),
        };
        let node = core::Node {
            id: name.to_owned(),
            metadata: Some(Struct {
                fields: [("NODE_NAME".to_owned(), value)].into(),
            }),
            ..core::Node::default()
        };
        let config = ClientConfig::new(node).all(AUTHORIZATION_TYPE_URL);
        let config = if is_on_demand {
            config.on_demand(ADDRESS_TYPE_URL)
        } else {
            config.all(ADDRESS_TYPE_URL)
        };
        Self {
            name,
            is_on_demand,
            client: Client::new(config),
            store: Store::new(),
            model: Model::default(),
            desk: Desk::default(),
            at_work: None,
            waiters: BTreeMap::new(),
            wanted: BTreeSet::new(),
            released: BTreeSet::new(),
            told: BTreeSet::new(),
            serial: 0,
            opened: 0,
        }
    }

    /// Its stream ended, or there was none to be had.
    pub fn disconnected(&mut self, now: Instant, jitter: u32) {
        self.client.disconnected(now, jitter);
        self.store.disconnected();
        self.model.disconnected();
    }

    /// Applies a response.
    pub fn apply(&mut self, push: Push, truth: &Truth, now: u64, chance: &mut Chance) {
        let refusals = self.store.apply(&push);
        let bad = self.model.apply(&push);
        for name in push
            .resources()
            .iter()
            .map(|resource| &resource.name)
            .chain(push.removed())
        {
            if self.wanted.contains(name) {
                self.released.remove(name);
            }
            self.told.insert(name.clone());
        }
        let refused: BTreeSet<_> = refusals.iter().map(|refusal| refusal.name.clone()).collect();
        assert_eq!(refused, bad);
        if push.type_url() != ADDRESS_TYPE_URL {
            self.told.clear();
        }
        self.client.settle(push, &refusals);
        self.look(truth, now, chance);
    }

    /// Asks for something, or says that it is not needed any more.
    pub fn demand(&mut self, truth: &Truth, now: Instant, millis: u64, chance: &mut Chance) {
        let name = random_name(chance);
        if chance.one_in(5) {
            if self.client.release(ADDRESS_TYPE_URL, &name) {
                self.store.remove_address(&name);
                self.model.remove_address(&name);
                self.wanted.remove(&name);
                self.released.insert(name);
                self.look(truth, millis, chance);
            }
            return;
        }
        for _ in 0..chance.between(1, 6) {
            self.serial += 1;
            let deadline = now + Duration::from_millis(chance.between(1, 20_000));
            let demanded = self.client.demand(ADDRESS_TYPE_URL, &name, deadline, self.serial);
            match demanded {
                Ok(id) if chance.one_in(10) => {
                    // One who knows already has an answer on its way.
                    if self.client.abandon(id).is_none() {
                        self.waiters.insert(self.serial, (name.clone(), deadline));
                    }
                }
                Ok(_) => drop(self.waiters.insert(self.serial, (name.clone(), deadline))),
                Err(DemandError::TooManyWaiters(_)) => {}
                Err(error) => panic!("{error}"),
            }
        }
        self.wanted.insert(name);
    }

    /// Hears what became of those who wait.
    pub fn hear(&mut self, now: Instant) {
        while let Some(answer) = self.client.next_answer(now) {
            let (name, deadline) = self.waiters.remove(&answer.waiter).unwrap();
            assert!(now <= deadline, "`{name}` was answered too late");
            let is_known = self.model.addresses.contains_key(&name);
            match answer.outcome {
                // It may have come under another of its names.
                Outcome::Present => assert!(
                    is_known || self.model.bodies.contains_key(&name),
                    "`{name}` is said to be there"
                ),
                Outcome::Absent => assert!(!is_known, "`{name}` is said not to be there"),
                Outcome::Expired => assert_eq!(now, deadline, "`{name}` was given up"),
                _ => {}
            }
        }
        for name in std::mem::take(&mut self.told) {
            let forgotten = self.waiters.values().find(|(waits_for, _)| *waits_for == name);
            assert_eq!(forgotten, None, "who waits is told");
        }
        let overdue = self.waiters.values().find(|(_, deadline)| *deadline <= now);
        assert_eq!(overdue, None, "nobody waits beyond the deadline");
    }

    /// Opens a connection from a workload that may be on this node to an address that may be in use.
    pub fn connect(&mut self, truth: &Truth, now: u64, chance: &mut Chance) {
        self.desk.hear(now, chance);
        let snapshot = self.store.snapshot();
        let uids: Vec<_> = truth.workloads.keys().chain(truth.dead_workloads.keys()).collect();
        if uids.is_empty() {
            return;
        }
        let Some(source) = snapshot.workload(chance.pick(&uids).as_str()) else {
            return;
        };
        if *source.node != *self.name || !self.desk.has(&source.identity) {
            return;
        }
        assert!(
            self.model.has_identity(&source.identity, Some(self.name)),
            "a request with the removed identity {}",
            source.identity.spiffe_id()
        );
        let target: std::net::IpAddr = random_address(chance).parse().unwrap();
        let query = Query::new(source, Target::Address(target), 80, chance.number());
        let Ok(route) = resolve(&snapshot, &query) else {
            return;
        };
        self.opened += 1;
        let octets = mesh_testkit::xds::bytes(&target.to_string());
        assert_eq!(route.workload.is_some(), self.model.has_address(&octets), "{target}");
        let Some(workload) = route.workload else {
            return;
        };
        let address::Type::Workload(known) = decode(&self.model.bodies[&*workload.uid]) else {
            panic!("`{}` is no workload", workload.uid);
        };
        assert_eq!(known.service_account, *workload.identity.service_account);
        if let Some(service) = route.service {
            assert!(known.services.contains_key(&*service.key) && known.status == 0);
        }
        if let Hop::Hbone(tunnel) = route.hop {
            assert!(self.model.has_identity(tunnel.expected.identity, None));
        }
    }

    /// The node has what is true, as far as it wants and can use it.
    pub fn check(&self, truth: &Truth) {
        assert!(self.client.is_synced(), "{} has heard everything", self.name);
        let snapshot = self.store.snapshot();
        self.model.check(&snapshot);
        self.model.check_policies(&snapshot, truth, &self.released);
        let is_bad = |body: &[u8]| match decode(body) {
            address::Type::Workload(workload) => workload.addresses.iter().any(|bytes| bytes.len() == 3),
            address::Type::Service(_) => false,
        };
        for (name, policy) in &truth.policies {
            if policy.since != u64::MAX {
                assert!(self.model.policies.contains_key(name), "{} lacks `{name}`", self.name);
            }
        }
        for name in self.model.missed.keys() {
            let is_there = truth.policies.get(name).is_some_and(|policy| policy.wire.scope == 77);
            assert!(is_there, "{} misses `{name}`", self.name);
        }
        for (name, policy) in &self.model.policies {
            let truth = truth.policies.get(name).map(|policy| &policy.wire);
            let is_good = truth == Some(policy) || truth.is_some_and(|wire| wire.scope == 77);
            assert!(is_good, "{} has an old `{name}`", self.name);
        }
        let own = truth
            .workloads
            .iter()
            .filter(|(_, workload)| workload.node == self.name);
        let all = truth.workloads.keys().chain(truth.services.keys());
        let wanted: BTreeSet<&String> = if self.is_on_demand {
            own.map(|(uid, _)| uid).chain(&self.wanted).collect()
        } else {
            all.collect()
        };
        for name in wanted {
            let Some(body) = truth.find(ADDRESS_TYPE_URL, name) else {
                continue;
            };
            let key = self.model.addresses.get(name);
            let has = key.and_then(|key| self.model.bodies.get(key));
            assert!(has == Some(&body) || is_bad(&body), "{} lacks `{name}`", self.name);
            if let address::Type::Service(service) = decode(&body) {
                let key = format!("{}/{}", service.namespace, service.hostname);
                let members = truth
                    .workloads
                    .values()
                    .filter(|workload| workload.services.contains_key(&key));
                for member in members.filter(|workload| workload.addresses[0].len() == 4) {
                    assert!(
                        self.model.bodies.contains_key(&member.uid),
                        "{} lacks `{}`",
                        self.name,
                        member.uid
                    );
                }
            }
        }
        for (name, key) in &self.model.addresses {
            if self.released.contains(name) {
                continue;
            }
            let body = truth.find(ADDRESS_TYPE_URL, name);
            assert!(body.is_some(), "{} still has `{name}`", self.name);
            let is_same = body == self.model.bodies.get(key).cloned();
            assert!(is_same || is_bad(&body.unwrap()), "{} has an old `{name}`", self.name);
        }
        assert!(self.waiters.is_empty(), "everybody was answered");
    }

    fn look(&mut self, truth: &Truth, now: u64, chance: &mut Chance) {
        let snapshot = self.store.snapshot();
        self.model.check_policies(&snapshot, truth, &self.released);
        if chance.one_in(32) {
            self.model.check(&snapshot);
        }
        self.desk.follow(&snapshot, self.name, now, chance);
        for identity in self.desk.identities() {
            assert!(
                self.model.has_identity(identity, Some(self.name)),
                "the certificate of {} is gone",
                identity.spiffe_id()
            );
        }
    }
}
