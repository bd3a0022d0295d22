use std::slice::from_ref;
use std::sync::Arc;

use super::members::Group;
use super::model::{Protocol, Workload};

/// Who has an address. Mostly it is one workload, or one service.
#[derive(Clone, Debug)]
pub(super) enum Occupants {
    Workload(Arc<Workload>),
    Service(Arc<Group>),
    Others(Arc<Crowd>),
}

/// Any number of those who have an address.
#[derive(Clone, Debug, Default)]
pub(super) struct Crowd {
    /// The preferred one first.
    workloads: Vec<Arc<Workload>>,
    /// Groups of known services, in the order of their keys.
    groups: Vec<Arc<Group>>,
}

impl Occupants {
    /// The workloads, the preferred one first.
    pub(super) fn workloads(&self) -> &[Arc<Workload>] {
        match self {
            Self::Workload(workload) => from_ref(workload),
            Self::Service(_) => &[],
            Self::Others(crowd) => &crowd.workloads,
        }
    }

    /// The groups of the services, in the order of their keys.
    pub(super) fn groups(&self) -> &[Arc<Group>] {
        match self {
            Self::Workload(_) => &[],
            Self::Service(group) => from_ref(group),
            Self::Others(crowd) => &crowd.groups,
        }
    }
}

impl Crowd {
    pub(super) fn of(occupants: Option<Occupants>) -> Self {
        match occupants {
            None => Self::default(),
            Some(Occupants::Workload(workload)) => Self {
                workloads: vec![workload],
                groups: Vec::new(),
            },
            Some(Occupants::Service(group)) => Self {
                workloads: Vec::new(),
                groups: vec![group],
            },
            Some(Occupants::Others(crowd)) => Arc::unwrap_or_clone(crowd),
        }
    }

    /// `None` if nobody is left.
    pub(super) fn into_occupants(mut self) -> Option<Occupants> {
        match (self.workloads.len(), self.groups.len()) {
            (1, 0) => self.workloads.pop().map(Occupants::Workload),
            (0, 1) => self.groups.pop().map(Occupants::Service),
            (0, 0) => None,
            _ => Some(Occupants::Others(Arc::new(self))),
        }
    }

    pub(super) fn add_workload(&mut self, workload: &Arc<Workload>) {
        let goes_before = |other: &Arc<Workload>| precedence(other) < precedence(workload);
        let place = self.workloads.partition_point(goes_before);
        self.workloads.insert(place, Arc::clone(workload));
    }

    pub(super) fn remove_workload(&mut self, uid: &str) {
        self.workloads.retain(|other| *other.uid != *uid);
    }

    /// Adds a group, once, however often its service names the address.
    pub(super) fn add_group(&mut self, group: &Arc<Group>) {
        if let Err(place) = self.groups.binary_search_by(|other| other.key().cmp(&group.key())) {
            self.groups.insert(place, Arc::clone(group));
        }
    }

    pub(super) fn remove_group(&mut self, group: &Arc<Group>) {
        self.groups.retain(|other| !Arc::ptr_eq(other, group));
    }
}

/// The order in which workloads are meant by an address that they share.
fn precedence(workload: &Workload) -> (bool, bool, &str) {
    let is_pod = workload.uid.contains("//Pod/");
    (!is_pod, workload.protocol != Protocol::Hbone, &workload.uid)
}
