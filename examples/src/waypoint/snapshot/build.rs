//! Makes snapshots.

use std::collections::HashMap;
use std::hash::Hash;
use std::ops::ControlFlow;
use std::sync::Arc;

use mesh_policy::Budget;
use mesh_policy::authz::attach::{Recipient, Service as Attached, ServiceKind};
use mesh_policy::authz::{AuthorizationPolicy, Compiler, Dialect, Labels, PolicyName, TrustDomains};
use mesh_policy::jwt::Authenticator;
use mesh_policy::traffic::attach::{self, Cluster};
use mesh_policy::traffic::upstream::{BackendTrafficPolicies, DestinationRules};
use mesh_policy::traffic::{ReferenceGrant, Route, RouteTable, Target, VirtualService};
use mesh_xds::store::{self, Gateway, GatewayDestination, Service};

use super::frame::Terms;
use super::limits::Limits;
use super::{Destination, Protection, Routes, Served, Snapshot};
use crate::waypoint::objects::Objects;

/// A service by its namespace and name.
type Named = HashMap<(Arc<str>, Arc<str>), Arc<Service>>;

/// What the mesh and the objects come to. What cannot be made stays as it was `before`.
pub(super) fn build(
    terms: &Terms,
    mesh: &store::Snapshot,
    objects: &Objects,
    version: u64,
    before: Option<&Snapshot>,
) -> Snapshot {
    let (mut named, mut ours) = (Named::new(), Vec::new());
    mesh.visit_services(|service| {
        let name = (Arc::clone(&service.namespace), Arc::clone(&service.name));
        named.insert(name, Arc::clone(service));
        if terms.serves(mesh, service) {
            ours.push(Arc::clone(service));
        }
        ControlFlow::<()>::Continue(())
    });
    let rules = DestinationRules::new(&terms.root_namespace, objects.destination_rules().cloned());
    let backend_policies = BackendTrafficPolicies::new(objects.backend_policies().cloned());
    let mut builder = Builder {
        terms,
        mesh,
        objects,
        version,
        before,
        routes: grouped(objects.routes().cloned(), |route| {
            let parents = route.parents.iter();
            parents
                .map(|parent| (parent.namespace.clone(), parent.name.clone()))
                .collect()
        }),
        virtual_services: grouped(objects.virtual_services().cloned(), |service| {
            vec![service.route.id.namespace.clone()]
        }),
        grants: objects.grants().cloned().collect(),
        named,
        policies: HashMap::new(),
        problems: objects.problems().map(str::to_owned).collect(),
    };
    let served: HashMap<Arc<str>, Arc<Served>> = ours
        .into_iter()
        .map(|service| (Arc::clone(&service.key), Arc::new(builder.served(service))))
        .collect();
    let before = before.map(|before| &before.limits);
    let limited = served.values().map(|served| &**served);
    let limits = Limits::new(objects.rate_limits(), limited, terms.asks_about_limits, before);
    builder.problems.extend(limits.problems);
    let mut snapshot = Snapshot {
        mesh: mesh.clone(),
        network: Arc::clone(&terms.network),
        targets: HashMap::new(),
        rules: HashMap::new(),
        backend_policies: HashMap::new(),
        limits: limits.table,
        problems: builder.problems.clone(),
        served,
    };
    lead(&mut snapshot, &builder, &rules, &backend_policies);
    snapshot
}

/// Finds out where routes lead, and how requests get there.
fn lead(
    snapshot: &mut Snapshot,
    builder: &Builder<'_>,
    rules: &DestinationRules,
    backend_policies: &BackendTrafficPolicies,
) {
    let targets: Vec<_> = snapshot.served.values().flat_map(|served| targets(served)).collect();
    let wanted = snapshot.served.values().map(|served| Arc::clone(&served.service));
    let wanted: Vec<_> = wanted
        .chain(
            targets
                .iter()
                .filter_map(|target| builder.service(target))
                .map(|(service, _)| service),
        )
        .collect();
    for service in wanted {
        if !snapshot.rules.contains_key(&service.key)
            && let Some(rule) = rules.find(&builder.terms.namespace, &service.namespace, &service.hostname)
        {
            // One that stayed the same is the same one, so that nothing is made anew by it.
            let before = builder.before.and_then(|before| before.rule(&service.key));
            let same = before.filter(|before| ***before == *rule).cloned();
            let rule = same.unwrap_or_else(|| Arc::new(rule.clone()));
            snapshot.rules.insert(Arc::clone(&service.key), rule);
        }
        if let Some(policy) = backend_policies.find(&service.namespace, &service.name) {
            let policy = || Arc::new(policy.clone());
            snapshot
                .backend_policies
                .entry(Arc::clone(&service.key))
                .or_insert_with(policy);
        }
        if let Some(policy) = backend_policies.find(&service.namespace, &service.name) {
            let policy = || Arc::new(policy.clone());
            snapshot
                .backend_policies
                .entry(Arc::clone(&service.key))
                .or_insert_with(policy);
        }
    }
    for target in targets {
        if let Some(destination) = builder.destination(snapshot, &target) {
            snapshot.targets.insert(target, destination);
        }
    }
}

struct Builder<'a> {
    terms: &'a Terms,
    mesh: &'a store::Snapshot,
    objects: &'a Objects,
    version: u64,
    before: Option<&'a Snapshot>,
    /// By the objects that they want to be attached to.
    routes: HashMap<(Box<str>, Box<str>), Vec<Route>>,
    /// By their namespaces.
    virtual_services: HashMap<Box<str>, Vec<VirtualService>>,
    grants: Vec<ReferenceGrant>,
    named: Named,
    /// Those that were compiled: services with the same policies share a set.
    policies: HashMap<Vec<PolicyName>, Protection>,
    problems: Vec<String>,
}

impl Builder<'_> {
    fn served(&mut self, service: Arc<Service>) -> Served {
        let mut routes = HashMap::new();
        for port in service.ports.iter().map(|mapping| mapping.service) {
            if let Some(found) = self.port(&service, port) {
                routes.insert(port, found);
            }
        }
        let terms = self.terms;
        let recipient = Recipient::Waypoint {
            namespace: &terms.namespace,
            name: &terms.name,
            service: Some(Attached {
                namespace: &service.namespace,
                name: &service.name,
                kind: kind(&service),
            }),
        };
        let believed = self.objects.authentications();
        let believed = believed.filter(|found| recipient.believes_by(found, &terms.root_namespace));
        let authenticator = Authenticator::new(believed).map(Arc::new).map_err(|error| {
            self.problems.push(error.to_string());
            error.to_string().into()
        });
        Served {
            protection: self.protection(&recipient),
            authenticator,
            routes,
            service,
        }
    }

    /// The routes of a port: those of the Gateway API, and failing these of VirtualServices.
    fn port(&mut self, service: &Service, port: u16) -> Option<Routes> {
        let (namespace, name) = (&*service.namespace, &*service.name);
        let candidates = self.routes.get(&(namespace.into(), name.into()));
        let candidates = candidates.map(Vec::as_slice).unwrap_or_default();
        let attached = attach::service(namespace, name, port, candidates, &self.grants, self);
        for status in &attached.statuses {
            let (route, target) = (&status.route, format!("{namespace}/{name}:{port}"));
            if let Err(reason) = &status.accepted {
                self.problems
                    .push(format!("{route} does not serve `{target}`: {reason}"));
            }
            for (backend, reason) in &status.unresolved {
                self.problems
                    .push(format!("{route} leads nowhere with `{backend}`: {reason}"));
            }
        }
        let mut routes = attached.routes;
        if routes.is_empty() {
            let found = self.virtual_services.get(namespace);
            let found = found.map(Vec::as_slice).unwrap_or_default();
            routes = attach::virtual_services(namespace, &service.hostname, found);
        }
        if routes.is_empty() {
            return None;
        }
        let table = RouteTable::new(routes, &Budget::new());
        if table.refused().is_empty() {
            return Some(Routes::Table(Arc::new(table)));
        }
        // What the others would do with the requests of those that are missing is anybody's guess.
        for refused in table.refused() {
            self.problems.push(format!(
                "`{namespace}/{name}:{port}`: no room for {}: {}",
                refused.route.id, refused.over
            ));
        }
        let before = self.before.and_then(|before| before.served(&service.key)?.routes(port));
        Some(match before {
            Some(Routes::Table(table)) => Routes::Table(Arc::clone(table)),
            Some(Routes::Broken) | None => Routes::Broken,
        })
    }

    fn protection(&mut self, recipient: &Recipient<'_>) -> Protection {
        if let Some(reason) = self.objects.closed() {
            return Protection::Closed(reason.into());
        }
        let policies: Vec<&AuthorizationPolicy> = self
            .objects
            .policies()
            .filter(|policy| recipient.is_subject_to(policy, &self.terms.root_namespace))
            .collect();
        let names: Vec<_> = policies.iter().map(|policy| policy.name().clone()).collect();
        if let Some(known) = self.policies.get(&names) {
            return known.clone();
        }
        let compiler = Compiler::new(Dialect::Strict)
            .trust_domains(TrustDomains::new(&self.terms.trust_domain))
            .version(self.version);
        let protection = match compiler.compile(policies.into_iter().cloned()) {
            Ok(set) => Protection::Policies(Arc::new(set)),
            Err(error) => {
                self.problems.push(error.to_string());
                Protection::Closed(error.to_string().into())
            }
        };
        self.policies.insert(names, protection.clone());
        protection
    }

    fn destination(&self, snapshot: &Snapshot, target: &Target) -> Option<Destination> {
        let (service, port) = self.service(target)?;
        let subset = match target {
            Target::Host { subset, .. } => subset.clone(),
            _ => None,
        };
        Some(Destination {
            rule: snapshot.rule(&service.key).cloned(),
            policy: snapshot.backend_policy(&service.key).cloned(),
            service,
            port,
            subset,
        })
    }

    fn service(&self, target: &Target) -> Option<(Arc<Service>, u16)> {
        match target {
            Target::Object {
                namespace, name, port, ..
            } => {
                let service = self.named.get(&(Arc::from(&**namespace), Arc::from(&**name)))?;
                Some((Arc::clone(service), (*port)?))
            }
            Target::Host { host, port, .. } => {
                let service = self.mesh.service_named(host, Some(&self.terms.namespace));
                let service = match service {
                    Some(service) => service,
                    // A short name is one of the waypoint's namespace.
                    None => self
                        .named
                        .get(&(Arc::from(&*self.terms.namespace), Arc::from(&**host)))?,
                };
                let only = || match *service.ports {
                    [only] => Some(only.service),
                    _ => None,
                };
                Some((Arc::clone(service), port.or_else(only)?))
            }
            _ => None,
        }
    }
}

impl Cluster for Builder<'_> {
    fn has_service(&self, namespace: &str, name: &str, port: u16) -> bool {
        let service = self.named.get(&(Arc::from(namespace), Arc::from(name)));
        service.is_some_and(|service| service.ports.iter().any(|mapping| mapping.service == port))
    }

    fn namespace_labels(&self, namespace: &str) -> Option<&Labels> {
        self.objects.namespace(namespace)
    }
}

impl Terms {
    /// Whether a service's traffic is to pass this waypoint, or a share of it.
    fn serves(&self, mesh: &store::Snapshot, service: &Service) -> bool {
        let shares = service.weighted_waypoints.iter().map(|(gateway, _)| gateway);
        let mut gateways = service.waypoint.iter().chain(shares);
        gateways.any(|gateway| self.is(mesh, gateway))
    }

    fn is(&self, mesh: &store::Snapshot, gateway: &Gateway) -> bool {
        let is_ours = |service: &Arc<Service>| *service.namespace == *self.namespace && *service.name == *self.name;
        match &gateway.destination {
            GatewayDestination::Hostname { namespace, hostname } => {
                mesh.service_named(hostname, Some(namespace)).is_some_and(is_ours)
            }
            GatewayDestination::Address(address) => {
                let workload = mesh.workload_at(address).is_some_and(|workload| {
                    let id = &workload.identity;
                    *id.namespace == *self.namespace && *id.service_account == *self.service_account
                });
                workload || mesh.service_at(address, None).is_some_and(is_ours)
            }
            _ => false,
        }
    }
}

/// What declared a service: those of Kubernetes have names of its kind.
fn kind(service: &Service) -> ServiceKind {
    let own = format!("{}.{}.svc", service.name, service.namespace);
    match service.hostname.starts_with(&own) {
        true => ServiceKind::Service,
        false => ServiceKind::ServiceEntry,
    }
}

/// Everything that a service's routes lead to.
fn targets(served: &Served) -> Vec<Target> {
    let tables = served.routes.values().filter_map(|routes| match routes {
        Routes::Table(table) => Some(table),
        Routes::Broken => None,
    });
    let rules = tables.flat_map(|table| table.routes()).flat_map(|route| &route.rules);
    let mut targets = Vec::new();
    for rule in rules {
        targets.extend(rule.backends.as_slice().iter().map(|backend| backend.target.clone()));
        targets.extend(rule.filters.mirrors.iter().map(|mirror| mirror.target.clone()));
    }
    targets
}

fn grouped<K: Ord + Hash, V: Clone>(
    values: impl Iterator<Item = V>,
    keys: impl Fn(&V) -> Vec<K>,
) -> HashMap<K, Vec<V>> {
    let mut groups: HashMap<K, Vec<V>> = HashMap::new();
    for value in values {
        let mut keys = keys(&value);
        keys.sort();
        keys.dedup();
        let last = keys.pop();
        for key in keys {
            groups.entry(key).or_default().push(value.clone());
        }
        if let Some(key) = last {
            groups.entry(key).or_default().push(value);
        }
    }
    groups
}
