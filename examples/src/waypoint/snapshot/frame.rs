//! What a snapshot is made of, as it changes.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mesh_xds::delta::{Push, Refusal};
use mesh_xds::store::{self, Store};
use tokio::sync::watch;

use super::Snapshot;
use super::build::build;
use crate::proxy::view::View;
use crate::waypoint::external::Keys;
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
    /// Whether somebody counts requests for all proxies.
    pub(in crate::waypoint) asks_about_limits: bool,
}

/// Takes changes of the mesh and of objects, from whoever follows them, and publishes snapshots.
#[derive(Clone)]
pub(in crate::waypoint) struct Frame(Arc<Mutex<Parts>>);

struct Parts {
    terms: Arc<Terms>,
    mesh: store::Snapshot,
    objects: Objects,
    /// Of the policies that were compiled last; permits carry it.
    version: u64,
    /// Which keys are wanted is told to these.
    keys: Keys,
    publish: watch::Sender<Arc<Snapshot>>,
}

impl Frame {
    pub(in crate::waypoint) fn new(terms: Terms, keys: Keys) -> (Self, watch::Receiver<Arc<Snapshot>>) {
        let (mesh, objects) = (Store::new().snapshot(), Objects::default());
        let (terms, mut version) = (Arc::new(terms), 0);
        let nothing = build(&terms, &mesh, &objects, &mut version, None);
        let (publish, snapshots) = watch::channel(Arc::new(nothing));
        let parts = Parts {
            terms,
            mesh,
            objects,
            version,
            keys,
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
        let before = Arc::clone(&self.publish.borrow());
        let snapshot = build(&self.terms, &self.mesh, &self.objects, &mut self.version, Some(&before));
        let said: HashSet<&String> = before.problems.iter().collect();
        let news = snapshot.problems.iter().filter(|problem| !said.contains(problem));
        for reason in news {
            tracing::warn!(%reason, "not all is as objects have it");
        }
        let authenticators = snapshot.guards().filter_map(|guard| guard.authenticator.as_ref().ok());
        self.keys
            .follow(authenticators.flat_map(|authenticator| authenticator.wanted_keys()));
        self.publish.send_replace(Arc::new(snapshot));
    }
}

impl View for Frame {
    fn update(&mut self, mesh: store::Snapshot) {
        let mut parts = self.lock();
        parts.mesh = mesh;
        parts.publish();
    }

    /// Objects, each as a resource of its own. What becomes of them is published with the mesh.
    fn take(&mut self, push: &Push) -> Vec<Refusal> {
        let mut parts = self.lock();
        let mut refusals = Vec::new();
        for resource in push.resources() {
            let body = resource.resource.as_ref().map_or(&[][..], |body| &body.value);
            let refused = parts.objects.hear(&resource.name, body);
            refusals.extend(refused.map(|reason| Refusal {
                name: resource.name.clone(),
                reason,
            }));
        }
        for name in push.removed() {
            parts.objects.remove(name);
        }
        refusals
    }

    fn is_wanted(&self) -> bool {
        Self::is_wanted(self)
    }
}
