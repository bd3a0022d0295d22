use std::{fmt, sync::Arc};

use super::{edit::HeaderEdits, fraction::share, redirect::Redirect, rewrite::Rewrite};

/// Where a rule sends requests, with weights.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Backends {
    list: Box<[Backend]>,
    total: u64,
}

impl Backends {
    /// All of these, each with the share that its weight is of the sum of all.
    pub fn new(list: Vec<Backend>) -> Self {
        let total = list.iter().map(|backend| u64::from(backend.weight)).sum();
        let list = list.into();
        Self { list, total }
    }

    /// All of them, those that lead nowhere, too.
    pub fn as_slice(&self) -> &[Backend] {
        &self.list
    }

    /// One of them, by a number that is drawn evenly from all 64-bit ones. None if there are none,
    /// or if all have the weight 0.
    pub fn pick(&self, draw: u64) -> Option<&Backend> {
        let mut left = share(draw, self.total);
        self.list.iter().find(|backend| {
            let weight = u64::from(backend.weight);
            let is_picked = left < weight;
            left = left.saturating_sub(weight);
            is_picked
        })
    }
}

impl FromIterator<Backend> for Backends {
    fn from_iter<I: IntoIterator<Item = Backend>>(list: I) -> Self {
        Self::new(list.into_iter().collect())
    }
}

/// One of several places that requests are sent to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Backend {
    /// Where that is.
    pub target: Target,
    /// Its share of the requests, together with the weights of the others. Default: 1.
    pub weight: u32,
    /// What becomes of the headers of requests that are sent there.
    pub request_headers: HeaderEdits,
    /// What becomes of the headers of its answers.
    pub response_headers: HeaderEdits,
    /// Where clients are sent instead of there.
    pub redirect: Option<Box<Redirect>>,
    /// What target and authority become, in place of what the rule makes of them.
    pub rewrite: Option<Box<Rewrite>>,
    /// Why nothing can be sent there. Its share of the requests fails: that of an invalid backend
    /// must not go to others.
    pub unresolved: Option<Unresolved>,
    /// Why its part of the rule cannot be carried out. Its share of the requests fails, too.
    pub invalid: Option<Box<Invalid>>,
}

impl Backend {
    /// A place for all requests that no other has a share of.
    pub fn new(target: Target) -> Self {
        Self {
            target,
            weight: 1,
            request_headers: HeaderEdits::default(),
            response_headers: HeaderEdits::default(),
            redirect: None,
            rewrite: None,
            unresolved: None,
            invalid: None,
        }
    }

    /// With another weight.
    #[must_use]
    pub fn weight(mut self, weight: u32) -> Self {
        self.weight = weight;
        self
    }
}

/// A place that requests can be sent to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Target {
    /// An object of Kubernetes: as a rule, a service.
    Object {
        /// The API group, empty for Kubernetes' core.
        group: Box<str>,
        /// The kind.
        kind: Box<str>,
        /// The namespace.
        namespace: Box<str>,
        /// The name.
        name: Box<str>,
        /// The port, which a service needs.
        port: Option<u16>,
    },
    /// A host of the mesh's registry, as Istio names it.
    Host {
        /// The namespace of the object that names it.
        namespace: Box<str>,
        /// The name. Without dots it is that of a service in the namespace.
        host: Box<str>,
        /// The port; none if the host has only one.
        port: Option<u16>,
        /// The subset of a DestinationRule.
        subset: Option<Box<str>>,
    },
}

impl Target {
    /// A port of a Kubernetes service.
    pub fn service(namespace: &str, name: &str, port: u16) -> Self {
        Self::Object {
            group: "".into(),
            kind: "Service".into(),
            namespace: namespace.into(),
            name: name.into(),
            port: Some(port),
        }
    }

    /// How it is to be looked for among the services of a mesh.
    ///
    /// A name without dots is one in the namespace of the object that names it, wherever the proxy or
    /// the service that the object is about may be, as Istio has it.
    ///
    /// ```
    /// use mesh_policy::traffic::{Looked, Target};
    ///
    /// let target = |host: &str| Target::Host {
    ///     namespace: "shop".into(),
    ///     host: host.into(),
    ///     port: None,
    ///     subset: None,
    /// };
    /// let (namespace, name) = ("shop", "reviews");
    /// assert_eq!(target("reviews").looked_for(), Looked::ByName { namespace, name });
    /// let host = "reviews.shop.svc.cluster.local";
    /// assert_eq!(target(host).looked_for(), Looked::ByHost { host, near: "shop" });
    /// ```
    pub fn looked_for(&self) -> Looked<'_> {
        match self {
            Self::Object { namespace, name, .. } => Looked::ByName { namespace, name },
            Self::Host { namespace, host, .. } if host.contains('.') => Looked::ByHost { host, near: namespace },
            Self::Host { namespace, host, .. } => Looked::ByName { namespace, name: host },
        }
    }
}

/// How a service is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Looked<'t> {
    /// By namespace and name.
    ByName {
        /// The namespace.
        namespace: &'t str,
        /// The name.
        name: &'t str,
    },
    /// By its full host name; of several, the one in a namespace comes first.
    ByHost {
        /// The host.
        host: &'t str,
        /// The namespace.
        near: &'t str,
    },
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (port, subset) = match self {
            Self::Object {
                namespace, name, port, ..
            } => {
                write!(f, "{namespace}/{name}")?;
                (port, &None)
            }
            Self::Host { host, port, subset, .. } => {
                f.write_str(host)?;
                (port, subset)
            }
        };
        if let Some(port) = port {
            write!(f, ":{port}")?;
        }
        subset.as_ref().map_or(Ok(()), |subset| write!(f, " subset {subset}"))
    }
}

/// Why what a rule says cannot be carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Invalid {
    /// The file that says it, and the line.
    pub place: Option<(Arc<str>, u32)>,
    /// What is wrong with it, in one line.
    pub reason: Box<str>,
}

impl Invalid {
    /// A reason, in one line.
    pub fn new(reason: impl Into<Box<str>>) -> Self {
        Self {
            place: None,
            reason: reason.into(),
        }
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((file, line)) = &self.place {
            write!(f, "{file}:{line}: ")?;
        }
        f.write_str(&self.reason)
    }
}

/// Why nothing can be sent to a backend, by the reasons of the Gateway API's `ResolvedRefs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Unresolved {
    /// It is of a kind that requests cannot be sent to.
    InvalidKind,
    /// There is no such object, or it has no such port.
    BackendNotFound,
    /// It is in another namespace, and no ReferenceGrant there permits the reference.
    RefNotPermitted,
}

impl fmt::Display for Unresolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InvalidKind => "InvalidKind",
            Self::BackendNotFound => "BackendNotFound",
            Self::RefNotPermitted => "RefNotPermitted",
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn backends(weights: &[u32]) -> Backends {
        let backend = |(port, weight): (usize, &u32)| {
            let target = Target::service("n", "a", port as u16);
            Backend::new(target).weight(*weight)
        };
        Backends::new(weights.iter().enumerate().map(backend).collect())
    }

    fn picked(backends: &Backends, draw: u64) -> Option<usize> {
        let picked = backends.pick(draw)?;
        backends.as_slice().iter().position(|backend| backend == picked)
    }

    #[test]
    fn nothing_goes_where_the_weight_is_zero() {
        assert_eq!(picked(&backends(&[]), 7), None);
        assert_eq!(picked(&backends(&[0, 0]), u64::MAX), None);
        for draw in [0, 1, u64::MAX / 2, u64::MAX] {
            assert_eq!(picked(&backends(&[0, 5, 0]), draw), Some(1));
        }
    }

    proptest! {
        #[test]
        fn shares_are_those_of_the_weights(weights in prop::collection::vec(0u32..100, 1..6)) {
            let total: u64 = weights.iter().copied().map(u64::from).sum();
            prop_assume!(total > 0);
            let backends = backends(&weights);
            let mut counts = vec![0; weights.len()];
            for step in 0..total {
                // The middle of each of as many intervals as there are units of weight.
                let draw = ((u128::from(2 * step + 1) << 63) / u128::from(total)) as u64;
                counts[picked(&backends, draw).unwrap()] += 1;
            }
            prop_assert_eq!(counts, weights);
        }
    }
}
