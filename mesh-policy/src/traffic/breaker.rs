//! How much of a service's capacity may be in use at a time: Envoy's circuit breakers, Istio's
//! `connectionPool`.
//!
//! A [`Breaker`] counts what is in use, and what would be too much is turned away at once, because a
//! queue in front of a service that is too slow only makes it slower. Envoy's answer is a 503 with
//! `x-envoy-overloaded` and the flag UO.
//!
//! ```
//! use mesh_policy::traffic::breaker::{Breaker, Limits, Resource};
//!
//! let breaker = Breaker::new(Limits::new().requests(1));
//! let permit = breaker.acquire(Resource::Requests)?;
//! let overflow = breaker.acquire(Resource::Requests).err().ok_or("there was room")?;
//! assert_eq!(overflow.to_string(), "1 of 1 requests are in use");
//! drop(permit);
//! assert!(breaker.acquire(Resource::Requests).is_ok());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use thiserror::Error;

/// Something that a [`Breaker`] counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Resource {
    /// Connections to endpoints (`tcp.maxConnections`).
    Connections,
    /// Requests that wait for a connection (`http1MaxPendingRequests`).
    Pending,
    /// Requests under way (`http2MaxRequests`).
    Requests,
    /// Retries under way, which are requests too (`maxRetries`).
    Retries,
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connections => "connections",
            Self::Pending => "pending requests",
            Self::Requests => "requests",
            Self::Retries => "retries",
        })
    }
}

/// How much of each [`Resource`] may be in use. By default as much as there is, as in Istio, but for
/// retries, which have a budget here. Envoy's own defaults are 1,024 connections, pending requests and
/// requests, and 3 retries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    connections: u32,
    pending: u32,
    requests: u32,
    retries: RetryLimit,
}

/// How many retries may be under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RetryLimit {
    /// So many. Envoy's default is 3.
    AtMost(u32),
    /// A part of the requests that are under way or pending (`retryBudget`), so that retries grow
    /// with a service's load and not with its failures.
    Budget {
        /// How many for a hundred requests. Istio's and Envoy's default is 20.
        percent: u32,
        /// How many at least, however few the requests. Istio's and Envoy's default is 3.
        at_least: u32,
    },
}

impl Limits {
    /// The default of every resource: no limit, and for retries a budget of 20 percent, at least 3.
    pub fn new() -> Self {
        Self {
            connections: u32::MAX,
            pending: u32::MAX,
            requests: u32::MAX,
            retries: RetryLimit::Budget {
                percent: 20,
                at_least: 3,
            },
        }
    }

    /// The most connections.
    #[must_use]
    pub fn connections(mut self, connections: u32) -> Self {
        self.connections = connections;
        self
    }

    /// The most requests that wait for a connection.
    #[must_use]
    pub fn pending(mut self, pending: u32) -> Self {
        self.pending = pending;
        self
    }

    /// The most requests under way.
    #[must_use]
    pub fn requests(mut self, requests: u32) -> Self {
        self.requests = requests;
        self
    }

    /// The most retries under way.
    #[must_use]
    pub fn retries(mut self, retries: RetryLimit) -> Self {
        self.retries = retries;
        self
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::new()
    }
}

/// Counts what of a service is in use. Clones count together.
#[derive(Clone, Debug)]
pub struct Breaker {
    limits: Limits,
    in_use: Arc<InUse>,
}

#[derive(Debug, Default)]
struct InUse {
    counts: [AtomicU32; 4],
}

impl Breaker {
    /// A breaker with nothing in use.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            in_use: Arc::default(),
        }
    }

    /// The same with other limits: what is in use still counts, and above a lower limit nothing is
    /// granted until enough of it has ended.
    #[must_use]
    pub fn with_limits(&self, limits: Limits) -> Self {
        Self {
            limits,
            in_use: Arc::clone(&self.in_use),
        }
    }

    /// One more of a resource, until the permit is dropped. Never are more granted than the limit,
    /// by however many threads they are asked for.
    ///
    /// # Errors
    ///
    /// The limit is reached.
    pub fn acquire(&self, resource: Resource) -> Result<Permit, Overflow> {
        let limit = self.limit(resource);
        let count = self.in_use.of(resource);
        let mut used = count.load(Ordering::SeqCst);
        while used < limit {
            match count.compare_exchange_weak(used, used + 1, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => {
                    return Ok(Permit {
                        in_use: Arc::clone(&self.in_use),
                        resource,
                    });
                }
                Err(current) => used = current,
            }
        }
        Err(Overflow { resource, used, limit })
    }

    /// How much of a resource is in use.
    pub fn in_use(&self, resource: Resource) -> u32 {
        self.in_use.of(resource).load(Ordering::SeqCst)
    }

    /// How much of a resource may be in use now.
    pub fn limit(&self, resource: Resource) -> u32 {
        match (resource, self.limits.retries) {
            (Resource::Connections, _) => self.limits.connections,
            (Resource::Pending, _) => self.limits.pending,
            (Resource::Requests, _) => self.limits.requests,
            (Resource::Retries, RetryLimit::AtMost(retries)) => retries,
            (Resource::Retries, RetryLimit::Budget { percent, at_least }) => {
                let requests = u64::from(self.in_use(Resource::Requests)) + u64::from(self.in_use(Resource::Pending));
                let part = requests * u64::from(percent) / 100;
                u32::try_from(part).unwrap_or(u32::MAX).max(at_least)
            }
        }
    }
}

impl InUse {
    fn of(&self, resource: Resource) -> &AtomicU32 {
        let [connections, pending, requests, retries] = &self.counts;
        match resource {
            Resource::Connections => connections,
            Resource::Pending => pending,
            Resource::Requests => requests,
            Resource::Retries => retries,
        }
    }
}

/// One of a resource, until this is dropped.
#[must_use = "it is given back when this is dropped"]
#[derive(Debug)]
pub struct Permit {
    in_use: Arc<InUse>,
    resource: Resource,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.in_use.of(self.resource).fetch_sub(1, Ordering::SeqCst);
    }
}

/// There is no more of a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{used} of {limit} {resource} are in use")]
#[non_exhaustive]
pub struct Overflow {
    /// Of what.
    pub resource: Resource,
    /// How much is in use.
    pub used: u32,
    /// How much may be.
    pub limit: u32,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: [Resource; 4] = [
        Resource::Connections,
        Resource::Pending,
        Resource::Requests,
        Resource::Retries,
    ];

    fn hold(breaker: &Breaker, resource: Resource, count: usize) -> Vec<Permit> {
        (0..count).map(|_| breaker.acquire(resource).unwrap()).collect()
    }

    #[test]
    fn a_budget_is_a_part_of_the_requests_and_at_least_some() {
        for (requests, pending, retries) in [(25, 0, 5), (2, 0, 3), (0, 0, 3), (20, 30, 10), (29, 0, 5)] {
            let breaker = Breaker::new(Limits::new());
            let held = (
                hold(&breaker, Resource::Requests, requests),
                hold(&breaker, Resource::Pending, pending),
                hold(&breaker, Resource::Retries, retries),
            );
            let overflow = breaker.acquire(Resource::Retries).unwrap_err();
            assert_eq!((overflow.used, overflow.limit), (retries as u32, retries as u32));
            drop(held);
            assert!(ALL.iter().all(|resource| breaker.in_use(*resource) == 0));
        }
    }

    #[test]
    fn what_is_in_use_counts_against_new_limits() {
        let breaker = Breaker::new(Limits::new().connections(5));
        let mut held = hold(&breaker, Resource::Connections, 5);
        let lower = breaker.with_limits(Limits::new().connections(3));
        held.truncate(3);
        assert_eq!(
            lower.acquire(Resource::Connections).unwrap_err().to_string(),
            "3 of 3 connections are in use"
        );
        held.pop();
        assert!(lower.acquire(Resource::Connections).is_ok());
        let retries = breaker.with_limits(Limits::new().retries(RetryLimit::AtMost(0)));
        assert!(retries.acquire(Resource::Retries).is_err());
    }

    proptest! {
        #[test]
        fn grants_what_a_plain_count_would(
            limits in [0_u32..4, 0_u32..4, 0_u32..4, 0_u32..4],
            steps in prop::collection::vec((0_usize..4, any::<bool>()), 0..200),
        ) {
            let [connections, pending, requests, retries] = limits;
            let limit = Limits::new()
                .connections(connections)
                .pending(pending)
                .requests(requests)
                .retries(RetryLimit::AtMost(retries));
            let breaker = Breaker::new(limit);
            let mut held: [Vec<Permit>; 4] = Default::default();
            for (resource, acquires) in steps {
                if acquires {
                    let granted = breaker.acquire(ALL[resource]);
                    prop_assert_eq!(granted.is_ok(), held[resource].len() < limits[resource] as usize);
                    held[resource].extend(granted);
                } else {
                    held[resource].pop();
                }
                prop_assert_eq!(breaker.in_use(ALL[resource]) as usize, held[resource].len());
            }
        }
    }

    #[test]
    fn threads_get_no_more_than_the_limit() {
        let breaker = Breaker::new(Limits::new().requests(3));
        let most = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..10_000 {
                        if let Ok(permit) = breaker.acquire(Resource::Requests) {
                            most.fetch_max(breaker.in_use(Resource::Requests), Ordering::SeqCst);
                            drop(permit);
                        }
                    }
                });
            }
        });
        assert!(most.into_inner() <= 3 && breaker.in_use(Resource::Requests) == 0);
    }
}
