//! The labels of workloads that waypoints have to know beside the mesh: those that subsets are made
//! of, where the mesh does not tell them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use mesh_policy::authz::Labels;
use mesh_policy::traffic::DestinationRule;
use mesh_xds_types::workload::{Service, Workload};
use serde_json::json;

use super::super::objects::{Key, Meaning, Name, Objects};
use super::programs::full;
use crate::labels::Substitute;

/// Objects of workloads with nothing but such labels, by the services that the workloads belong to.
#[derive(Default)]
pub(super) struct Labelled {
    by_service: HashMap<String, Vec<(Name, Arc<str>)>>,
}

impl Labelled {
    pub(super) fn new(
        objects: &Objects,
        services: &BTreeMap<String, Service>,
        workloads: &BTreeMap<String, Workload>,
        cluster: &str,
    ) -> Self {
        let asked = asked(objects, services);
        let mut labelled = Self::default();
        if asked.is_empty() {
            return labelled;
        }
        for pod in objects.pods.values() {
            let key = &pod.metadata.key;
            if let Some(workload) = workloads.get(&format!("{cluster}//Pod/{key}")) {
                labelled.add(("v1", "Pod"), key, (&pod.metadata.labels, workload), &asked);
            }
        }
        for entry in objects.workload_entries.values() {
            let key = &entry.metadata.key;
            let mut labels = entry.metadata.labels.clone();
            labels.extend(entry.endpoint.labels.clone());
            if let Some(workload) = workloads.get(&format!("{cluster}/networking.istio.io/WorkloadEntry/{key}")) {
                let kind = ("networking.istio.io/v1", "WorkloadEntry");
                labelled.add(kind, key, (&labels, workload), &asked);
            }
        }
        labelled
    }

    /// The objects of a service's workloads, with their texts.
    pub(super) fn of(&self, service: &str) -> &[(Name, Arc<str>)] {
        self.by_service.get(service).map(Vec::as_slice).unwrap_or_default()
    }

    /// Adds a workload, if the mesh says something else of it than a label that is asked for.
    fn add(
        &mut self,
        (version, kind): (&str, &str),
        key: &Key,
        (labels, workload): (&Labels, &Workload),
        asked: &Asked<'_>,
    ) {
        let of_service = |service: &String| asked.get(service.as_str()).into_iter().flatten();
        let names: BTreeSet<&str> = workload.services.keys().flat_map(of_service).copied().collect();
        let untold = names.into_iter().filter_map(|name| {
            // Where there is no such label, the mesh may say that there is.
            let value = labels.get(name).map(String::as_str).unwrap_or_default();
            (!is_told(workload, name, value)).then_some((name, value))
        });
        let untold: BTreeMap<&str, &str> = untold.collect();
        if untold.is_empty() {
            return;
        }
        let text = json!({
            "apiVersion": version,
            "kind": kind,
            "metadata": {"name": key.name, "namespace": key.namespace, "labels": untold},
        });
        let text: Arc<str> = text.to_string().into();
        let name = Name {
            kind: kind.to_owned(),
            key: key.clone(),
        };
        for service in workload.services.keys() {
            if asked.contains_key(service.as_str()) {
                let object = (name.clone(), Arc::clone(&text));
                self.by_service.entry(service.clone()).or_default().push(object);
            }
        }
    }
}

/// The names of labels that tell subsets of services apart, by the services' names.
type Asked<'o> = HashMap<&'o str, BTreeSet<&'o str>>;

fn asked<'o>(objects: &'o Objects, services: &'o BTreeMap<String, Service>) -> Asked<'o> {
    let mut hosts: HashMap<&str, Vec<&str>> = HashMap::new();
    for (name, service) in services {
        hosts.entry(&service.hostname).or_default().push(name);
    }
    let mut asked = Asked::new();
    for told in objects.traffic.told.values() {
        let Meaning::DestinationRule(rule) = &told.meaning else {
            continue;
        };
        let names: BTreeSet<&str> = names(rule).collect();
        if !names.is_empty() {
            for service in of_rule(rule, &hosts, services) {
                asked.entry(service).or_default().extend(&names);
            }
        }
    }
    asked
}

fn names(rule: &DestinationRule) -> impl Iterator<Item = &str> {
    let labels = rule.subsets.iter().flat_map(|subset| subset.labels.keys());
    labels.map(String::as_str)
}

/// The services that a rule is about.
fn of_rule<'o>(
    rule: &DestinationRule,
    hosts: &HashMap<&'o str, Vec<&'o str>>,
    services: &'o BTreeMap<String, Service>,
) -> Vec<&'o str> {
    let host = rule.host.to_string();
    if host.starts_with('*') {
        let named = services
            .iter()
            .filter(|(_, service)| rule.host.matches(service.hostname.as_bytes()));
        return named.map(|(name, _)| name.as_str()).collect();
    }
    let found = [hosts.get(&*host), hosts.get(&*full(&host, &rule.namespace))];
    found.into_iter().flatten().flatten().copied().collect()
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
    fn told(text: &str, waypoint: &str) -> Vec<(String, serde_json::Value)> {
        let mut objects = Objects::default();
        objects.add("a.yaml", text).unwrap();
        let mesh = compile(&objects, &Settings::of_mesh("cluster.local".parse().unwrap())).unwrap();
        let (_, program) = mesh.programs.iter().find(|(key, _)| key.name == waypoint).unwrap();
        let workloads = program
            .iter()
            .filter(|(name, _)| ["Pod", "WorkloadEntry"].contains(&&*name.kind));
        workloads
            .map(|(name, text)| {
                let object: serde_json::Value = serde_json::from_str(text).unwrap();
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
}
