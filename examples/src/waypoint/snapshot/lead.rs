//! Where routes lead, and how requests get there.

use std::collections::HashMap;
use std::sync::Arc;

use mesh_policy::authz::attach::ServiceKind;
use mesh_policy::traffic::{Looked, Target};
use mesh_xds::store::{self, Service};

use super::build::{Named, kind};
use super::frame::Terms;
use super::index::Index;
use super::{Destination, Routes, Served, Snapshot};
use crate::waypoint::addressee::Addressee;

/// Finds out where routes lead, and how requests get there and to the services themselves.
pub(super) fn lead(
    snapshot: &mut Snapshot,
    terms: &Terms,
    index: &Index<'_>,
    named: &Named<'_>,
    before: Option<&Snapshot>,
) {
    let mut found: HashMap<&Target, Option<(&Arc<Service>, u16)>> = HashMap::new();
    for target in snapshot.served.values().flat_map(|served| targets(served)) {
        found
            .entry(target)
            .or_insert_with(|| service(&snapshot.mesh, named, target));
    }
    let (mut rules, mut policies) = (HashMap::new(), HashMap::new());
    let own = snapshot.served.values().filter_map(|served| served.to.service());
    for service in own.chain(found.values().flatten().map(|(service, _)| *service)) {
        let (namespace, key) = (&*service.namespace, &service.key);
        if !rules.contains_key(key)
            && let Some(rule) = index.rules.find(&terms.namespace, namespace, &service.hostname)
        {
            let before = before.and_then(|before| before.rule(key));
            rules.insert(Arc::clone(key), same(rule, before));
        }
        if !policies.contains_key(key)
            && kind(service) == ServiceKind::Service
            && let Some(policy) = index.backend_policies.find(namespace, &service.name)
        {
            let before = before.and_then(|before| before.backend_policy(key));
            policies.insert(Arc::clone(key), same(policy, before));
        }
    }
    let targets = found.into_iter().filter_map(|(target, place)| {
        let (service, port) = place?;
        let subset = match target {
            Target::Host { subset, .. } => subset.clone(),
            _ => None,
        };
        let destination = Destination {
            rule: rules.get(&service.key).cloned(),
            policy: policies.get(&service.key).cloned(),
            to: Addressee::Service(Arc::clone(service)),
            port,
            subset,
        };
        Some((target.clone(), destination))
    });
    snapshot.targets = targets.collect();
    snapshot.rules = rules;
    snapshot.backend_policies = policies;
}

/// What stayed the same is the same one, so that nothing is made anew by it.
fn same<T: PartialEq>(now: &Arc<T>, before: Option<&Arc<T>>) -> Arc<T> {
    let same = before.filter(|before| **before == *now);
    Arc::clone(same.unwrap_or(now))
}

/// Everything that a service's routes lead to.
fn targets(served: &Served) -> impl Iterator<Item = &Target> {
    let tables = served.routes.iter().filter_map(|(_, routes)| match routes {
        Routes::Table(table) => Some(table),
        Routes::Broken => None,
    });
    let rules = tables.flat_map(|table| table.routes()).flat_map(|route| &route.rules);
    rules.flat_map(|rule| {
        let backends = rule.backends.as_slice().iter().map(|backend| &backend.target);
        backends.chain(rule.filters.mirrors.iter().map(|mirror| &mirror.target))
    })
}

fn service<'s>(mesh: &'s store::Snapshot, named: &Named<'s>, target: &Target) -> Option<(&'s Arc<Service>, u16)> {
    let service = match target.looked_for() {
        Looked::ByName { namespace, name } => named.get(namespace, name).copied(),
        Looked::ByHost { host, near } => mesh.service_named(host, Some(near)),
        _ => None,
    }?;
    let only = || match *service.ports {
        [only] => Some(only.service),
        _ => None,
    };
    match target {
        Target::Object { port, .. } => Some((service, (*port)?)),
        Target::Host { port, .. } => Some((service, port.or_else(only)?)),
        _ => None,
    }
}
