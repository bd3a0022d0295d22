use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use mesh_policy::traffic::balance::{
    Ask, Endpoint, EndpointId, EndpointSet, Health, InFlight, InvalidSet, NoEndpoint, Warmup,
};
use mesh_policy::traffic::breaker::{Breaker, Permit, Resource};
use mesh_policy::traffic::outlier::{Accrual, Admission, Detector, Ejection, Gate, Monitor, Outcome};
use mesh_policy::traffic::retry::Budget;
use mesh_policy::traffic::upstream::{Places, Settings};
use mesh_xds::store::Workload;

use super::members::{members, places};
use super::order::Words;
use super::site::{Ground, Site};
use crate::waypoint::addressee::Addressee;
use crate::waypoint::labels::WorkloadLabels;

/// How often weights are looked at that change with time.
pub(super) const WARM: Duration = Duration::from_secs(1);

/// A cluster at one moment.
#[derive(Debug)]
pub(super) struct State {
    pub(super) to: Addressee,
    /// This waypoint's workload, as it was.
    here: Option<Arc<Workload>>,
    /// As they were, if more than who is a member depends on them.
    labels: Option<WorkloadLabels>,
    pub(super) words: Words,
    pub(super) settings: Arc<Settings>,
    pub(super) breaker: Breaker,
    /// For retries in an interval.
    budget: Option<Arc<Budget>>,
    set: EndpointSet<Arc<Target>>,
    pub(super) detector: Option<Arc<Detector>>,
}

/// An endpoint of a cluster.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) site: Arc<Site>,
    watch: Option<Watch>,
    /// Since when it is there, if it was not from the beginning.
    since: Option<Duration>,
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
    /// Of the one request that tries an endpoint which was ejected.
    pub(super) probe: Option<Admission>,
}

impl State {
    pub(super) fn new(
        ground: Ground<'_>,
        (to, port): (&Addressee, u16),
        (words, settings): (Words, Arc<Settings>),
        before: Option<&Self>,
    ) -> Result<Self, InvalidSet> {
        let found = members(ground, to, port, &settings);
        let detector = settings.detection.as_ref().map(|detection| {
            let keys = found.iter().map(|(workload, _)| &*workload.uid);
            let known = before.filter(|before| before.settings.detection.as_ref() == Some(detection));
            Arc::new(match known.and_then(|before| before.detector.as_ref()) {
                Some(detector) => detector.with_endpoints(keys),
                None => Detector::new(detection.clone(), keys),
            })
        });
        let places = places(ground, to, &settings, &found);
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
                    .and_then(|detector| Watch::new(detector, &workload.uid, before_watch));
                // Those that were there from the beginning are no newer than others.
                let since = match (known, before) {
                    (Some(known), _) => known.since,
                    (None, Some(_)) => Some(ground.now),
                    (None, None) => None,
                };
                let target = Target {
                    site: Arc::new(site),
                    watch,
                    since,
                };
                let weight = target.weight(&settings, ground.now);
                Endpoint::new(&*workload.uid, Arc::new(target))
                    .weight(weight)
                    .priority(place.priority)
                    .locality(place.locality)
                    .locality_share(place.share)
                    .health(health(detector.as_deref(), &workload.uid))
            })
            .collect();
        let alike = before.filter(|before| before.settings.balance == settings.balance);
        Ok(Self {
            to: to.clone(),
            set: match alike {
                Some(before) => before.set.with_endpoints(endpoints)?,
                None => EndpointSet::new(settings.balance.clone(), endpoints)?,
            },
            breaker: match before {
                Some(before) => before.breaker.with_limits(settings.limits),
                None => Breaker::new(settings.limits),
            },
            budget: budget(&settings, before),
            here: ground.here.workload.clone(),
            labels: ordering(ground, &settings).cloned(),
            words,
            settings,
            detector,
        })
    }

    /// The endpoint for an attempt, which then counts as under way.
    pub(super) fn choose(&self, ask: Ask<'_>, now: Duration, random: u64) -> Result<Chosen, NoEndpoint> {
        let mut admission = None;
        let picked = self.set.pick_if(ask, now, random, |endpoint| {
            let Some(watch) = &endpoint.target().watch else {
                return true;
            };
            // Whoever is ejected is asked in panic, when it does not matter how endpoints are.
            admission = watch.gate.admit(now);
            admission.is_some() || watch.monitor.is_ejected()
        })?;
        Ok(Chosen {
            id: picked.id(),
            target: Arc::clone(picked.endpoint().target()),
            in_flight: picked.begin(now),
            probe: admission.filter(Admission::is_probe),
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
    pub(super) fn is_of(&self, ground: Ground<'_>, to: &Addressee, port: u16) -> bool {
        let found = members(ground, to, port, &self.settings);
        let sites = self.set.endpoints().map(|(_, endpoint)| &endpoint.target().site);
        self.to == *to
            && self.here == ground.here.workload
            && self.labels.as_ref() == ordering(ground, &self.settings)
            && found.len() == sites.len()
            && sites.zip(&found).all(|(site, (workload, way))| {
                (Arc::ptr_eq(&site.workload, workload) || site.workload == **workload) && site.way == *way
            })
    }

    pub(super) fn look_again(&self) -> Self {
        let health = |endpoint: &Endpoint<Arc<Target>>| health(self.detector.as_deref(), endpoint.key());
        Self {
            to: self.to.clone(),
            here: self.here.clone(),
            labels: self.labels.clone(),
            words: self.words.clone(),
            budget: self.budget.clone(),
            settings: Arc::clone(&self.settings),
            breaker: self.breaker.clone(),
            set: self.set.with_health(health),
            detector: self.detector.clone(),
        }
    }

    /// The same by other rules.
    pub(super) fn by(&self, words: Words) -> Self {
        Self {
            words,
            ..self.look_again()
        }
    }

    /// The same with the weights of the moment. `None` if they do not change any more.
    pub(super) fn warmer(&self, now: Duration) -> Option<Result<Self, InvalidSet>> {
        let targets = || self.set.endpoints().map(|(_, endpoint)| endpoint);
        let warmup = self.settings.warmup.as_ref()?;
        // Once more after the end, for what is left of it.
        let is_new = |since: Duration| warmup.is_warming(now.saturating_sub(since).saturating_sub(WARM));
        if !targets().any(|endpoint| endpoint.target().since.is_some_and(is_new)) {
            return None;
        }
        let warmed = targets().map(|endpoint| {
            let weight = endpoint.target().weight(&self.settings, now);
            let health = health(self.detector.as_deref(), endpoint.key());
            endpoint.clone().weight(weight).health(health)
        });
        let set = self.set.with_endpoints(warmed);
        Some(set.map(|set| Self {
            set,
            ..self.look_again()
        }))
    }

    pub(super) fn by_uid(&self) -> HashMap<&str, &Target> {
        let endpoints = self.set.endpoints();
        endpoints
            .map(|(_, endpoint)| (endpoint.key(), &**endpoint.target()))
            .collect()
    }
}

impl Target {
    /// An attempt has ended so. If that was one failure too many, it is ejected.
    pub(super) fn record(&self, outcome: Outcome, now: Duration, random: u64) -> Option<Ejection> {
        let watch = self.watch.as_ref()?;
        let ejection = watch.monitor.record(outcome, now, random)?;
        watch.shut(now, random);
        Some(ejection)
    }

    /// It was ejected by what is known about others.
    pub(super) fn shut(&self, now: Duration, random: u64) {
        if let Some(watch) = &self.watch {
            watch.shut(now, random);
        }
    }

    fn weight(&self, settings: &Settings, now: Duration) -> u32 {
        // Whoever is asked for by itself may be one that services send nothing to.
        let capacity = self.site.workload.capacity.max(1);
        match (&settings.warmup, self.since) {
            (None, _) => capacity,
            (Some(_), None) => capacity.saturating_mul(Warmup::UNIT),
            (Some(warmup), Some(since)) => warmup.weight(capacity, now.saturating_sub(since)),
        }
    }
}

/// The labels, where endpoints are put in order by theirs.
fn ordering<'g>(ground: Ground<'g>, settings: &Settings) -> Option<&'g WorkloadLabels> {
    matches!(settings.places, Places::Labels(_)).then_some(ground.labels)
}

/// The budget of before, if it is still the same.
fn budget(settings: &Settings, before: Option<&State>) -> Option<Arc<Budget>> {
    let constraint = settings.retry_constraint.as_ref()?;
    let alike = before.filter(|before| before.settings.retry_constraint.as_ref() == Some(constraint));
    let budget = alike.and_then(|before| before.budget.clone());
    Some(budget.unwrap_or_else(|| Arc::new(constraint.budget())))
}

impl Watch {
    /// Looks at an endpoint as was done before.
    fn new(detector: &Detector, uid: &str, before: Option<&Self>) -> Option<Self> {
        let monitor = detector.monitor(uid)?;
        // How long the endpoint is left alone is for the detector to say.
        let probation = || Accrual::new().failures(1).penalty(Duration::ZERO, Duration::ZERO);
        let gate = before.map_or_else(|| Gate::new(Arc::new(probation())), |before| before.gate.clone());
        Some(Self { monitor, gate })
    }

    /// The endpoint is on probation when it is back: requests try it one at a time, until one
    /// succeeds.
    fn shut(&self, now: Duration, random: u64) {
        if let Some(admission) = self.gate.admit(now) {
            admission.fail(now, random);
        }
    }
}

fn health(detector: Option<&Detector>, uid: &str) -> Health {
    detector.map_or(Health::Healthy, |detector| detector.health(uid))
}
