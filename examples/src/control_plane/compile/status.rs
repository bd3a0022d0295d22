//! What became of what waypoints are told, by the conditions of the Gateway API.

mod limits;

use std::collections::BTreeMap;
use std::sync::Arc;

use mesh_policy::authz::{self, Labels};
use mesh_policy::traffic::attach::{self, Cluster, NotAccepted, ParentStatus};
use mesh_policy::traffic::{ParentRef, ReferenceGrant, Route, Target, Unresolved};

use super::super::objects::{Gateway, Key, Meaning, Name, Objects, Place, Told};
use super::programs::Program;

/// What became of an object.
#[derive(Clone, Debug)]
pub(in crate::control_plane) struct Status {
    pub(in crate::control_plane) name: Name,
    pub(in crate::control_plane) place: Place,
    /// Who is told of it.
    pub(in crate::control_plane) waypoints: Vec<Key>,
    pub(in crate::control_plane) conditions: Vec<Condition>,
    /// Of a route, for each of its parents.
    pub(in crate::control_plane) parents: Vec<(String, Vec<Condition>)>,
}

/// Whether something is so, and why.
#[derive(Clone, Debug)]
pub(in crate::control_plane) struct Condition {
    pub(in crate::control_plane) kind: &'static str,
    pub(in crate::control_plane) is_true: bool,
    pub(in crate::control_plane) reason: String,
    pub(in crate::control_plane) message: String,
}

impl Condition {
    fn is_so(kind: &'static str) -> Self {
        Self {
            kind,
            is_true: true,
            reason: kind.to_owned(),
            message: String::new(),
        }
    }

    fn is_not(kind: &'static str, reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            kind,
            is_true: false,
            reason: reason.into(),
            message: message.into(),
        }
    }
}

impl Status {
    /// Whether it is a policy for waypoints of which none is told.
    pub(super) fn is_idle_policy(&self) -> bool {
        let is_policy = ["AuthorizationPolicy", "RateLimitPolicy", "RequestAuthentication"].contains(&&*self.name.kind);
        is_policy && self.waypoints.is_empty()
    }
}

/// Who knows what is there, and says which route is for which service.
pub(super) struct Judge<'o> {
    objects: &'o Objects,
    grants: Vec<ReferenceGrant>,
}

impl<'o> Judge<'o> {
    pub(super) fn new(objects: &'o Objects) -> Self {
        let told = objects.traffic.told.values();
        let grants = told.filter_map(|told| match &told.meaning {
            Meaning::Grant(grant) => Some(grant.clone()),
            _ => None,
        });
        Self {
            objects,
            grants: grants.collect(),
        }
    }

    /// What became of all that waypoints could be told.
    pub(super) fn statuses(&self, programs: &BTreeMap<Key, Program>) -> Vec<Status> {
        let mut waypoints: BTreeMap<&Name, Vec<Key>> = BTreeMap::new();
        for (waypoint, program) in programs {
            for name in program.keys() {
                waypoints.entry(name).or_default().push(waypoint.clone());
            }
        }
        let told = self
            .objects
            .traffic
            .told
            .values()
            .filter(|told| has_status(&told.meaning));
        told.map(|told| self.status(told, waypoints.remove(&told.name).unwrap_or_default()))
            .collect()
    }

    /// Whether a route is for a service.
    pub(super) fn is_accepted(&self, route: &Arc<Route>, service: &Key) -> bool {
        let mut parents = route
            .parents
            .iter()
            .filter(|parent| service_of(parent).as_ref() == Some(service));
        parents.any(|parent| self.parent(route, parent).is_some_and(|status| status.accepted.is_ok()))
    }

    fn status(&self, told: &Told, waypoints: Vec<Key>) -> Status {
        let programmed = match waypoints.is_empty() {
            false => Condition::is_so("Programmed"),
            true => Condition::is_not("Programmed", "NoWaypoint", "no waypoint serves what it is about"),
        };
        let (mut conditions, mut parents) = (Vec::new(), Vec::new());
        match &told.meaning {
            _ if told.fault.is_some() => {
                let reason = told.fault.clone().unwrap_or_default();
                conditions.push(Condition::is_not("Accepted", "UnsupportedValue", reason));
                conditions.push(programmed);
            }
            Meaning::Route(route) => {
                for parent in &route.parents {
                    // The others have controllers of their own.
                    let judged = self.judge(route, parent, &programmed);
                    parents.extend(judged.map(|mut conditions| {
                        conditions.extend(partly_invalid(told));
                        (shown(parent), conditions)
                    }));
                }
            }
            Meaning::Gateway => {
                let gateway = self.objects.gateways.get(&told.name.key);
                conditions.push(Condition::is_so("Accepted"));
                conditions.extend(gateway.map(|gateway| self.programmed(gateway)));
            }
            Meaning::RateLimit(policy) => conditions = limits::conditions(policy, self.objects, programmed),
            _ => {
                conditions.extend([Condition::is_so("Accepted"), programmed]);
                conditions.extend(partly_invalid(told));
            }
        }
        Status {
            name: told.name.clone(),
            place: told.place.clone(),
            waypoints,
            conditions,
            parents,
        }
    }

    /// What became of a route's reference to something of the mesh.
    fn judge(&self, route: &Arc<Route>, parent: &ParentRef, programmed: &Condition) -> Option<Vec<Condition>> {
        let not_programmed = || Condition::is_not("Programmed", "NotAccepted", "");
        if self.is_waypoint(parent) {
            let message = "a waypoint has the routes of its services, and none of its own";
            let accepted = Condition::is_not("Accepted", "NotAllowedByListeners", message);
            return Some(vec![accepted, not_programmed()]);
        }
        if is_of_the_mesh(parent) {
            let message = "a waypoint has routes of Services of the core group only";
            let accepted = Condition::is_not("Accepted", "InvalidKind", message);
            return Some(vec![accepted, not_programmed()]);
        }
        let status = self.parent(route, parent)?;
        let accepted = accepted_if(&status.accepted);
        let programmed = match accepted.is_true {
            true => programmed.clone(),
            false => not_programmed(),
        };
        Some(vec![accepted, resolved_if(&status.unresolved), programmed])
    }

    fn is_waypoint(&self, parent: &ParentRef) -> bool {
        let key = Key {
            namespace: parent.namespace.to_string(),
            name: parent.name.to_string(),
        };
        &*parent.kind == "Gateway" && self.objects.gateways.contains_key(&key)
    }

    /// What became of a route's reference to a service.
    fn parent(&self, route: &Arc<Route>, parent: &ParentRef) -> Option<ParentStatus> {
        let key = service_of(parent)?;
        let service = self.objects.services.get(&key);
        let mut ports = service.into_iter().flat_map(|service| &service.ports);
        let port = ports.find(|port| parent.port.is_none_or(|wanted| wanted == port.number));
        let routes = std::slice::from_ref(route);
        // No port is 0, so a service that is not there has none that the route could mean.
        let number = port.map_or(0, |port| port.number);
        let (namespace, name) = (&key.namespace, &key.name);
        let attached = attach::service(namespace, name, number, routes, &self.grants, self.objects);
        let mut status = attached.statuses.into_iter().find(|status| status.parent == *parent)?;
        if port.is_none() && status.accepted.is_ok() {
            status.accepted = Err(NotAccepted::NoMatchingParent);
        }
        Some(status)
    }

    fn programmed(&self, gateway: &Gateway) -> Condition {
        let has_service = self.objects.services.contains_key(&gateway.metadata.key);
        match (&gateway.listener, has_service || gateway.at.is_some()) {
            (Some(_), true) => Condition::is_so("Programmed"),
            (None, _) => Condition::is_not("Programmed", "Invalid", "it has no listener of protocol HBONE"),
            (Some(_), false) => {
                let message = "it has neither a Service of its name nor an address";
                Condition::is_not("Programmed", "AddressNotAssigned", message)
            }
        }
    }
}

/// The service that a route refers to.
pub(super) fn service_of(parent: &ParentRef) -> Option<Key> {
    let is_service = ["", "core"].contains(&&*parent.group) && &*parent.kind == "Service";
    is_service.then(|| Key {
        namespace: parent.namespace.to_string(),
        name: parent.name.to_string(),
    })
}

/// Whether a route refers to something of the mesh that has no routes, so that nobody else says so.
fn is_of_the_mesh(parent: &ParentRef) -> bool {
    let is_meant = &*parent.group == "networking.istio.io" || &*parent.kind == "Service";
    is_meant && service_of(parent).is_none()
}

impl Cluster for Objects {
    fn has_service(&self, namespace: &str, name: &str, port: u16) -> bool {
        let key = Key {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        };
        let service = self.services.get(&key);
        service.is_some_and(|service| service.ports.iter().any(|known| known.number == port))
    }

    fn namespace_labels(&self, namespace: &str) -> Option<&Labels> {
        let key = Key {
            namespace: String::new(),
            name: namespace.to_owned(),
        };
        self.namespaces.get(&key).map(|namespace| &namespace.0.labels)
    }
}

/// Whether there is something to say of an object, and it is for waypoints.
fn has_status(meaning: &Meaning) -> bool {
    match meaning {
        Meaning::Grant(_) => false,
        Meaning::Authorization(policy) => is_of_waypoints(policy.target()),
        Meaning::RequestAuthentication(authentication) => is_of_waypoints(&authentication.target),
        _ => true,
    }
}

/// Whether something of an object cannot be carried out.
fn partly_invalid(told: &Told) -> Option<Condition> {
    (!told.impaired.is_empty()).then(|| Condition {
        kind: "PartiallyInvalid",
        is_true: true,
        reason: "UnsupportedValue".to_owned(),
        message: told.impaired.join(", "),
    })
}

fn is_of_waypoints(target: &authz::Target) -> bool {
    matches!(target, authz::Target::Refs(_))
}

fn accepted_if(accepted: &Result<(), NotAccepted>) -> Condition {
    let reason = match accepted {
        Ok(()) => return Condition::is_so("Accepted"),
        Err(NotAccepted::NoMatchingParent) => "NoMatchingParent",
        Err(NotAccepted::NotAllowedByListeners) => "NotAllowedByListeners",
        Err(NotAccepted::NoMatchingListenerHostname) => "NoMatchingListenerHostname",
        Err(_) => "Conflicted",
    };
    let message = accepted.as_ref().err().map(ToString::to_string);
    Condition::is_not("Accepted", reason, message.unwrap_or_default())
}

fn resolved_if(unresolved: &[(Target, Unresolved)]) -> Condition {
    match unresolved.first() {
        None => Condition::is_so("ResolvedRefs"),
        Some((_, reason)) => {
            let all: Vec<_> = unresolved
                .iter()
                .map(|(target, reason)| format!("{target}: {reason}"))
                .collect();
            Condition::is_not("ResolvedRefs", reason.to_string(), all.join(", "))
        }
    }
}

fn shown(parent: &ParentRef) -> String {
    let section = parent.section.as_ref().map(|section| format!(" {section}"));
    let port = parent.port.map(|port| format!(":{port}"));
    let (section, port) = (section.unwrap_or_default(), port.unwrap_or_default());
    format!("{} {}/{}{port}{section}", parent.kind, parent.namespace, parent.name)
}
