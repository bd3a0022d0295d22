//! What became of rate limits.

use mesh_policy::traffic::Route;
use mesh_policy::traffic::rate::{LimitTarget, RateLimitPolicy};

use super::super::super::objects::{Key, Meaning, Name, Objects};
use super::Condition;

/// What became of a policy that limits requests; `programmed` says who is told of it.
pub(super) fn conditions(policy: &RateLimitPolicy, objects: &Objects, mut programmed: Condition) -> Vec<Condition> {
    let missing = policy
        .targets
        .iter()
        .filter(|target| !is_there(policy, target, objects));
    let missing: Vec<String> = missing.map(|target| format!("there is no {}", shown(target))).collect();
    let message = missing.join(", ");
    if missing.len() == policy.targets.len() {
        return vec![
            Condition::is_not("Accepted", "TargetNotFound", message),
            Condition::is_not("Programmed", "NotAccepted", ""),
        ];
    }
    if programmed.is_true && !policy.descriptors.is_empty() {
        programmed.message = "descriptors count where a waypoint's configuration has `external.limits`".to_owned();
    }
    let mut conditions = vec![Condition::is_so("Accepted"), programmed];
    if !missing.is_empty() {
        conditions.push(Condition {
            kind: "PartiallyInvalid",
            is_true: true,
            reason: "TargetNotFound".to_owned(),
            message,
        });
    }
    conditions
}

fn is_there(policy: &RateLimitPolicy, target: &LimitTarget, objects: &Objects) -> bool {
    let key = Key {
        namespace: policy.namespace.to_string(),
        name: target.object.name.clone(),
    };
    match &*target.object.kind {
        "Service" => return objects.services.contains_key(&key),
        "ServiceEntry" => return objects.service_entries.contains_key(&key),
        _ => {}
    }
    let name = Name {
        kind: target.object.kind.clone(),
        key,
    };
    let told = objects.traffic.told.get(&name);
    let route: Option<&Route> = told.and_then(|told| match &told.meaning {
        Meaning::Route(route) => Some(&**route),
        Meaning::VirtualService(service) => Some(&*service.route),
        _ => None,
    });
    route.is_some_and(|route| {
        let mut names = route.rules.iter().map(|rule| rule.name.as_ref());
        target.rule.is_none() || names.any(|name| name == target.rule.as_ref())
    })
}

fn shown(target: &LimitTarget) -> String {
    let object = &target.object;
    let rule = target.rule.as_ref().map(|rule| format!("rule `{rule}` of "));
    format!("{}{} `{}`", rule.unwrap_or_default(), object.kind, object.name)
}
