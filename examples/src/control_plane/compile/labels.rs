//! The labels of workloads that waypoints have to know beside the mesh: those that subsets are made
//! of or that endpoints are preferred by, where the mesh does not tell them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::iter;
use std::sync::Arc;

use mesh_policy::authz::Labels;
use mesh_policy::traffic::balance::LabelOrder;
use mesh_policy::traffic::{DestinationRule, LocalityRule};
use mesh_xds_types::workload::{Service, Workload};
use serde_json::{Value, json};

use super::super::objects::{Key, Meaning, Name, Objects, Pod};
use super::waypoints::GATEWAY_NAME;
use crate::labels::Substitute;

/// Objects of workloads with nothing but such labels.
#[derive(Default)]
pub(super) struct Labelled {
    /// By the services that the workloads belong to.
    by_service: HashMap<String, Vec<(Name, Arc<str>)>>,
    /// The waypoints' own.
    by_waypoint: BTreeMap<Key, Vec<(Name, Arc<str>)>>,
}

impl Labelled {
    pub(super) fn new(
        objects: &Objects,
        services: &BTreeMap<String, Service>,
        workloads: &BTreeMap<String, Workload>,
        cluster: &str,
    ) -> Self {
        let asked = Asked::new(objects, services);
        let mut labelled = Self::default();
        if asked.of_endpoints.is_empty() {
            return labelled;
        }
        for pod in objects.pods.values() {
            let key = &pod.metadata.key;
            if let Some(workload) = workloads.get(&format!("{cluster}//Pod/{key}")) {
                let waypoint = waypoint(pod, objects);
                labelled.add(("v1", "Pod"), key, (&pod.metadata.labels, workload), &asked, waypoint);
            }
        }
        for entry in objects.workload_entries.values() {
            let key = &entry.metadata.key;
            let mut labels = entry.metadata.labels.clone();
            labels.extend(entry.endpoint.labels.clone());
            if let Some(workload) = workloads.get(&format!("{cluster}/networking.istio.io/WorkloadEntry/{key}")) {
                let kind = ("networking.istio.io/v1", "WorkloadEntry");
                labelled.add(kind, key, (&labels, workload), &asked, None);
            }
        }
        labelled.add_service_entries(objects, workloads, cluster, &asked);
        labelled
    }

    /// The objects of a service's workloads, with their texts.
    pub(super) fn of(&self, service: &str) -> &[(Name, Arc<str>)] {
        self.by_service.get(service).map(Vec::as_slice).unwrap_or_default()
    }

    /// The objects of a waypoint's own Pods, with their texts.
    pub(super) fn of_waypoint(&self, gateway: &Key) -> &[(Name, Arc<str>)] {
        self.by_waypoint.get(gateway).map(Vec::as_slice).unwrap_or_default()
    }

    /// Adds a workload, if there is something to say of it.
    fn add(
        &mut self,
        (version, kind): (&str, &str),
        key: &Key,
        (labels, workload): (&Labels, &Workload),
        asked: &Asked<'_>,
        waypoint: Option<Key>,
    ) {
        let untold = asked.untold(labels, workload, waypoint.is_some());
        if untold.is_empty() {
            return;
        }
        let object = json!({
            "apiVersion": version,
            "kind": kind,
            "metadata": {"name": key.name, "namespace": key.namespace, "labels": untold},
        });
        let services = workload.services.keys();
        let told = self.put(kind, key, &object, services.filter(|service| asked.is_about(service)));
        if let Some(waypoint) = waypoint {
            self.by_waypoint.entry(waypoint).or_default().push(told);
        }
    }

    /// Adds the endpoints that ServiceEntries have by themselves.
    fn add_service_entries(
        &mut self,
        objects: &Objects,
        workloads: &BTreeMap<String, Workload>,
        cluster: &str,
        asked: &Asked<'_>,
    ) {
        for entry in objects.service_entries.values() {
            let key = &entry.metadata.key;
            let endpoints = entry.endpoints.iter().filter_map(|endpoint| {
                let address = &endpoint.address;
                let uid = format!("{cluster}/networking.istio.io/ServiceEntry/{key}/{address}");
                let untold = asked.untold(&endpoint.labels, workloads.get(&uid)?, false);
                (!untold.is_empty()).then(|| json!({"address": address, "labels": untold}))
            });
            let endpoints: Vec<_> = endpoints.collect();
            if endpoints.is_empty() {
                continue;
            }
            let object = json!({
                "apiVersion": "networking.istio.io/v1",
                "kind": "ServiceEntry",
                "metadata": {"name": key.name, "namespace": key.namespace},
                "spec": {"endpoints": endpoints},
            });
            let services: BTreeSet<_> = entry
                .hosts
                .iter()
                .map(|host| format!("{}/{host}", key.namespace))
                .collect();
            let services = services.iter().filter(|service| asked.is_about(service));
            self.put("ServiceEntry", key, &object, services);
        }
    }

    fn put<'s>(
        &mut self,
        kind: &str,
        key: &Key,
        object: &Value,
        services: impl Iterator<Item = &'s String>,
    ) -> (Name, Arc<str>) {
        let name = Name {
            kind: kind.to_owned(),
            key: key.clone(),
        };
        let told: (Name, Arc<str>) = (name, object.to_string().into());
        for service in services {
            self.by_service.entry(service.clone()).or_default().push(told.clone());
        }
        told
    }
}

/// The waypoint that a Pod is of, as its token would say.
fn waypoint(pod: &Pod, objects: &Objects) -> Option<Key> {
    let name = pod.metadata.label(GATEWAY_NAME).unwrap_or(&pod.account);
    let key = pod.metadata.key.beside(name);
    objects.gateways.contains_key(&key).then_some(key)
}

/// Labels that the mesh does not tell, with their values.
type Untold<'l> = BTreeMap<&'l str, &'l str>;

/// The names of labels that DestinationRules go by.
#[derive(Default)]
struct Asked<'o> {
    /// Of workloads of services, by the services' names: those of subsets, and those of which endpoints
    /// are preferred that share them with the client.
    of_endpoints: HashMap<&'o str, BTreeSet<&'o str>>,
    /// Of waypoints, which are the clients.
    of_clients: BTreeSet<&'o str>,
}

impl<'o> Asked<'o> {
    fn new(objects: &'o Objects, services: &'o BTreeMap<String, Service>) -> Self {
        let mut asked = Self::default();
        for told in objects.traffic.told.values() {
            let Meaning::DestinationRule(rule) = &told.meaning else {
                continue;
            };
            let shared: BTreeSet<&str> = orders(rule).flat_map(LabelOrder::names).collect();
            let of_subsets = rule.subsets.iter().flat_map(|subset| subset.labels.keys());
            let names: BTreeSet<&str> = of_subsets.map(String::as_str).chain(shared.iter().copied()).collect();
            if names.is_empty() {
                continue;
            }
            asked.of_clients.extend(shared);
            let is_named = |service: &Service| rule.host.names(&rule.namespace, &service.hostname);
            for (service, _) in services.iter().filter(|(_, service)| is_named(service)) {
                asked.of_endpoints.entry(service).or_default().extend(&names);
            }
        }
        asked
    }

    fn is_about(&self, service: &str) -> bool {
        self.of_endpoints.contains_key(service)
    }

    /// What the mesh says otherwise of a workload than its labels do, of those that are asked for.
    fn untold<'l>(&self, labels: &'l Labels, workload: &Workload, is_client: bool) -> Untold<'l>
    where
        'o: 'l,
    {
        let of_service = |service: &String| self.of_endpoints.get(service.as_str()).into_iter().flatten();
        let of_services = workload.services.keys().flat_map(of_service);
        let of_clients = self.of_clients.iter().filter(|_| is_client);
        let names: BTreeSet<&'o str> = of_services.chain(of_clients).copied().collect();
        let untold = names.into_iter().filter_map(|name| {
            // Where there is no such label, the mesh may say that there is.
            let value = labels.get(name).map(String::as_str).unwrap_or_default();
            (!is_told(workload, name, value)).then_some((name, value))
        });
        untold.collect()
    }
}

/// The orders in which a rule prefers endpoints by their labels.
fn orders(rule: &DestinationRule) -> impl Iterator<Item = &LabelOrder> {
    let of_subsets = rule.subsets.iter().map(|subset| &subset.policy);
    let policies = iter::once(&rule.policy).chain(of_subsets);
    let parts = policies.flat_map(|policy| {
        let of_ports = policy.ports.iter().map(|(_, part)| part);
        iter::once(&policy.general).chain(of_ports)
    });
    let balancers = parts.filter_map(|part| part.balancer.as_ref());
    balancers.filter_map(|balancer| match &balancer.locality {
        Some(LocalityRule::Labels(order)) => Some(order),
        _ => None,
    })
}

/// Whether the mesh says of a workload what its label does. Where a workload is, is for the mesh to
/// say, as in Istio.
fn is_told(workload: &Workload, label: &str, value: &str) -> bool {
    match Substitute::of(label) {
        None => value.is_empty(),
        Some(Substitute::CanonicalName) => workload.canonical_name == value,
        Some(Substitute::CanonicalRevision) => workload.canonical_revision == value,
        Some(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Settings, compile};
    use super::*;

    /// Services that are selected by the label `app`, and their waypoint.
    const OBJECTS: &str = include_str!("../../../tests/control_plane/golden/subsets/objects.yaml");

    /// The objects of workloads that a waypoint is told, each with its labels.
    fn told(text: &str, waypoint: &str) -> Vec<(String, Value)> {
        let mut objects = Objects::default();
        objects.add("a.yaml", text).unwrap();
        let mesh = compile(&objects, &Settings::of_mesh("cluster.local".parse().unwrap())).unwrap();
        let (_, program) = mesh.programs.iter().find(|(key, _)| key.name == waypoint).unwrap();
        let workloads = program
            .iter()
            .filter(|(name, _)| ["Pod", "WorkloadEntry"].contains(&&*name.kind));
        workloads
            .map(|(name, text)| {
                let object: Value = serde_json::from_str(text).unwrap();
                (name.to_string(), object["metadata"]["labels"].clone())
            })
            .collect()
    }

    #[test]
    fn labels_that_the_mesh_does_not_tell_are_told_where_subsets_are_made_of_them() {
        let expected = [
            ("Pod/shop/cart-0", json!({"track": "new"})),
            ("Pod/shop/cart-1", json!({"version": ""})),
            ("WorkloadEntry/shop/cart-vm", json!({"track": "old"})),
        ];
        assert_eq!(
            told(OBJECTS, "waypoint"),
            expected.map(|(name, labels)| (name.to_owned(), labels))
        );
        assert_eq!(told(OBJECTS, "other"), []);
    }

    #[test]
    fn a_rule_for_many_hosts_is_about_those_of_its_namespace_and_of_others() {
        let all = OBJECTS.replace("host: reviews\n", "host: '*.svc.cluster.local'\n");
        let all = all.replace("labels: {version: v2}", "labels: {track: new}");
        assert_eq!(
            told(&all, "other"),
            [("Pod/bank/vault-0".to_owned(), json!({"track": "new", "version": ""}))]
        );
        let names = told(&all, "waypoint").into_iter().map(|(name, _)| name);
        assert!(names.collect::<Vec<_>>().contains(&"Pod/shop/reviews-0".to_owned()));
    }

    #[test]
    fn labels_that_endpoints_are_preferred_by_are_told_of_them_and_of_the_waypoint() {
        let subsets = "subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]";
        let order = "trafficPolicy:
    loadBalancer: {localityLbSetting: {failoverPriority: [rack, pool=fast, topology.kubernetes.io/zone]}}
    outlierDetection: {}";
        let rest = OBJECTS.replace(subsets, order);
        assert_ne!(rest, OBJECTS);
        let rest = rest.replace(
            "{app: reviews, version: v1, track: new}",
            "{app: reviews, rack: r1, pool: fast}",
        );
        let pods = "
---
apiVersion: v1
kind: Pod
metadata: {name: waypoint-0, namespace: shop, labels: {gateway.networking.k8s.io/gateway-name: waypoint, rack: r1}}
spec: {containers: [{name: waypoint}]}
status: {podIP: 10.0.0.8}
---
apiVersion: v1
kind: Pod
metadata: {name: other-0, namespace: bank, labels: {gateway.networking.k8s.io/gateway-name: other, rack: r2}}
spec: {containers: [{name: waypoint}]}
status: {podIP: 10.0.0.9}
";
        let all = format!("{rest}{pods}");
        let told_to_it: BTreeMap<_, _> = told(&all, "waypoint").into_iter().collect();
        assert_eq!(told_to_it["Pod/shop/waypoint-0"], json!({"rack": "r1"}));
        assert_eq!(told_to_it["Pod/shop/reviews-0"], json!({"pool": "fast", "rack": "r1"}));
        assert_eq!(
            told(&all, "other"),
            [("Pod/bank/other-0".to_owned(), json!({"rack": "r2"}))]
        );
        assert!(told(&format!("{OBJECTS}{pods}"), "other").is_empty());
    }

    #[test]
    fn labels_of_endpoints_of_service_entries_are_told() {
        let all = format!(
            "{OBJECTS}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: bank, namespace: shop}}
spec:
  hosts: [api.bank.example, www.bank.example]
  addresses: [10.9.0.1]
  ports: [{{number: 443, name: tls, protocol: TLS}}]
  resolution: STATIC
  endpoints:
  - {{address: 192.0.2.1, labels: {{env: prod, secret: hush}}}}
  - {{address: 192.0.2.2, labels: {{env: test}}}}
  - {{address: 192.0.2.3}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: bank, namespace: shop}}
spec: {{host: api.bank.example, subsets: [{{name: prod, labels: {{env: prod}}}}]}}
"
        );
        let mut objects = Objects::default();
        objects.add("a.yaml", &all).unwrap();
        let mesh = compile(&objects, &Settings::of_mesh("cluster.local".parse().unwrap())).unwrap();
        let (_, program) = mesh.programs.iter().find(|(key, _)| key.name == "waypoint").unwrap();
        let (_, text) = program.iter().find(|(name, _)| name.kind == "ServiceEntry").unwrap();
        let object: Value = serde_json::from_str(text).unwrap();
        let endpoints = json!({"endpoints": [
            {"address": "192.0.2.1", "labels": {"env": "prod"}},
            {"address": "192.0.2.2", "labels": {"env": "test"}},
        ]});
        assert_eq!(object["spec"], endpoints);
    }
}
