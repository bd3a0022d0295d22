use std::sync::Arc;

use super::{bucket::Limit, descriptor::Descriptors};
use crate::authz::TargetRef;

/// How many requests are too many for services, or for rules of routes.
///
/// An object of our own kind, as neither Istio nor the Gateway API has one. Of several for the same
/// requests all count. Policies that say the same are equal, wherever they were read.
#[derive(Clone, Debug, Eq)]
#[non_exhaustive]
pub struct RateLimitPolicy {
    /// Its namespace, which is that of what it is for.
    pub namespace: Box<str>,
    /// Its name.
    pub name: Box<str>,
    /// What it is for. Each has limits of its own.
    pub targets: Vec<LimitTarget>,
    /// What a proxy counts for itself.
    pub limits: Vec<LocalLimit>,
    /// What a rate limit service is asked about.
    pub descriptors: Descriptors,
    /// The file that it was read from, and the line.
    pub place: Option<(Arc<str>, u32)>,
}

impl RateLimitPolicy {
    /// A policy without limits for nothing.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
            targets: Vec::new(),
            limits: Vec::new(),
            descriptors: Descriptors::new(),
            place: None,
        }
    }
}

impl PartialEq for RateLimitPolicy {
    fn eq(&self, other: &Self) -> bool {
        let Self {
            namespace,
            name,
            targets,
            limits,
            descriptors,
            place: _,
        } = self;
        *namespace == other.namespace
            && *name == other.name
            && *targets == other.targets
            && *limits == other.limits
            && *descriptors == other.descriptors
    }
}

/// Whose requests are limited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitTarget {
    /// A service, of Kubernetes or by a ServiceEntry; or a route.
    pub object: TargetRef,
    /// The name of a rule of the route; all rules, if it is not there.
    pub rule: Option<Box<str>>,
}

/// A limit that a proxy counts for itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalLimit {
    /// Its name, for reports.
    pub name: Option<Box<str>>,
    /// How many requests there may be.
    pub limit: Limit,
    /// For whom.
    pub by: LimitKey,
}

/// For whom a limit counts.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LimitKey {
    /// For all together.
    Everyone,
    /// For each client by its identity, and for all without one together.
    Identity {
        /// How many clients are counted at a time.
        keys: usize,
    },
    /// For each value of a header, of each client by its identity. Requests without the header are
    /// not limited.
    Header {
        /// The header's name, in lower case. `host` is the authority.
        name: Box<str>,
        /// How many values are counted at a time.
        keys: usize,
    },
}

impl LimitKey {
    /// How many keys are counted unless it is said: 10,000, in 160 kB.
    pub const KEYS: usize = 10_000;

    /// How many keys may be counted: 1,048,576, in 16 MiB.
    pub const MOST_KEYS: usize = 1 << 20;
}
