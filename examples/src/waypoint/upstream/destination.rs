use std::time::Duration;

use mesh_policy::authz::Labels;
use mesh_policy::traffic::balance::{
    AffinityKey, Algorithm, Balance, Cookie, Distribution, Failover, InvalidLocality, Locality, LocalityPattern,
    common_labels,
};
use mesh_policy::traffic::breaker::{Limits, RetryLimit};
use mesh_policy::traffic::outlier::Detection;
use mesh_policy::traffic::{
    BalanceRule, ConnectionLimits, DestinationRule, HashKey, LocalityRule, OutlierRule, PortPolicy, Subset,
};
use mesh_xds::store::Workload;

use super::site::{label, locality};

/// How requests reach the endpoints of a port of a service, or those of a subset.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::waypoint) struct Destination {
    pub(super) balance: Balance,
    affinity: Option<AffinityKey>,
    /// What the endpoints have in common, for a subset.
    pub(super) labels: Labels,
    pub(super) nearness: Nearness,
    pub(super) limits: Limits,
    pub(super) detection: Option<Detection>,
    pub(super) terms: Terms,
}

/// Bounds and times of the connections to one endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Terms {
    /// For the tunnel and what comes before it.
    pub(super) connect_timeout: Duration,
    pub(super) idle_timeout: Duration,
    pub(super) age: Option<Duration>,
    pub(super) requests_per_connection: u32,
    /// At a time, on a connection of HTTP/2.
    pub(super) streams: u32,
}

/// Which endpoints are asked before others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Nearness {
    /// As the service says.
    OfService,
    Failover(Failover),
    /// By labels in common with this waypoint's workload, each with the value that it must have if
    /// one is given.
    Labels(Vec<(Box<str>, Option<Box<str>>)>),
    Distribution(Distribution),
}

impl Destination {
    /// What a rule says about a port of its host and a subset of it; without a rule what holds for
    /// all.
    ///
    /// # Errors
    ///
    /// The rule has no such subset, or names a place that is none.
    pub(in crate::waypoint) fn new(
        rule: Option<&DestinationRule>,
        port: u16,
        subset: Option<&str>,
    ) -> Result<Self, DestinationError> {
        let mut destination = Self::default();
        let named = match subset {
            None => None,
            Some(name) => Some(
                rule.and_then(|rule| rule.subsets.iter().find(|subset| *subset.name == *name))
                    .ok_or_else(|| DestinationError::UnknownSubset(name.into()))?,
            ),
        };
        for policy in rule
            .iter()
            .map(|rule| &rule.policy)
            .chain(named.map(|subset: &Subset| &subset.policy))
        {
            let of_port = policy.ports.iter().find(|(of, _)| *of == port);
            destination.apply(of_port.map_or(&policy.general, |(_, of_port)| of_port))?;
        }
        if let Some(subset) = named {
            destination.labels.clone_from(&subset.labels);
        }
        Ok(destination)
    }

    /// By what requests stay with an endpoint, if they do.
    pub(in crate::waypoint) fn affinity(&self) -> Option<&AffinityKey> {
        self.affinity.as_ref()
    }

    /// What is said overrides what was, thing by thing.
    fn apply(&mut self, policy: &PortPolicy) -> Result<(), DestinationError> {
        if let Some(rule) = &policy.balance {
            self.choose_by(rule);
        }
        if let Some(rule) = &policy.locality {
            self.nearness = Nearness::of(rule)?;
        }
        if let Some(rule) = &policy.outliers {
            self.detection = Some(detection(rule));
            self.balance = self.balance.clone().panic_threshold(rule.min_health_percent.into());
        }
        self.limit(&policy.limits);
        Ok(())
    }

    fn choose_by(&mut self, rule: &BalanceRule) {
        self.affinity = None;
        let algorithm = match rule {
            BalanceRule::LeastRequest => Algorithm::LeastRequest,
            BalanceRule::RoundRobin => Algorithm::RoundRobin,
            BalanceRule::Random => Algorithm::Random,
            BalanceRule::Hash { key, table_size } => {
                self.affinity = affinity(key);
                let slots = table_size.unwrap_or(1024);
                Algorithm::Affinity {
                    slots: u32::try_from(slots).unwrap_or(u32::MAX),
                }
            }
            _ => return,
        };
        self.balance = self.balance.clone().algorithm(algorithm);
    }

    fn limit(&mut self, limits: &ConnectionLimits) {
        if let Some(connections) = limits.connections {
            self.limits = self.limits.connections(connections);
        }
        if let Some(pending) = limits.pending_requests {
            self.limits = self.limits.pending(pending);
        }
        if let Some(requests) = limits.requests {
            self.limits = self.limits.requests(requests);
        }
        if let Some(retries) = limits.retries {
            self.limits = self.limits.retries(RetryLimit::AtMost(retries));
        }
        let terms = &mut self.terms;
        terms.connect_timeout = limits.connect_timeout.unwrap_or(terms.connect_timeout);
        terms.idle_timeout = limits.idle_timeout.unwrap_or(terms.idle_timeout);
        terms.age = limits.connection_age.or(terms.age);
        if let Some(requests) = limits.requests_per_connection.filter(|requests| *requests > 0) {
            terms.requests_per_connection = requests;
        }
        if let Some(streams) = limits.streams {
            terms.streams = streams.max(1);
        }
    }
}

impl Default for Destination {
    /// Endpoints by how soon they answer; no limits but a budget for retries; nobody is ejected.
    fn default() -> Self {
        Self {
            // Istio's: panic is off.
            balance: Balance::new().panic_threshold(0),
            affinity: None,
            labels: Labels::new(),
            nearness: Nearness::OfService,
            limits: Limits::new(),
            detection: None,
            terms: Terms {
                connect_timeout: Duration::from_secs(10),
                idle_timeout: Duration::from_secs(60 * 60),
                age: None,
                requests_per_connection: u32::MAX,
                streams: 100,
            },
        }
    }
}

impl Nearness {
    fn of(rule: &LocalityRule) -> Result<Self, InvalidLocality> {
        if !rule.distribute.is_empty() {
            let mut distribution = Distribution::new();
            for shares in &rule.distribute {
                let to = shares.to.iter().map(|(place, share)| Ok((place.parse()?, *share)));
                let to: Vec<(LocalityPattern, u32)> = to.collect::<Result<_, InvalidLocality>>()?;
                distribution = distribution.rule(shares.from.parse()?, to);
            }
            return Ok(Self::Distribution(distribution));
        }
        if !rule.failover_priority.is_empty() {
            let label = |text: &str| match text.split_once('=') {
                Some((name, value)) => (name.into(), Some(value.into())),
                None => (text.into(), None),
            };
            return Ok(Self::Labels(
                rule.failover_priority.iter().map(|text| label(text)).collect(),
            ));
        }
        let regions = rule.failover.iter().cloned();
        let failover = regions.fold(Failover::new(), |failover, (from, to)| failover.region(from, to));
        Ok(Self::Failover(failover))
    }

    /// An endpoint's priority; `None` if it is as its service says.
    pub(super) fn priority(&self, here: &Workload, endpoint: &Workload) -> Option<u32> {
        match self {
            Self::OfService => None,
            Self::Distribution(_) => Some(0),
            Self::Failover(failover) => Some(failover.priority(&locality(here), &locality(endpoint))),
            Self::Labels(labels) => {
                let wanted: Vec<Option<&str>> = labels
                    .iter()
                    .map(|(name, value)| value.as_deref().or_else(|| label(here, name)))
                    .collect();
                let found: Vec<Option<&str>> = labels.iter().map(|(name, _)| label(endpoint, name)).collect();
                u32::try_from(labels.len() - common_labels(&wanted, &found)).ok()
            }
        }
    }

    /// Which share of the requests each of these localities gets.
    pub(super) fn shares(&self, here: &Workload, localities: &[(Locality, u32)]) -> Vec<Option<u32>> {
        match self {
            Self::Distribution(distribution) => distribution.shares(&locality(here), localities),
            _ => vec![None; localities.len()],
        }
    }
}

fn affinity(key: &HashKey) -> Option<AffinityKey> {
    Some(match key {
        HashKey::Header(name) => AffinityKey::header(name),
        HashKey::SourceIp => AffinityKey::SourceIp,
        HashKey::QueryParameter(name) => AffinityKey::QueryParameter(name.clone()),
        HashKey::Cookie { name, path, ttl } => {
            let cookie = Cookie::new(name.clone()).ttl(*ttl);
            AffinityKey::Cookie(match path {
                Some(path) => cookie.path(path.clone()),
                None => cookie,
            })
        }
        _ => return None,
    })
}

fn detection(rule: &OutlierRule) -> Detection {
    let detection = Detection::new()
        .consecutive_errors(rule.consecutive_5xx)
        .consecutive_gateway_errors(rule.consecutive_gateway)
        .interval(rule.interval)
        .base_ejection_time(rule.base_ejection)
        .max_ejection_percent(rule.max_ejection_percent.into());
    match rule.consecutive_local {
        Some(failures) => detection.split_local_failures(failures),
        None => detection,
    }
}

/// A rule does not say how requests reach what they are for.
#[derive(Debug, thiserror::Error)]
pub(in crate::waypoint) enum DestinationError {
    #[error("no DestinationRule has a subset `{0}` of the host")]
    UnknownSubset(Box<str>),
    #[error(transparent)]
    Locality(#[from] InvalidLocality),
}
