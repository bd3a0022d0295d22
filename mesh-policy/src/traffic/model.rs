use std::{fmt, sync::Arc, time::Duration};

use super::{
    backend::{Backends, Invalid},
    filter::Filters,
    host::HostPattern,
    matching::RouteMatch,
    retry::{Backoff, Conditions},
    timeout::Timeouts,
};

/// A route: rules for requests to some hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Route {
    /// Which it is.
    pub id: RouteId,
    /// When it was created, as Kubernetes writes it: `2026-01-02T03:04:05Z`. Older routes come
    /// first, those without a time last.
    pub created: Option<Box<str>>,
    /// The listeners and services that it wants to be attached to; none for a VirtualService.
    pub parents: Vec<ParentRef>,
    /// The hosts that it is for; all, if there are none.
    pub hosts: Vec<HostPattern>,
    /// The rules, in their order.
    pub rules: Vec<Rule>,
    /// The file that it was read from, and the line.
    pub place: Option<(Arc<str>, u32)>,
}

impl Route {
    /// A route for all hosts, without rules.
    pub fn new(kind: RouteKind, namespace: &str, name: &str) -> Self {
        Self {
            id: RouteId {
                kind,
                namespace: namespace.into(),
                name: name.into(),
            },
            created: None,
            parents: Vec::new(),
            hosts: Vec::new(),
            rules: Vec::new(),
            place: None,
        }
    }

    /// Without the room that lists have for more: a mesh has many routes, and keeps them.
    #[cfg(feature = "k8s")]
    #[must_use]
    pub(super) fn shrunk(mut self) -> Self {
        self.parents.shrink_to_fit();
        self.rules.shrink_to_fit();
        for rule in &mut self.rules {
            rule.matches.shrink_to_fit();
            for asked in &mut rule.matches {
                asked.headers.shrink_to_fit();
                asked.query.shrink_to_fit();
            }
        }
        self
    }

    /// Whether it stands in for one that could not be read: it is older than any date.
    pub(super) fn is_stand_in(&self) -> bool {
        self.created.as_deref() == Some("")
    }

    /// What comes first among routes that are alike otherwise: the older one, then the one whose
    /// name is less. Namespace and name are compared as one text, as the Gateway API has it: `a-b/c`
    /// is before `a/c`.
    pub(super) fn precedence(&self) -> impl Ord + use<> {
        let name = format!("{}/{}", self.id.namespace, self.id.name);
        by_age(self.created.clone(), name)
    }
}

/// What the older one of two objects is less by, and of those without a time the one whose name is.
pub(super) fn by_age(created: Option<Box<str>>, name: impl Ord) -> impl Ord {
    (created.is_none(), created, name)
}

/// Which route.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub struct RouteId {
    /// Its kind.
    pub kind: RouteKind,
    /// Its namespace.
    pub namespace: Box<str>,
    /// Its name.
    pub name: Box<str>,
}

impl fmt::Display for RouteId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} `{}/{}`", self.kind, self.namespace, self.name)
    }
}

/// What a route wants to be attached to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub struct ParentRef {
    /// The API group, empty for Kubernetes' core.
    pub group: Box<str>,
    /// The kind: `Gateway` or `Service`.
    pub kind: Box<str>,
    /// The namespace.
    pub namespace: Box<str>,
    /// The name.
    pub name: Box<str>,
    /// The name of the listener; all, if it is not there.
    pub section: Option<Box<str>>,
    /// The port of listener or service; all, if it is not there.
    pub port: Option<u16>,
}

impl ParentRef {
    /// A gateway, with all of its listeners.
    pub fn gateway(namespace: &str, name: &str) -> Self {
        Self {
            group: "gateway.networking.k8s.io".into(),
            kind: "Gateway".into(),
            namespace: namespace.into(),
            name: name.into(),
            section: None,
            port: None,
        }
    }
}

/// The kinds of routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RouteKind {
    /// The Gateway API's, for gRPC.
    Grpc,
    /// The Gateway API's, for HTTP.
    Http,
    /// Istio's.
    VirtualService,
}

impl RouteKind {
    /// The name that Kubernetes has for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Grpc => "GRPCRoute",
            Self::Http => "HTTPRoute",
            Self::VirtualService => "VirtualService",
        }
    }
}

impl fmt::Display for RouteKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What becomes of requests of some kinds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rule {
    /// Its name, if it has one.
    pub name: Option<Box<str>>,
    /// The kinds of requests; all, if there are none.
    pub matches: Vec<RouteMatch>,
    /// What becomes of them on the way.
    pub filters: Filters,
    /// Where they go.
    pub backends: Backends,
    /// How long they may take.
    pub timeouts: Timeouts,
    /// Whether attempts that failed are made again; `None` leaves it to the program.
    pub retries: Option<Retries>,
    /// Why it cannot be carried out. Its requests then fail: they are not for other rules to take.
    pub invalid: Option<Box<Invalid>>,
}

/// Which attempts are made again, as a route says it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Retries {
    /// How many attempts there may be beside the first. 0 is none.
    pub attempts: u32,
    /// After which ends; `None` leaves it to the program.
    pub conditions: Option<Conditions>,
    /// How long to wait between two attempts; `None` leaves it to the program.
    pub backoff: Option<Backoff>,
    /// How long each attempt may take; `None` leaves it to the rule's timeouts.
    pub attempt_timeout: Option<Duration>,
    /// Whether endpoints that have failed are asked again last; `None` leaves it to the program.
    /// With an affinity they are asked again at once, unless it is said here.
    pub ignore_previous_hosts: Option<bool>,
}

/// A route of Istio, and where it counts.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct VirtualService {
    /// The route.
    pub route: Arc<Route>,
    /// The gateways of Istio that it is for, and `mesh` for all others. Default: `mesh`.
    pub gateways: Vec<Box<str>>,
    /// The namespaces that it counts in; all, if there are none.
    pub export_to: Vec<Box<str>>,
}

impl VirtualService {
    /// A route for the mesh.
    pub fn new(route: Route) -> Self {
        Self {
            route: Arc::new(route),
            gateways: vec!["mesh".into()],
            export_to: Vec::new(),
        }
    }
}
