//! The mesh as this node sees it at one moment.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use mesh_identity::SpiffeId;
use mesh_policy::authz::PolicySet;
use mesh_xds::store::{NetworkAddress, Snapshot, Workload};
use tokio::sync::watch;

/// All that is known, and who of it lives on this node.
pub(super) struct Mesh {
    pub(super) snapshot: Snapshot,
    pub(super) network: Arc<str>,
    pub(super) residents: HashMap<Arc<str>, Arc<Resident>>,
}

/// A workload of this node.
pub(super) struct Resident {
    pub(super) workload: Arc<Workload>,
    pub(super) id: SpiffeId,
    /// Who may reach it. Ends when it leaves, or is somebody else or elsewhere.
    pub(super) protection: watch::Receiver<Protection>,
}

/// Who may reach a workload.
#[derive(Clone, Debug)]
pub(super) enum Protection {
    Policies(Arc<PolicySet>),
    /// Nobody, because a policy that counts is not to be had.
    Closed(Arc<str>),
}

impl Mesh {
    /// Those of the workloads of this node.
    pub(super) fn identities(&self) -> Vec<SpiffeId> {
        self.residents.values().map(|resident| resident.id.clone()).collect()
    }

    pub(super) fn resident_at(&self, ip: IpAddr) -> Option<&Arc<Resident>> {
        self.resident(&self.workload_at(ip)?.uid)
    }

    pub(super) fn resident(&self, uid: &str) -> Option<&Arc<Resident>> {
        self.residents.get(uid)
    }

    /// A workload that connections were made to at an address, as it is now. None if it has gone from
    /// there, were it to another address of this node, or is somebody else.
    pub(super) fn still(&self, before: &Resident, ip: IpAddr) -> Option<&Arc<Resident>> {
        self.resident_at(ip)
            .filter(|now| now.protection.same_channel(&before.protection))
    }

    pub(super) fn workload_at(&self, ip: IpAddr) -> Option<&Arc<Workload>> {
        self.snapshot.workload_at(&self.key(ip))
    }

    pub(super) fn key(&self, ip: IpAddr) -> NetworkAddress {
        NetworkAddress {
            network: Arc::clone(&self.network),
            address: ip.to_canonical(),
        }
    }
}
