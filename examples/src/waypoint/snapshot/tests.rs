use std::sync::Arc;

use mesh_policy::traffic::Target;
use mesh_xds::{local, store};

use super::build::build;
use super::{Protection, Routes, Served, Snapshot, Terms};
use crate::waypoint::objects::Objects;

/// A waypoint in one namespace, with two services of another.
const MESH: &str = "
services:
- {name: waypoint, namespace: gate, hostname: waypoint.gate.svc.cluster.local, vips: [/10.0.0.1], ports: {15008: 15008}}
- name: cart
  namespace: shop
  hostname: cart.shop.svc.cluster.local
  vips: [/10.0.0.2]
  ports: {80: 8080}
  waypoint: {destination: {namespace: gate, hostname: waypoint.gate.svc.cluster.local}, hboneMtlsPort: 15008}
- name: till
  namespace: shop
  hostname: till.shop.svc.cluster.local
  vips: [/10.0.0.3]
  ports: {80: 8080, 81: 8081}
  waypoint: {destination: {namespace: gate, hostname: waypoint.gate.svc.cluster.local}, hboneMtlsPort: 15008}
- {name: till, namespace: gate, hostname: till.gate.svc.cluster.local, vips: [/10.0.0.4], ports: {80: 8080}}
";

const ROUTE: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: NAME, namespace: shop}
spec:
  parentRefs: [{group: '', kind: Service, name: NAME}]
  rules: [{backendRefs: [{name: NAME, port: 80}]}]
";

const POLICY: &str = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: NAME, namespace: shop}
spec: {targetRefs: [{kind: Service, group: '', name: NAME}], rules: [{}]}
";

struct World {
    terms: Arc<Terms>,
    mesh: store::Snapshot,
    objects: Objects,
    version: u64,
    last: Option<Snapshot>,
}

impl World {
    fn new() -> Self {
        let text = |text: &str| text.to_owned();
        Self {
            terms: Arc::new(Terms {
                namespace: text("gate"),
                name: text("waypoint"),
                service_account: text("waypoint"),
                trust_domain: text("cluster.local"),
                network: "".into(),
                root_namespace: text("istio-system"),
                asks_about_limits: false,
            }),
            mesh: local::read("mesh.yaml", MESH).unwrap().snapshot(),
            objects: Objects::default(),
            version: 0,
            last: None,
        }
    }

    fn take(&mut self, name: &str, text: &str) {
        self.objects.take(name, &text.replace("NAME", name));
    }

    fn built(&mut self) -> &Snapshot {
        let last = self.last.take();
        let (terms, version) = (&self.terms, &mut self.version);
        let built = build(terms, &self.mesh, &self.objects, version, last.as_ref());
        self.last.insert(built)
    }

    fn served(&mut self, name: &str) -> Arc<Served> {
        let key = format!("shop/{name}.shop.svc.cluster.local");
        Arc::clone(self.built().served(&key).unwrap())
    }
}

fn version(served: &Served) -> u64 {
    match &served.guard.protection {
        Protection::Policies(set) => set.version(),
        Protection::Closed(reason) => panic!("{reason}"),
    }
}

#[test]
fn what_no_change_is_about_is_shared() {
    let mut world = World::new();
    for name in ["cart", "till"] {
        world.take(name, &format!("{ROUTE}---{POLICY}"));
    }
    let (cart, till) = (world.served("cart"), world.served("till"));
    assert!(
        till.routes[0].1.is(&till.routes[1].1),
        "a route for all ports has one table"
    );
    world.take("cart", &format!("{ROUTE}---{}", POLICY.replace("{}", "")));
    assert!(Arc::ptr_eq(&world.served("till"), &till));
    let changed = world.served("cart");
    assert!(!Arc::ptr_eq(&changed, &cart) && changed.routes[0].1.is(&cart.routes[0].1));
    // Another mesh with the same services has the same routes and policies.
    world.mesh = local::read("mesh.yaml", MESH).unwrap().snapshot();
    let again = world.served("till");
    assert!(again.routes[0].1.is(&till.routes[0].1));
    assert_eq!(version(&again), version(&till));
}

/// A permit of a set is renewed by its version alone.
#[test]
fn no_two_sets_have_a_version() {
    let mut world = World::new();
    let both = POLICY.replace("name: NAME}]", "name: cart}, {kind: Service, group: '', name: till}]");
    world.take("cart", POLICY);
    world.take("till", POLICY);
    let mut versions = vec![version(&world.served("cart")), version(&world.served("till"))];
    world.take("both", &both);
    versions.extend([version(&world.served("cart")), version(&world.served("till"))]);
    world.objects.remove("cart");
    world.objects.remove("till");
    let (cart, till) = (version(&world.served("cart")), version(&world.served("till")));
    assert_eq!(cart, till, "the same policies are one set");
    versions.push(cart);
    let count = versions.len();
    versions.sort_unstable();
    versions.dedup();
    assert_eq!(versions.len(), count);
}

#[test]
fn a_service_that_was_closed_is_opened_by_its_policies_alone() {
    let mut world = World::new();
    world.take("broken", "spec: {}");
    assert!(matches!(world.served("cart").guard.protection, Protection::Closed(_)));
    world.objects.remove("broken");
    assert!(matches!(world.served("cart").guard.protection, Protection::Policies(_)));
    world.take(
        "cart",
        &POLICY.replace("rules: [{}]", "rules: [{to: [{operation: {ports: [x]}}]}]"),
    );
    for _ in 0..2 {
        assert!(matches!(world.served("cart").guard.protection, Protection::Closed(_)));
        assert!(matches!(world.served("till").guard.protection, Protection::Policies(_)));
        assert_eq!(world.built().problems.len(), 1);
    }
}

#[test]
fn a_short_host_is_in_the_namespace_of_its_route() {
    let mut world = World::new();
    let text = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: cart, namespace: shop}
spec: {hosts: [cart], http: [{route: [{destination: {host: till, port: {number: 80}}}]}]}
";
    world.take("cart", text);
    let served = world.served("cart");
    let Some(Routes::Table(table)) = served.routes(80) else {
        panic!("{served:?}")
    };
    let target: &Target = &table.routes()[0].rules[0].backends.as_slice()[0].target;
    let destination = world.built().destination(target).unwrap();
    assert_eq!(&**destination.to.key(), "shop/till.shop.svc.cluster.local");
}

#[test]
fn a_route_that_was_never_good_fails_what_it_claims() {
    let mut world = World::new();
    world.take("cart", &ROUTE.replace("backendRefs", "backends"));
    world.take("till", &ROUTE.replace("rules: [{", "rules: [{matches: 1, "));
    let cart = world.served("cart");
    let till = world.served("till");
    for served in [cart, till] {
        let Some(Routes::Table(table)) = served.routes(80) else {
            panic!("{served:?}")
        };
        assert!(table.routes()[0].rules.iter().all(|rule| rule.invalid.is_some()));
    }
    assert_eq!(world.built().problems.len(), 2);
}

/// Workloads behind the waypoint, beside it, and its own.
const WORKLOADS: &str = "
workloads:
- {uid: a, namespace: shop, workloadIps: [10.1.0.1, '2001:db8::1'], WAYPOINT}
- {uid: b, namespace: shop, workloadIps: [], hostname: b.shop, WAYPOINT}
- {uid: c, namespace: shop, workloadIps: [10.1.0.3]}
- {uid: d, namespace: shop, workloadIps: [10.0.0.3], WAYPOINT}
- {uid: own, namespace: gate, serviceAccount: waypoint, workloadIps: [10.1.0.5], WAYPOINT}
";

fn with_workloads() -> World {
    let waypoint =
        "waypoint: {destination: {namespace: gate, hostname: waypoint.gate.svc.cluster.local}, hboneMtlsPort: 15008}";
    let text = MESH.to_owned() + &WORKLOADS.replace("WAYPOINT", waypoint);
    let mut world = World::new();
    world.mesh = local::read("mesh.yaml", &text).unwrap().snapshot();
    world
}

#[test]
fn a_workload_is_found_that_names_the_waypoint() {
    let mut world = with_workloads();
    let snapshot = world.built();
    let find = |authority: &str| {
        let found = snapshot.find(&authority.parse().unwrap());
        found.map(|(served, port)| (served.to.key().to_string(), port))
    };
    for (authority, found, port) in [
        ("10.1.0.1:1", "a", 1),
        ("[2001:db8::1]:65535", "a", 65535),
        ("b.shop:80", "b", 80),
        // A service has the address, too.
        ("10.0.0.3:81", "shop/till.shop.svc.cluster.local", 81),
    ] {
        assert_eq!(find(authority).unwrap(), (found.to_owned(), port), "{authority}");
    }
    for (authority, reason) in [
        ("10.1.0.3:80", "who is there does not name this waypoint"),
        ("10.1.0.5:80", "who is there does not name this waypoint"),
        ("10.1.0.9:80", "nobody is known there"),
        ("a.shop:80", "nobody is known there"),
        ("10.0.0.3:82", "the service has no such port"),
    ] {
        assert_eq!(find(authority).unwrap_err().to_string(), reason, "{authority}");
    }
    assert_eq!(snapshot.count_behind(), 3);
}

#[test]
fn a_workload_is_found_again_for_as_long_as_it_has_its_address() {
    let mut world = with_workloads();
    let found = world.built().find(&"10.1.0.1:80".parse().unwrap()).unwrap();
    let to = found.0.into_owned().to;
    assert!(world.built().find_again(&to).is_some());
    let text = MESH.to_owned() + &WORKLOADS.replace("WAYPOINT", "waypoint: {destination: {address: 10.0.0.1}}");
    for (was, is, is_there) in [("", "", true), ("10.1.0.1, ", "", false), ("uid: a,", "uid: e,", false)] {
        world.mesh = local::read("mesh.yaml", &text.replace(was, is)).unwrap().snapshot();
        assert_eq!(world.built().find_again(&to).is_some(), is_there, "{was}");
    }
}

#[test]
fn workloads_are_held_to_the_policies_of_the_gateway_alone() {
    let mut world = with_workloads();
    world.take("cart", POLICY);
    let of_gateway = POLICY.replace(
        "kind: Service, group: ''",
        "kind: Gateway, group: gateway.networking.k8s.io",
    );
    let of_gateway = of_gateway.replace("namespace: shop", "namespace: gate");
    world.take("waypoint", &of_gateway);
    let names = |snapshot: &Snapshot| match &snapshot.guard().protection {
        Protection::Policies(set) => set
            .policies()
            .map(|policy| policy.name().to_string())
            .collect::<Vec<_>>(),
        Protection::Closed(reason) => vec![reason.to_string()],
    };
    assert_eq!(names(world.built()), ["gate/waypoint"]);
    // What cannot be had lets nobody pass.
    let fault = "rules: [{to: [{operation: {ports: [x]}}]}]";
    world.take("waypoint", &of_gateway.replace("rules: [{}]", fault));
    assert!(names(world.built())[0].contains("`x` is no port"));
    assert_eq!(world.built().problems.len(), 1);
    world.objects.remove("waypoint");
    assert_eq!(names(world.built()), [""; 0]);
    world.take("broken", "spec: {}");
    let snapshot = world.built();
    assert!(snapshot.guard().closed().is_some());
    assert_eq!(snapshot.problems.len(), 1, "{:?}", snapshot.problems);
}

const POLICIES: &str = "
apiVersion: traffic.mesh.internal/v1
kind: RateLimitPolicy
metadata: {name: NAME, namespace: shop}
spec: {targetRefs: [{kind: Service, name: NAME}], limits: [{requests: 1}]}
---
apiVersion: gateway.networking.x-k8s.io/v1alpha1
kind: XBackendTrafficPolicy
metadata: {name: NAME, namespace: shop}
spec: {targetRefs: [{group: '', kind: Service, name: NAME}], retryConstraint: {budget: {percent: 10, interval: 10s}}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: NAME, namespace: shop}
spec: {host: NAME, trafficPolicy: {outlierDetection: {}}}
";

#[test]
fn what_is_said_of_a_service_is_not_for_a_service_entry_of_its_name() {
    let mut world = World::new();
    let mesh = MESH.replace("cart.shop.svc.cluster.local", "cart.shop.svcs");
    world.mesh = local::read("mesh.yaml", &mesh).unwrap().snapshot();
    world.take("cart", &format!("{ROUTE}---{POLICIES}"));
    world.take(
        "till",
        &ROUTE.replace("backendRefs: [{name: NAME", "backendRefs: [{name: cart"),
    );
    let snapshot = world.built();
    let served = Arc::clone(snapshot.served("shop/cart.shop.svcs").unwrap());
    assert!(served.routes(80).is_none());
    assert_eq!(snapshot.limits(&served, None).count(), 0);
    assert!(snapshot.backend_policy(served.to.key()).is_none());
    let nowhere = "HTTPRoute `shop/till` leads nowhere with `shop/cart:80`: BackendNotFound";
    assert!(
        snapshot.problems.iter().any(|problem| problem == nowhere),
        "{:?}",
        snapshot.problems
    );
    world.take("cart", &POLICIES.replacen("kind: Service,", "kind: ServiceEntry,", 1));
    assert_eq!(world.built().limits(&served, None).count(), 1);
}

#[test]
fn what_has_moved_in_its_file_is_the_same() {
    let mut world = World::new();
    world.take("cart", POLICIES);
    let key = Arc::clone(world.served("cart").to.key());
    let now = |world: &mut World| {
        let snapshot = world.built();
        let (rule, policy) = (snapshot.rule(&key), snapshot.backend_policy(&key));
        (Arc::clone(rule.unwrap()), Arc::clone(policy.unwrap()))
    };
    let before = now(&mut world);
    world.take("cart", &format!("# A comment.\n{POLICIES}"));
    let moved = now(&mut world);
    assert!(Arc::ptr_eq(&moved.0, &before.0) && Arc::ptr_eq(&moved.1, &before.1));
    world.take(
        "cart",
        &POLICIES
            .replace("percent: 10", "percent: 11")
            .replace("{}}}", "{interval: 9s}}}"),
    );
    let changed = now(&mut world);
    assert!(!Arc::ptr_eq(&changed.0, &before.0) && !Arc::ptr_eq(&changed.1, &before.1));
}
