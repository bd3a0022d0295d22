//! A node's certificates, from an authority that is slow.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use mesh_xds::store::{Identity, Snapshot};

use crate::chance::Chance;

/// One certificate for each identity of a node.
#[derive(Default)]
pub struct Desk {
    /// The number of the call, until it is answered.
    certificates: BTreeMap<Identity, Option<u64>>,
    /// When a call is answered, and whether with a certificate.
    calls: Vec<(u64, u64, Identity, bool)>,
    serial: u64,
}

impl Desk {
    /// The mesh is another: certificates of who left are gone, and those of who came are asked for.
    pub fn follow(&mut self, snapshot: &Snapshot, node: &str, now: u64, chance: &mut Chance) {
        let mut here = BTreeSet::new();
        snapshot.visit_workloads(|workload| {
            if *workload.node == *node {
                here.insert(Identity::clone(&workload.identity));
            }
            ControlFlow::<()>::Continue(())
        });
        self.certificates.retain(|identity, _| here.contains(identity));
        for identity in here {
            if !self.certificates.contains_key(&identity) {
                self.ask(identity, now, chance);
            }
        }
    }

    /// The calls that are answered by now.
    pub fn hear(&mut self, now: u64, chance: &mut Chance) {
        let (heard, waiting) = std::mem::take(&mut self.calls)
            .into_iter()
            .partition(|(at, ..)| *at <= now);
        self.calls = waiting;
        for (_, serial, identity, is_issued) in heard {
            // What was asked for before its workload left and came back is not what is waited for.
            if self.certificates.get(&identity) != Some(&Some(serial)) {
                continue;
            }
            if is_issued {
                self.certificates.insert(identity, None);
            } else {
                self.ask(identity, now, chance);
            }
        }
    }

    pub fn next_event(&self) -> Option<u64> {
        self.calls.iter().map(|(at, ..)| *at).min()
    }

    pub fn has(&self, identity: &Identity) -> bool {
        self.certificates.get(identity) == Some(&None)
    }

    pub fn identities(&self) -> impl Iterator<Item = &Identity> {
        self.certificates.keys()
    }

    fn ask(&mut self, identity: Identity, now: u64, chance: &mut Chance) {
        self.serial += 1;
        self.certificates.insert(identity.clone(), Some(self.serial));
        let takes = if chance.one_in(3) {
            chance.between(5_000, 20_000)
        } else {
            chance.between(5, 500)
        };
        self.calls.push((now + takes, self.serial, identity, !chance.one_in(4)));
    }
}
