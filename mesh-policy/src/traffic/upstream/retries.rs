use std::{collections::HashMap, sync::Arc, time::Duration};

use crate::{
    authz::TargetRef,
    traffic::{model::by_age, retry},
};

/// How many attempts may be made again in a time: the Gateway API's `retryConstraint`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RetryConstraint {
    /// So many for a hundred requests of the interval. Default: 20.
    pub percent: u32,
    /// The interval. Default: 10 s.
    pub interval: Duration,
    /// So many in any case. Default: 10.
    pub at_least: u32,
    /// In this time. Default: 1 s.
    pub every: Duration,
}

impl RetryConstraint {
    /// A budget that nothing was taken of.
    pub fn budget(&self) -> retry::Budget {
        retry::Budget::new()
            .percent(self.percent)
            .interval(self.interval)
            .at_least(self.at_least, self.every)
    }
}

impl Default for RetryConstraint {
    fn default() -> Self {
        Self {
            percent: 20,
            interval: Duration::from_secs(10),
            at_least: 10,
            every: Duration::from_secs(1),
        }
    }
}

/// What all clients of some services do: the Gateway API's XBackendTrafficPolicy.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackendTrafficPolicy {
    /// Its namespace, which is that of the services.
    pub namespace: Box<str>,
    /// Its name.
    pub name: Box<str>,
    /// When it was created, as for routes: of several for a service the oldest counts.
    pub created: Option<Box<str>>,
    /// The services.
    pub targets: Vec<TargetRef>,
    /// How many attempts may be made again.
    pub retries: Option<RetryConstraint>,
}

impl BackendTrafficPolicy {
    /// A policy that says nothing about nobody.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
            created: None,
            targets: Vec::new(),
            retries: None,
        }
    }
}

/// The policies of a mesh, found by service.
#[derive(Clone, Debug, Default)]
pub struct BackendTrafficPolicies {
    /// By namespace and name of a service.
    services: HashMap<Box<str>, HashMap<Box<str>, Arc<BackendTrafficPolicy>>>,
}

impl BackendTrafficPolicies {
    /// Policies. Of several for a service the oldest counts, then the one whose name is less.
    pub fn new(policies: impl IntoIterator<Item = impl Into<Arc<BackendTrafficPolicy>>>) -> Self {
        let mut policies: Vec<Arc<BackendTrafficPolicy>> = policies.into_iter().map(Into::into).collect();
        policies.sort_by_cached_key(|policy| by_age(policy.created.clone(), policy.name.clone()));
        let mut services: HashMap<Box<str>, HashMap<_, _>> = HashMap::new();
        for policy in policies {
            let of_namespace = services.entry(policy.namespace.clone()).or_default();
            for target in policy.targets.iter().filter(|target| is_service(target)) {
                let policy = || Arc::clone(&policy);
                of_namespace.entry(target.name.as_str().into()).or_insert_with(policy);
            }
        }
        Self { services }
    }

    /// The policy of a service.
    pub fn find(&self, namespace: &str, service: &str) -> Option<&Arc<BackendTrafficPolicy>> {
        self.services.get(namespace)?.get(service)
    }
}

fn is_service(target: &TargetRef) -> bool {
    ["", "core"].contains(&target.group.as_str()) && target.kind == "Service"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_has_the_oldest_policy_of_its_namespace() {
        let policy = |namespace: &str, name: &str, created: Option<&str>| {
            let mut policy = BackendTrafficPolicy::new(namespace, name);
            policy.created = created.map(Into::into);
            policy.targets = vec![TargetRef::service("a"), TargetRef::gateway("g")];
            policy
        };
        let policies = BackendTrafficPolicies::new([
            policy("n", "b", None),
            policy("n", "c", Some("2026-01-01T00:00:00Z")),
            policy("m", "a", None),
        ]);
        let name = |namespace: &str, service: &str| policies.find(namespace, service).map(|found| &*found.name);
        assert_eq!((name("n", "a"), name("m", "a")), (Some("c"), Some("a")));
        assert_eq!((name("n", "g"), name("o", "a")), (None, None));
    }

    #[test]
    fn a_constraint_is_a_budget() {
        let second = Duration::from_secs(1);
        let constraint = RetryConstraint {
            percent: 50,
            interval: 2 * second,
            at_least: 1,
            every: second,
        };
        let budget = constraint.budget();
        (0..10).for_each(|_| budget.request(second));
        assert_eq!(budget.left(second), 5 + 2);
        assert_eq!(RetryConstraint::default().budget().left(second), 100);
    }
}
