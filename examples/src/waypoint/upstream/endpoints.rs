use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use mesh_xds::store::{self, Identity, Store, Workload};
use tokio::time::{Instant, sleep_until};

use super::clock::Clock;
use super::cluster::Cluster;
use super::order::Order;
use super::site::{Ground, Here, SiteIds};
use super::state::{State, WARM};
use crate::proxy::chance::Chance;
use crate::waypoint::addressee::Addressee;
use crate::waypoint::labels::WorkloadLabels;
use crate::waypoint::snapshot::Snapshot;

/// For how long what is known about endpoints is kept that nobody asks for.
const FORGOTTEN: Duration = Duration::from_secs(60 * 60);
/// The same of a workload by itself. Any of its ports may be asked for: who asks for all of all workloads
/// is not to have them all remembered.
const FORGOTTEN_ALONE: Duration = Duration::from_secs(5 * 60);
/// How many ports of a workload that is asked for by itself are remembered.
const MOST_PORTS: usize = 16;
/// When endpoints are looked at, at the latest.
const LONGEST_SWEEP: Duration = Duration::from_secs(60);
/// And at the soonest: a rule's interval may be a millisecond.
const SHORTEST_SWEEP: Duration = Duration::from_millis(100);

/// What all workers know about the endpoints of services: who they are, how they do, and how much of
/// them is in use.
///
/// A cluster is made when a service or a workload is first asked for, and forgotten when the mesh has none
/// such any more or nobody asks for long. There are never more than ports of services, and subsets that
/// routes name, and so many ports of each workload.
pub(in crate::waypoint) struct Endpoints {
    pub(super) clock: Clock,
    pub(super) chance: Chance,
    ids: SiteIds,
    /// Where workloads take tunnels.
    hbone_port: u16,
    /// Who this waypoint is.
    own: Identity,
    land: RwLock<Arc<Land>>,
    /// By the keys of whom they are for.
    clusters: RwLock<HashMap<Arc<str>, Vec<Arc<Cluster>>>>,
}

/// The mesh, as clusters are made of it.
struct Land {
    mesh: store::Snapshot,
    here: Here,
    labels: WorkloadLabels,
}

impl Endpoints {
    /// Nothing is known. `hbone_port` is where workloads take tunnels, `own` who this waypoint is.
    pub(in crate::waypoint) fn new(hbone_port: u16, own: Identity) -> Self {
        let here = Here {
            network: "".into(),
            workload: None,
            hbone_port,
        };
        Self {
            clock: Clock::start(),
            chance: Chance::new(),
            ids: SiteIds::default(),
            hbone_port,
            own,
            land: RwLock::new(Arc::new(Land {
                mesh: Store::new().snapshot(),
                here,
                labels: WorkloadLabels::default(),
            })),
            clusters: RwLock::default(),
        }
    }

    /// Takes another mesh. What is known about endpoints that are still there is kept.
    pub(in crate::waypoint) fn update(&self, snapshot: &Snapshot) {
        let workload = snapshot.mesh.visit_identity(&self.own, ControlFlow::Break);
        let here = Here {
            network: Arc::clone(snapshot.network()),
            workload: workload.cloned(),
            hbone_port: self.hbone_port,
        };
        self.take(snapshot.mesh.clone(), here, snapshot.labels.clone());
    }

    pub(super) fn take(&self, mesh: store::Snapshot, here: Here, labels: WorkloadLabels) {
        let next = Arc::new(Land { mesh, here, labels });
        *self.land.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&next);
        let (mesh, ground) = (&next.mesh, self.on(&next));
        let mut clusters = self.clusters.write().unwrap_or_else(PoisonError::into_inner);
        clusters.retain(|_, of| {
            of.retain(|cluster| cluster.to.in_mesh(mesh).is_some());
            !of.is_empty()
        });
        let known: Vec<_> = clusters.values().flatten().cloned().collect();
        drop(clusters);
        known.iter().for_each(|cluster| cluster.update(ground));
    }

    /// This waypoint's workload, if the mesh has one.
    pub(super) fn own_workload(&self) -> Option<Arc<Workload>> {
        self.land().here.workload.clone()
    }

    /// Looks at endpoints whose time of ejection may be up, for ever.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost but the looks.
    pub(in crate::waypoint) async fn keep(&self) {
        let mut due: HashMap<usize, Instant> = HashMap::new();
        loop {
            let now = Instant::now();
            let mut next = now + LONGEST_SWEEP;
            let clusters = self.used();
            let mut kept = HashMap::with_capacity(due.len());
            for cluster in &clusters {
                cluster.warm(self.clock.now());
                let Some(interval) = cluster.sweep_interval() else {
                    continue;
                };
                let at = due.get(&Arc::as_ptr(cluster).addr()).copied().unwrap_or(now);
                let at = if at <= now {
                    cluster.sweep(self.clock.now(), self.chance.draw());
                    now + interval.clamp(SHORTEST_SWEEP, LONGEST_SWEEP)
                } else {
                    at
                };
                next = next.min(at);
                kept.insert(Arc::as_ptr(cluster).addr(), at);
            }
            due = kept;
            // Clusters that are made meanwhile are seen no later than weights are.
            sleep_until(next.min(now + WARM)).await;
        }
    }

    /// What an order is for. `None` if the mesh has no such thing.
    pub(super) fn cluster(&self, order: &Order) -> Option<Arc<Cluster>> {
        let known = {
            let clusters = self.clusters.read().unwrap_or_else(PoisonError::into_inner);
            let of = clusters.get(&**order.to.key());
            of.and_then(|of| of.iter().find(|cluster| cluster.is_for(order)).cloned())
        };
        let Some(cluster) = known else {
            return self.make(order);
        };
        cluster.touch(self.clock.now());
        if !cluster.is_by(order) {
            cluster.follow(order.words(), |to, rules, before| {
                let land = self.land();
                State::new(self.on(&land), (to, order.port), rules, Some(before))
            });
        }
        Some(cluster)
    }

    #[cold]
    fn make(&self, order: &Order) -> Option<Arc<Cluster>> {
        let seen = self.land();
        // Others need not wait while it is made.
        let made = self.made(&seen, order)?;
        let mut clusters = self.clusters.write().unwrap_or_else(PoisonError::into_inner);
        // Read under the lock that an update takes after it has changed the land.
        let land = self.land();
        let of = clusters.entry(Arc::clone(order.to.key())).or_default();
        if let Some(cluster) = of.iter().find(|cluster| cluster.is_for(order)) {
            return Some(Arc::clone(cluster));
        }
        let made = match Arc::ptr_eq(&seen, &land) {
            true => made,
            false => self.made(&land, order)?,
        };
        let cluster = Arc::new(made);
        if order.to.service().is_none() {
            forget_one(of);
        }
        of.push(Arc::clone(&cluster));
        Some(cluster)
    }

    fn made(&self, land: &Land, order: &Order) -> Option<Cluster> {
        let to = order.to.in_mesh(&land.mesh)?;
        let part = (order.port, order.subset.as_deref());
        let made = Cluster::new(self.on(land), &to, part, order.words());
        // Requests ask again and again; who reads a rule says what is wrong with it.
        let made = made.inspect_err(|reason| tracing::debug!(of = %to.key(), %reason, "no endpoints"));
        made.ok()
    }

    /// A workload of the mesh.
    #[cfg(test)]
    pub(super) fn workload(&self, uid: &str) -> Option<Arc<Workload>> {
        self.land().mesh.workload(uid).cloned()
    }

    /// How many clusters are remembered.
    #[cfg(test)]
    pub(super) fn known(&self) -> usize {
        let clusters = self.clusters.read().unwrap_or_else(PoisonError::into_inner);
        clusters.values().map(Vec::len).sum()
    }

    /// All clusters but those that nobody has asked for lately, which are forgotten.
    fn used(&self) -> Vec<Arc<Cluster>> {
        let now = self.clock.now();
        let mut clusters = self.clusters.write().unwrap_or_else(PoisonError::into_inner);
        clusters.retain(|_, of| {
            of.retain(|cluster| {
                let time = match cluster.to {
                    Addressee::Service(_) => FORGOTTEN,
                    Addressee::Workload { .. } => FORGOTTEN_ALONE,
                };
                !cluster.is_unused(time, now)
            });
            !of.is_empty()
        });
        clusters.values().flatten().cloned().collect()
    }

    fn land(&self) -> Arc<Land> {
        Arc::clone(&self.land.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn on<'a>(&'a self, land: &'a Land) -> Ground<'a> {
        Ground {
            mesh: &land.mesh,
            here: &land.here,
            labels: &land.labels,
            ids: &self.ids,
            now: self.clock.now(),
        }
    }
}

/// Makes room for one more. What goes on with what is forgotten goes on.
fn forget_one(of: &mut Vec<Arc<Cluster>>) {
    if of.len() < MOST_PORTS {
        return;
    }
    let least = of.iter().enumerate().min_by_key(|(_, cluster)| cluster.worth());
    if let Some((at, _)) = least {
        of.remove(at);
    }
}
