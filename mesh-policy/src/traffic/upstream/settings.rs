use std::time::Duration;

use super::{
    merge::{Merged, UnknownSubset},
    retries::{BackendTrafficPolicy, RetryConstraint},
};
use crate::{
    authz::Labels,
    traffic::{
        balance::{AffinityKey, Algorithm, Balance, Cookie, Distribution, Failover, LabelOrder, Warmup},
        breaker::{Limits, RetryLimit},
        destination::{
            BalanceRule, BalancerRule, ConnectionLimits, DestinationRule, HashKey, LocalityRule, OutlierRule,
            RetryBudgetRule, WarmupRule,
        },
        model::Retries,
        outlier::Detection,
        retry::Policy,
        timeout::Timeouts,
    },
};

/// How the endpoints of a service are reached, by a port and perhaps as a subset.
///
/// Values for the deciders, each of which is made of its part anew when the part changes. Defaults
/// are Istio's, with two exceptions: an endpoint is chosen by [`Algorithm::PeakEwma`] unless a rule
/// names another way, and retries have a budget of 20 % unless a rule says how many there may be.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Settings {
    /// The labels of endpoints that requests may go to; all, if there are none.
    pub labels: Labels,
    /// How an endpoint is chosen.
    pub balance: Balance,
    /// By what requests belong to one, with [`Algorithm::Affinity`].
    pub affinity: Option<AffinityKey>,
    /// Which places are asked before others.
    pub places: Places,
    /// How endpoints that have just become healthy are spared.
    pub warmup: Option<Warmup>,
    /// How much may be in use at a time.
    pub limits: Limits,
    /// How many attempts may be made again in a time, beside `limits`.
    pub retry_constraint: Option<RetryConstraint>,
    /// Which endpoints are left alone for a while.
    pub detection: Option<Detection>,
    /// How long making a connection may take. Default: 10 s.
    pub connect_timeout: Duration,
    /// How long a connection of HTTP may be idle; `None` is without end. Default: 1 h.
    pub idle_timeout: Option<Duration>,
    /// How long nothing may move on a connection for what is no HTTP; `None` is without end.
    /// Default: 1 h.
    pub tcp_idle_timeout: Option<Duration>,
    /// How long a connection may last; `None`, the default, is without end.
    pub connection_age: Option<Duration>,
    /// How many requests a connection may be used for; `None`, the default, is any number.
    pub requests_per_connection: Option<u32>,
    /// How many streams a connection may have at a time; `None`, the default, leaves it to the other
    /// end.
    pub streams_per_connection: Option<u32>,
}

/// Which places of endpoints are asked before others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Places {
    /// None is said here to be: the service itself may prefer some. If it does not either, Istio takes
    /// near ones first where failures are [detected](Settings::detection), unless its mesh's
    /// configuration says otherwise.
    #[default]
    Unsaid,
    /// None, whatever the service prefers.
    Alike,
    /// Near ones before far ones, by [`Endpoint::priority`](crate::traffic::balance::Endpoint::priority).
    Near(Failover),
    /// Those of endpoints that share labels with the client, in the same way.
    Labels(LabelOrder),
    /// Requests are divided among them, by
    /// [`Endpoint::locality_share`](crate::traffic::balance::Endpoint::locality_share).
    Divided(Distribution),
}

impl Settings {
    /// Those of a service that nothing is said about.
    pub fn new() -> Self {
        Self::from(Merged::default())
    }

    /// What a rule comes to: what it says about a port comes over what it says about a subset, and
    /// that over what it says about all.
    ///
    /// # Errors
    ///
    /// The rule has no such subset: its requests have nowhere to go.
    pub fn of(rule: &DestinationRule, port: u16, subset: Option<&str>) -> Result<Self, UnknownSubset> {
        Merged::of(rule, port, subset).map(Self::from)
    }

    /// The same with what the service's own policy says, which counts beside `limits`.
    #[must_use]
    pub fn with_policy(mut self, policy: &BackendTrafficPolicy) -> Self {
        self.retry_constraint = policy.retries.clone().or(self.retry_constraint);
        self
    }

    /// How requests of a route's rule are tried again; without a word of the rule as
    /// [`Policy::new`] has it.
    pub fn retry_policy(&self, retries: Option<&Retries>, timeouts: &Timeouts) -> Policy {
        let attempt = retries.and_then(|retries| retries.attempt_timeout).or(timeouts.attempt);
        let mut policy = Policy::new().attempt_timeout(attempt);
        let mut elsewhere = None;
        if let Some(retries) = retries {
            policy = policy.retries(retries.attempts);
            if let Some(conditions) = &retries.conditions {
                policy = policy.conditions(conditions.clone());
            }
            if let Some(backoff) = retries.backoff {
                policy = policy.backoff(backoff);
            }
            elsewhere = retries.ignore_previous_hosts;
        }
        policy.elsewhere(elsewhere.unwrap_or(self.affinity.is_none()))
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self::new()
    }
}

impl From<Merged> for Settings {
    fn from(merged: Merged) -> Self {
        let Merged {
            port,
            retry_budget,
            labels,
        } = merged;
        let BalancerRule {
            algorithm,
            locality,
            warmup,
        } = port.balancer.unwrap_or_default();
        let limits = port.limits.unwrap_or_default();
        let tcp_idle_timeout = limits.idle_timeout.unwrap_or(Duration::from_secs(3_600));
        let panic = port.outliers.as_ref().map_or(0, |rule| rule.min_health_percent);
        let balance = Balance::new().panic_threshold(panic.into());
        let warms = matches!(
            algorithm,
            None | Some(BalanceRule::LeastRequest | BalanceRule::RoundRobin)
        );
        Self {
            labels,
            balance: match &algorithm {
                Some(rule) => balance.algorithm(self::algorithm(rule)),
                // An endpoint that is new is spared by its weight, which this looks at.
                None if warmup.is_some() => balance.algorithm(Algorithm::LeastRequest),
                None => balance,
            },
            affinity: algorithm.as_ref().and_then(affinity),
            places: places(locality, port.outliers.is_some()),
            warmup: warmup.filter(|_| warms).map(|rule| self::warmup(&rule)),
            retry_constraint: retry_budget.as_ref().and_then(constraint),
            limits: breaker(&limits, retry_budget.as_ref()),
            detection: port.outliers.as_ref().map(detection),
            connect_timeout: limits.connect_timeout.unwrap_or(Duration::from_secs(10)),
            idle_timeout: some(limits.http_idle_timeout.unwrap_or(tcp_idle_timeout)),
            tcp_idle_timeout: some(tcp_idle_timeout),
            connection_age: limits.connection_age.and_then(some),
            requests_per_connection: limits.requests_per_connection,
            streams_per_connection: limits.streams,
        }
    }
}

fn some(time: Duration) -> Option<Duration> {
    (!time.is_zero()).then_some(time)
}

fn algorithm(rule: &BalanceRule) -> Algorithm {
    match rule {
        BalanceRule::LeastRequest => Algorithm::LeastRequest,
        BalanceRule::RoundRobin => Algorithm::RoundRobin,
        BalanceRule::Random => Algorithm::Random,
        BalanceRule::Hash { table_size, .. } => Algorithm::Affinity {
            slots: u32::try_from(table_size.unwrap_or(1_024)).unwrap_or(u32::MAX),
        },
    }
}

fn affinity(rule: &BalanceRule) -> Option<AffinityKey> {
    let BalanceRule::Hash { key, .. } = rule else {
        return None;
    };
    Some(match key {
        HashKey::Header(name) => AffinityKey::header(name),
        HashKey::SourceIp => AffinityKey::SourceIp,
        HashKey::QueryParameter(name) => AffinityKey::QueryParameter(name.clone()),
        HashKey::Cookie { name, path, ttl } => {
            let mut cookie = Cookie::new(name.clone());
            if let Some(ttl) = ttl {
                cookie = cookie.ttl(*ttl);
            }
            if let Some(path) = path {
                cookie = cookie.path(path.clone());
            }
            AffinityKey::Cookie(cookie)
        }
    })
}

/// Istio turns to other places only where it is found out which endpoints fail. What a rule does not
/// say is not said here: the service's own word may be that no other place is asked.
fn places(rule: Option<LocalityRule>, detects: bool) -> Places {
    match rule {
        Some(LocalityRule::Ignored) => Places::Alike,
        Some(LocalityRule::Divided(distribution)) => Places::Divided(distribution),
        Some(LocalityRule::Labels(order)) if detects => Places::Labels(order),
        Some(LocalityRule::Near(failover)) if detects => Places::Near(failover),
        _ => Places::Unsaid,
    }
}

fn warmup(rule: &WarmupRule) -> Warmup {
    Warmup::new(rule.duration)
        .minimum(rule.minimum.in_hundred())
        .aggression(f64::from(rule.aggression) / 1_000.0)
}

fn breaker(limits: &ConnectionLimits, budget: Option<&RetryBudgetRule>) -> Limits {
    let of = |limit: Option<u32>| limit.unwrap_or(u32::MAX);
    let breaker = Limits::new()
        .connections(of(limits.connections))
        .pending(of(limits.pending_requests))
        .requests(of(limits.requests));
    match (budget, limits.retries) {
        // Those of an interval are counted there.
        (Some(budget), _) if budget.interval.is_some() => breaker.retries(RetryLimit::AtMost(u32::MAX)),
        (Some(budget), _) => breaker.retries(RetryLimit::Budget {
            percent: budget.share.in_hundred(),
            at_least: budget.minimum,
        }),
        (None, Some(retries)) => breaker.retries(RetryLimit::AtMost(retries)),
        (None, None) => breaker,
    }
}

fn constraint(rule: &RetryBudgetRule) -> Option<RetryConstraint> {
    let interval = rule.interval?;
    Some(RetryConstraint {
        percent: rule.share.in_hundred(),
        interval,
        at_least: rule.minimum,
        every: interval,
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
