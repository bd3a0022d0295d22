//! The objects of one text.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::Hash;
use std::sync::Arc;

use mesh_policy::Budget;
use mesh_policy::authz::k8s::{Item, Object, Problem, Reader};
use mesh_policy::authz::{AuthorizationPolicy, Labels, RequestAuthentication};
use mesh_policy::traffic::Route;
use mesh_policy::traffic::k8s::{self as traffic, Manifests, Rejected};

/// What a file or resource says, or said when it was good.
#[derive(Clone, Debug, Default)]
pub(super) struct Source {
    pub(super) policies: Vec<Arc<AuthorizationPolicy>>,
    pub(super) authentications: Vec<Arc<RequestAuthentication>>,
    pub(super) traffic: Manifests,
    /// By kind, namespace and name.
    pub(super) workloads: BTreeMap<Arc<str>, Arc<Labels>>,
    /// Why nobody may be let in.
    pub(super) closed: Option<String>,
    /// What is wrong, so that it is not taken.
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
        let mut all_rejected = std::mem::take(&mut source.traffic.rejected);
        source.problems.extend(all_rejected.iter().map(ToString::to_string));
        // What one without a name can have been is known when all others have their place.
        all_rejected.sort_by_key(|rejected| rejected.name.is_none());
        for rejected in all_rejected {
            let names = keep(&mut source.traffic, &rejected, &before.traffic);
            if names.is_empty() {
                source.traffic.stand_in(&rejected);
            }
            let known = before.traffic.impaired.iter();
            let known = known.filter(|known| {
                let name = known.name.as_ref();
                known.kind == rejected.kind && name.is_some_and(|name| names.contains(name))
            });
            source.traffic.impaired.extend(known.cloned());
        }
        source.adopt(before);
        source
    }

    /// Takes what an object of Kubernetes' own is labelled with. Other kinds have no part in this.
    fn take(&mut self, item: Item, before: Option<&Self>) -> Result<(), Problem> {
        match (item.group(), &*item.kind) {
            ("", "Pod") | ("networking.istio.io", "WorkloadEntry") => {
                let object: Arc<str> = workload(&item)?.into();
                let kept = before.and_then(|before| before.workloads.get(&object).cloned());
                let labels = labels(item).map(Arc::new);
                let labels_or_kept = labels.as_ref().ok().cloned().or(kept);
                self.workloads.extend(labels_or_kept.map(|labels| (object, labels)));
                labels?;
            }
            ("networking.istio.io", "ServiceEntry") => {
                let entry = workload(&item)?;
                let of_entry = |object: &str| object.strip_prefix(&entry).is_some_and(|rest| rest.starts_with('/'));
                let endpoints = endpoints(item);
                let kept = before.into_iter().flat_map(|before| &before.workloads);
                let kept = kept.filter(|(object, _)| endpoints.is_err() && of_entry(object));
                self.workloads
                    .extend(kept.map(|(object, labels)| (Arc::clone(object), Arc::clone(labels))));
                for (address, labels) in endpoints? {
                    self.workloads
                        .insert(format!("{entry}/{address}").into(), labels.into());
                }
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

/// The endpoints that a ServiceEntry has by itself, by their addresses.
fn endpoints(item: Item) -> Result<Vec<(String, Labels)>, Problem> {
    let mut object = item.object;
    let Some(mut spec) = object.object("spec")? else {
        return Ok(Vec::new());
    };
    let endpoints = spec.objects("endpoints")?.into_iter().map(|mut endpoint| {
        let labels = of(&mut endpoint)?;
        Ok(endpoint.text("address")?.map(|address| (address, labels)))
    });
    endpoints.filter_map(Result::transpose).collect()
}

fn of(labelled: &mut Object) -> Result<Labels, Problem> {
    let labels = labelled.object("labels")?.map(Object::into_texts).transpose()?;
    Ok(labels.unwrap_or_default().into_iter().collect())
}

/// Keeps what there was of an object, if that was good for anything, and answers with its name. Which
/// one it was that has no name now cannot be told, so that of its kind all stay that could be it.
fn keep(kept: &mut Manifests, rejected: &Rejected, before: &Manifests) -> HashSet<ObjectName> {
    fn of(route: &Route) -> Id<'_> {
        (route.id.kind.name(), &route.id.namespace, &route.id.name)
    }
    let is_good = |route: &Route| route.rules.is_empty() || route.rules.iter().any(|rule| rule.invalid.is_none());
    let routes = before.routes.iter().filter(|route| is_good(route));
    let services = before.virtual_services.iter().filter(|known| is_good(&known.route));
    let mut names = HashSet::new();
    names.extend(add(&mut kept.routes, routes, rejected, |route| of(route)));
    names.extend(add(&mut kept.virtual_services, services, rejected, |service| {
        of(&service.route)
    }));
    names.extend(add(
        &mut kept.destination_rules,
        &before.destination_rules,
        rejected,
        |rule| ("DestinationRule", &rule.namespace, &rule.name),
    ));
    names.extend(add(&mut kept.rate_limits, &before.rate_limits, rejected, |policy| {
        ("RateLimitPolicy", &policy.namespace, &policy.name)
    }));
    names.extend(add(&mut kept.grants, &before.grants, rejected, |grant| {
        ("ReferenceGrant", &grant.namespace, &grant.name)
    }));
    names.extend(add(
        &mut kept.backend_policies,
        &before.backend_policies,
        rejected,
        |policy| ("XBackendTrafficPolicy", &policy.namespace, &policy.name),
    ));
    names
}

/// A namespace, and a name in it.
type ObjectName = (Box<str>, Box<str>);

/// A kind, a namespace and a name.
type Id<'t> = (&'static str, &'t str, &'t str);

/// Adds what a rejected object was, or can have been.
fn add<'b, T: Clone + 'b>(
    list: &mut Vec<T>,
    before: impl IntoIterator<Item = &'b T>,
    rejected: &Rejected,
    id: fn(&T) -> Id<'_>,
) -> Vec<ObjectName> {
    let there: HashSet<Id<'_>> = list.iter().map(id).collect();
    let is_it = |known: &&T| {
        let (kind, namespace, name) = id(known);
        let is_this = match &rejected.name {
            Some(wanted) => (&*wanted.0, &*wanted.1) == (namespace, name),
            None => !there.contains(&id(known)),
        };
        is_this && kind == rejected.kind
    };
    let found: Vec<T> = before.into_iter().filter(is_it).cloned().collect();
    let names = found.iter().map(|known| {
        let (_, namespace, name) = id(known);
        (namespace.into(), name.into())
    });
    let names = names.collect();
    list.extend(found);
    names
}
