//! Where connections go, found out slowly: by going through plain lists, rule by rule.

use std::collections::BTreeSet;

use mesh_xds_types::workload::{GatewayAddress, Service, Workload, gateway_address, load_balancing};

/// Everything in a mesh, in lists.
#[derive(Clone, Debug, Default)]
pub struct Lists {
    /// The workloads, with distinct uids and addresses.
    pub workloads: Vec<Workload>,
    /// The services of the namespace `default`, with distinct hostnames and addresses.
    pub services: Vec<Service>,
}

/// What may become of a connection to an address, depending on chance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It passes as it came.
    Passes,
    /// It is refused.
    Refused,
    /// It goes to one of these, in this manner.
    Goes(Manner, BTreeSet<String>),
}

/// How a connection goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// To a workload of its own network, which the uid names.
    Direct,
    /// To a waypoint of its own network.
    Waypoint,
    /// Through a network's gateway.
    Gateway,
}

impl Lists {
    /// What may become of a connection of `source` to a port of an address in its network. Shares
    /// among several waypoints are not known here.
    #[must_use]
    pub fn verdicts(&self, source: &Workload, address: &[u8], port: u32) -> Vec<Verdict> {
        let service = self.services.iter().find(|service| {
            service
                .addresses
                .iter()
                .any(|place| place.network == source.network && place.address == address)
        });
        if let Some(service) = service {
            return match &service.waypoint {
                Some(gateway) if !self.is_behind(gateway, source) => self.to_gateway(source, gateway, true),
                _ => self.to_service(source, service, port),
            };
        }
        let Some(workload) = self.workload_at(&source.network, address) else {
            return vec![Verdict::Passes];
        };
        match &workload.waypoint {
            Some(gateway) if !self.is_behind(gateway, source) => self.to_gateway(source, gateway, false),
            _ => vec![Verdict::Goes(Manner::Direct, [workload.uid.clone()].into())],
        }
    }

    fn to_service(&self, source: &Workload, service: &Service, port: u32) -> Vec<Verdict> {
        if service
            .load_balancing
            .as_ref()
            .is_some_and(|it| it.mode() == load_balancing::Mode::Passthrough)
        {
            return vec![Verdict::Passes];
        }
        let best = self.best(source, service, port);
        self.split(source, &best, Manner::Direct, true)
    }

    fn to_gateway(&self, source: &Workload, gateway: &GatewayAddress, by_service: bool) -> Vec<Verdict> {
        if let Some(service) = self.gateway_service(gateway) {
            let best = self.best(source, service, gateway.hbone_mtls_port);
            return self.split(source, &best, Manner::Waypoint, by_service);
        }
        match self.gateway_workload(gateway) {
            Some(workload) => self.split(source, &[workload], Manner::Waypoint, by_service),
            None => vec![Verdict::Refused],
        }
    }

    /// What choosing one of `workloads` can lead to: those here are reached, and those elsewhere by
    /// way of their gateways.
    fn split(&self, source: &Workload, workloads: &[&Workload], manner: Manner, by_service: bool) -> Vec<Verdict> {
        let (here, there): (Vec<&Workload>, Vec<_>) = workloads
            .iter()
            .partition(|workload| workload.network == source.network);
        let mut verdicts = Vec::new();
        if !here.is_empty() {
            verdicts.push(Verdict::Goes(
                manner,
                here.iter().map(|workload| workload.uid.clone()).collect(),
            ));
        }
        for workload in there {
            let gateway = workload
                .network_gateway
                .as_ref()
                .and_then(|gateway| self.gateway_workload(gateway));
            verdicts.push(match gateway {
                Some(_) if by_service => Verdict::Goes(Manner::Gateway, [workload.uid.clone()].into()),
                _ => Verdict::Refused,
            });
        }
        if verdicts.is_empty() {
            verdicts.push(Verdict::Refused);
        }
        verdicts
    }

    /// The workloads of a service that share most of the preferred places.
    fn best(&self, source: &Workload, service: &Service, port: u32) -> Vec<&Workload> {
        let balancing = service.load_balancing.clone().unwrap_or_default();
        let key = format!("{}/{}", service.namespace, service.hostname);
        let mut ranked = Vec::new();
        for workload in &self.workloads {
            let Some(ports) = workload.services.get(&key) else {
                continue;
            };
            let has_port = ports
                .ports
                .iter()
                .chain(&service.ports)
                .any(|it| it.service_port == port && it.target_port != 0);
            let is_fit = workload.status == 0 || balancing.health_policy() == load_balancing::HealthPolicy::AllowAll;
            let is_reachable = workload.network == source.network || workload.network_gateway.is_some();
            if !(has_port && is_fit && is_reachable && workload.capacity != Some(0)) {
                continue;
            }
            let shared = balancing
                .routing_preference()
                .take_while(|scope| shares(source, workload, *scope))
                .count();
            match balancing.mode() {
                load_balancing::Mode::Strict if shared < balancing.routing_preference.len() => {}
                load_balancing::Mode::Strict | load_balancing::Mode::Failover => ranked.push((shared, workload)),
                _ => ranked.push((0, workload)),
            }
        }
        let most = ranked.iter().map(|(shared, _)| *shared).max().unwrap_or(0);
        ranked
            .into_iter()
            .filter(|(shared, _)| *shared == most)
            .map(|(_, workload)| workload)
            .collect()
    }

    fn is_behind(&self, gateway: &GatewayAddress, source: &Workload) -> bool {
        match self.gateway_service(gateway) {
            Some(service) => source
                .services
                .contains_key(&format!("{}/{}", service.namespace, service.hostname)),
            None => self
                .gateway_workload(gateway)
                .is_some_and(|workload| workload.uid == source.uid),
        }
    }

    fn gateway_service(&self, gateway: &GatewayAddress) -> Option<&Service> {
        self.services.iter().find(|service| match gateway.destination.as_ref() {
            Some(gateway_address::Destination::Address(place)) => service.addresses.contains(place),
            Some(gateway_address::Destination::Hostname(name)) => service.hostname == name.hostname,
            None => false,
        })
    }

    fn gateway_workload(&self, gateway: &GatewayAddress) -> Option<&Workload> {
        match gateway.destination.as_ref()? {
            gateway_address::Destination::Address(place) => self.workload_at(&place.network, &place.address),
            gateway_address::Destination::Hostname(name) => self
                .workloads
                .iter()
                .find(|workload| workload.hostname == name.hostname),
        }
    }

    fn workload_at(&self, network: &str, address: &[u8]) -> Option<&Workload> {
        self.workloads
            .iter()
            .find(|workload| workload.network == network && workload.addresses.iter().any(|other| other == address))
    }
}

fn shares(source: &Workload, workload: &Workload, scope: load_balancing::Scope) -> bool {
    let (here, there) = (
        source.locality.clone().unwrap_or_default(),
        workload.locality.clone().unwrap_or_default(),
    );
    match scope {
        load_balancing::Scope::Region => here.region == there.region,
        load_balancing::Scope::Zone => here.region == there.region && here.zone == there.zone,
        load_balancing::Scope::Subzone => here == there,
        load_balancing::Scope::Node => source.node == workload.node,
        load_balancing::Scope::Cluster => source.cluster_id == workload.cluster_id,
        load_balancing::Scope::Network => source.network == workload.network,
        load_balancing::Scope::UnspecifiedScope => false,
    }
}
