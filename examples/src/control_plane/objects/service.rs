//! Services.

use std::net::IpAddr;

use mesh_policy::authz::Labels;
use mesh_policy::authz::k8s::{Object, Problem};
use mesh_xds_types::workload::load_balancing::Scope;
use mesh_xds_types::workload::{AppProtocol, IpFamilies, LoadBalancing, load_balancing};

use super::fields::{bad, ip, labels, required_port};
use super::{Metadata, protocol};

const DISTRIBUTION: &str = "networking.istio.io/traffic-distribution";

/// Fields of a spec about how a Service is reached from outside, and about proxies that a mesh does
/// without.
const PASSED_OVER: &[&str] = &[
    "allocateLoadBalancerNodePorts",
    "externalIPs",
    "externalName",
    "externalTrafficPolicy",
    "healthCheckNodePort",
    "ipFamilyPolicy",
    "loadBalancerClass",
    "loadBalancerIP",
    "loadBalancerSourceRanges",
    "sessionAffinity",
    "sessionAffinityConfig",
];

#[derive(Debug)]
pub(in crate::control_plane) struct Service {
    pub(in crate::control_plane) metadata: Metadata,
    /// Empty: none are selected.
    pub(in crate::control_plane) selector: Labels,
    pub(in crate::control_plane) ports: Vec<ServicePort>,
    pub(in crate::control_plane) addresses: Vec<IpAddr>,
    pub(in crate::control_plane) families: IpFamilies,
    pub(in crate::control_plane) balancing: Option<LoadBalancing>,
    /// It is another name for something outside, and has nothing of its own.
    pub(in crate::control_plane) is_external_name: bool,
}

#[derive(Clone, Debug)]
pub(in crate::control_plane) struct ServicePort {
    pub(in crate::control_plane) number: u16,
    pub(in crate::control_plane) target: TargetPort,
    pub(in crate::control_plane) protocol: AppProtocol,
}

/// A port of a workload.
#[derive(Clone, Debug)]
pub(in crate::control_plane) enum TargetPort {
    Number(u16),
    /// As each workload has it.
    Name(String),
}

pub(super) fn read(metadata: Metadata, mut object: Object) -> Result<Service, Problem> {
    let mut spec = object.required_object("spec")?;
    object.pass_over(&["status"]);
    object.finish()?;
    let types = [
        ("ClusterIP", false),
        ("NodePort", false),
        ("LoadBalancer", false),
        ("ExternalName", true),
    ];
    let is_external_name = spec.word("type", &types)?.unwrap_or(false);
    let mut ports = Vec::new();
    for port in spec.objects("ports")? {
        ports.extend(read_port(port)?);
    }
    let service = Service {
        selector: labels(&mut spec, "selector")?,
        ports,
        addresses: addresses(&mut spec)?,
        families: families(&mut spec)?,
        balancing: balancing(&mut spec, &metadata)?,
        is_external_name,
        metadata,
    };
    spec.pass_over(PASSED_OVER);
    spec.finish()?;
    Ok(service)
}

/// A port, if it is one of TCP.
fn read_port(mut port: Object) -> Result<Option<ServicePort>, Problem> {
    let protocols = [("TCP", true), ("UDP", false), ("SCTP", false)];
    let is_tcp = port.word("protocol", &protocols)?.unwrap_or(true);
    let number = required_port(&mut port, "port")?;
    let (line, path) = (port.line_of("targetPort"), port.path("targetPort"));
    let target = match port.text("targetPort")? {
        None => TargetPort::Number(number),
        Some(text) => match text.parse() {
            Ok(0) => return Err(bad(line, &path, &text)),
            Ok(number) => TargetPort::Number(number),
            // What begins with a digit is meant as a number, and is out of range.
            Err(_) if text.bytes().all(|byte| byte.is_ascii_digit()) => return Err(bad(line, &path, &text)),
            Err(_) => TargetPort::Name(text),
        },
    };
    let (name, declared) = (port.text("name")?, port.text("appProtocol")?);
    let protocol = protocol::of_service(number, name.as_deref(), declared.as_deref());
    port.pass_over(&["nodePort"]);
    port.finish()?;
    Ok(is_tcp.then_some(ServicePort {
        number,
        target,
        protocol,
    }))
}

fn addresses(spec: &mut Object) -> Result<Vec<IpAddr>, Problem> {
    let line = spec.line_of("clusterIP");
    let first = spec.text("clusterIP")?.map(|text| (line, text));
    let all = spec.texts("clusterIPs")?;
    let mut addresses = Vec::new();
    for (line, text) in first.into_iter().chain(all) {
        if text != "None" && !text.is_empty() {
            let address = ip(line, "spec.clusterIP", &text)?;
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
    }
    Ok(addresses)
}

fn families(spec: &mut Object) -> Result<IpFamilies, Problem> {
    let (mut v4, mut v6) = (false, false);
    for (line, family) in spec.texts("ipFamilies")? {
        match family.as_str() {
            "IPv4" => v4 = true,
            "IPv6" => v6 = true,
            _ => return Err(bad(line, "spec.ipFamilies", &family)),
        }
    }
    Ok(match (v4, v6) {
        (false, false) => IpFamilies::Automatic,
        (true, false) => IpFamilies::Ipv4Only,
        (false, true) => IpFamilies::Ipv6Only,
        (true, true) => IpFamilies::Dual,
    })
}

/// Which endpoints are preferred or demanded, and whether they have to be healthy.
fn balancing(spec: &mut Object, metadata: &Metadata) -> Result<Option<LoadBalancing>, Problem> {
    let all_of = |scopes: &[Scope], mode: load_balancing::Mode| LoadBalancing {
        routing_preference: scopes.iter().map(|scope| i32::from(*scope)).collect(),
        mode: mode.into(),
        ..LoadBalancing::default()
    };
    let near = &[Scope::Network, Scope::Region, Scope::Zone][..];
    let nearest = &[Scope::Network, Scope::Region, Scope::Zone, Scope::Subzone, Scope::Node][..];
    let preferences = [
        ("PreferClose", near),
        ("PreferSameZone", near),
        ("PreferSameNode", nearest),
    ];
    let mut preferred = spec.word("trafficDistribution", &preferences)?.unwrap_or_default();
    // Istio's own name for the same counts before it.
    match metadata.annotation(DISTRIBUTION) {
        None => {}
        Some("Any") => preferred = &[],
        Some(text) => {
            let found = preferences.iter().find(|(name, _)| *name == text);
            let field = format!("metadata.annotations.{DISTRIBUTION}");
            preferred = found.ok_or_else(|| bad(metadata.place.line, &field, text))?.1;
        }
    }
    let is_local = spec.word("internalTrafficPolicy", &[("Cluster", false), ("Local", true)])?;
    let mut balancing = match (is_local.unwrap_or(false), preferred) {
        (true, _) => Some(all_of(&[Scope::Node], load_balancing::Mode::Strict)),
        (false, []) => None,
        (false, scopes) => Some(all_of(scopes, load_balancing::Mode::Failover)),
    };
    if spec.flag("publishNotReadyAddresses")? {
        let policy = load_balancing::HealthPolicy::AllowAll.into();
        balancing.get_or_insert_default().health_policy = policy;
    }
    Ok(balancing)
}
