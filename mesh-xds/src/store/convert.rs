//! From the wire to the model. Nothing is dropped in silence: what cannot be taken as it is meant is
//! an error that names the field, and with it the whole resource is refused.

use std::borrow::Borrow;
use std::collections::HashSet;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;

use mesh_xds_types::{security, workload as wire};
use thiserror::Error;

use super::model::{
    AppProtocol, ApplicationTunnel, Balancing, Families, Gateway, GatewayDestination, Identity, Locality, Membership,
    Mode, Name, NetworkAddress, Policy, PolicyScope, PortMapping, Protocol, Scope, Service, Workload, WorkloadType,
};
use crate::delta::MAX_NAME_LENGTH;

/// Addresses of a workload or a service; two families in each of many networks.
const MAX_ADDRESSES: usize = 256;

/// Services of a workload, and policies that select it.
const MAX_REFERENCES: usize = 1024;

/// Ports of a service. Kubernetes sets no limit; its API server's of 1.5 MiB allows some thousands.
const MAX_PORTS: usize = 4096;

/// Alternative names of a service.
const MAX_NAMES: usize = 256;

/// Waypoints that share a service's traffic. Istio has two.
const MAX_WAYPOINTS: usize = 16;

/// Preferred places: there are six.
const MAX_PREFERENCES: usize = 6;

/// Rules, clauses and matches of a policy, each where they occur, and values of a match.
const MAX_POLICY_PARTS: usize = 100_000;

/// The port for HBONE where none is said.
const HBONE_PORT: u16 = 15008;

/// Why a resource cannot be taken.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{field}` {fault}")]
#[non_exhaustive]
pub struct ResourceError {
    /// The field that is to blame, with its way there and the places in lists, counting from zero.
    pub field: String,
    /// What is wrong with it.
    pub fault: FieldFault,
}

/// What is wrong with a field.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum FieldFault {
    /// It is empty, or not there.
    #[error("is missing")]
    Missing,
    /// Its bytes are no message of that type.
    #[error("cannot be decoded")]
    Undecodable,
    /// An address of a wrong length.
    #[error("has {0} bytes, not 4 or 16")]
    AddressLength(usize),
    /// A block's length beyond that of its address.
    #[error("is {length}, more than the {limit} bits of the address")]
    PrefixLength {
        /// The bits that were to count.
        length: u32,
        /// The bits that there are.
        limit: u8,
    },
    /// A port beyond 65535, or zero where there has to be one.
    #[error("is {0}, which is no port")]
    Port(u32),
    /// A text that is too long.
    #[error("has {length} bytes, more than {limit}")]
    TooLong {
        /// How long it is.
        length: usize,
        /// How long it may be.
        limit: usize,
    },
    /// A list that is too long.
    #[error("has {count} entries, more than {limit}")]
    TooMany {
        /// How many there are.
        count: usize,
        /// How many there may be.
        limit: usize,
    },
    /// A value that later versions of the protocol may know.
    #[error("has the unknown value {0}")]
    UnknownValue(i32),
    /// A value that is known, and cannot be served.
    #[error("is {0}, which is not supported")]
    Unsupported(&'static str),
    /// A key that is not of the form `namespace/name`.
    #[error("is `{}`, not `namespace/name`", .0.escape_debug())]
    Key(String),
    /// A text that would not be one part of a key.
    #[error("contains `/`")]
    Slash,
    /// More of the kind at one place than may be.
    #[error("is shared by {0} others already")]
    Crowded(usize),
}

impl ResourceError {
    pub(crate) fn new(field: impl Into<String>, fault: FieldFault) -> Self {
        Self {
            field: field.into(),
            fault,
        }
    }
}

/// What there are few of among many resources, each kept once.
#[derive(Debug, Default)]
pub(crate) struct Interner {
    texts: Once<str>,
    ports: Once<[PortMapping]>,
    memberships: Once<[Membership]>,
    localities: Once<Locality>,
    identities: Once<Identity>,
    gateways: Once<Gateway>,
}

/// Values that others hold, too.
#[derive(Debug)]
struct Once<T: ?Sized> {
    values: HashSet<Arc<T>>,
    /// How many there were after the last sweep.
    swept: usize,
}

impl<T: Hash + Eq + ?Sized> Once<T> {
    fn get<V: Borrow<T> + Into<Arc<T>>>(&mut self, value: V) -> Arc<T> {
        if let Some(known) = self.values.get(value.borrow()) {
            return Arc::clone(known);
        }
        // What nobody else holds is kept for nobody.
        if self.values.len() > 2 * self.swept + 1024 {
            self.values.retain(|value| Arc::strong_count(value) > 1);
            self.swept = self.values.len();
        }
        let value = value.into();
        self.values.insert(Arc::clone(&value));
        value
    }
}

impl<T: ?Sized> Default for Once<T> {
    fn default() -> Self {
        Self {
            values: HashSet::new(),
            swept: 0,
        }
    }
}

impl Interner {
    fn text(&mut self, text: &str) -> Arc<str> {
        match self.texts.values.get(text) {
            Some(known) => Arc::clone(known),
            None => self.texts.get(text.to_owned()),
        }
    }

    /// A field's text, with `default` for an empty one.
    fn field(&mut self, field: &str, text: &str, default: &str) -> Result<Arc<str>, ResourceError> {
        check_length(field, text)?;
        Ok(self.text(if text.is_empty() { default } else { text }))
    }
}

pub(crate) fn workload(wire: &wire::Workload, texts: &mut Interner) -> Result<Workload, ResourceError> {
    present("uid", &wire.uid)?;
    check_count("addresses", wire.addresses.len(), MAX_ADDRESSES)?;
    let addresses = wire.addresses.iter().enumerate();
    let addresses = addresses
        .map(|(index, bytes)| ip(&format!("addresses[{index}]"), bytes))
        .collect::<Result<_, _>>()?;
    check_length("name", &wire.name)?;
    check_length("hostname", &wire.hostname)?;
    let place = wire.locality.clone().unwrap_or_default();
    let locality = Locality {
        region: texts.field("locality.region", &place.region, "")?,
        zone: texts.field("locality.zone", &place.zone, "")?,
        subzone: texts.field("locality.subzone", &place.subzone, "")?,
    };
    let locality = texts.localities.get(locality);
    let identity = Identity {
        trust_domain: texts.field("trust_domain", &wire.trust_domain, "cluster.local")?,
        namespace: texts.field("namespace", &wire.namespace, "")?,
        service_account: texts.field("service_account", &wire.service_account, "default")?,
    };
    Ok(Workload {
        uid: wire.uid.as_str().into(),
        name: match wire.uid.strip_suffix(&wire.name) {
            Some(rest) => Name::EndOfUid(rest.len()),
            None => Name::Own(wire.name.as_str().into()),
        },
        identity: texts.identities.get(identity),
        network: texts.field("network", &wire.network, "")?,
        addresses,
        hostname: (!wire.hostname.is_empty()).then(|| wire.hostname.as_str().into()),
        protocol: protocol(wire.tunnel_protocol)?,
        waypoint: gateway("waypoint", wire.waypoint.as_ref(), texts)?,
        network_gateway: gateway("network_gateway", wire.network_gateway.as_ref(), texts)?,
        node: texts.field("node", &wire.node, "")?,
        cluster: texts.field("cluster_id", &wire.cluster_id, "Kubernetes")?,
        locality,
        canonical_name: texts.field("canonical_name", &wire.canonical_name, "")?,
        canonical_revision: texts.field("canonical_revision", &wire.canonical_revision, "")?,
        workload_type: workload_type(wire.workload_type)?,
        workload_name: texts.field("workload_name", &wire.workload_name, "")?,
        native_tunnel: wire.native_tunnel,
        application_tunnel: wire.application_tunnel.as_ref().map(application_tunnel).transpose()?,
        services: memberships(&wire.services, texts)?,
        policies: policy_keys(&wire.authorization_policies, texts)?,
        is_healthy: match known("status", wire.status)? {
            wire::WorkloadStatus::Healthy => true,
            wire::WorkloadStatus::Unhealthy => false,
        },
        is_host_network: match known("network_mode", wire.network_mode)? {
            wire::NetworkMode::Standard => false,
            wire::NetworkMode::HostNetwork => true,
        },
        capacity: wire.capacity.unwrap_or(1),
    })
}

pub(crate) fn service(wire: &wire::Service, texts: &mut Interner) -> Result<Service, ResourceError> {
    present("hostname", &wire.hostname)?;
    if wire.namespace.contains('/') {
        return Err(ResourceError::new("namespace", FieldFault::Slash));
    }
    check_count("addresses", wire.addresses.len(), MAX_ADDRESSES)?;
    let (mut addresses, mut blocks) = (Vec::new(), Vec::new());
    for (index, address) in wire.addresses.iter().enumerate() {
        let field = format!("addresses[{index}]");
        let (place, length) = network_address(&field, address, texts)?;
        let bits = if place.address.is_ipv4() { 32 } else { 128 };
        if length == bits {
            addresses.push(place);
        } else {
            blocks.push((place, length));
        }
    }
    check_count("subject_alt_names", wire.subject_alt_names.len(), MAX_NAMES)?;
    for name in &wire.subject_alt_names {
        check_length("subject_alt_names", name)?;
    }
    check_count("weighted_waypoints", wire.weighted_waypoints.len(), MAX_WAYPOINTS)?;
    let mut weighted = Vec::new();
    for (index, waypoint) in wire.weighted_waypoints.iter().enumerate() {
        let field = format!("weighted_waypoints[{index}].destination");
        let gateway = gateway(&field, waypoint.destination.as_ref(), texts)?;
        weighted.push((
            gateway.ok_or_else(|| ResourceError::new(field, FieldFault::Missing))?,
            waypoint.weight,
        ));
    }
    let hostname = texts.field("hostname", &wire.hostname, "")?;
    let namespace = texts.field("namespace", &wire.namespace, "")?;
    Ok(Service {
        key: texts.text(&format!("{namespace}/{hostname}")),
        name: texts.field("name", &wire.name, "")?,
        namespace,
        hostname,
        addresses: addresses.into(),
        blocks: blocks.into(),
        ports: ports("ports", &wire.ports, texts)?,
        subject_alt_names: wire.subject_alt_names.iter().map(|name| name.as_str().into()).collect(),
        waypoint: gateway("waypoint", wire.waypoint.as_ref(), texts)?,
        weighted_waypoints: weighted.into(),
        balancing: wire
            .load_balancing
            .as_ref()
            .map(balancing)
            .transpose()?
            .unwrap_or_default(),
        families: match known("ip_families", wire.ip_families)? {
            wire::IpFamilies::Automatic => Families::Automatic,
            wire::IpFamilies::Ipv4Only => Families::V4,
            wire::IpFamilies::Ipv6Only => Families::V6,
            wire::IpFamilies::Dual => Families::Dual,
        },
        is_canonical: wire.canonical,
        ingress_use_waypoint: wire.ingress_use_waypoint,
        // Istio defines that a visibility which is not known is public.
        is_private: wire.visibility() == wire::ServiceVisibility::Namespace,
    })
}

pub(crate) fn policy(wire: security::Authorization, texts: &mut Interner) -> Result<Policy, ResourceError> {
    present("name", &wire.name)?;
    for (field, text) in [("name", &wire.name), ("namespace", &wire.namespace)] {
        check_length(field, text)?;
        if text.contains('/') {
            return Err(ResourceError::new(field, FieldFault::Slash));
        }
    }
    known::<security::Action>("action", wire.action)?;
    let clauses = wire.rules.iter().flat_map(|rule| &rule.clauses);
    let parts = wire.rules.len() + clauses.map(|clause| 1 + clause.matches.len()).sum::<usize>();
    check_count("rules", parts, MAX_POLICY_PARTS)?;
    Ok(Policy {
        key: format!("{}/{}", wire.namespace, wire.name).into(),
        namespace: texts.text(&wire.namespace),
        scope: policy_scope(&wire)?,
        wire: Arc::new(wire),
    })
}

pub(crate) fn policy_scope(wire: &security::Authorization) -> Result<PolicyScope, ResourceError> {
    Ok(match known("scope", wire.scope)? {
        security::Scope::Global => PolicyScope::Global,
        security::Scope::Namespace => PolicyScope::Namespace,
        security::Scope::WorkloadSelector => PolicyScope::Selector,
    })
}

fn protocol(value: i32) -> Result<Protocol, ResourceError> {
    match known("tunnel_protocol", value)? {
        wire::TunnelProtocol::None => Ok(Protocol::Plain),
        wire::TunnelProtocol::Hbone => Ok(Protocol::Hbone),
        wire::TunnelProtocol::LegacyIstioMtls => {
            let fault = FieldFault::Unsupported("LEGACY_ISTIO_MTLS");
            Err(ResourceError::new("tunnel_protocol", fault))
        }
    }
}

fn workload_type(value: i32) -> Result<WorkloadType, ResourceError> {
    Ok(match known("workload_type", value)? {
        wire::WorkloadType::Deployment => WorkloadType::Deployment,
        wire::WorkloadType::Cronjob => WorkloadType::CronJob,
        wire::WorkloadType::Pod => WorkloadType::Pod,
        wire::WorkloadType::Job => WorkloadType::Job,
    })
}

fn application_tunnel(wire: &wire::ApplicationTunnel) -> Result<ApplicationTunnel, ResourceError> {
    let is_proxy_protocol = match known("application_tunnel.protocol", wire.protocol)? {
        wire::application_tunnel::Protocol::None => false,
        wire::application_tunnel::Protocol::Proxy => true,
    };
    Ok(ApplicationTunnel {
        is_proxy_protocol,
        port: optional_port("application_tunnel.port", wire.port)?,
    })
}

fn memberships(
    services: &std::collections::HashMap<String, wire::PortList>,
    texts: &mut Interner,
) -> Result<Arc<[Membership]>, ResourceError> {
    check_count("services", services.len(), MAX_REFERENCES)?;
    let mut memberships = Vec::with_capacity(services.len());
    for (service, list) in services {
        check_key("services", service)?;
        memberships.push(Membership {
            service: texts.text(service),
            ports: ports(&format!("services[{service}].ports"), &list.ports, texts)?,
        });
    }
    memberships.sort_unstable_by(|one, other| one.service.cmp(&other.service));
    Ok(texts.memberships.get(memberships))
}

fn policy_keys(keys: &[String], texts: &mut Interner) -> Result<Box<[Arc<str>]>, ResourceError> {
    check_count("authorization_policies", keys.len(), MAX_REFERENCES)?;
    keys.iter()
        .map(|key| {
            check_key("authorization_policies", key)?;
            Ok(texts.text(key))
        })
        .collect()
}

fn balancing(wire: &wire::LoadBalancing) -> Result<Balancing, ResourceError> {
    check_count(
        "load_balancing.routing_preference",
        wire.routing_preference.len(),
        MAX_PREFERENCES,
    )?;
    let preferences = wire.routing_preference.iter().map(|value| {
        let field = "load_balancing.routing_preference";
        Ok(match known(field, *value)? {
            wire::load_balancing::Scope::UnspecifiedScope => {
                return Err(ResourceError::new(field, FieldFault::Unsupported("UNSPECIFIED_SCOPE")));
            }
            wire::load_balancing::Scope::Region => Scope::Region,
            wire::load_balancing::Scope::Zone => Scope::Zone,
            wire::load_balancing::Scope::Subzone => Scope::Subzone,
            wire::load_balancing::Scope::Node => Scope::Node,
            wire::load_balancing::Scope::Cluster => Scope::Cluster,
            wire::load_balancing::Scope::Network => Scope::Network,
        })
    });
    Ok(Balancing {
        preferences: preferences.collect::<Result<_, _>>()?,
        mode: match known("load_balancing.mode", wire.mode)? {
            wire::load_balancing::Mode::UnspecifiedMode => Mode::Any,
            wire::load_balancing::Mode::Strict => Mode::Strict,
            wire::load_balancing::Mode::Failover => Mode::Failover,
            wire::load_balancing::Mode::Passthrough => Mode::Passthrough,
        },
        allows_unhealthy: match known("load_balancing.health_policy", wire.health_policy)? {
            wire::load_balancing::HealthPolicy::OnlyHealthy => false,
            wire::load_balancing::HealthPolicy::AllowAll => true,
        },
    })
}

fn gateway(
    field: &str,
    wire: Option<&wire::GatewayAddress>,
    texts: &mut Interner,
) -> Result<Option<Arc<Gateway>>, ResourceError> {
    let Some(wire) = wire else {
        return Ok(None);
    };
    let destination = match &wire.destination {
        // To go without the gateway would be to go around it.
        None => return Err(ResourceError::new(format!("{field}.destination"), FieldFault::Missing)),
        Some(wire::gateway_address::Destination::Address(address)) => {
            let (place, _) = network_address(&format!("{field}.address"), address, texts)?;
            GatewayDestination::Address(place)
        }
        Some(wire::gateway_address::Destination::Hostname(name)) => {
            present(&format!("{field}.hostname.hostname"), &name.hostname)?;
            GatewayDestination::Hostname {
                namespace: texts.field(&format!("{field}.hostname.namespace"), &name.namespace, "")?,
                hostname: texts.field(&format!("{field}.hostname.hostname"), &name.hostname, "")?,
            }
        }
    };
    let hbone_port = optional_port(&format!("{field}.hbone_mtls_port"), wire.hbone_mtls_port)?.unwrap_or(HBONE_PORT);
    Ok(Some(texts.gateways.get(Gateway {
        destination,
        hbone_port,
    })))
}

/// An address with the number of its bits that count.
fn network_address(
    field: &str,
    wire: &wire::NetworkAddress,
    texts: &mut Interner,
) -> Result<(NetworkAddress, u8), ResourceError> {
    let address = ip(&format!("{field}.address"), &wire.address)?;
    let limit = if address.is_ipv4() { 32 } else { 128 };
    let length = match wire.length {
        None => limit,
        Some(length) => u8::try_from(length)
            .ok()
            .filter(|length| *length <= limit)
            .ok_or_else(|| ResourceError::new(format!("{field}.length"), FieldFault::PrefixLength { length, limit }))?,
    };
    let network = texts.field(&format!("{field}.network"), &wire.network, "")?;
    Ok((NetworkAddress { network, address }, length))
}

fn ports(field: &str, ports: &[wire::Port], texts: &mut Interner) -> Result<Arc<[PortMapping]>, ResourceError> {
    check_count(field, ports.len(), MAX_PORTS)?;
    let ports: Vec<_> = ports
        .iter()
        .enumerate()
        .map(|(index, port)| {
            let service = format!("{field}[{index}].service_port");
            Ok(PortMapping {
                service: optional_port(&service, port.service_port)?
                    .ok_or_else(|| ResourceError::new(service, FieldFault::Port(0)))?,
                target: optional_port(&format!("{field}[{index}].target_port"), port.target_port)?,
                protocol: match port.app_protocol() {
                    wire::AppProtocol::Unknown => AppProtocol::Undeclared,
                    wire::AppProtocol::Http11 => AppProtocol::Http1,
                    wire::AppProtocol::Http2 => AppProtocol::Http2,
                    wire::AppProtocol::Grpc => AppProtocol::Grpc,
                    wire::AppProtocol::Tls => AppProtocol::Tls,
                    wire::AppProtocol::Tcp => AppProtocol::Tcp,
                },
            })
        })
        .collect::<Result<_, _>>()?;
    Ok(texts.ports.get(ports))
}

fn optional_port(field: &str, port: u32) -> Result<Option<u16>, ResourceError> {
    match u16::try_from(port) {
        Ok(port) => Ok((port != 0).then_some(port)),
        Err(_) => Err(ResourceError::new(field, FieldFault::Port(port))),
    }
}

fn ip(field: &str, bytes: &[u8]) -> Result<IpAddr, ResourceError> {
    if let Ok(bytes) = <[u8; 4]>::try_from(bytes) {
        Ok(IpAddr::from(bytes))
    } else if let Ok(bytes) = <[u8; 16]>::try_from(bytes) {
        Ok(IpAddr::from(bytes).to_canonical())
    } else {
        Err(ResourceError::new(field, FieldFault::AddressLength(bytes.len())))
    }
}

fn known<T: TryFrom<i32>>(field: &str, value: i32) -> Result<T, ResourceError> {
    T::try_from(value).map_err(|_| ResourceError::new(field, FieldFault::UnknownValue(value)))
}

fn present(field: &str, text: &str) -> Result<(), ResourceError> {
    if text.is_empty() {
        return Err(ResourceError::new(field, FieldFault::Missing));
    }
    check_length(field, text)
}

fn check_key(field: &str, key: &str) -> Result<(), ResourceError> {
    check_length(field, key)?;
    match key.split_once('/') {
        Some((_, name)) if !name.is_empty() => Ok(()),
        _ => Err(ResourceError::new(field, FieldFault::Key(key.to_owned()))),
    }
}

fn check_length(field: &str, text: &str) -> Result<(), ResourceError> {
    if text.len() <= MAX_NAME_LENGTH {
        return Ok(());
    }
    let (length, limit) = (text.len(), MAX_NAME_LENGTH);
    Err(ResourceError::new(field, FieldFault::TooLong { length, limit }))
}

fn check_count(field: &str, count: usize, limit: usize) -> Result<(), ResourceError> {
    if count <= limit {
        return Ok(());
    }
    Err(ResourceError::new(field, FieldFault::TooMany { count, limit }))
}
