//! Which limits of policies count here.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};

use mesh_policy::authz::attach::ServiceKind;
use mesh_policy::traffic::rate::{LimitTable, LimitTarget, RateLimitPolicy, TargetLimits};
use mesh_policy::traffic::{Choice, Route};
use mesh_xds::store::Service;

use super::build::kind;
use super::{Routes, Served, Snapshot};

/// The limits of policies for what is served, and what is wrong with those.
pub(super) struct Limits {
    pub(super) table: LimitTable,
    pub(super) problems: Vec<String>,
}

/// What limits can be for: services and routes, by kind, namespace and name.
struct Here<'s> {
    services: HashSet<(&'s str, &'s str, &'s str)>,
    routes: HashMap<(&'s str, &'s str, &'s str), &'s Route>,
}

/// Why nothing is limited.
enum Missing {
    /// It may be served elsewhere.
    Object,
    Rule,
}

impl Limits {
    /// What was counted counts on, as long as a policy says the same. Policies whose descriptors nobody
    /// `is_asked` about are told of.
    pub(super) fn new<'o>(
        policies: impl Iterator<Item = &'o RateLimitPolicy>,
        served: impl Iterator<Item = &'o Served>,
        is_asked: bool,
        before: Option<&LimitTable>,
    ) -> Self {
        let (mut limited, mut problems) = (Vec::new(), Vec::new());
        let mut policies = policies.peekable();
        if policies.peek().is_none() {
            let table = LimitTable::default();
            return Self { table, problems };
        }
        let here = Here::new(served);
        for policy in policies {
            let name = format!("RateLimitPolicy `{}/{}`", policy.namespace, policy.name);
            let counted = limited.len();
            for target in &policy.targets {
                match here.find(&policy.namespace, target) {
                    Ok(()) => limited.push((policy, target)),
                    Err(Missing::Object) => {}
                    Err(Missing::Rule) => problems.push(format!("{name}: {} has no such rule", shown(target))),
                }
            }
            if limited.len() == counted {
                problems.push(format!("{name} limits nothing that is served here"));
            } else if !is_asked && !policy.descriptors.is_empty() {
                problems.push(format!(
                    "{name}: nobody is asked about descriptors without `external.limits`"
                ));
            }
        }
        let table = LimitTable::new(limited, before, RandomState::new().hash_one(0));
        Self { table, problems }
    }
}

impl<'s> Here<'s> {
    fn new(served: impl Iterator<Item = &'s Served>) -> Self {
        let (mut services, mut routes) = (HashSet::new(), HashMap::new());
        for served in served {
            services.extend(served.to.service().map(|service| name(service)));
            let tables = served.routes.iter().filter_map(|(_, routes)| match routes {
                Routes::Table(table) => Some(table),
                Routes::Broken => None,
            });
            for route in tables.flat_map(|table| table.routes()) {
                let id = &route.id;
                routes.insert((id.kind.name(), &*id.namespace, &*id.name), &**route);
            }
        }
        Self { services, routes }
    }

    fn find(&self, namespace: &str, target: &LimitTarget) -> Result<(), Missing> {
        let name = (&*target.object.kind, namespace, &*target.object.name);
        if self.services.contains(&name) {
            return Ok(());
        }
        let route = self.routes.get(&name).ok_or(Missing::Object)?;
        let Some(wanted) = &target.rule else { return Ok(()) };
        let is_there = route.rules.iter().any(|rule| rule.name.as_ref() == Some(wanted));
        is_there.then_some(()).ok_or(Missing::Rule)
    }
}

impl Snapshot {
    /// The limits for a request to a service that a rule of a route takes, the narrower first. Workloads
    /// have none of their own.
    pub(in crate::waypoint) fn limits<'s>(
        &'s self,
        served: &Served,
        choice: Option<&Choice<'_>>,
    ) -> impl Iterator<Item = &'s TargetLimits> + Clone + use<'s> {
        let of_route = choice.map(|choice| {
            let (id, rule) = (&choice.route().id, choice.rule().name.as_deref());
            self.limits.of(id.kind.name(), &id.namespace, &id.name, rule)
        });
        let of_service = served.to.service().map(|service| {
            let (kind, namespace, name) = name(service);
            self.limits.of(kind, namespace, name, None)
        });
        of_route.into_iter().flatten().chain(of_service.into_iter().flatten())
    }
}

/// The kind of what declared a service, its namespace and its name.
fn name(service: &Service) -> (&'static str, &str, &str) {
    let kind = match kind(service) {
        ServiceKind::Service => "Service",
        ServiceKind::ServiceEntry => "ServiceEntry",
    };
    (kind, &service.namespace, &service.name)
}

fn shown(target: &LimitTarget) -> String {
    let object = &target.object;
    let rule = target.rule.as_ref().map(|rule| format!(", rule `{rule}`"));
    format!("{} `{}`{}", object.kind, object.name, rule.unwrap_or_default())
}
