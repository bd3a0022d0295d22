use std::time::Duration;

use super::{duration, metadata::Metadata, reference::services};
use crate::{
    manifest::{Object, Problem},
    traffic::upstream::{BackendTrafficPolicy, RetryConstraint},
};

pub(super) fn read(metadata: &Metadata, mut spec: Object) -> Result<BackendTrafficPolicy, Problem> {
    let mut policy = BackendTrafficPolicy::new(&metadata.namespace, &metadata.name);
    policy.created.clone_from(&metadata.created);
    policy.targets = services(&mut spec)?;
    policy.retries = spec.object("retryConstraint")?.map(constraint).transpose()?;
    spec.refuse(&["sessionPersistence"])?;
    spec.finish()?;
    Ok(policy)
}

fn constraint(mut object: Object) -> Result<RetryConstraint, Problem> {
    let mut constraint = RetryConstraint::default();
    if let Some(mut budget) = object.object("budget")? {
        let percent = budget.mapped("percent", |text| text.parse().ok().filter(|percent| *percent <= 100))?;
        constraint.percent = percent.unwrap_or(constraint.percent);
        constraint.interval = budget.mapped("interval", interval)?.unwrap_or(constraint.interval);
        budget.finish()?;
    }
    if let Some(mut rate) = object.object("minRetryRate")? {
        let count = rate.mapped("count", |text| {
            text.parse().ok().filter(|count| (1..=1_000_000).contains(count))
        })?;
        constraint.at_least = count.unwrap_or(constraint.at_least);
        constraint.every = rate.mapped("interval", interval)?.unwrap_or(constraint.every);
        rate.finish()?;
    }
    object.finish()?;
    Ok(constraint)
}

/// From a second to an hour.
fn interval(text: &str) -> Option<Duration> {
    let range = Duration::from_secs(1)..=Duration::from_secs(3_600);
    duration::gateway_api(text).filter(|interval| range.contains(interval))
}
