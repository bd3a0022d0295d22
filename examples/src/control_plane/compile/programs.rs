//! What each waypoint is told: what concerns the services that it serves, and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mesh_policy::authz::attach::{self, Recipient, ServiceKind};
use mesh_policy::traffic::attach::VirtualServices;
use mesh_policy::traffic::{DestinationRule, Looked, ReferenceGrant, Referrer, Route, Target};

use mesh_xds_types::workload::Service as Message;

use super::super::objects::{Key, Meaning, Name, Objects, Told};
use super::hostname;
use super::labels::Labelled;
use super::services::{ByWaypoint, Service};
use super::status::{Judge, service_of};

/// The texts of the objects that a waypoint is told, by names.
pub(in crate::control_plane) type Program = BTreeMap<Name, Arc<str>>;

/// The namespaces of services, by hostname: which of several services of a name is meant is for the
/// waypoint to say.
type Homes<'o> = BTreeMap<&'o str, Vec<&'o str>>;

/// A route, with what is told of it.
type Offered<'o> = (&'o Arc<Told>, &'o Arc<Route>);

/// Everything that waypoints could be told.
pub(super) struct Library<'o> {
    told: &'o BTreeMap<Name, Arc<Told>>,
    labelled: &'o Labelled,
    judge: &'o Judge<'o>,
    root_namespace: &'o str,
    /// By the services that they want to be attached to.
    routes: BTreeMap<Key, Vec<Offered<'o>>>,
    homes: Homes<'o>,
    virtual_services: VirtualServices,
}

impl<'o> Library<'o> {
    pub(super) fn new(
        objects: &'o Objects,
        judge: &'o Judge<'o>,
        services: &'o BTreeMap<String, Message>,
        labelled: &'o Labelled,
        root_namespace: &'o str,
    ) -> Self {
        let mut homes = Homes::new();
        for service in services.values() {
            homes.entry(&service.hostname).or_default().push(&service.namespace);
        }
        let told = &objects.traffic.told;
        let virtual_services = told.values().filter_map(|told| match &told.meaning {
            Meaning::VirtualService(service) => Some(service),
            _ => None,
        });
        let mut library = Self {
            told,
            labelled,
            judge,
            root_namespace,
            routes: BTreeMap::new(),
            homes,
            virtual_services: VirtualServices::new(virtual_services),
        };
        for told in library.told.values() {
            if let Meaning::Route(route) = &told.meaning {
                let parents: BTreeSet<_> = route.parents.iter().filter_map(service_of).collect();
                for service in parents {
                    library.routes.entry(service).or_default().push((told, route));
                }
            }
        }
        library
    }

    /// What each of these waypoints is told.
    pub(super) fn programs<'g>(
        &self,
        gateways: impl Iterator<Item = &'g Key>,
        served: &ByWaypoint,
    ) -> BTreeMap<Key, Program> {
        gateways
            .map(|gateway| {
                let services = served.get(gateway).map(Vec::as_slice).unwrap_or_default();
                (gateway.clone(), self.program(gateway, services))
            })
            .collect()
    }

    fn program(&self, gateway: &Key, services: &[Service]) -> Program {
        let mut chosen = Chosen::default();
        for service in services {
            let routes = match service.kind {
                ServiceKind::Service => self.routes_of(&service.key),
                ServiceKind::ServiceEntry => Vec::new(),
            };
            // A port that has routes has no VirtualService.
            if !routes.iter().any(|(_, route)| is_for_all_ports(route, &service.key)) {
                self.add_virtual_services(service, &mut chosen);
            }
            for route in routes {
                chosen.add_route(route, &self.homes);
            }
            chosen
                .hosts
                .insert((service.key.namespace.clone(), service.hostname.clone()));
        }
        let is_served = |kind: ServiceKind, key: &Key| {
            let mut services = services.iter();
            services.any(|service| service.kind == kind && service.key == *key)
        };
        let is_chosen = |told: &&Arc<Told>| match &told.meaning {
            Meaning::Gateway => told.name.key == *gateway,
            Meaning::DestinationRule(rule) => {
                let mut hosts = chosen.hosts.iter();
                hosts.any(|(namespace, host)| self.is_about(rule, namespace, host, gateway))
            }
            Meaning::Grant(grant) => chosen.references.iter().any(|reference| reference.needs(grant)),
            Meaning::Authorization(policy) => {
                let mut recipients = recipients(gateway, services);
                recipients.any(|recipient| recipient.is_subject_to(policy, self.root_namespace))
            }
            Meaning::RequestAuthentication(authentication) => {
                let mut recipients = recipients(gateway, services);
                recipients.any(|recipient| recipient.believes_by(authentication, self.root_namespace))
            }
            Meaning::BackendPolicy(policy) => {
                let mut services = policy.targets.iter().filter(|target| target.kind == "Service");
                services.any(|target| {
                    let namespace = policy.namespace.to_string();
                    let host = full(&target.name, &namespace);
                    chosen.hosts.contains(&(namespace, host))
                })
            }
            Meaning::RateLimit(policy) => policy.targets.iter().any(|target| {
                let key = told.name.key.beside(&target.object.name);
                match &*target.object.kind {
                    "Service" => is_served(ServiceKind::Service, &key),
                    "ServiceEntry" => is_served(ServiceKind::ServiceEntry, &key),
                    kind => chosen.routes.contains(&Name {
                        kind: kind.to_owned(),
                        key,
                    }),
                }
            }),
            Meaning::Route(_) | Meaning::VirtualService(_) => chosen.routes.contains(&told.name),
        };
        let told = self.told.values().filter(is_chosen);
        let labelled = chosen
            .hosts
            .iter()
            .flat_map(|(namespace, host)| self.labelled.of(&format!("{namespace}/{host}")));
        told.map(|told| (told.name.clone(), Arc::clone(&told.text)))
            .chain(labelled.chain(self.labelled.of_waypoint(gateway)).cloned())
            .collect()
    }

    /// The routes of a service, which are not all that want to be.
    fn routes_of(&self, service: &Key) -> Vec<Offered<'o>> {
        let mut routes = self.routes.get(service).cloned().unwrap_or_default();
        routes.retain(|(_, route)| self.judge.is_accepted(route, service));
        routes
    }

    fn add_virtual_services(&self, service: &Service, chosen: &mut Chosen<'o>) {
        for route in self.virtual_services.of(&service.key.namespace, &service.hostname) {
            let name = Name {
                kind: route.id.kind.to_string(),
                key: service.key.beside(&route.id.name),
            };
            chosen.add_targets(&route, &self.homes);
            chosen.routes.insert(name);
        }
    }

    /// Whether a rule may be one for requests of a waypoint to a host: of the waypoint's namespace,
    /// the host's, or the mesh's.
    fn is_about(&self, rule: &DestinationRule, namespace: &str, host: &str, gateway: &Key) -> bool {
        let is_near = [namespace, &gateway.namespace, self.root_namespace].contains(&&*rule.namespace);
        is_near && rule.host.names(&rule.namespace, host)
    }
}

/// What a waypoint is told, as far as that is known.
#[derive(Default)]
struct Chosen<'o> {
    routes: BTreeSet<Name>,
    /// With their namespaces: where requests go.
    hosts: BTreeSet<(String, String)>,
    references: Vec<Reference<'o>>,
}

impl<'o> Chosen<'o> {
    fn add_route(&mut self, (told, route): Offered<'o>, homes: &Homes<'_>) {
        for target in targets(route) {
            if let Target::Object { namespace, name, .. } = target
                && *namespace != route.id.namespace
            {
                self.references.push(Reference { route, namespace, name });
            }
        }
        self.add_targets(route, homes);
        self.routes.insert(told.name.clone());
    }

    fn add_targets(&mut self, route: &Route, homes: &Homes<'_>) {
        for target in targets(route) {
            match target.looked_for() {
                Looked::ByName { namespace, name } => {
                    self.hosts.insert((namespace.to_owned(), full(name, namespace)));
                }
                Looked::ByHost { host, .. } => {
                    let homes = homes.get(host).into_iter().flatten();
                    let hosts = homes.map(|namespace| ((*namespace).to_owned(), host.to_owned()));
                    self.hosts.extend(hosts);
                }
                _ => {}
            }
        }
    }
}

/// A route's reference to a service of another namespace.
struct Reference<'o> {
    route: &'o Route,
    namespace: &'o str,
    name: &'o str,
}

impl Reference<'_> {
    /// Whether the reference is of no use without this.
    fn needs(&self, grant: &ReferenceGrant) -> bool {
        let kind = self.route.id.kind.to_string();
        let is_from = |from: &Referrer| *from.kind == *kind && from.namespace == self.route.id.namespace;
        *grant.namespace == *self.namespace
            && grant.from.iter().any(is_from)
            && grant
                .to
                .iter()
                .any(|to| to.name.as_ref().is_none_or(|name| **name == *self.name))
    }
}

/// Where a route sends requests, and copies of them.
fn targets(route: &Route) -> impl Iterator<Item = &Target> {
    route.rules.iter().flat_map(|rule| {
        let backends = rule.backends.as_slice().iter().map(|backend| &backend.target);
        backends.chain(rule.filters.mirrors.iter().map(|mirror| &mirror.target))
    })
}

/// Whether a route wants to be attached to a service whatever the port.
fn is_for_all_ports(route: &Route, service: &Key) -> bool {
    let mut parents = route.parents.iter().filter(|parent| parent.port.is_none());
    parents.any(|parent| service_of(parent).as_ref() == Some(service))
}

/// What policies may name to mean the waypoint.
fn recipients<'g>(gateway: &'g Key, services: &'g [Service]) -> impl Iterator<Item = Recipient<'g>> {
    let services = services.iter().map(|service| attach::Service {
        namespace: &service.key.namespace,
        name: &service.key.name,
        kind: service.kind,
    });
    [None]
        .into_iter()
        .chain(services.map(Some))
        .map(|service| Recipient::Waypoint {
            namespace: &gateway.namespace,
            name: &gateway.name,
            service,
        })
}

fn full(name: &str, namespace: &str) -> String {
    hostname(&Key {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    })
}
