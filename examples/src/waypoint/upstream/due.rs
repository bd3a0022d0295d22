use std::sync::Arc;

use tokio::time::{Instant, timeout_at};

use super::dial::DialError;
use super::error::{Fault, Late};

/// When a time is up, and whose that is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Due {
    pub(super) at: Instant,
    pub(super) whose: Whose,
}

/// What has a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    /// One attempt, after which there may be another.
    Attempt,
    /// The request, by what a route says.
    Request,
    /// The request, by what its client says, who may want it sooner than any endpoint could.
    Client,
}

impl Due {
    /// It was not there in time.
    pub(super) fn fault(self, late: Late) -> Fault {
        match self.whose {
            Whose::Attempt => Fault::AttemptTimeout(late),
            Whose::Request => Fault::Timeout(late),
            Whose::Client => Fault::Timeout(Late::Client),
        }
    }

    /// There was no connection in time.
    pub(super) fn unconnected(self) -> Fault {
        match self.whose {
            Whose::Attempt => Fault::Connect(Arc::new(DialError::Timeout)),
            Whose::Request | Whose::Client => self.fault(Late::Endpoint),
        }
    }
}

/// Waits for something, or else until a time is up.
pub(super) async fn wait<T>(
    due: Option<Due>,
    fault: impl FnOnce(Due) -> Fault,
    waiting: impl Future<Output = T>,
) -> Result<T, Fault> {
    match due {
        None => Ok(waiting.await),
        Some(due) => timeout_at(due.at, waiting).await.map_err(|_| fault(due)),
    }
}
