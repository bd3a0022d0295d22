use std::{sync::Arc, time::Duration};

use super::{
    balance::{Distribution, Failover, LabelOrder},
    fraction::Fraction,
    host::HostPattern,
};
use crate::authz::Labels;

/// How requests reach a host of the mesh: a DestinationRule of Istio.
///
/// Plain data, by the names and defaults of that API. What is `None` was not said, and leaves it to
/// the program. Rules that say the same are equal, wherever they were read.
#[derive(Clone, Debug, Eq)]
#[non_exhaustive]
pub struct DestinationRule {
    /// Its namespace.
    pub namespace: Box<str>,
    /// Its name.
    pub name: Box<str>,
    /// When it was created, as for routes: of several for a host the oldest counts first.
    pub created: Option<Box<str>>,
    /// The host, or several, or a short name in the rule's namespace.
    pub host: HostPattern,
    /// For all requests to the host.
    pub policy: DestinationPolicy,
    /// Parts of the host's endpoints, for rules that name them.
    pub subsets: Vec<Subset>,
    /// The namespaces that the rule counts in; all, if there are none.
    pub export_to: Vec<Box<str>>,
    /// The file that it was read from, and the line.
    pub place: Option<(Arc<str>, u32)>,
}

impl DestinationRule {
    /// A rule that says nothing.
    pub fn new(namespace: &str, name: &str, host: HostPattern) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
            created: None,
            host,
            policy: DestinationPolicy::default(),
            subsets: Vec::new(),
            export_to: Vec::new(),
            place: None,
        }
    }
}

impl PartialEq for DestinationRule {
    fn eq(&self, other: &Self) -> bool {
        let Self {
            namespace,
            name,
            created,
            host,
            policy,
            subsets,
            export_to,
            place: _,
        } = self;
        *namespace == other.namespace
            && *name == other.name
            && *created == other.created
            && *host == other.host
            && *policy == other.policy
            && *subsets == other.subsets
            && *export_to == other.export_to
    }
}

/// Some of a host's endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Subset {
    /// Its name.
    pub name: Box<str>,
    /// The labels that its endpoints have.
    pub labels: Labels,
    /// What differs for requests to it.
    pub policy: DestinationPolicy,
}

impl Subset {
    /// A subset by its labels.
    pub fn new(name: &str, labels: Labels, policy: DestinationPolicy) -> Self {
        let name = name.into();
        Self { name, labels, policy }
    }
}

/// What is said about requests to some endpoints.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DestinationPolicy {
    /// What is said about all ports.
    pub general: PortPolicy,
    /// What is said about single ports. Nothing of `general` counts for these.
    pub ports: Vec<(u16, PortPolicy)>,
    /// How many attempts may be made again.
    pub retry_budget: Option<RetryBudgetRule>,
}

/// What is said about a port, in parts that count each as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PortPolicy {
    /// Which endpoint gets a request.
    pub balancer: Option<BalancerRule>,
    /// How many connections and requests there may be.
    pub limits: Option<ConnectionLimits>,
    /// Which endpoints are left alone for a while.
    pub outliers: Option<OutlierRule>,
}

/// Which endpoint gets a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BalancerRule {
    /// How it is chosen.
    pub algorithm: Option<BalanceRule>,
    /// Which places are asked before others.
    pub locality: Option<LocalityRule>,
    /// How endpoints that have just become healthy are spared.
    pub warmup: Option<WarmupRule>,
}

/// How an endpoint is chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BalanceRule {
    /// The one with fewer requests of two by chance.
    LeastRequest,
    /// One after the other.
    RoundRobin,
    /// By chance.
    Random,
    /// The same one for the same key.
    Hash {
        /// The key.
        key: HashKey,
        /// The table's size that the API asks for, by its name: `minimumRingSize` or `tableSize`.
        table_size: Option<u64>,
    },
}

/// By what requests stay with an endpoint. A request without it goes by chance.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HashKey {
    /// The value of a header.
    Header(Box<str>),
    /// The value of a cookie.
    Cookie {
        /// The cookie's name.
        name: Box<str>,
        /// Its path.
        path: Option<Box<str>>,
        /// How long it lives; zero is as long as the browser runs. Without it none is made.
        ttl: Option<Duration>,
    },
    /// The client's address.
    SourceIp,
    /// The value of a parameter of the query.
    QueryParameter(Box<str>),
}

/// Which places are asked before others.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LocalityRule {
    /// None: where an endpoint is does not matter (`enabled: false`).
    Ignored,
    /// Near ones before far ones (`failover`).
    Near(Failover),
    /// Those of endpoints that share labels with the client (`failoverPriority`).
    Labels(LabelOrder),
    /// Requests are divided among them (`distribute`).
    Divided(Distribution),
}

/// How endpoints that have just become healthy are spared.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WarmupRule {
    /// For how long.
    pub duration: Duration,
    /// The share of their part that they begin with. Default: 10 %.
    pub minimum: Fraction,
    /// How it grows, in thousandths: 1,000 is evenly, which is the default.
    pub aggression: u32,
}

impl WarmupRule {
    /// A time, with the defaults for what is not there.
    pub fn new(duration: Duration, minimum: Option<Fraction>, aggression: Option<u32>) -> Self {
        Self {
            duration,
            minimum: minimum.unwrap_or(Fraction::of_hundred(10)),
            aggression: aggression.unwrap_or(1000),
        }
    }
}

/// How many connections and requests there may be at a time, for each proxy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectionLimits {
    /// Connections.
    pub connections: Option<u32>,
    /// How long making one may take. Istio's default is 10 s.
    pub connect_timeout: Option<Duration>,
    /// How long one may last.
    pub connection_age: Option<Duration>,
    /// How long one may be idle. Istio's default is 1 h.
    pub idle_timeout: Option<Duration>,
    /// How long one of HTTP may be idle, where that is another time.
    pub http_idle_timeout: Option<Duration>,
    /// Requests that wait for a connection.
    pub pending_requests: Option<u32>,
    /// Requests that are under way, of all versions of HTTP.
    pub requests: Option<u32>,
    /// Requests of one connection.
    pub requests_per_connection: Option<u32>,
    /// Attempts that are made again.
    pub retries: Option<u32>,
    /// Streams of one connection of HTTP/2.
    pub streams: Option<u32>,
}

/// How many attempts may be made again at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RetryBudgetRule {
    /// So many of the requests that are under way. Default: 20 %.
    pub share: Fraction,
    /// So many in any case. Default: 3.
    pub minimum: u32,
    /// The time over which requests are counted; `None` counts those under way.
    pub interval: Option<Duration>,
}

impl RetryBudgetRule {
    /// A budget, with the defaults for what is not there.
    pub fn new(share: Option<Fraction>, minimum: Option<u32>, interval: Option<Duration>) -> Self {
        Self {
            share: share.unwrap_or(Fraction::of_hundred(20)),
            minimum: minimum.unwrap_or(3),
            interval,
        }
    }
}

/// Which endpoints are left alone for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OutlierRule {
    /// After so many statuses of 500 and above in a row; 0 is never. Default: 5.
    pub consecutive_5xx: u32,
    /// After so many of 502, 503 and 504 in a row; 0, the default, is never.
    pub consecutive_gateway: u32,
    /// After so many failures of our own in a row, such as connections that were not made. Default:
    /// 5; `None` counts those as statuses of 500.
    pub consecutive_local: Option<u32>,
    /// How often endpoints are looked at. Default: 10 s.
    pub interval: Duration,
    /// For how long they are left alone, times how often they were. Default: 30 s.
    pub base_ejection: Duration,
    /// At most so many of all endpoints, in percent. Default: 10.
    pub max_ejection_percent: u8,
    /// None is left alone while fewer than this are healthy, in percent. Default: 0.
    pub min_health_percent: u8,
}

impl Default for OutlierRule {
    fn default() -> Self {
        Self {
            consecutive_5xx: 5,
            consecutive_gateway: 0,
            consecutive_local: None,
            interval: Duration::from_secs(10),
            base_ejection: Duration::from_secs(30),
            max_ejection_percent: 10,
            min_health_percent: 0,
        }
    }
}
