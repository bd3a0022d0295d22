use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use mesh_policy::traffic::balance::{
    Ask, Endpoint, EndpointId, EndpointSet, Health, InFlight, InvalidSet, Locality, NoEndpoint, Warmup,
};
use mesh_policy::traffic::breaker::{Breaker, Permit, Resource};
use mesh_policy::traffic::outlier::{Accrual, Admission, Change, Detection, Detector, Gate, Monitor, Outcome};
use mesh_policy::traffic::retry::Budget;
use mesh_policy::traffic::upstream::{Places, Settings, UnknownSubset};
use mesh_xds::store::{Mode, Service, Snapshot, Workload};

use super::destination;
use super::order::{Order, Words};
use super::site::{Here, Site, SiteIds, Way, label, locality, shares};

/// How often weights are looked at that change with time.
pub(super) const WARM: Duration = Duration::from_secs(1);

/// The endpoints of a port of a service, or of a subset of it, and what is known about them.
///
/// Shared by all workers. What is known outlasts changes of the mesh and of the rules as far as it is
/// still about the same thing.
#[derive(Debug)]
pub(super) struct Cluster {
    pub(super) port: u16,
    pub(super) subset: Option<Box<str>>,
    state: RwLock<Arc<State>>,
    /// One changes it at a time.
    changing: Mutex<()>,
}

/// A cluster at one moment.
#[derive(Debug)]
pub(super) struct State {
    service: Arc<Service>,
    words: Words,
    pub(super) destination: Arc<Settings>,
    pub(super) breaker: Breaker,
    /// For retries in an interval.
    budget: Option<Arc<Budget>>,
    set: EndpointSet<Arc<Target>>,
    detector: Option<Arc<Detector>>,
}

/// An endpoint of a cluster.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) site: Arc<Site>,
    watch: Option<Watch>,
    /// Since when it is there.
    since: Duration,
}

/// Looks whether an endpoint is ill.
#[derive(Clone, Debug)]
struct Watch {
    monitor: Monitor,
    /// Shut when the endpoint is ejected: when it is back, one request tries it first.
    gate: Gate,
}

/// An endpoint that was chosen for a request.
#[derive(Debug)]
pub(super) struct Chosen {
    pub(super) id: EndpointId,
    pub(super) target: Arc<Target>,
    pub(super) in_flight: InFlight,
    pub(super) admission: Option<Admission>,
}

/// What a cluster is made of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ground<'a> {
    pub(super) mesh: &'a Snapshot,
    pub(super) here: &'a Here,
    pub(super) ids: &'a SiteIds,
    pub(super) now: Duration,
}

impl Cluster {
    pub(super) fn new(
        ground: Ground<'_>,
        service: &Arc<Service>,
        (port, subset): (u16, Option<&str>),
        words: Words,
    ) -> Result<Self, ClusterError> {
        let destination = Arc::new(words.settings(port, subset)?);
        let state = State::new(ground, (service, port), (words, destination), None)?;
        Ok(Self {
            port,
            subset: subset.map(Into::into),
            state: RwLock::new(Arc::new(state)),
            changing: Mutex::default(),
        })
    }

    pub(super) fn state(&self) -> Arc<State> {
        Arc::clone(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes another mesh. What cannot be taken leaves endpoints as they were.
    pub(super) fn update(&self, ground: Ground<'_>, service: &Arc<Service>) {
        self.change(|before| {
            if before.is_of(ground, service, self.port) {
                return None;
            }
            let rules = (before.words.clone(), Arc::clone(&before.destination));
            said(State::new(ground, (service, self.port), rules, Some(before)), service)
        });
    }

    /// Whether it goes by what an order does.
    pub(super) fn is_by(&self, order: &Order) -> bool {
        order.is_by(&self.state.read().unwrap_or_else(PoisonError::into_inner).words)
    }

    /// Takes other rules; `make` makes a state of them. What cannot be taken leaves what was before.
    pub(super) fn follow(
        &self,
        words: Words,
        make: impl FnOnce(&Arc<Service>, (Words, Arc<Settings>), &State) -> Result<State, InvalidSet>,
    ) {
        self.change(|before| {
            let made = match words.settings(self.port, self.subset.as_deref()) {
                Ok(settings) if settings != *before.destination => {
                    make(&before.service, (words.clone(), Arc::new(settings)), before).map_err(ClusterError::from)
                }
                Ok(_) => Ok(before.by(words.clone())),
                Err(reason) => Err(reason.into()),
            };
            // It is asked for again and again, and no better for that.
            Some(said(made, &before.service).unwrap_or_else(|| before.by(words)))
        });
    }

    /// Gives endpoints more that have not been there for long.
    pub(super) fn warm(&self, now: Duration) {
        self.change(|before| said(before.warmer(now)?, &before.service));
    }

    /// An attempt by this endpoint has ended so.
    pub(super) fn record(&self, target: &Target, outcome: Outcome, now: Duration, random: u64) {
        let Some(watch) = &target.watch else {
            return;
        };
        if let Some(ejection) = watch.monitor.record(outcome, now, random) {
            let workload = &target.site.workload.uid;
            tracing::warn!(%workload, cause = ?ejection.cause, "endpoint ejected");
            watch.shut(now, random);
            self.look_again();
        }
    }

    /// Brings endpoints back whose time is up.
    pub(super) fn sweep(&self, now: Duration, random: u64) {
        let state = self.state();
        let Some(detector) = &state.detector else {
            return;
        };
        let changes = detector.sweep(now, random);
        for change in &changes {
            match change {
                Change::Ejected { key, ejection } => {
                    tracing::warn!(workload = %key, cause = ?ejection.cause, "endpoint ejected");
                    if let Some(watch) = state.by_uid().get(&**key).and_then(|target| target.watch.as_ref()) {
                        watch.shut(now, random);
                    }
                }
                Change::Returned { key } => tracing::info!(workload = %key, "endpoint is back"),
                _ => {}
            }
        }
        if !changes.is_empty() {
            self.look_again();
        }
    }

    /// How often endpoints are to be looked at.
    pub(super) fn sweep_interval(&self) -> Option<Duration> {
        self.state()
            .destination
            .detection
            .as_ref()
            .map(Detection::sweep_interval)
    }

    fn look_again(&self) {
        self.change(|before| Some(before.look_again()));
    }

    fn change(&self, next: impl FnOnce(&State) -> Option<State>) {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.state();
        if let Some(next) = next(&before) {
            *self.state.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(next);
        }
    }
}

impl State {
    pub(super) fn new(
        ground: Ground<'_>,
        (service, port): (&Arc<Service>, u16),
        (words, destination): (Words, Arc<Settings>),
        before: Option<&Self>,
    ) -> Result<Self, InvalidSet> {
        let found = members(ground, service, port, &destination);
        let detector = destination.detection.as_ref().map(|detection| {
            let keys = found.iter().map(|(workload, _)| &*workload.uid);
            let known = before.filter(|before| before.destination.detection.as_ref() == Some(detection));
            Arc::new(match known.and_then(|before| before.detector.as_ref()) {
                Some(detector) => detector.with_endpoints(keys),
                None => Detector::new(detection.clone(), keys),
            })
        });
        let places = places(ground.here, service, &destination.places, &found);
        let known: HashMap<&str, &Target> = before.map_or_else(HashMap::default, Self::by_uid);
        let endpoints: Vec<Endpoint<Arc<Target>>> = found
            .into_iter()
            .zip(places)
            .map(|((workload, way), place)| {
                let site = Site::new(
                    ground.ids,
                    workload,
                    way,
                    known.get(&*workload.uid).map(|before| &*before.site),
                );
                let known = known.get(&*workload.uid);
                let before_watch = known.and_then(|before| before.watch.as_ref());
                let watch = detector
                    .as_ref()
                    .and_then(|detector| Watch::new(detector, &workload.uid, &destination, before_watch));
                // Those that were there from the beginning are no newer than others.
                let since = match (known, before) {
                    (Some(known), _) => known.since,
                    (None, Some(_)) => ground.now,
                    (None, None) => Duration::ZERO,
                };
                let target = Target {
                    site: Arc::new(site),
                    watch,
                    since,
                };
                let weight = target.weight(&destination, ground.now);
                Endpoint::new(&*workload.uid, Arc::new(target))
                    .weight(weight)
                    .priority(place.priority)
                    .locality(place.locality)
                    .locality_share(place.share)
                    .health(health(detector.as_deref(), &workload.uid))
            })
            .collect();
        let alike = before.filter(|before| before.destination.balance == destination.balance);
        Ok(Self {
            service: Arc::clone(service),
            set: match alike {
                Some(before) => before.set.with_endpoints(endpoints)?,
                None => EndpointSet::new(destination.balance.clone(), endpoints)?,
            },
            breaker: match before {
                Some(before) => before.breaker.with_limits(destination.limits),
                None => Breaker::new(destination.limits),
            },
            budget: budget(&destination, before),
            words,
            destination,
            detector,
        })
    }

    /// The endpoint for an attempt, which then counts as under way.
    pub(super) fn choose(&self, ask: Ask<'_>, now: Duration, random: u64) -> Result<Chosen, NoEndpoint> {
        let mut admission = None;
        let picked = self
            .set
            .pick_if(ask, now, random, |endpoint| match &endpoint.target().watch {
                None => true,
                Some(watch) => {
                    admission = watch.gate.admit(now);
                    admission.is_some()
                }
            })?;
        Ok(Chosen {
            id: picked.id(),
            target: Arc::clone(picked.endpoint().target()),
            in_flight: picked.begin(now),
            admission,
        })
    }

    /// Requests under way to all endpoints.
    #[cfg(test)]
    pub(super) fn requests_under_way(&self) -> u64 {
        let ids = self.set.endpoints().map(|(id, _)| id);
        ids.filter_map(|id| self.set.requests_under_way(id)).sum()
    }

    /// How many endpoints are left alone.
    #[cfg(test)]
    pub(super) fn ejected(&self) -> u32 {
        self.detector.as_ref().map_or(0, |detector| detector.ejected())
    }

    /// A request is sent for the first time.
    pub(super) fn count(&self, now: Duration) {
        if let Some(budget) = &self.budget {
            budget.request(now);
        }
    }

    /// A place for a retry, if there is one.
    pub(super) fn retry(&self, now: Duration) -> Option<Permit> {
        let permit = self.breaker.acquire(Resource::Retries).ok()?;
        let is_within = self.budget.as_ref().is_none_or(|budget| budget.retry(now));
        is_within.then_some(permit)
    }

    /// Whether another mesh has the same to say.
    fn is_of(&self, ground: Ground<'_>, service: &Arc<Service>, port: u16) -> bool {
        let found = members(ground, service, port, &self.destination);
        let sites = self.set.endpoints().map(|(_, endpoint)| &endpoint.target().site);
        self.service == *service
            && found.len() == sites.len()
            && sites.zip(&found).all(|(site, (workload, way))| {
                (Arc::ptr_eq(&site.workload, workload) || site.workload == **workload) && site.is_reached_by(way)
            })
    }

    fn look_again(&self) -> Self {
        let health = |endpoint: &Endpoint<Arc<Target>>| health(self.detector.as_deref(), endpoint.key());
        Self {
            service: Arc::clone(&self.service),
            words: self.words.clone(),
            budget: self.budget.clone(),
            destination: Arc::clone(&self.destination),
            breaker: self.breaker.clone(),
            set: self.set.with_health(health),
            detector: self.detector.clone(),
        }
    }

    /// The same by other rules.
    fn by(&self, words: Words) -> Self {
        Self {
            words,
            ..self.look_again()
        }
    }

    /// The same with the weights of the moment. `None` if they do not change any more.
    fn warmer(&self, now: Duration) -> Option<Result<Self, InvalidSet>> {
        let targets = || self.set.endpoints().map(|(_, endpoint)| endpoint);
        let warmup = self.destination.warmup.as_ref()?;
        // Once more after the end, for what is left of it.
        let is_new = |since: Duration| warmup.is_warming(now.saturating_sub(since).saturating_sub(WARM));
        if !targets().any(|endpoint| is_new(endpoint.target().since)) {
            return None;
        }
        let warmed = targets().map(|endpoint| {
            let weight = endpoint.target().weight(&self.destination, now);
            let health = health(self.detector.as_deref(), endpoint.key());
            endpoint.clone().weight(weight).health(health)
        });
        let set = self.set.with_endpoints(warmed);
        Some(set.map(|set| Self {
            set,
            ..self.look_again()
        }))
    }

    fn by_uid(&self) -> HashMap<&str, &Target> {
        let endpoints = self.set.endpoints();
        endpoints
            .map(|(_, endpoint)| (endpoint.key(), &**endpoint.target()))
            .collect()
    }
}

/// What cannot be taken is told.
fn said<T, E: std::fmt::Display>(made: Result<T, E>, service: &Service) -> Option<T> {
    made.inspect_err(|reason| tracing::error!(service = %service.key, %reason, "endpoints stay as they were"))
        .ok()
}

/// Why a service has no endpoints.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClusterError {
    #[error(transparent)]
    Subset(#[from] UnknownSubset),
    #[error(transparent)]
    Set(#[from] InvalidSet),
}

impl Target {
    fn weight(&self, destination: &Settings, now: Duration) -> u32 {
        let capacity = self.site.workload.capacity;
        match &destination.warmup {
            Some(warmup) if self.since > Duration::ZERO => warmup.weight(capacity, now.saturating_sub(self.since)),
            Some(_) => capacity.saturating_mul(Warmup::UNIT),
            None => capacity,
        }
    }
}

/// The budget of before, if it is still the same.
fn budget(destination: &Settings, before: Option<&State>) -> Option<Arc<Budget>> {
    let constraint = destination.retry_constraint.as_ref()?;
    let alike = before.filter(|before| before.destination.retry_constraint.as_ref() == Some(constraint));
    let budget = alike.and_then(|before| before.budget.clone());
    Some(budget.unwrap_or_else(|| Arc::new(constraint.budget())))
}

impl Watch {
    /// Looks at an endpoint as was done before.
    fn new(detector: &Detector, uid: &str, destination: &Settings, before: Option<&Self>) -> Option<Self> {
        let monitor = detector.monitor(uid)?;
        let gate = match before {
            Some(before) => before.gate.clone(),
            None => {
                let detection = destination.detection.as_ref();
                Gate::new(Arc::new(detection.map_or_else(Accrual::new, probation)))
            }
        };
        Some(Self { monitor, gate })
    }

    /// After an ejection the endpoint is on probation.
    fn shut(&self, now: Duration, random: u64) {
        if let Some(admission) = self.gate.admit(now) {
            admission.fail(now, random);
        }
    }
}

/// How an endpoint comes back: by one request, and if that fails, by one after twice the time.
fn probation(detection: &Detection) -> Accrual {
    let interval = detection.sweep_interval();
    Accrual::new()
        .failures(1)
        .penalty(interval, interval.saturating_mul(10))
        .jitter(0.0)
}

fn health(detector: Option<&Detector>, uid: &str) -> Health {
    detector.map_or(Health::Healthy, |detector| detector.health(uid))
}

/// The workloads of a service that can be asked for a port, and how, in the order of their uids.
fn members<'m>(
    ground: Ground<'m>,
    service: &Service,
    port: u16,
    destination: &Settings,
) -> Vec<(&'m Arc<Workload>, Way)> {
    let here = ground.here;
    let mut found = Vec::new();
    ground.mesh.endpoints(&service.key).visit(|endpoint| {
        let workload = endpoint.workload();
        let is_fit = workload.is_healthy || service.balancing.allows_unhealthy;
        let is_near = service.balancing.mode != Mode::Strict
            || destination.places != Places::Unsaid
            || distance(here, workload, service) == 0;
        let is_member = destination
            .labels
            .iter()
            .all(|(name, value)| label(workload, name) == Some(value));
        if is_fit
            && is_near
            && is_member
            && workload.capacity > 0
            && let Some(way) = Site::way(here, service, endpoint, port)
        {
            found.push((workload, way));
        }
        ControlFlow::<()>::Continue(())
    });
    found
}

/// How many of the places that a service prefers a workload does not share, from the first such.
fn distance(here: &Here, workload: &Workload, service: &Service) -> usize {
    let preferred = &service.balancing.preferences;
    here.workload.as_ref().map_or(0, |here| {
        let shared = preferred.iter().take_while(|scope| shares(here, workload, **scope));
        preferred.len() - shared.count()
    })
}

/// Where an endpoint stands among others.
struct Standing {
    priority: u32,
    locality: Locality,
    share: Option<u32>,
}

fn places(here: &Here, service: &Service, wanted: &Places, found: &[(&Arc<Workload>, Way)]) -> Vec<Standing> {
    let mut counted: Vec<(Locality, u32)> = Vec::new();
    for (workload, _) in found {
        let place = locality(workload);
        match counted.iter_mut().find(|(known, _)| *known == place) {
            Some((_, count)) => *count += 1,
            None => counted.push((place, 1)),
        }
    }
    let own = here.workload.as_deref();
    let shares = own.map_or_else(Vec::new, |own| destination::shares(wanted, own, &counted));
    let of_service = |workload: &Workload| match service.balancing.mode {
        Mode::Failover => u32::try_from(distance(here, workload, service)).unwrap_or(u32::MAX),
        _ => 0,
    };
    let stands = |(workload, _): &(&Arc<Workload>, Way)| {
        let locality = locality(workload);
        let at = counted.iter().position(|(known, _)| *known == locality);
        Standing {
            priority: own
                .and_then(|own| destination::priority(wanted, own, workload))
                .unwrap_or_else(|| of_service(workload)),
            share: at.and_then(|at| shares.get(at).copied().flatten()),
            locality,
        }
    };
    found.iter().map(stands).collect()
}
