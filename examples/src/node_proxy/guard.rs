//! A connection to a workload of this node, as long as policies admit it.

use std::sync::Arc;

use mesh_policy::authz::Permit;
use tokio::sync::watch;

use super::mesh::{Protection, Resident};
use crate::admission::{Caller, Refusal, admit};

/// A connection that was admitted: who carries it holds this.
#[derive(Debug)]
pub(super) struct Admitted {
    permit: Permit,
    caller: Caller,
    protection: watch::Receiver<Protection>,
}

impl Admitted {
    pub(super) fn new(resident: &Resident, caller: Caller) -> Result<Self, Refused> {
        let mut protection = resident.protection.clone();
        let current = protection.borrow_and_update().clone();
        let permit = match &current {
            Protection::Policies(set) => admit(set, set.decide(&caller.facts()).admission())?,
            Protection::Closed(reason) => return Err(Refused::Closed(Arc::clone(reason))),
        };
        Ok(Self {
            permit,
            caller,
            protection,
        })
    }

    /// Waits until the connection is not admitted any more, and tells why.
    pub(super) async fn withdrawn(self) -> Refused {
        let Self {
            mut permit,
            caller,
            mut protection,
        } = self;
        loop {
            if protection.changed().await.is_err() {
                return Refused::Gone;
            }
            let current = protection.borrow_and_update().clone();
            let renewed = match &current {
                Protection::Policies(set) => admit(set, set.renew(permit, &caller.facts())),
                Protection::Closed(reason) => return Refused::Closed(Arc::clone(reason)),
            };
            permit = match renewed {
                Ok(permit) => permit,
                Err(refusal) => return refusal.into(),
            };
        }
    }
}

/// Why a connection is not admitted, or not any more.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    #[error(transparent)]
    Policy(#[from] Refusal),
    #[error("{0}")]
    Closed(Arc<str>),
    #[error("the workload is gone from this node")]
    Gone,
}
