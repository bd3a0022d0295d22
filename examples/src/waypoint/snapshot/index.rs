//! Objects by what they are about, so that making a snapshot looks at each of them once.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use mesh_policy::authz::{self, AuthorizationPolicy, RequestAuthentication};
use mesh_policy::traffic::attach::VirtualServices;
use mesh_policy::traffic::upstream::{BackendTrafficPolicies, DestinationRules};
use mesh_policy::traffic::{ReferenceGrant, Route};

use super::frame::Terms;
use crate::waypoint::objects::Objects;

/// A namespace and a name in it.
type Name<'o> = (&'o str, &'o str);

/// Things by namespace and name.
pub(super) struct ByName<'o, T>(HashMap<&'o str, HashMap<&'o str, T>>);

impl<'o, T> ByName<'o, T> {
    pub(super) fn get(&self, namespace: &str, name: &str) -> Option<&T> {
        self.0.get(namespace)?.get(name)
    }

    pub(super) fn entry(&mut self, (namespace, name): Name<'o>) -> Entry<'_, &'o str, T> {
        self.0.entry(namespace).or_default().entry(name)
    }
}

impl<T> Default for ByName<'_, T> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

/// Objects by what they are about.
pub(super) struct Index<'o> {
    /// By what they want to be attached to.
    routes: ByName<'o, Vec<Arc<Route>>>,
    pub(super) virtual_services: VirtualServices,
    pub(super) policies: ByTarget<'o, AuthorizationPolicy>,
    pub(super) authentications: ByTarget<'o, RequestAuthentication>,
    pub(super) grants: Vec<ReferenceGrant>,
    pub(super) rules: DestinationRules,
    pub(super) backend_policies: BackendTrafficPolicies,
    /// Why nobody may be let in.
    pub(super) closed: Option<Arc<str>>,
}

impl<'o> Index<'o> {
    pub(super) fn new(terms: &Terms, objects: &'o Objects) -> Self {
        let mut routes: ByName<'_, Vec<_>> = ByName::default();
        for route in objects.routes() {
            each_once(
                route.parents.iter().map(|parent| (&*parent.namespace, &*parent.name)),
                |name| routes.entry(name).or_default().push(Arc::clone(route)),
            );
        }
        let policies = objects.policies();
        let authentications = objects.authentications();
        Self {
            routes,
            virtual_services: VirtualServices::new(objects.virtual_services()),
            policies: ByTarget::new(policies, |policy| (&policy.name().namespace, policy.target())),
            authentications: ByTarget::new(authentications, |found| (&found.name.namespace, &found.target)),
            grants: objects.grants().cloned().collect(),
            rules: DestinationRules::new(&terms.root_namespace, objects.destination_rules().cloned()),
            backend_policies: BackendTrafficPolicies::new(objects.backend_policies().cloned()),
            closed: objects.closed().map(Into::into),
        }
    }

    /// Routes that want to be attached to something of this name.
    pub(super) fn routes(&self, namespace: &str, name: &str) -> &[Arc<Route>] {
        self.routes.get(namespace, name).map(Vec::as_slice).unwrap_or_default()
    }
}

/// Policies by the objects that they are for.
pub(super) struct ByTarget<'o, T> {
    /// Of services.
    named: ByName<'o, Vec<&'o Arc<T>>>,
    /// Of gateways and their classes.
    general: Vec<&'o Arc<T>>,
}

impl<'o, T> ByTarget<'o, T> {
    /// Policies that name no objects have no part in waypoints.
    fn new(policies: impl Iterator<Item = &'o Arc<T>>, place: impl Fn(&'o T) -> (&'o str, &'o authz::Target)) -> Self {
        let (mut named, mut general) = (ByName::<'_, Vec<_>>::default(), Vec::new());
        for policy in policies {
            let (namespace, authz::Target::Refs(refs)) = place(policy) else {
                continue;
            };
            let is_service = |kind: &str| ["Service", "ServiceEntry"].contains(&kind);
            if refs.iter().any(|target| !is_service(&target.kind)) {
                general.push(policy);
                continue;
            }
            each_once(refs.iter().map(|target| (namespace, &*target.name)), |name| {
                named.entry(name).or_default().push(policy);
            });
        }
        Self { named, general }
    }

    /// All that may be about a service of this namespace and name, or about none, each once.
    pub(super) fn about(&self, service: Option<(&str, &str)>) -> impl Iterator<Item = &'o Arc<T>> {
        let named = service.and_then(|(namespace, name)| self.named.get(namespace, name));
        self.general.iter().chain(named.into_iter().flatten()).copied()
    }
}

fn each_once<T: Ord>(things: impl Iterator<Item = T>, mut take: impl FnMut(T)) {
    let mut things: Vec<T> = things.collect();
    things.sort_unstable();
    things.dedup();
    things.into_iter().for_each(&mut take);
}
