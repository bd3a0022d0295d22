//! What goes on for long, and policies that come later.

use std::borrow::Cow;
use std::sync::Arc;

use mesh_policy::authz::Permit;
use mesh_policy::jwt::Rejection;
use tokio::sync::watch;

use super::client::Client;
use super::snapshot::{Served, Snapshot};
use crate::admission::Refusal;
use crate::proxy::traffic::Failure;

/// Why something is not admitted, or not any more.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    #[error(transparent)]
    Policy(#[from] Refusal),
    #[error(transparent)]
    Token(#[from] Rejection),
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
    let mut later = Later::of(client);
    loop {
        let snapshot = match later.next().await {
            Ok(snapshot) => snapshot,
            Err(gone) => return gone,
        };
        let renewed = later
            .served(&snapshot)
            .and_then(|served| renew(&snapshot, &served, permit));
        permit = match renewed {
            Ok(permit) => permit,
            Err(refused) => return refused,
        };
    }
}

/// What is known later about whom a client asks.
pub(super) struct Later<'c> {
    client: &'c Client,
    snapshots: watch::Receiver<Arc<Snapshot>>,
}

impl<'c> Later<'c> {
    /// From now on, and now: it may be later than when the client was judged.
    pub(super) fn of(client: &'c Client) -> Self {
        let mut snapshots = client.worker.gateway.snapshots.clone();
        snapshots.mark_changed();
        Self { client, snapshots }
    }

    /// Waits for what is known next.
    ///
    /// # Errors
    ///
    /// Nothing will be.
    pub(super) async fn next(&mut self) -> Result<Arc<Snapshot>, Refused> {
        self.snapshots.changed().await.map_err(|_| Refused::Gone)?;
        Ok(Arc::clone(&self.snapshots.borrow_and_update()))
    }

    /// Whom the client asks, as that is known.
    ///
    /// # Errors
    ///
    /// It is gone.
    pub(super) fn served<'s>(&self, snapshot: &'s Snapshot) -> Result<Cow<'s, Served>, Refused> {
        self.client.served(snapshot).ok_or(Refused::Gone)
    }
}
