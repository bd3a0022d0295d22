//! Workloads: Pods, WorkloadEntries and the endpoints of ServiceEntries.

use std::collections::BTreeMap;

use mesh_policy::authz::Labels;
use mesh_xds_types::workload::{GatewayAddress, Locality, NetworkMode, Workload, WorkloadStatus, WorkloadType};

use super::super::objects::{
    DEFAULT_ACCOUNT, Endpoint, Metadata, Objects, Place, Pod, Resolution, ServiceEntry, WorkloadEntry,
};
use super::backends::{self, Backends};
use super::enrolment::Enrolment;
use super::octets::octets;
use super::policies::Policies;
use super::waypoints::{NETWORK, Served, Waypoints};
use super::{MeshError, Notice, Settings};

/// Istio leaves out this name.
const DEFAULT_TRUST_DOMAIN: &str = "cluster.local";

/// Whom a workload may be called after, the best first.
const NAMES: [&str; 3] = ["service.istio.io/canonical-name", "app.kubernetes.io/name", "app"];
const REVISIONS: [&str; 3] = [
    "service.istio.io/canonical-revision",
    "app.kubernetes.io/version",
    "version",
];

/// What workloads are compiled from.
pub(super) struct Context<'c> {
    pub(super) objects: &'c Objects,
    pub(super) settings: &'c Settings,
    pub(super) waypoints: &'c Waypoints<'c>,
    pub(super) backends: &'c Backends<'c>,
    pub(super) policies: &'c Policies,
}

impl Context<'_> {
    /// The messages of all workloads, by their UIDs.
    pub(super) fn compile(&self, notices: &mut Vec<Notice>) -> Result<BTreeMap<String, Workload>, MeshError> {
        let mut messages = BTreeMap::new();
        let mut add = |workload: Workload| messages.insert(workload.uid.clone(), workload);
        for pod in self.objects.pods.values() {
            self.check_account(pod)?;
            // Before it has an address, nobody can reach it; afterwards, somebody else may have it.
            if !pod.has_ended && !pod.addresses.is_empty() {
                add(self.of_pod(pod, notices));
            }
        }
        for entry in self.objects.workload_entries.values() {
            add(self.of_workload_entry(entry, notices));
        }
        for entry in self.objects.service_entries.values() {
            for workload in self.of_service_entry(entry, notices) {
                add(workload);
            }
        }
        Ok(messages)
    }

    fn check_account(&self, pod: &Pod) -> Result<(), MeshError> {
        let account = pod.metadata.key.beside(&pod.account);
        if pod.account == DEFAULT_ACCOUNT || self.objects.accounts.contains_key(&account) {
            return Ok(());
        }
        let place = Place {
            line: pod.account_line,
            ..pod.metadata.place.clone()
        };
        Err(MeshError::NoAccount { place, account })
    }

    fn of_pod(&self, pod: &Pod, notices: &mut Vec<Notice>) -> Workload {
        let metadata = &pod.metadata;
        let key = &metadata.key;
        let enrolment = Enrolment::of_pod(pod, self.waypoints.namespace(&key.namespace).map(|found| &found.labels));
        let (workload_type, workload_name) = owner(metadata);
        let own = |name: &str| pod.ports.iter().find(|(own, _)| own == name).map(|(_, port)| *port);
        let services = self.backends.of(&key.namespace, &metadata.labels, false, own);
        let status = match pod.is_ready {
            true => WorkloadStatus::Healthy,
            false => WorkloadStatus::Unhealthy,
        };
        let mode = match pod.is_host_network {
            true => NetworkMode::HostNetwork,
            false => NetworkMode::Standard,
        };
        Workload {
            uid: format!("{}//Pod/{key}", self.settings.cluster),
            addresses: pod.addresses.iter().map(|ip| octets(*ip)).collect(),
            service_account: pod.account.clone(),
            node: pod.node.clone(),
            workload_type: workload_type.into(),
            workload_name,
            services: services.collect(),
            status: status.into(),
            network_mode: mode.into(),
            locality: locality(&metadata.labels),
            waypoint: self.waypoint(metadata, &pod.account, notices),
            ..self.named(metadata, &metadata.labels, enrolment)
        }
    }

    fn waypoint(&self, metadata: &Metadata, account: &str, notices: &mut Vec<Notice>) -> Option<GatewayAddress> {
        let name = if account.is_empty() { DEFAULT_ACCOUNT } else { account };
        let account = self.objects.accounts.get(&metadata.key.beside(name));
        let served = Served::Workload(account.map(|account| &account.0));
        self.waypoints.of(metadata, served, notices).waypoint
    }

    fn of_workload_entry(&self, entry: &WorkloadEntry, notices: &mut Vec<Notice>) -> Workload {
        let mut metadata = entry.metadata.clone();
        let endpoint = &entry.endpoint;
        metadata.labels.extend(endpoint.labels.clone());
        let key = &metadata.key;
        let own = |name: &str| endpoint.ports.get(name).copied();
        let services = self.backends.of(&key.namespace, &metadata.labels, true, own);
        Workload {
            uid: format!("{}/networking.istio.io/WorkloadEntry/{key}", self.settings.cluster),
            workload_type: WorkloadType::Pod.into(),
            workload_name: key.name.clone(),
            services: services.collect(),
            waypoint: self.waypoint(&metadata, &endpoint.account, notices),
            ..self.at(endpoint, &metadata, Enrolment::of_entry(&metadata))
        }
    }

    /// The endpoints of a ServiceEntry; without any, what its hosts are in DNS, which no waypoint is
    /// before: nobody labels them.
    fn of_service_entry(&self, entry: &ServiceEntry, notices: &mut Vec<Notice>) -> Vec<Workload> {
        let key = &entry.metadata.key;
        let uid = |address: &str| {
            format!(
                "{}/networking.istio.io/ServiceEntry/{key}/{address}",
                self.settings.cluster
            )
        };
        let mut workloads = Vec::new();
        for endpoint in &entry.endpoints {
            let mut metadata = entry.metadata.clone();
            metadata.labels.clone_from(&endpoint.labels);
            let own = |name: &str| endpoint.ports.get(name).copied();
            let ports = backends::ports(&entry.ports, true, own);
            let of_host = |host: &String| (format!("{}/{host}", key.namespace), ports.clone());
            workloads.push(Workload {
                uid: uid(&endpoint.address),
                workload_type: WorkloadType::Pod.into(),
                workload_name: key.name.clone(),
                services: entry.hosts.iter().map(of_host).collect(),
                waypoint: self.waypoint(&metadata, &endpoint.account, notices),
                ..self.at(endpoint, &metadata, Enrolment::of_entry(&metadata))
            });
        }
        if entry.resolution == Resolution::Dns && entry.endpoints.is_empty() && entry.selector.is_none() {
            let ports = backends::ports(&entry.ports, true, |_| None);
            for host in &entry.hosts {
                let name = format!("{}/{host}", key.namespace);
                workloads.push(Workload {
                    uid: uid(host),
                    hostname: host.clone(),
                    workload_type: WorkloadType::Pod.into(),
                    workload_name: key.name.clone(),
                    services: [(name, ports.clone())].into(),
                    ..self.named(&entry.metadata, &Labels::new(), Enrolment::PLAIN)
                });
            }
        }
        workloads
    }

    fn at(&self, endpoint: &Endpoint, metadata: &Metadata, enrolment: Enrolment) -> Workload {
        let named = self.named(metadata, &metadata.labels, enrolment);
        let (addresses, hostname) = match endpoint.ip() {
            Some(ip) => (vec![octets(ip)], String::new()),
            None => (Vec::new(), endpoint.address.clone()),
        };
        let network = match endpoint.network.is_empty() {
            true => named.network,
            false => endpoint.network.clone(),
        };
        let mut parts = endpoint.locality.iter().cloned();
        let locality = Locality {
            region: parts.next().unwrap_or_default(),
            zone: parts.next().unwrap_or_default(),
            subzone: parts.next().unwrap_or_default(),
        };
        Workload {
            addresses,
            hostname,
            network,
            service_account: endpoint.account.clone(),
            capacity: endpoint.weight,
            locality: Some(locality).filter(|locality| *locality != Locality::default()),
            ..named
        }
    }

    /// What follows from names, labels and policies.
    fn named(&self, metadata: &Metadata, labels: &Labels, enrolment: Enrolment) -> Workload {
        let key = &metadata.key;
        let any_of = |names: &[&str]| names.iter().find_map(|name| labels.get(*name)).cloned();
        let (_, owner) = owner(metadata);
        let network = labels.get(NETWORK).cloned();
        let trust_domain = self.settings.trust_domain.as_str();
        Workload {
            name: key.name.clone(),
            namespace: key.namespace.clone(),
            network: network.unwrap_or_else(|| self.waypoints.network.clone()),
            tunnel_protocol: enrolment.protocol.into(),
            native_tunnel: enrolment.is_native,
            trust_domain: match trust_domain {
                DEFAULT_TRUST_DOMAIN => String::new(),
                other => other.to_owned(),
            },
            canonical_name: any_of(&NAMES).unwrap_or(owner),
            canonical_revision: any_of(&REVISIONS).unwrap_or_else(|| "latest".to_owned()),
            cluster_id: self.settings.cluster.clone(),
            authorization_policies: self.policies.of(&key.namespace, labels),
            ..Workload::default()
        }
    }
}

/// What a Pod belongs to, for telemetry.
fn owner(metadata: &Metadata) -> (WorkloadType, String) {
    let own = || (WorkloadType::Pod, metadata.key.name.clone());
    let Some((kind, name)) = &metadata.controller else {
        return own();
    };
    match kind.as_str() {
        "ReplicaSet" => {
            let hash = metadata.label("pod-template-hash");
            let deployment = hash.and_then(|hash| name.strip_suffix(hash)?.strip_suffix('-'));
            deployment.map_or_else(own, |name| (WorkloadType::Deployment, name.to_owned()))
        }
        "Job" => match name.rsplit_once('-') {
            // A CronJob calls its Jobs by the minute that they are for.
            Some((cron, minute)) if is_minute(minute) => (WorkloadType::Cronjob, cron.to_owned()),
            _ => (WorkloadType::Job, name.clone()),
        },
        _ => own(),
    }
}

fn is_minute(text: &str) -> bool {
    (8..=10).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Where a Pod is, as its labels say.
fn locality(labels: &Labels) -> Option<Locality> {
    let label = |name: &str| labels.get(name).cloned().unwrap_or_default();
    let locality = Locality {
        region: label("topology.kubernetes.io/region"),
        zone: label("topology.kubernetes.io/zone"),
        subzone: label("topology.istio.io/subzone"),
    };
    Some(locality).filter(|locality| *locality != Locality::default())
}
