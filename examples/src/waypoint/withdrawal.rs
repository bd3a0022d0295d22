//! What goes on for long, and policies that come later.

use std::sync::Arc;

use mesh_policy::authz::Permit;

use super::client::Client;
use super::snapshot::{Served, Snapshot};
use crate::admission::Refusal;
use crate::proxy::traffic::Failure;

/// Why something is not admitted, or not any more.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    #[error(transparent)]
    Policy(#[from] Refusal),
    #[error("{0}")]
    Closed(Arc<str>),
    #[error("not HTTP, on a port whose requests have routes, limits or tokens, or tell who asks")]
    Requests,
    #[error("who is asked for is gone from here")]
    Gone,
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        Self {
            flags: "DENY",
            reason: format!("policy: {refused}"),
        }
    }
}

/// Waits until a permit is not renewed any more, and tells why.
pub(super) async fn withdrawn(
    client: &Client,
    mut permit: Permit,
    renew: impl Fn(&Snapshot, &Served, Permit) -> Result<Permit, Refused>,
) -> Refused {
    let mut snapshots = client.worker.gateway.snapshots.clone();
    snapshots.mark_changed();
    loop {
        if snapshots.changed().await.is_err() {
            return Refused::Gone;
        }
        let snapshot = Arc::clone(&snapshots.borrow_and_update());
        let Some(served) = client.served(&snapshot) else {
            return Refused::Gone;
        };
        permit = match renew(&snapshot, &served, permit) {
            Ok(permit) => permit,
            Err(refused) => return refused,
        };
    }
}
