//! What there is in a mesh, as its control plane's admin address tells it.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::series::Name;

/// Of a workload that has no address of its own.
const HOST_NETWORK: &str = "HOST_NETWORK";

/// The part of the control plane's state that a topology needs.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Inventory {
    #[serde(default)]
    workloads: Vec<Workload>,
    #[serde(default)]
    services: Vec<Service>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct Workload {
    namespace: String,
    workload_name: String,
    service_account: String,
    trust_domain: String,
    node: String,
    network_mode: String,
    protocol: String,
    waypoint: Option<Gateway>,
    /// By namespace and hostname, with a slash between them.
    services: BTreeMap<String, IgnoredAny>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Service {
    namespace: String,
    hostname: String,
    waypoint: Option<Gateway>,
}

#[derive(Clone, Debug, Deserialize)]
struct Gateway {
    destination: String,
}

/// Workloads of one name.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    pub(super) identity: String,
    /// Where they run, in order.
    pub(super) nodes: BTreeSet<String>,
    pub(super) is_enrolled: bool,
    /// The hostnames of the services that they belong to.
    pub(super) services: BTreeSet<String>,
}

impl Inventory {
    pub(super) fn read(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }

    /// The workloads by their names in telemetry, without those that share the network of their node: what
    /// they do is nothing that a node proxy could see.
    pub(super) fn workloads(&self) -> BTreeMap<Name, Known> {
        let mut known: BTreeMap<Name, Known> = BTreeMap::new();
        for workload in self
            .workloads
            .iter()
            .filter(|workload| workload.network_mode != HOST_NETWORK)
        {
            let found = known.entry(workload.name()).or_default();
            found.identity = workload.identity();
            found.is_enrolled |= workload.protocol == "HBONE";
            found
                .nodes
                .extend(Some(workload.node.clone()).filter(|node| !node.is_empty()));
            found.services.extend(workload.services.keys().map(|key| hostname(key)));
        }
        known
    }

    /// The hostnames of services with the namespaces that they are in.
    pub(super) fn services(&self) -> BTreeMap<String, String> {
        let services = self.services.iter();
        services
            .map(|service| (service.hostname.clone(), service.namespace.clone()))
            .collect()
    }

    /// Workloads that others have as their waypoint.
    pub(super) fn waypoints(&self) -> BTreeSet<Name> {
        let of_workloads = self.workloads.iter().filter_map(|workload| workload.waypoint.as_ref());
        let of_services = self.services.iter().filter_map(|service| service.waypoint.as_ref());
        let gateways: BTreeSet<&str> = of_workloads
            .chain(of_services)
            .map(|gateway| &*gateway.destination)
            .collect();
        let serves = |workload: &&Workload| workload.services.keys().any(|key| gateways.contains(&**key));
        self.workloads.iter().filter(serves).map(Workload::name).collect()
    }

    /// The waypoints of services, by the services' hostnames.
    pub(super) fn waypoints_of_services(&self) -> BTreeMap<String, Name> {
        let mut names = BTreeMap::new();
        for workload in &self.workloads {
            for key in workload.services.keys() {
                names.entry(&**key).or_insert_with(|| workload.name());
            }
        }
        let found = self.services.iter().filter_map(|service| {
            let waypoint = names.get(&*service.waypoint.as_ref()?.destination)?;
            Some((service.hostname.clone(), waypoint.clone()))
        });
        found.collect()
    }
}

impl Workload {
    fn name(&self) -> Name {
        Name {
            namespace: self.namespace.clone(),
            name: self.workload_name.clone(),
        }
    }

    fn identity(&self) -> String {
        let Self {
            namespace,
            service_account,
            trust_domain,
            ..
        } = self;
        let trust_domain = match &**trust_domain {
            "" => "cluster.local",
            other => other,
        };
        format!("spiffe://{trust_domain}/ns/{namespace}/sa/{service_account}")
    }
}

fn hostname(key: &str) -> String {
    key.split_once('/').map_or(key, |(_, hostname)| hostname).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workloads_of_one_name_are_one_and_waypoints_are_found_by_their_service() {
        let inventory = Inventory::read(
            r#"{"workloads": [
                {"namespace": "shop", "workloadName": "till", "serviceAccount": "till", "node": "b", "protocol": "HBONE",
                 "services": {"shop/till.shop.svc": [{}]}, "waypoint": {"destination": "shop/way.shop.svc", "port": 15008}},
                {"namespace": "shop", "workloadName": "till", "serviceAccount": "till", "node": "a", "protocol": "HBONE"},
                {"namespace": "shop", "workloadName": "way", "services": {"shop/way.shop.svc": []}},
                {"namespace": "shop", "workloadName": "agent", "networkMode": "HOST_NETWORK"}
            ], "services": [
                {"namespace": "shop", "hostname": "till.shop.svc", "waypoint": {"destination": "shop/way.shop.svc", "port": 15008}},
                {"namespace": "shop", "hostname": "free.shop.svc"}
            ], "policies": []}"#,
        )
        .unwrap();
        let workloads = inventory.workloads();
        let till = workloads.iter().find(|(name, _)| name.name == "till").unwrap().1;
        assert_eq!(till.nodes.iter().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(till.services.iter().collect::<Vec<_>>(), ["till.shop.svc"]);
        assert_eq!(till.identity, "spiffe://cluster.local/ns/shop/sa/till");
        let waypoints: Vec<_> = inventory.waypoints().into_iter().map(|name| name.name).collect();
        assert_eq!((workloads.len(), waypoints), (2, vec!["way".to_owned()]));
        let of_services = inventory.waypoints_of_services().into_iter();
        let of_services: Vec<_> = of_services
            .map(|(service, waypoint)| (service, waypoint.name))
            .collect();
        assert_eq!(of_services, [("till.shop.svc".to_owned(), "way".to_owned())]);
    }
}
