//! Whom traffic is for.

use std::net::IpAddr;
use std::sync::Arc;

use mesh_xds::store::{AppProtocol, Service, Snapshot, Workload};

/// A service, or one workload, whatever services it belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Addressee {
    Service(Arc<Service>),
    Workload {
        workload: Arc<Workload>,
        /// The one that it was asked for by; none if that was its name.
        address: Option<IpAddr>,
    },
}

impl Addressee {
    /// The service's key, or the workload's uid.
    pub(super) fn key(&self) -> &Arc<str> {
        match self {
            Self::Service(service) => &service.key,
            Self::Workload { workload, .. } => &workload.uid,
        }
    }

    pub(super) fn service(&self) -> Option<&Arc<Service>> {
        match self {
            Self::Service(service) => Some(service),
            Self::Workload { .. } => None,
        }
    }

    /// What is declared to be spoken on a port. Of a workload that is nothing: its ports are declared by
    /// services, and this is none.
    pub(super) fn protocol(&self, port: u16) -> AppProtocol {
        self.service()
            .map_or_else(AppProtocol::default, |service| service.protocol(port))
    }

    /// Whether both mean the same, however much that has changed.
    pub(super) fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Service(one), Self::Service(other)) => one.key == other.key,
            (
                Self::Workload { workload, address },
                Self::Workload {
                    workload: other,
                    address: at,
                },
            ) => workload.uid == other.uid && address == at,
            _ => false,
        }
    }

    /// The same as a mesh has it, if it does.
    pub(super) fn in_mesh(&self, mesh: &Snapshot) -> Option<Self> {
        match self {
            Self::Service(service) => mesh.service(&service.key).cloned().map(Self::Service),
            Self::Workload { workload, address } => {
                let workload = mesh.workload(&workload.uid)?;
                let is_there = address.is_none_or(|address| workload.addresses.contains(&address));
                is_there.then(|| Self::Workload {
                    workload: Arc::clone(workload),
                    address: *address,
                })
            }
        }
    }
}
