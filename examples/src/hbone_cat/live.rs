//! TLS of the moment.

use std::sync::{Arc, Mutex, PoisonError};

use mesh_identity::source::{Follower, Snapshot};
use mesh_identity::tls::BuildError;

/// A TLS configuration that is made anew when what it is made of has changed, and not before.
#[derive(Clone)]
pub(super) struct Live<T> {
    follower: Follower,
    build: Arc<Build<T>>,
    built: Arc<Mutex<(u64, Option<T>)>>,
}

/// Makes a configuration, or none where a snapshot has no identity for it.
type Build<T> = dyn Fn(&Snapshot) -> Result<Option<T>, BuildError> + Send + Sync;

impl<T: Clone> Live<T> {
    pub(super) fn new(
        follower: Follower,
        build: impl Fn(&Snapshot) -> Result<Option<T>, BuildError> + Send + Sync + 'static,
    ) -> Result<Self, BuildError> {
        let (generation, snapshot) = follower.generation();
        let first = build(&snapshot)?;
        Ok(Self {
            follower,
            build: Arc::new(build),
            built: Arc::new(Mutex::new((generation, first))),
        })
    }

    /// The configuration of this moment; none when the identity was withdrawn.
    pub(super) fn current(&self) -> Option<T> {
        // Locked first, so that no thread puts an older one in the place of a newer.
        let mut built = self.built.lock().unwrap_or_else(PoisonError::into_inner);
        let (generation, snapshot) = self.follower.generation();
        if built.0 != generation {
            let next = (self.build)(&snapshot).unwrap_or_else(|error| {
                tracing::error!(reason = %error, "no tls configuration");
                None
            });
            *built = (generation, next);
        }
        built.1.clone()
    }
}
