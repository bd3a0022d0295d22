use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{
    detection::Detection,
    host::{Cause, Census, Ejection, Host, Tally},
    outcome::Outcome,
    rates::{above_threshold, below_the_others},
};
use crate::{chance::Draws, traffic::balance::Health};

/// Outlier detection for the endpoints of a service.
///
/// Any number of threads record; one calls [`sweep`](Self::sweep) once in an interval. Never more
/// endpoints are ejected at a time than the [`Detection`] allows, but for endpoints that leave: those
/// that stay ejected are not brought back for it.
#[derive(Debug)]
pub struct Detector {
    detection: Arc<Detection>,
    census: Arc<Census>,
    hosts: BTreeMap<Box<str>, Arc<Host>>,
}

impl Detector {
    /// A detector for endpoints by their keys, all in service.
    pub fn new<K: Into<Box<str>>>(detection: Detection, keys: impl IntoIterator<Item = K>) -> Self {
        let hosts: BTreeMap<_, _> = keys.into_iter().map(|key| (key.into(), Arc::default())).collect();
        let census = Census::default();
        census.set_all(u32::try_from(hosts.len()).unwrap_or(u32::MAX));
        Self {
            detection: Arc::new(detection),
            census: Arc::new(census),
            hosts,
        }
    }

    /// The same for other endpoints. What is known about those that stay is kept, ejections too; the
    /// monitors of those that leave record nothing from now on.
    #[must_use]
    pub fn with_endpoints<K: Into<Box<str>>>(&self, keys: impl IntoIterator<Item = K>) -> Self {
        let hosts: BTreeMap<Box<str>, Arc<Host>> = keys
            .into_iter()
            .map(Into::into)
            .map(|key| {
                let host = self.hosts.get(&key).cloned().unwrap_or_default();
                (key, host)
            })
            .collect();
        let leaving = self.hosts.iter().filter(|(key, _)| !hosts.contains_key(*key));
        leaving.for_each(|(_, host)| host.leave(&self.census));
        self.census.set_all(u32::try_from(hosts.len()).unwrap_or(u32::MAX));
        Self {
            detection: Arc::clone(&self.detection),
            census: Arc::clone(&self.census),
            hosts,
        }
    }

    /// By what responses of an endpoint are recorded. Worth keeping: it takes a search.
    pub fn monitor(&self, key: &str) -> Option<Monitor> {
        let host = self.hosts.get(key)?;
        Some(Monitor {
            detection: Arc::clone(&self.detection),
            census: Arc::clone(&self.census),
            host: Arc::clone(host),
        })
    }

    /// How an endpoint is: [unhealthy](Health::Unhealthy) while it is ejected.
    pub fn health(&self, key: &str) -> Health {
        match self.hosts.get(key) {
            Some(host) if host.is_ejected() => Health::Unhealthy,
            _ => Health::Healthy,
        }
    }

    /// How many endpoints are ejected.
    pub fn ejected(&self) -> u32 {
        self.census.ejected()
    }

    /// Looks at all endpoints, once in an [interval](Detection::interval): who may come back, and
    /// whose rates since the last time eject it. An endpoint is back at the latest one interval after
    /// its time was up. Returns what changed. Where not all outliers may be ejected, those of lesser keys are.
    pub fn sweep(&self, now: Duration, random: u64) -> Vec<Change> {
        let mut changes = Vec::new();
        for (key, host) in &self.hosts {
            if host.bring_back(&self.census, now) {
                changes.push(Change::Returned { key: key.clone() });
            }
        }
        let in_service = self.hosts.iter().filter(|(_, host)| !host.is_ejected());
        let (hosts, tallies): (Vec<_>, Vec<Tally>) = in_service.map(|entry| (entry, entry.1.take_tally())).unzip();
        let rates = self.detection.success_rate.map(|rule| below_the_others(rule, &tallies));
        let failures = self
            .detection
            .failure_percentage
            .map(|rule| above_threshold(rule, &tallies));
        let judged = [(Cause::SuccessRate, rates), (Cause::FailurePercentage, failures)];
        let mut draws = Draws::new(random);
        for (cause, verdicts) in judged {
            let outliers = hosts
                .iter()
                .zip(verdicts.into_iter().flatten())
                .filter(|(_, fails)| *fails);
            for ((key, host), _) in outliers {
                let ejection = host.eject(&self.detection, &self.census, cause, now, draws.next());
                changes.extend(ejection.map(|ejection| Change::Ejected {
                    key: (*key).clone(),
                    ejection,
                }));
            }
        }
        hosts.iter().for_each(|(_, host)| host.forgive(&self.detection, now));
        changes
    }
}

/// What a sweep changed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// An endpoint is out of service.
    Ejected {
        /// Which.
        key: Box<str>,
        /// Why and how long.
        ejection: Ejection,
    },
    /// An endpoint is back.
    Returned {
        /// Which.
        key: Box<str>,
    },
}

/// Records the responses of one endpoint.
#[derive(Clone, Debug)]
pub struct Monitor {
    detection: Arc<Detection>,
    census: Arc<Census>,
    host: Arc<Host>,
}

impl Monitor {
    /// A request ended. The answer is an ejection if this was one failure too many and others may
    /// still be ejected; sets are then to be built anew. `random` is for its jitter.
    pub fn record(&self, outcome: Outcome, now: Duration, random: u64) -> Option<Ejection> {
        let cause = self.host.count(&self.detection, outcome)?;
        self.host.eject(&self.detection, &self.census, cause, now, random)
    }

    /// Whether the endpoint is ejected.
    pub fn is_ejected(&self) -> bool {
        self.host.is_ejected()
    }
}
