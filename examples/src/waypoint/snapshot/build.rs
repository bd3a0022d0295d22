//! Makes snapshots.

use std::collections::{BTreeSet, HashMap};
use std::ops::ControlFlow;
use std::sync::Arc;

use mesh_policy::Budget;
use mesh_policy::authz::Labels;
use mesh_policy::authz::attach::{Recipient, Service as Attached, ServiceKind};
use mesh_policy::traffic::attach::{self, Cluster};
use mesh_policy::traffic::{Route, RouteTable};
use mesh_xds::store::{self, Gateway, GatewayDestination, Service, Workload};

use super::frame::Terms;
use super::guard::{Guard, Guards};
use super::index::{ByName, Index};
use super::lead::lead;
use super::limits::Limits;
use super::{Routes, Served, Snapshot};
use crate::waypoint::addressee::Addressee;
use crate::waypoint::objects::Objects;

/// What the mesh and the objects come to. What stayed as it was `before` is shared with that, and so
/// is what cannot be made.
///
/// `version` is that of the policies that were compiled last, each set by itself: permits carry it.
pub(super) fn build(
    terms: &Arc<Terms>,
    mesh: &store::Snapshot,
    objects: &Objects,
    version: &mut u64,
    before: Option<&Snapshot>,
) -> Snapshot {
    let mut services = Vec::with_capacity(mesh.service_count());
    mesh.visit_services(|service| {
        services.push(Arc::clone(service));
        ControlFlow::<()>::Continue(())
    });
    let index = Index::new(terms, objects);
    let mut builder = Builder {
        terms,
        index: &index,
        guards: Guards::new(terms, &index, version),
        before,
        named: named(&services),
    };
    let of_workloads = Recipient::Waypoint {
        namespace: &terms.namespace,
        name: &terms.name,
        service: None,
    };
    let guard = builder.guards.of(&of_workloads, before.map(|before| &before.guard));
    let ours = services.iter().filter(|service| terms.serves(mesh, service));
    let served = ours.map(|service| (Arc::clone(&service.key), builder.served(service)));
    let served: HashMap<_, _> = served.collect();
    let limits = {
        let limited = served.values().map(|served: &Arc<Served>| &**served);
        let before = before.map(|before| &before.limits);
        Limits::new(objects.rate_limits(), limited, terms.asks_about_limits, before)
    };
    let mut snapshot = Snapshot {
        served,
        guard,
        limits: limits.table,
        mesh: mesh.clone(),
        terms: Arc::clone(terms),
        labels: objects.workloads(),
        targets: HashMap::new(),
        rules: HashMap::new(),
        backend_policies: HashMap::new(),
        problems: Vec::new(),
    };
    snapshot.problems = problems(objects, &snapshot, limits.problems);
    lead(&mut snapshot, terms, &index, &builder.named, before);
    snapshot
}

/// Services of Kubernetes by namespace and name: others are named by their hosts alone.
pub(super) type Named<'s> = ByName<'s, &'s Arc<Service>>;

fn named(services: &[Arc<Service>]) -> Named<'_> {
    let mut named = Named::default();
    for service in services.iter().filter(|service| kind(service) == ServiceKind::Service) {
        named.entry((&*service.namespace, &*service.name)).insert_entry(service);
    }
    named
}

/// What is wrong, each thing once.
fn problems(objects: &Objects, snapshot: &Snapshot, of_limits: Vec<String>) -> Vec<String> {
    let of_services = snapshot.served.values().flat_map(|served| &served.problems);
    let of_guards = snapshot.guards().flat_map(Guard::reasons).map(str::to_owned);
    let all = objects.problems().chain(of_limits);
    let all: BTreeSet<_> = all.chain(of_services.cloned()).chain(of_guards).collect();
    all.into_iter().collect()
}

struct Builder<'a> {
    terms: &'a Terms,
    index: &'a Index<'a>,
    guards: Guards<'a>,
    before: Option<&'a Snapshot>,
    named: Named<'a>,
}

impl Builder<'_> {
    fn served(&mut self, service: &Arc<Service>) -> Arc<Served> {
        let before = self.before.and_then(|before| before.served(&service.key));
        let recipient = Recipient::Waypoint {
            namespace: &self.terms.namespace,
            name: &self.terms.name,
            service: Some(Attached {
                namespace: &service.namespace,
                name: &service.name,
                kind: kind(service),
            }),
        };
        let mut problems = Vec::new();
        let routes = self.routes(service, &mut problems, before);
        let guard = self.guards.of(&recipient, before.map(|before| &before.guard));
        let served = Served {
            to: Addressee::Service(Arc::clone(service)),
            routes,
            guard,
            problems: problems.into(),
        };
        match before.filter(|before| before.is(&served)) {
            Some(before) => Arc::clone(before),
            None => Arc::new(served),
        }
    }

    /// The routes of each port that has any.
    fn routes(
        &self,
        service: &Service,
        problems: &mut Vec<String>,
        before: Option<&Arc<Served>>,
    ) -> Box<[(u16, Routes)]> {
        let mut all: Vec<(u16, Routes)> = Vec::new();
        for port in service.ports.iter().map(|mapping| mapping.service) {
            let found = self.attached(service, port, problems);
            if found.is_empty() || all.iter().any(|(known, _)| *known == port) {
                continue;
            }
            let before = before.map(|before| &*before.routes).unwrap_or_default();
            let mut known = all.iter().chain(before).map(|(_, routes)| routes);
            let routes = match known.find(|routes| routes.are(&found)) {
                Some(same) => same.clone(),
                None => self.table(found, (service, port), problems, before),
            };
            all.push((port, routes));
        }
        all.into()
    }

    /// The routes of a port: those of the Gateway API, and failing these of VirtualServices.
    fn attached(&self, service: &Service, port: u16, problems: &mut Vec<String>) -> Vec<Arc<Route>> {
        let (namespace, name) = (&*service.namespace, &*service.name);
        // A ServiceEntry may be called like a Service, whose routes are not for it.
        let candidates = match kind(service) {
            ServiceKind::Service => self.index.routes(namespace, name),
            ServiceKind::ServiceEntry => &[],
        };
        let attached = attach::service(namespace, name, port, candidates, &self.index.grants, self);
        for status in &attached.statuses {
            let route = &status.route;
            if let Err(reason) = &status.accepted {
                problems.push(format!("{route} does not serve `{namespace}/{name}:{port}`: {reason}"));
            }
            for (backend, reason) in &status.unresolved {
                problems.push(format!("{route} leads nowhere with `{backend}`: {reason}"));
            }
        }
        match attached.routes.is_empty() {
            true => self.index.virtual_services.of(namespace, &service.hostname),
            false => attached.routes,
        }
    }

    fn table(
        &self,
        routes: Vec<Arc<Route>>,
        (service, port): (&Service, u16),
        problems: &mut Vec<String>,
        before: &[(u16, Routes)],
    ) -> Routes {
        let table = RouteTable::new(routes, &Budget::new());
        if table.refused().is_empty() {
            return Routes::Table(Arc::new(table));
        }
        // What the others would do with the requests of those that are missing is anybody's guess.
        for refused in table.refused() {
            problems.push(format!(
                "`{}/{}:{port}`: no room for {}: {}",
                service.namespace, service.name, refused.route.id, refused.over
            ));
        }
        let before = before.iter().find(|(known, _)| *known == port);
        before.map_or(Routes::Broken, |(_, routes)| routes.clone())
    }
}

impl Cluster for Builder<'_> {
    fn has_service(&self, namespace: &str, name: &str, port: u16) -> bool {
        let service = self.named.get(namespace, name);
        service.is_some_and(|service| service.ports.iter().any(|mapping| mapping.service == port))
    }

    /// Only who may be attached to a gateway's listeners goes by them.
    fn namespace_labels(&self, _: &str) -> Option<&Labels> {
        None
    }
}

impl Terms {
    /// Whether a service's traffic is to pass this waypoint, or a share of it.
    fn serves(&self, mesh: &store::Snapshot, service: &Service) -> bool {
        let shares = service.weighted_waypoints.iter().map(|(gateway, _)| gateway);
        let mut gateways = service.waypoint.iter().chain(shares);
        gateways.any(|gateway| self.is(mesh, gateway))
    }

    /// Whether a workload's traffic is to pass this waypoint where it is asked for by itself. The
    /// waypoint's own would come back to it without end.
    pub(super) fn is_before(&self, mesh: &store::Snapshot, workload: &Workload) -> bool {
        let gateway = workload.waypoint.as_ref();
        gateway.is_some_and(|gateway| self.is(mesh, gateway)) && !self.is_own(workload)
    }

    fn is_own(&self, workload: &Workload) -> bool {
        let id = &workload.identity;
        *id.namespace == *self.namespace && *id.service_account == *self.service_account
    }

    fn is(&self, mesh: &store::Snapshot, gateway: &Gateway) -> bool {
        let is_ours = |service: &Arc<Service>| *service.namespace == *self.namespace && *service.name == *self.name;
        match &gateway.destination {
            GatewayDestination::Hostname { namespace, hostname } => {
                mesh.service_named(hostname, Some(namespace)).is_some_and(is_ours)
            }
            GatewayDestination::Address(address) => {
                let workload = mesh.workload_at(address);
                workload.is_some_and(|workload| self.is_own(workload))
                    || mesh.service_at(address, None).is_some_and(is_ours)
            }
            _ => false,
        }
    }
}

/// What declared a service: those of Kubernetes have names of its kind, in whatever domain.
pub(super) fn kind(service: &Service) -> ServiceKind {
    let own = service.hostname.strip_prefix(&*service.name);
    let own = own.and_then(|rest| rest.strip_prefix('.'));
    let own = own.and_then(|rest| rest.strip_prefix(&*service.namespace));
    let rest = own.and_then(|rest| rest.strip_prefix(".svc"));
    match rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.')) {
        true => ServiceKind::Service,
        false => ServiceKind::ServiceEntry,
    }
}
