//! Which routes serve which listener or service, and why others do not.
//!
//! A route names the gateways and services that it wants to serve. Whether it does is theirs to say:
//! they admit routes of some namespaces and kinds, and for some hosts. What a route refers to has to
//! be there, and in another namespace it has to be granted; else the share of requests that would go
//! there fails.

use std::{collections::HashMap, sync::Arc};

use thiserror::Error;

use super::{
    backend::{Target, Unresolved},
    by_host::ByHost,
    gateway::{GATEWAY_API, Gateway, Listener, ReferenceGrant},
    host::HostPattern,
    model::{ParentRef, Route, RouteId, VirtualService},
};
use crate::authz::Labels;

/// What there is beside routes.
pub trait Cluster {
    /// Whether there is a service with a port of this number.
    fn has_service(&self, namespace: &str, name: &str, port: u16) -> bool;

    /// The labels of a namespace; none if they are not known.
    fn namespace_labels(&self, namespace: &str) -> Option<&Labels>;
}

/// The routes of a gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct GatewayRoutes {
    /// For each listener its routes, with the hosts that both have and with their references
    /// resolved.
    pub listeners: Vec<ListenerRoutes>,
    /// What became of each reference of a route to the gateway.
    pub statuses: Vec<ParentStatus>,
}

/// The routes of a listener, for a [`RouteTable`](super::RouteTable).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListenerRoutes {
    /// The listener's name.
    pub listener: Box<str>,
    /// The routes.
    pub routes: Vec<Arc<Route>>,
}

/// The routes of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServiceRoutes {
    /// The routes, for all hosts: whoever reached the service has found it. Their references are
    /// resolved.
    pub routes: Vec<Arc<Route>>,
    /// What became of each reference of a route to the service.
    pub statuses: Vec<ParentStatus>,
}

/// What became of a route's reference to a gateway or service.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ParentStatus {
    /// The route.
    pub route: RouteId,
    /// The reference.
    pub parent: ParentRef,
    /// Whether the route serves it.
    pub accepted: Result<(), NotAccepted>,
    /// The route's own references that lead nowhere.
    pub unresolved: Vec<(Target, Unresolved)>,
}

/// Why a route does not serve what it refers to, by the reasons of the Gateway API's `Accepted`.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NotAccepted {
    /// There is no such listener or port.
    #[error("there is no listener or port that the route refers to")]
    NoMatchingParent,
    /// The listeners admit no routes of this kind or namespace.
    #[error("no listener admits routes of this kind and namespace")]
    NotAllowedByListeners,
    /// The listeners are for other hosts.
    #[error("no listener is for a host of the route")]
    NoMatchingListenerHostname,
    /// A route of another kind is for the same hosts, and older.
    #[error("{other} is for the same hosts, and first")]
    Conflicted {
        /// That route.
        other: RouteId,
    },
}

/// Attaches routes to the listeners of a gateway.
pub fn gateway(
    gateway: &Gateway,
    routes: &[Arc<Route>],
    grants: &[ReferenceGrant],
    cluster: &impl Cluster,
) -> GatewayRoutes {
    let listeners = gateway.listeners.iter().map(|listener| ListenerRoutes {
        listener: listener.name.clone(),
        routes: Vec::new(),
    });
    let mut attached = GatewayRoutes {
        listeners: listeners.collect(),
        statuses: Vec::new(),
    };
    let mut routes = routes.to_vec();
    by_age(&mut routes);
    for route in &routes {
        let (resolved, unresolved) = resolve(route, grants, cluster);
        for parent in route.parents.iter().filter(|parent| is_gateway(parent, gateway)) {
            let accepted = attached.attach(gateway, parent, &resolved, cluster);
            attached.statuses.push(ParentStatus {
                route: route.id.clone(),
                parent: parent.clone(),
                accepted,
                unresolved: unresolved.clone(),
            });
        }
    }
    attached
}

/// Attaches routes to a port of a service. Only those of its own namespace can be: a route of
/// another is for clients of that namespace, and for their proxies.
///
/// A route of which nothing has to be changed is the one that was given, and no copy.
pub fn service(
    namespace: &str,
    name: &str,
    port: u16,
    routes: &[Arc<Route>],
    grants: &[ReferenceGrant],
    cluster: &impl Cluster,
) -> ServiceRoutes {
    let is_meant = |parent: &&ParentRef| {
        ["", "core"].contains(&&*parent.group)
            && &*parent.kind == "Service"
            && *parent.namespace == *namespace
            && *parent.name == *name
    };
    let mut attached = ServiceRoutes::default();
    let mut routes = routes.to_vec();
    by_age(&mut routes);
    for route in &routes {
        let (resolved, unresolved) = resolve(route, grants, cluster);
        let mut is_attached = false;
        for parent in route.parents.iter().filter(is_meant) {
            let accepted = if *route.id.namespace != *namespace {
                Err(NotAccepted::NotAllowedByListeners)
            } else if parent.port.is_some_and(|wanted| wanted != port) {
                Err(NotAccepted::NoMatchingParent)
            } else {
                Ok(())
            };
            is_attached |= accepted.is_ok();
            attached.statuses.push(ParentStatus {
                route: route.id.clone(),
                parent: parent.clone(),
                accepted,
                unresolved: unresolved.clone(),
            });
        }
        if is_attached {
            attached.routes.push(for_all_hosts(&resolved));
        }
    }
    attached
}

/// The VirtualServices of a mesh, found by service.
#[derive(Clone, Debug, Default)]
pub struct VirtualServices {
    namespaces: HashMap<Box<str>, ByHost<Arc<Route>>>,
}

impl VirtualServices {
    /// Those among some that count in the mesh: they are for it and not for gateways alone, and
    /// exported at least to their own namespace.
    pub fn new<'s>(services: impl IntoIterator<Item = &'s VirtualService>) -> Self {
        let mut namespaces: HashMap<Box<str>, ByHost<Arc<Route>>> = HashMap::new();
        for VirtualService { route, .. } in services.into_iter().filter(|service| service.counts_in_mesh()) {
            let of_namespace = namespaces.entry(route.id.namespace.clone()).or_default();
            of_namespace.push(Arc::clone(route), &route.hosts);
        }
        Self { namespaces }
    }

    /// The routes of a service, by its full name in the mesh such as `reviews.shop.svc.cluster.local`.
    /// They are for all hosts: whoever reached the service has found it.
    ///
    /// Those count that are of the service's namespace and name it: in full, by its short name, or
    /// among others. One that names it in full or short comes before one that names it among others,
    /// which then does not count.
    pub fn of(&self, namespace: &str, host: &str) -> Vec<Arc<Route>> {
        let specificity = |route: &Route| {
            let hosts = route.hosts.iter().filter(|named| named.names(namespace, host));
            hosts.map(HostPattern::specificity).max()
        };
        let of_namespace = self.namespaces.get(namespace).into_iter();
        let found: Vec<_> = of_namespace
            .flat_map(|services| services.about(host))
            .filter_map(|route| Some((specificity(route)?, route)))
            .collect();
        // Whether it is one host; how long the name is tells short from full, which are the same here.
        let is_one = found.iter().any(|((is_one, _), _)| *is_one);
        let longest = found.iter().map(|((_, length), _)| *length).max();
        let kept = found
            .into_iter()
            .filter(|((one, length), _)| if is_one { *one } else { Some(*length) == longest });
        let mut kept: Vec<_> = kept.map(|(_, route)| for_all_hosts(route)).collect();
        by_age(&mut kept);
        kept
    }
}

impl VirtualService {
    /// Whether it counts for [`VirtualServices`].
    pub(super) fn counts_in_mesh(&self) -> bool {
        let (namespace, to) = (&*self.route.id.namespace, &self.export_to);
        let is_exported = to.is_empty() || to.iter().any(|to| [".", "*", namespace].contains(&&**to));
        is_exported && self.gateways.iter().any(|name| &**name == "mesh")
    }
}

fn for_all_hosts(route: &Arc<Route>) -> Arc<Route> {
    if route.hosts.is_empty() {
        return Arc::clone(route);
    }
    let mut route = Route::clone(route);
    route.hosts = Vec::new();
    Arc::new(route)
}

/// The oldest first, so that it is there when a younger one conflicts with it.
fn by_age(routes: &mut [Arc<Route>]) {
    if routes.len() > 1 {
        routes.sort_by_cached_key(|route| route.precedence());
    }
}

fn is_gateway(parent: &ParentRef, gateway: &Gateway) -> bool {
    &*parent.group == GATEWAY_API
        && &*parent.kind == "Gateway"
        && parent.namespace == gateway.namespace
        && parent.name == gateway.name
}

impl GatewayRoutes {
    fn attach(
        &mut self,
        gateway: &Gateway,
        parent: &ParentRef,
        route: &Route,
        cluster: &impl Cluster,
    ) -> Result<(), NotAccepted> {
        let labels = cluster.namespace_labels(&route.id.namespace);
        let mut outcome = Err(NotAccepted::NoMatchingParent);
        let both = gateway.listeners.iter().zip(&mut self.listeners);
        for (listener, attached) in both.filter(|(listener, _)| listener.is_meant_by(parent)) {
            match attached.attach(listener, route, &gateway.namespace, labels) {
                Ok(()) => outcome = Ok(()),
                Err(reason) if outcome.is_err() => outcome = Err(reason),
                Err(_) => {}
            }
        }
        outcome
    }
}

impl ListenerRoutes {
    fn attach(
        &mut self,
        listener: &Listener,
        route: &Route,
        gateway: &str,
        labels: Option<&Labels>,
    ) -> Result<(), NotAccepted> {
        if !listener.admits(route, gateway, labels) {
            return Err(NotAccepted::NotAllowedByListeners);
        }
        let hosts = listener.hosts(route);
        if hosts.is_empty() {
            return Err(NotAccepted::NoMatchingListenerHostname);
        }
        if self.routes.iter().any(|other| other.id == route.id) {
            return Ok(());
        }
        // What stands in for a route keeps nobody else's from the listener.
        let conflicts = |other: &&Arc<Route>| {
            if other.is_stand_in() || route.is_stand_in() {
                return false;
            }
            let mut pairs = other
                .hosts
                .iter()
                .flat_map(|one| hosts.iter().map(move |two| (one, two)));
            other.id.kind != route.id.kind && pairs.any(|(one, two)| one.intersection(two).is_some())
        };
        if let Some(other) = self.routes.iter().find(conflicts) {
            let other = other.id.clone();
            return Err(NotAccepted::Conflicted { other });
        }
        let route = Route { hosts, ..route.clone() };
        self.routes.push(Arc::new(route));
        Ok(())
    }
}

/// The route with what its references lead to, and those that lead nowhere. Copies that cannot be
/// sent are left out.
fn resolve(
    route: &Arc<Route>,
    grants: &[ReferenceGrant],
    cluster: &impl Cluster,
) -> (Arc<Route>, Vec<(Target, Unresolved)>) {
    let fault = |target: &Target| fault(route, target, grants, cluster);
    let backends = || route.rules.iter().flat_map(|rule| rule.backends.as_slice());
    let mirrors = route.rules.iter().flat_map(|rule| &rule.filters.mirrors);
    let targets = backends()
        .map(|backend| &backend.target)
        .chain(mirrors.map(|mirror| &mirror.target));
    let unresolved: Vec<_> = targets
        .filter_map(|target| Some((target.clone(), fault(target)?)))
        .collect();
    if unresolved.is_empty() && backends().all(|backend| backend.unresolved.is_none()) {
        return (Arc::clone(route), unresolved);
    }
    let mut resolved = Route::clone(route);
    for rule in &mut resolved.rules {
        let backends = rule.backends.as_slice().iter().cloned().map(|mut backend| {
            backend.unresolved = fault(&backend.target);
            backend
        });
        rule.backends = backends.collect();
        rule.filters.mirrors.retain(|mirror| fault(&mirror.target).is_none());
    }
    (Arc::new(resolved), unresolved)
}

fn fault(route: &Route, target: &Target, grants: &[ReferenceGrant], cluster: &impl Cluster) -> Option<Unresolved> {
    let Target::Object {
        group,
        kind,
        namespace,
        name,
        port,
    } = target
    else {
        return None;
    };
    if !["", "core"].contains(&&**group) || &**kind != "Service" {
        return Some(Unresolved::InvalidKind);
    }
    let is_permitted =
        *namespace == route.id.namespace || grants.iter().any(|grant| grant.permits(route, namespace, name));
    if !is_permitted {
        return Some(Unresolved::RefNotPermitted);
    }
    let is_there = port.is_some_and(|port| cluster.has_service(namespace, name, port));
    (!is_there).then_some(Unresolved::BackendNotFound)
}
