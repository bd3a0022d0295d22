//! The objects of one text.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::Arc;

use mesh_policy::Budget;
use mesh_policy::authz::k8s::{Item, Object, Problem, Reader};
use mesh_policy::authz::{AuthorizationPolicy, Labels, RequestAuthentication};
use mesh_policy::traffic::k8s::{self as traffic, Manifests, Rejected};
use mesh_policy::traffic::{Route, RouteKind};

/// What a file or resource says, or said when it was good.
#[derive(Clone, Debug, Default)]
pub(super) struct Source {
    pub(super) policies: Vec<Arc<AuthorizationPolicy>>,
    pub(super) authentications: Vec<Arc<RequestAuthentication>>,
    pub(super) traffic: Manifests,
    pub(super) namespaces: Vec<(String, Labels)>,
    /// By kind, namespace and name.
    pub(super) workloads: BTreeMap<Arc<str>, Arc<Labels>>,
    /// Why nobody may be let in.
    pub(super) closed: Option<String>,
    /// What is wrong.
    pub(super) problems: Vec<String>,
}

impl Source {
    /// What stayed as it was before is the same object.
    pub(super) fn read(name: &str, text: &str, before: Option<&Self>) -> Self {
        let budget = Budget::new();
        let mut reader = Reader::new(name, text, &budget);
        let traffic = traffic::read_items(name, reader.by_ref(), &budget);
        let policies = match reader.finish() {
            Ok(policies) => policies,
            Err(error) => return Self::unread(error.to_string(), before),
        };
        // Which object it was cannot be told, so that all stays that could be it.
        let mut nameless = traffic.rejected.iter().filter(|rejected| rejected.name.is_none());
        if let Some((nameless, before)) = nameless.next().zip(before) {
            return Self::unread(nameless.to_string(), Some(before));
        }
        let mut source = Self {
            policies: policies.authorization.into_iter().map(Arc::new).collect(),
            authentications: policies.request_authentication.into_iter().map(Arc::new).collect(),
            traffic,
            ..Self::default()
        };
        for item in std::mem::take(&mut source.traffic.others) {
            let line = item.line;
            if let Err((line_of_fault, fault)) = source.take(item, before) {
                let line = line.max(line_of_fault);
                source.problems.push(format!("{name}:{line}: {fault}"));
            }
        }
        let nothing = Self::default();
        let before = before.unwrap_or(&nothing);
        for rejected in std::mem::take(&mut source.traffic.rejected) {
            source.problems.push(rejected.to_string());
            if !keep(&mut source.traffic, &rejected, &before.traffic) {
                source.traffic.stand_in(&rejected);
            }
        }
        source.adopt(before);
        source
    }

    /// Takes what an object of Kubernetes' own is labelled with. Other kinds have no part in this.
    fn take(&mut self, item: Item, before: Option<&Self>) -> Result<(), Problem> {
        match (item.group(), &*item.kind) {
            ("", "Namespace") => self.namespaces.push(namespace(item)?),
            ("", "Pod") | ("networking.istio.io", "WorkloadEntry") => {
                let object: Arc<str> = workload(&item)?.into();
                let kept = before.and_then(|before| before.workloads.get(&object).cloned());
                let labels = labels(item).map(Arc::new);
                let labels_or_kept = labels.as_ref().ok().cloned().or(kept);
                self.workloads.extend(labels_or_kept.map(|labels| (object, labels)));
                labels?;
            }
            _ => {}
        }
        Ok(())
    }

    /// As it was before; if there was no before, policies may be missing.
    pub(super) fn unread(reason: String, before: Option<&Self>) -> Self {
        let closed = before.is_none().then(|| reason.clone());
        let kept = before.cloned().unwrap_or(Self {
            closed,
            ..Self::default()
        });
        Self {
            problems: vec![reason],
            ..kept
        }
    }

    fn adopt(&mut self, before: &Self) {
        adopt(self.policies.iter_mut(), &before.policies, AuthorizationPolicy::name);
        let (now, known) = (self.authentications.iter_mut(), &before.authentications);
        adopt(now, known, |authentication| &authentication.name);
        let (now, known) = (self.traffic.routes.iter_mut(), &before.traffic.routes);
        adopt(now, known, |route| &route.id);
        let now = self.traffic.virtual_services.iter_mut();
        let known = before.traffic.virtual_services.iter().map(|service| &service.route);
        adopt(now.map(|service| &mut service.route), known, |route| &route.id);
    }
}

/// Puts what was known in the place of what is the same.
fn adopt<'a, T: PartialEq + 'a, K: Eq + Hash>(
    now: impl Iterator<Item = &'a mut Arc<T>>,
    known: impl IntoIterator<Item = &'a Arc<T>>,
    name: impl Fn(&T) -> &K,
) {
    let known: HashMap<&K, &Arc<T>> = known.into_iter().map(|thing| (name(thing), thing)).collect();
    for thing in now {
        if let Some(same) = known.get(name(thing)).filter(|known| ***known == *thing) {
            *thing = Arc::clone(same);
        }
    }
}

/// The name of a namespace, and its labels.
fn namespace(item: Item) -> Result<(String, Labels), Problem> {
    let mut object = item.object;
    let mut metadata = object.required_object("metadata")?;
    Ok((metadata.required_text("name")?, of(&mut metadata)?))
}

/// What a workload's uid ends with.
fn workload(item: &Item) -> Result<String, Problem> {
    let mut metadata = item.object.clone().required_object("metadata")?;
    let name = metadata.required_text("name")?;
    let namespace = metadata.text("namespace")?;
    let namespace = namespace.as_deref().unwrap_or("default");
    Ok(format!("{}/{namespace}/{name}", item.kind))
}

/// The labels of a workload: those of its spec count before its own.
fn labels(item: Item) -> Result<Labels, Problem> {
    let mut object = item.object;
    let mut labels = of(&mut object.required_object("metadata")?)?;
    if item.kind == "WorkloadEntry"
        && let Some(mut spec) = object.object("spec")?
    {
        labels.extend(of(&mut spec)?);
    }
    Ok(labels)
}

fn of(labelled: &mut Object) -> Result<Labels, Problem> {
    let labels = labelled.object("labels")?.map(Object::into_texts).transpose()?;
    Ok(labels.unwrap_or_default().into_iter().collect())
}

/// Keeps what there was of an object, if that was good for anything.
fn keep(kept: &mut Manifests, rejected: &Rejected, before: &Manifests) -> bool {
    let Some((namespace, name)) = &rejected.name else {
        return false;
    };
    let is_it = |route: &Route, kind: RouteKind| {
        let id = &route.id;
        let is_good = route.rules.is_empty() || route.rules.iter().any(|rule| rule.invalid.is_none());
        id.kind == kind && id.namespace == *namespace && id.name == *name && is_good
    };
    let route = |kind| before.routes.iter().find(|route| is_it(route, kind)).cloned();
    match &*rejected.kind {
        "HTTPRoute" => add(&mut kept.routes, route(RouteKind::Http)),
        "GRPCRoute" => add(&mut kept.routes, route(RouteKind::Grpc)),
        "VirtualService" => {
            let mut known = before.virtual_services.iter();
            let found = known.find(|found| is_it(&found.route, RouteKind::VirtualService));
            add(&mut kept.virtual_services, found.cloned())
        }
        "DestinationRule" => {
            let mut known = before.destination_rules.iter();
            let found = known.find(|rule| rule.namespace == *namespace && rule.name == *name);
            add(&mut kept.destination_rules, found.cloned())
        }
        "RateLimitPolicy" => {
            let mut known = before.rate_limits.iter();
            let found = known.find(|policy| policy.namespace == *namespace && policy.name == *name);
            add(&mut kept.rate_limits, found.cloned())
        }
        "XBackendTrafficPolicy" => {
            let mut known = before.backend_policies.iter();
            let found = known.find(|policy| policy.namespace == *namespace && policy.name == *name);
            add(&mut kept.backend_policies, found.cloned())
        }
        _ => false,
    }
}

/// Whether there was something to add.
fn add<T>(list: &mut Vec<T>, found: Option<T>) -> bool {
    let is_there = found.is_some();
    list.extend(found);
    is_there
}
