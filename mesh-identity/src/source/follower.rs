use std::{error::Error, fmt, sync::Arc};

use thiserror::Error;
use tokio::sync::watch;

use super::snapshot::Snapshot;

/// A place that identities and bundles come from.
pub trait Source: Send + Sync {
    /// Follows what the source publishes from now on. The first snapshot may be empty until the
    /// source has something: see [`Follower::ready`].
    fn follow(&self) -> Follower;
}

/// What a source last published.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    pub(super) generation: u64,
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) problem: Option<Problem>,
    pub(super) ever: Ever,
}

/// What a source had in any of its snapshots so far. What it never had it cannot have taken back.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ever {
    pub(super) identity: bool,
    pub(super) bundle: bool,
}

/// Sees what a source publishes. Cloning is cheap, and each clone follows by itself.
#[derive(Clone, Debug)]
pub struct Follower {
    states: watch::Receiver<State>,
}

impl Follower {
    /// The snapshot of this moment.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.states.borrow().snapshot)
    }

    /// How many snapshots were published before this moment's, and that snapshot, read together.
    pub fn generation(&self) -> (u64, Arc<Snapshot>) {
        let state = self.states.borrow();
        (state.generation, Arc::clone(&state.snapshot))
    }

    /// All that is known of the source at this moment.
    pub(super) fn state(&self) -> State {
        self.states.borrow().clone()
    }

    /// Why the source could not renew what it has; `None` when its last attempt succeeded.
    pub fn problem(&self) -> Option<Problem> {
        self.states.borrow().problem.clone()
    }

    /// Another follower, that waits for what comes from now on.
    #[cfg(any(feature = "istio-ca", feature = "federation", feature = "workload-api"))]
    pub(crate) fn anew(&self) -> Self {
        let mut states = self.states.clone();
        states.mark_unchanged();
        Self { states }
    }

    /// Waits until the source has published a snapshot, or a problem, that this follower has not
    /// waited for yet.
    ///
    /// # Errors
    ///
    /// The source is gone. What it last published stays to be read.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost: the next call answers for what this one was dropped with.
    pub async fn changed(&mut self) -> Result<(), SourceEnded> {
        self.states.changed().await.map_err(|_| SourceEnded)
    }

    /// Waits for a snapshot with an identity, and answers with it.
    ///
    /// There is no deadline: a source may have reason to wait for long. [`problem`](Self::problem)
    /// says what it waits for.
    ///
    /// # Errors
    ///
    /// The source is gone and had none.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
    pub async fn ready(&mut self) -> Result<Arc<Snapshot>, SourceEnded> {
        match self.states.wait_for(|state| !state.snapshot.is_empty()).await {
            Ok(state) => Ok(Arc::clone(&state.snapshot)),
            Err(_) => Err(SourceEnded),
        }
    }
}

/// The publishing end, for whoever writes a [`Source`].
#[derive(Debug)]
pub struct Publisher {
    states: watch::Sender<State>,
}

impl Publisher {
    /// Begins with an empty snapshot.
    pub fn new() -> Self {
        Self {
            states: watch::Sender::default(),
        }
    }

    /// A follower of what is published.
    pub fn follow(&self) -> Follower {
        Follower {
            states: self.states.subscribe(),
        }
    }

    /// Publishes a snapshot. Whatever was the problem is over.
    pub fn publish(&self, snapshot: Snapshot) {
        self.states.send_modify(|state| {
            *state = State {
                generation: state.generation + 1,
                ever: Ever {
                    identity: state.ever.identity || !snapshot.is_empty(),
                    bundle: state.ever.bundle || snapshot.has_bundles(),
                },
                snapshot: Arc::new(snapshot),
                problem: None,
            }
        });
    }

    /// Says why there is nothing newer. What was published stays in use.
    pub fn report(&self, problem: impl Error + Send + Sync + 'static) {
        self.states
            .send_modify(|state| state.problem = Some(Problem(Arc::new(problem))));
    }

    /// Takes back everything that was published: nothing may be presented and nobody believed any
    /// more, for this reason.
    pub fn withdraw(&self, reason: impl Error + Send + Sync + 'static) {
        self.states.send_modify(|state| {
            *state = State {
                generation: state.generation + 1,
                snapshot: Arc::default(),
                problem: Some(Problem(Arc::new(reason))),
                ever: state.ever,
            }
        });
    }
}

impl Default for Publisher {
    fn default() -> Self {
        Self::new()
    }
}

/// Why a source has nothing newer: the source's own error, one line when displayed.
#[derive(Clone, Debug)]
pub struct Problem(Arc<dyn Error + Send + Sync>);

impl Problem {
    /// The error, if it is of this type. The documentation of each source tells which its errors are.
    pub fn downcast_ref<E: Error + 'static>(&self) -> Option<&E> {
        self.0.downcast_ref()
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for Problem {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}

/// The source is gone and will publish nothing more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the identity source is gone")]
pub struct SourceEnded;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_report_leaves_the_snapshot_and_a_withdrawal_does_not() {
        let publisher = Publisher::new();
        let mut follower = publisher.follow();
        publisher.publish(Snapshot::default());
        follower.changed().await.unwrap();
        let (first, kept) = follower.generation();
        publisher.report(SourceEnded);
        follower.changed().await.unwrap();
        assert!(Arc::ptr_eq(&kept, &follower.snapshot()));
        assert_eq!(follower.problem().unwrap().to_string(), SourceEnded.to_string());
        publisher.withdraw(SourceEnded);
        assert_eq!(follower.generation().0, first + 1);
        assert!(follower.snapshot().is_empty() && follower.problem().is_some());
        publisher.publish(Snapshot::default());
        assert!(follower.problem().is_none());
    }

    #[tokio::test]
    async fn a_follower_of_a_source_that_ended_says_so() {
        let publisher = Publisher::new();
        let mut follower = publisher.follow();
        drop(publisher);
        assert_eq!(follower.changed().await, Err(SourceEnded));
        assert!(follower.ready().await.is_err());
    }
}
