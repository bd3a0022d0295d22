use thiserror::Error;

use crate::{
    authz::Labels,
    traffic::destination::{DestinationPolicy, DestinationRule, PortPolicy, RetryBudgetRule},
};

/// What a DestinationRule says about a port, all its parts together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Merged {
    pub(super) port: PortPolicy,
    pub(super) retry_budget: Option<RetryBudgetRule>,
    /// The labels of endpoints that requests may go to; all, if there are none.
    pub(super) labels: Labels,
}

/// A rule has no subset of a name, so that there is no endpoint to send requests for it to.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("there is no subset `{}`", .subset.escape_debug())]
#[non_exhaustive]
pub struct UnknownSubset {
    /// The name.
    pub subset: Box<str>,
}

impl Merged {
    /// The rule's part about all endpoints, and over it the subset's.
    pub(super) fn of(rule: &DestinationRule, port: u16, subset: Option<&str>) -> Result<Self, UnknownSubset> {
        let mut merged = Self::default();
        merged.put(&rule.policy, port);
        if let Some(name) = subset {
            let subset = rule.subsets.iter().find(|subset| *subset.name == *name);
            let subset = subset.ok_or_else(|| UnknownSubset { subset: name.into() })?;
            merged.put(&subset.policy, port);
            merged.labels = subset.labels.clone();
        }
        Ok(merged)
    }

    /// What a policy says takes the place of what was said, and what it says about the port that of
    /// everything: for a port there is nothing that it does not say.
    fn put(&mut self, policy: &DestinationPolicy, port: u16) {
        let general = policy.general.clone();
        self.port.balancer = general.balancer.or(self.port.balancer.take());
        self.port.limits = general.limits.or(self.port.limits.take());
        self.port.outliers = general.outliers.or(self.port.outliers.take());
        self.retry_budget = policy.retry_budget.clone().or(self.retry_budget.take());
        if let Some((_, own)) = policy.ports.iter().find(|(number, _)| *number == port) {
            self.port = own.clone();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::destination::{BalanceRule, BalancerRule, ConnectionLimits, OutlierRule, Subset};

    fn port_policy(algorithm: Option<BalanceRule>, connections: Option<u32>, errors: Option<u32>) -> PortPolicy {
        PortPolicy {
            balancer: algorithm.map(|algorithm| BalancerRule {
                algorithm: Some(algorithm),
                ..BalancerRule::default()
            }),
            limits: connections.map(|connections| ConnectionLimits {
                connections: Some(connections),
                ..ConnectionLimits::default()
            }),
            outliers: errors.map(|consecutive_5xx| OutlierRule {
                consecutive_5xx,
                ..OutlierRule::default()
            }),
        }
    }

    #[test]
    fn a_port_comes_over_a_subset_and_that_over_the_rule() {
        use BalanceRule::{LeastRequest, Random, RoundRobin};
        let mut rule = DestinationRule::new("n", "r", "h".parse().unwrap());
        rule.policy.general = port_policy(Some(Random), Some(1), Some(1));
        rule.policy.ports = vec![
            (81, port_policy(None, Some(2), None)),
            (82, port_policy(None, Some(7), None)),
        ];
        rule.policy.retry_budget = Some(RetryBudgetRule::new(None, Some(9), None));
        let policy = DestinationPolicy {
            general: port_policy(Some(RoundRobin), None, Some(3)),
            ports: vec![(82, port_policy(Some(LeastRequest), None, None))],
            ..DestinationPolicy::default()
        };
        rule.subsets = vec![Subset::new("v1", Labels::new(), policy)];
        for (port, subset, expected) in [
            (80, None, port_policy(Some(Random), Some(1), Some(1))),
            // Nothing is inherited by a port.
            (81, None, port_policy(None, Some(2), None)),
            (80, Some("v1"), port_policy(Some(RoundRobin), Some(1), Some(3))),
            // But a subset says something about all ports.
            (81, Some("v1"), port_policy(Some(RoundRobin), Some(2), Some(3))),
            (82, Some("v1"), port_policy(Some(LeastRequest), None, None)),
        ] {
            let merged = Merged::of(&rule, port, subset).unwrap();
            assert_eq!(merged.port, expected, "{port} {subset:?}");
            assert_eq!(merged.retry_budget, rule.policy.retry_budget);
        }
        assert_eq!(
            Merged::of(&rule, 80, Some("v2")).unwrap_err().to_string(),
            "there is no subset `v2`"
        );
    }
}
