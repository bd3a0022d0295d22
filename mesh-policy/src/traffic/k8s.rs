//! Routes as Kubernetes has them: YAML or JSON, many documents to a file.
//!
//! Read are HTTPRoute, GRPCRoute, Gateway, ReferenceGrant and XBackendTrafficPolicy of the Gateway
//! API, VirtualService and DestinationRule of Istio, and [RateLimitPolicy](self#rate-limits). Fields that the API does not have are faults, and so are those that
//! nothing here carries out. Faults are reported with the line and the field, and never open a way
//! around what was written:
//!
//! * A rule that says which requests it takes, but not what becomes of them, is kept and
//!   [fails](super::Rule::invalid) them. They do not fall to the rule of another route.
//! * An object with any other fault is [left out](Manifests::rejected), with the hosts and parents
//!   that it [claimed](Rejected::claimed), and the others are taken.
//!
//! ```
//! use mesh_policy::{Budget, traffic::k8s};
//!
//! let file = "
//! apiVersion: gateway.networking.k8s.io/v1
//! kind: HTTPRoute
//! metadata: {name: cart, namespace: shop}
//! spec:
//!   rules:
//!   - matches:
//!     - path: {type: Prefix, value: /cart}
//! ";
//! let manifests = k8s::read("routes.yaml", file, &Budget::new())?;
//! assert!(manifests.routes.is_empty());
//! assert_eq!(
//!     manifests.rejected[0].to_string(),
//!     "HTTPRoute `shop/cart`: routes.yaml:8: `spec.rules[0].matches[0].path.type` cannot be `Prefix`",
//! );
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Rate limits
//!
//! Neither API has an object for rate limits, so there is one of our own. It is for services, of
//! Kubernetes or by a ServiceEntry, or for routes or single rules of them in its namespace:
//!
//! ```yaml
//! apiVersion: traffic.mesh.internal/v1
//! kind: RateLimitPolicy
//! metadata: {name: reviews, namespace: shop}
//! spec:
//!   targetRefs:
//!   - {kind: Service, name: reviews}                          # or ServiceEntry
//!   - {kind: HTTPRoute, name: reviews, sectionName: search}   # also GRPCRoute, VirtualService
//!   limits:                       # counted by each proxy for itself
//!   - {name: all, requests: 1000, per: 1s, burst: 2000}       # defaults: per 1s, burst as requests
//!   - {requests: 50, by: {type: Identity, keys: 10000}}       # each client; default: 10000 at a time
//!   - {requests: 5, per: 1m, by: {type: Header, header: x-user}} # each value of each client
//!   descriptors:                  # what a rate limit service is asked about
//!   - entries:
//!     - {type: GenericKey, value: reviews}                    # key: generic_key by default
//!     - {type: RequestHeader, header: x-user, key: user, skipIfAbsent: true}
//! ```
//!
//! Other entries are `SourceCluster`, `DestinationCluster`, `RemoteAddress`, `QueryParameter` (with
//! `parameter`, `key` and `skipIfAbsent`) and `HeaderMatch` (with `header`, `exact`, `value` and
//! `key`, which is `header_match` by default), as Envoy has them. Of several policies for the same
//! requests all count.

use std::{fmt, sync::Arc};

pub use self::reference::Claimed;
use self::{metadata::Metadata, scope::Scope};
use super::{
    backend::Invalid,
    destination::DestinationRule,
    gateway::{GATEWAY_API, Gateway, ReferenceGrant},
    model::{Route, RouteKind, Rule, VirtualService},
    rate::RateLimitPolicy,
    upstream::BackendTrafficPolicy,
};
use crate::{
    budget::Budget,
    manifest::{self, Item, Problem, ReadError, ReadFault},
};

mod backend;
mod backend_policy;
mod cors;
mod destination_rule;
mod duration;
mod filter;
mod gateway;
mod grpc_route;
mod http_route;
mod istio;
mod metadata;
mod rate_limit;
mod reference;
mod scope;
mod virtual_service;

/// What files hold about traffic.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Manifests {
    /// Routes of the Gateway API.
    pub routes: Vec<Arc<Route>>,
    /// Gateways.
    pub gateways: Vec<Gateway>,
    /// What may be referred to from other namespaces.
    pub grants: Vec<ReferenceGrant>,
    /// Routes of Istio.
    pub virtual_services: Vec<VirtualService>,
    /// What all clients of a service do.
    pub backend_policies: Vec<Arc<BackendTrafficPolicy>>,
    /// How many requests are too many.
    pub rate_limits: Vec<RateLimitPolicy>,
    /// How hosts are reached, for Istio.
    pub destination_rules: Vec<Arc<DestinationRule>>,
    /// Objects that were left out, and why.
    pub rejected: Vec<Rejected>,
    /// Objects above that have rules or backends which fail all of their requests, and why.
    pub impaired: Vec<Rejected>,
    /// Objects of other kinds and groups, for whoever knows these.
    pub others: Vec<Item>,
}

/// An object that was left out, or that has rules which fail their requests.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rejected {
    /// Its kind.
    pub kind: String,
    /// Its namespace and name, if it has them.
    pub name: Option<(Box<str>, Box<str>)>,
    /// Of a route, whose requests it is about, if that could be read: whoever has no older version of
    /// the object has to fail these, rather than leave them to others. Other objects claim none, and
    /// neither does a VirtualService that is about no HTTP request of the mesh.
    pub claimed: Option<Claimed>,
    /// What is wrong with it.
    pub error: ReadError,
}

impl Manifests {
    /// Puts a route in the place of one that was [left out](Self::rejected), if it is known which
    /// requests it claimed. It fails all of them that no other route asks for more precisely: it comes
    /// before all that ask for as much, however old these are, and before all VirtualServices that
    /// name a host of it as precisely.
    pub fn stand_in(&mut self, rejected: &Rejected) {
        let Some(((namespace, name), claimed)) = rejected.name.as_ref().zip(rejected.claimed.as_ref()) else {
            return;
        };
        let kind = match &*rejected.kind {
            "GRPCRoute" => RouteKind::Grpc,
            "HTTPRoute" => RouteKind::Http,
            "VirtualService" => RouteKind::VirtualService,
            _ => return,
        };
        if kind != RouteKind::VirtualService && claimed.parents.is_empty() {
            return;
        }
        let place = Some((Arc::clone(&rejected.error.file), rejected.error.line));
        let mut route = Route::new(kind, namespace, name);
        // Before every date: which of the requests it was to keep from older routes is not known.
        route.created = Some(Box::default());
        route.place.clone_from(&place);
        route.hosts.clone_from(&claimed.hosts);
        route.parents.clone_from(&claimed.parents);
        let reason = rejected.error.fault.to_string().into();
        route.rules = vec![Rule {
            invalid: Some(Invalid { place, reason }.into()),
            ..Rule::default()
        }];
        match kind {
            RouteKind::Http | RouteKind::Grpc => self.routes.push(route.into()),
            RouteKind::VirtualService => self.virtual_services.push(VirtualService::new(route)),
        }
    }
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.kind.escape_debug())?;
        if let Some((namespace, name)) = &self.name {
            write!(f, "`{}/{}`", namespace.escape_debug(), name.escape_debug())?;
        }
        write!(f, ": {}", self.error)
    }
}

/// Reads the text of a file. `file` is its name, for messages.
///
/// # Errors
///
/// The file holds no objects: it is no YAML, or too large.
pub fn read(file: &str, text: &str, budget: &Budget) -> Result<Manifests, ReadError> {
    let is_known = |group: &str, kind: &str| Kind::of(group, kind).is_some();
    let items = manifest::read(file, text, budget, is_known)?;
    Ok(read_items(file, items, budget))
}

/// Reads what another reader has left of a file, such as the
/// [`others`](crate::authz::k8s::Manifests::others) of one for policies. Of lists only those of kind
/// `List` have been taken apart there.
pub fn read_items(file: &str, items: impl IntoIterator<Item = Item>, budget: &Budget) -> Manifests {
    let mut manifests = Manifests::default();
    let mut scope = Scope::new(file.into(), budget);
    for item in items {
        manifests.take(item, &mut scope);
    }
    manifests
}

/// The kinds that are read here.
#[derive(Clone, Copy)]
enum Kind {
    HttpRoute,
    GrpcRoute,
    Gateway,
    ReferenceGrant,
    VirtualService,
    DestinationRule,
    BackendTrafficPolicy,
    RateLimitPolicy,
}

/// The group of the Gateway API's experiments.
const EXPERIMENTAL: &str = "gateway.networking.x-k8s.io";

/// The group of our own kinds. Names below `internal` are nobody's (RFC 6762's appendix G, and ICANN's
/// reservation).
const OWN: &str = "traffic.mesh.internal";

/// The group of Istio's.
const ISTIO: &str = "networking.istio.io";

impl Kind {
    fn of(group: &str, kind: &str) -> Option<Self> {
        Some(match (group, kind) {
            (GATEWAY_API, "HTTPRoute") => Self::HttpRoute,
            (GATEWAY_API, "GRPCRoute") => Self::GrpcRoute,
            (GATEWAY_API, "Gateway") => Self::Gateway,
            (GATEWAY_API, "ReferenceGrant") => Self::ReferenceGrant,
            (EXPERIMENTAL, "XBackendTrafficPolicy") => Self::BackendTrafficPolicy,
            (OWN, "RateLimitPolicy") => Self::RateLimitPolicy,
            (ISTIO, "VirtualService") => Self::VirtualService,
            (ISTIO, "DestinationRule") => Self::DestinationRule,
            _ => return None,
        })
    }

    fn versions(self) -> &'static [&'static str] {
        match self {
            Self::GrpcRoute => &["v1"],
            Self::BackendTrafficPolicy => &["v1alpha1"],
            Self::RateLimitPolicy => &["v1"],
            Self::HttpRoute | Self::Gateway | Self::ReferenceGrant => &["v1", "v1beta1"],
            Self::VirtualService | Self::DestinationRule => &["v1", "v1beta1", "v1alpha3"],
        }
    }
}

/// What is known of an object before all of it was read.
#[derive(Default)]
struct Found {
    name: Option<(Box<str>, Box<str>)>,
    claimed: Option<Claimed>,
}

impl Manifests {
    fn take(&mut self, item: Item, scope: &mut Scope) {
        let Some(kind) = Kind::of(item.group(), &item.kind) else {
            self.others.push(item);
            return;
        };
        let (written, mut found) = (item.kind.clone(), Found::default());
        let outcome = self.take_known(kind, item, scope, &mut found);
        let invalid = scope.take_invalid();
        let report = |(line, fault): Problem| Rejected {
            kind: written.clone(),
            name: found.name.clone(),
            claimed: found.claimed.clone(),
            error: ReadError {
                file: Arc::clone(&scope.file),
                line,
                fault,
            },
        };
        match outcome {
            Ok(()) => self.impaired.extend(invalid.into_iter().map(report)),
            Err(problem) => self.rejected.push(report(problem)),
        }
    }

    fn take_known(&mut self, kind: Kind, item: Item, scope: &mut Scope, found: &mut Found) -> Result<(), Problem> {
        let Item {
            api_version,
            line,
            mut object,
            ..
        } = item;
        let metadata = Metadata::read(&mut object, line)?;
        found.name = Some((metadata.namespace.clone(), metadata.name.clone()));
        let claimed = &mut found.claimed;
        let version = api_version.split_once('/').map_or("", |(_, version)| version);
        if !kind.versions().contains(&version) {
            let api_version = api_version.into();
            return Err((line, ReadFault::Version { api_version }));
        }
        object.pass_over(&["status"]);
        let spec = object.required_object("spec")?;
        object.finish()?;
        match kind {
            Kind::HttpRoute => self
                .routes
                .push(http_route::read(metadata, spec, scope, claimed)?.into()),
            Kind::GrpcRoute => self
                .routes
                .push(grpc_route::read(metadata, spec, scope, claimed)?.into()),
            Kind::Gateway => self.gateways.push(gateway::read(&metadata, spec)?),
            Kind::ReferenceGrant => self.grants.push(gateway::read_grant(&metadata, spec)?),
            Kind::VirtualService => self
                .virtual_services
                .push(virtual_service::read(metadata, spec, scope, claimed)?),
            Kind::BackendTrafficPolicy => {
                let policy = backend_policy::read(&metadata, spec)?;
                self.backend_policies.push(policy.into());
            }
            Kind::RateLimitPolicy => self.rate_limits.push(rate_limit::read(&metadata, spec, &scope.file)?),
            Kind::DestinationRule => {
                let rule = destination_rule::read(&metadata, spec, &scope.file)?;
                self.destination_rules.push(rule.into());
            }
        }
        Ok(())
    }
}
