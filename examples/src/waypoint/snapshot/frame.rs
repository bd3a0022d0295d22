//! What a snapshot is made of, as it changes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mesh_xds::delta::{Push, Refusal};
use mesh_xds::store::{self, Store};
use tokio::sync::watch;

use super::Snapshot;
use super::build::build;
use crate::proxy::view::View;
use crate::waypoint::objects::Objects;

/// What a waypoint is, for what it serves.
#[derive(Clone, Debug)]
pub(in crate::waypoint) struct Terms {
    pub(in crate::waypoint) namespace: String,
    pub(in crate::waypoint) name: String,
    pub(in crate::waypoint) service_account: String,
    pub(in crate::waypoint) trust_domain: String,
    pub(in crate::waypoint) network: Arc<str>,
    pub(in crate::waypoint) root_namespace: String,
}

/// Takes changes of the mesh and of objects, from whoever follows them, and publishes snapshots.
#[derive(Clone)]
pub(in crate::waypoint) struct Frame(Arc<Mutex<Parts>>);

struct Parts {
    terms: Terms,
    mesh: store::Snapshot,
    objects: Objects,
    /// Of the policies that were compiled last; permits carry it.
    version: u64,
    publish: watch::Sender<Arc<Snapshot>>,
}

impl Frame {
    pub(in crate::waypoint) fn new(terms: Terms) -> (Self, watch::Receiver<Arc<Snapshot>>) {
        let (mesh, objects) = (Store::new().snapshot(), Objects::default());
        let nothing = build(&terms, &mesh, &objects, 0, None);
        let (publish, snapshots) = watch::channel(Arc::new(nothing));
        let parts = Parts {
            terms,
            mesh,
            objects,
            version: 0,
            publish,
        };
        (Self(Arc::new(Mutex::new(parts))), snapshots)
    }

    /// Changes the objects; what becomes of them is for [`publish`](Self::publish) to tell.
    pub(in crate::waypoint) fn objects<T>(&self, change: impl FnOnce(&mut Objects) -> T) -> T {
        change(&mut self.lock().objects)
    }

    /// Has everybody know how things are now.
    pub(in crate::waypoint) fn publish(&self) {
        self.lock().publish();
    }

    /// Whether anybody looks at snapshots any more.
    pub(in crate::waypoint) fn is_wanted(&self) -> bool {
        !self.lock().publish.is_closed()
    }

    fn lock(&self) -> MutexGuard<'_, Parts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Parts {
    fn publish(&mut self) {
        self.version += 1;
        let before = Arc::clone(&self.publish.borrow());
        let snapshot = build(&self.terms, &self.mesh, &self.objects, self.version, Some(&before));
        self.publish.send_replace(Arc::new(snapshot));
    }
}

impl View for Frame {
    fn update(&mut self, mesh: store::Snapshot) {
        let mut parts = self.lock();
        parts.mesh = mesh;
        parts.publish();
    }

    fn take(&mut self, _: &Push) -> Vec<Refusal> {
        Vec::new()
    }

    fn is_wanted(&self) -> bool {
        Self::is_wanted(self)
    }
}
