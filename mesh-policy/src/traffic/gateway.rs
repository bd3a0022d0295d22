use crate::{
    authz::Labels,
    traffic::{
        host::HostPattern,
        model::{ParentRef, Route, RouteKind},
    },
};

/// The group of the Gateway API.
pub(super) const GATEWAY_API: &str = "gateway.networking.k8s.io";

/// A gateway of the Gateway API: places that routes are attached to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Gateway {
    /// Its namespace.
    pub namespace: Box<str>,
    /// Its name.
    pub name: Box<str>,
    /// The name of its class.
    pub class: Box<str>,
    /// The listeners.
    pub listeners: Vec<Listener>,
}

/// A port of a gateway, for some hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Listener {
    /// Its name in the gateway.
    pub name: Box<str>,
    /// The port.
    pub port: u16,
    /// The protocol: `HTTP`, `HTTPS`, `TLS`, `TCP`, `UDP`, or another such as `HBONE`.
    pub protocol: Box<str>,
    /// The hosts.
    pub host: HostPattern,
    /// The namespaces of routes that may be attached.
    pub namespaces: Namespaces,
    /// The kinds of routes that may be attached; `None` leaves it to the protocol.
    pub kinds: Option<Vec<RouteKind>>,
}

/// The namespaces of routes that may be attached to a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Namespaces {
    /// The gateway's own.
    Same,
    /// All.
    All,
    /// Those that have all of these labels.
    Selector(Labels),
    /// None.
    None,
}

impl Gateway {
    /// A gateway without listeners.
    pub fn new(namespace: &str, name: &str, class: &str) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
            class: class.into(),
            listeners: Vec::new(),
        }
    }

    /// The listener that a request belongs to: of those of its port, the one for the most special
    /// hosts. No other is asked, even if that has no rule for the request.
    pub fn listener(&self, port: u16, host: &[u8]) -> Option<&Listener> {
        let listeners = self.listeners.iter();
        listeners
            .filter(|listener| listener.port == port && listener.host.matches(host))
            .max_by_key(|listener| listener.host.specificity())
    }
}

impl Listener {
    /// A listener for all hosts and the routes of the gateway's namespace.
    pub fn new(name: &str, port: u16, protocol: &str) -> Self {
        Self {
            name: name.into(),
            port,
            protocol: protocol.into(),
            host: HostPattern::ANY,
            namespaces: Namespaces::Same,
            kinds: None,
        }
    }

    pub(super) fn is_meant_by(&self, parent: &ParentRef) -> bool {
        parent.section.as_ref().is_none_or(|name| *name == self.name)
            && parent.port.is_none_or(|port| port == self.port)
    }

    pub(super) fn admits(&self, route: &Route, gateway: &str, labels: Option<&Labels>) -> bool {
        let is_kind = match &self.kinds {
            Some(kinds) => kinds.contains(&route.id.kind),
            None => ["HTTP", "HTTPS"].contains(&&*self.protocol),
        };
        let is_from = match &self.namespaces {
            Namespaces::Same => *route.id.namespace == *gateway,
            Namespaces::All => true,
            Namespaces::Selector(wanted) => {
                labels.is_some_and(|labels| wanted.iter().all(|(name, value)| labels.get(name) == Some(value)))
            }
            Namespaces::None => false,
        };
        is_kind && is_from
    }

    /// The hosts of a route that the listener has, too.
    pub(super) fn hosts(&self, route: &Route) -> Vec<HostPattern> {
        let any = [HostPattern::ANY];
        let hosts = if route.hosts.is_empty() { &any[..] } else { &route.hosts };
        let mut hosts: Vec<_> = hosts.iter().filter_map(|host| host.intersection(&self.host)).collect();
        hosts.sort();
        hosts.dedup();
        hosts
    }
}

/// What objects of other namespaces may refer to in one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReferenceGrant {
    /// Its namespace, which is that of what is referred to.
    pub namespace: Box<str>,
    /// Its name.
    pub name: Box<str>,
    /// Who may refer.
    pub from: Vec<Referrer>,
    /// To what.
    pub to: Vec<Referent>,
}

/// Objects that may refer to others.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Referrer {
    /// Their API group.
    pub group: Box<str>,
    /// Their kind.
    pub kind: Box<str>,
    /// Their namespace.
    pub namespace: Box<str>,
}

impl Referrer {
    /// All objects of a kind in a namespace.
    pub fn new(group: &str, kind: &str, namespace: &str) -> Self {
        Self {
            group: group.into(),
            kind: kind.into(),
            namespace: namespace.into(),
        }
    }
}

/// Objects that may be referred to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Referent {
    /// Their API group, empty for Kubernetes' core.
    pub group: Box<str>,
    /// Their kind.
    pub kind: Box<str>,
    /// The name; all, if it is not there.
    pub name: Option<Box<str>>,
}

impl Referent {
    /// All objects of a kind, or one of them.
    pub fn new(group: &str, kind: &str, name: Option<&str>) -> Self {
        Self {
            group: group.into(),
            kind: kind.into(),
            name: name.map(Into::into),
        }
    }
}

impl ReferenceGrant {
    /// A grant for what is in a namespace.
    pub fn new(namespace: &str, name: &str, from: Vec<Referrer>, to: Vec<Referent>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
            from,
            to,
        }
    }

    /// Whether a route may refer to a service.
    pub(super) fn permits(&self, route: &Route, namespace: &str, service: &str) -> bool {
        let referrer = Referrer::new(GATEWAY_API, &route.id.kind.to_string(), &route.id.namespace);
        let is_service = |to: &Referent| {
            to.group.is_empty() && &*to.kind == "Service" && to.name.as_ref().is_none_or(|name| **name == *service)
        };
        *self.namespace == *namespace && self.from.contains(&referrer) && self.to.iter().any(is_service)
    }
}
