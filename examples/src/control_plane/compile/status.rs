//! What became of what waypoints are told, by the conditions of the Gateway API.

use std::collections::{BTreeMap, BTreeSet};

use mesh_policy::authz::{self, Labels};
use mesh_policy::traffic::attach::{self, Cluster, NotAccepted, ParentStatus};
use mesh_policy::traffic::{ParentRef, ReferenceGrant, Route, RouteId, Target, Unresolved};

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
        let is_policy = ["AuthorizationPolicy", "RequestAuthentication"].contains(&&*self.name.kind);
        is_policy && self.waypoints.is_empty()
    }
}

/// Who knows what is there, and says which route is for which service or waypoint.
pub(super) struct Judge<'o> {
    objects: &'o Objects,
    grants: Vec<ReferenceGrant>,
    /// Of routes for waypoints.
    at_gateways: BTreeMap<(RouteId, ParentRef), ParentStatus>,
}

impl<'o> Judge<'o> {
    pub(super) fn new(objects: &'o Objects) -> Self {
        let told = || objects.traffic.told.values();
        let grants = told().filter_map(|told| match &told.meaning {
            Meaning::Grant(grant) => Some(grant.clone()),
            _ => None,
        });
        let mut judge = Self {
            objects,
            grants: grants.collect(),
            at_gateways: BTreeMap::new(),
        };
        let mut by_gateway: BTreeMap<(&str, &str), Vec<Route>> = BTreeMap::new();
        for told in told() {
            if let Meaning::Route(route) = &told.meaning {
                let gateways = route.parents.iter().filter(|parent| &*parent.kind == "Gateway");
                let gateways: BTreeSet<_> = gateways.map(|parent| (&*parent.namespace, &*parent.name)).collect();
                for gateway in gateways {
                    by_gateway.entry(gateway).or_default().push(route.clone());
                }
            }
        }
        for told in told() {
            if let Meaning::Gateway(gateway) = &told.meaning {
                let routes = by_gateway
                    .remove(&(&*gateway.namespace, &*gateway.name))
                    .unwrap_or_default();
                let attached = attach::gateway(gateway, &routes, &judge.grants, objects);
                let statuses = attached.statuses.into_iter();
                let named = statuses.map(|status| ((status.route.clone(), status.parent.clone()), status));
                judge.at_gateways.extend(named);
            }
        }
        judge
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

    /// Whether a route is for a service or a waypoint that it refers to.
    pub(super) fn is_accepted(&self, route: &Route, kind: &str, to: &Key) -> bool {
        let is_meant = |parent: &&ParentRef| {
            *parent.kind == *kind && *parent.namespace == *to.namespace && *parent.name == *to.name
        };
        let mut parents = route.parents.iter().filter(is_meant);
        parents.any(|parent| self.parent(route, parent).is_some_and(|status| status.accepted.is_ok()))
    }

    fn status(&self, told: &Told, waypoints: Vec<Key>) -> Status {
        let programmed = match waypoints.is_empty() {
            false => Condition::is_so("Programmed"),
            true => Condition::is_not("Programmed", "NoWaypoint", "no waypoint serves what it is about"),
        };
        let (mut conditions, mut parents) = (Vec::new(), Vec::new());
        match &told.meaning {
            Meaning::Route(route) => {
                for parent in &route.parents {
                    // The other parents have controllers of their own.
                    if let Some(judged) = self.parent(route, parent) {
                        let accepted = accepted_if(&judged.accepted);
                        let resolved = resolved_if(&judged.unresolved);
                        let programmed = match accepted.is_true {
                            true => programmed.clone(),
                            false => Condition::is_not("Programmed", "NotAccepted", ""),
                        };
                        let mut conditions = vec![accepted, resolved, programmed];
                        conditions.extend(partly_invalid(told));
                        parents.push((shown(parent), conditions));
                    }
                }
            }
            Meaning::Gateway(_) => {
                let gateway = self.objects.gateways.get(&told.name.key);
                conditions.push(Condition::is_so("Accepted"));
                conditions.extend(gateway.map(|gateway| self.programmed(gateway)));
            }
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

    /// What became of a route's reference to a service or a waypoint.
    fn parent(&self, route: &Route, parent: &ParentRef) -> Option<ParentStatus> {
        let key = Key {
            namespace: parent.namespace.to_string(),
            name: parent.name.to_string(),
        };
        match (&*parent.group, &*parent.kind) {
            ("" | "core", "Service") => {
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
            (_, "Gateway") => self.at_gateways.get(&(route.id.clone(), parent.clone())).cloned(),
            _ => None,
        }
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
        Meaning::Namespace | Meaning::Grant(_) => false,
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
