use super::locality::Locality;

/// An endpoint of a service, as it is put into an [`EndpointSet`](super::EndpointSet).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint<T> {
    key: Box<str>,
    target: T,
    pub(super) weight: u32,
    pub(super) priority: u32,
    pub(super) locality: Locality,
    pub(super) share: Option<u32>,
    pub(super) health: Health,
}

impl<T> Endpoint<T> {
    /// An endpoint of weight 1 in the best priority, healthy, at no known place.
    ///
    /// The `key` names it within its set and over updates, and decides which affinities fall to it;
    /// an address with its port is a good one. The `target` is the caller's: what it needs to
    /// reach the endpoint.
    pub fn new(key: impl Into<Box<str>>, target: T) -> Self {
        Self {
            key: key.into(),
            target,
            weight: 1,
            priority: 0,
            locality: Locality::default(),
            share: None,
            health: Health::Healthy,
        }
    }

    /// How much it takes beside others of its level: twice the weight, twice the requests. Default 1,
    /// which zero counts as too, as in Istio.
    #[must_use]
    pub fn weight(mut self, weight: u32) -> Self {
        self.weight = weight.max(1);
        self
    }

    /// Its level; 0, the default, is the best. Numbers may leave gaps.
    #[must_use]
    pub fn priority(mut self, priority: u32) -> Self {
        self.priority = priority;
        self
    }

    /// Where it is.
    #[must_use]
    pub fn locality(mut self, locality: Locality) -> Self {
        self.locality = locality;
        self
    }

    /// How much of its level's requests its locality gets, as a weight beside those of other
    /// localities: that of the locality's first endpoint counts. If no endpoint of a level has one,
    /// localities do not matter within it; if only some have, the localities of the others get
    /// nothing. Default: none.
    #[must_use]
    pub fn locality_share(mut self, share: Option<u32>) -> Self {
        self.share = share;
        self
    }

    /// How it is. Default: healthy.
    #[must_use]
    pub fn health(mut self, health: Health) -> Self {
        self.health = health;
        self
    }

    /// What names it.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// What the caller gave with it.
    pub fn target(&self) -> &T {
        &self.target
    }
}

/// How an endpoint is, by whatever the caller learnt about it: a control plane's word, a health
/// check, [outlier detection](crate::traffic::outlier).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Health {
    /// It gets requests.
    #[default]
    Healthy,
    /// It gets requests that healthy endpoints have no room for.
    Degraded,
    /// It gets requests only in panic.
    Unhealthy,
}

/// Names an endpoint among those of a set and of all sets that came of it by updates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EndpointId(pub(super) u64);
