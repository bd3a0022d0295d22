use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::ops::Deref;
use std::sync::Arc;

use mesh_xds_types::security;

/// An address in a network. The default network has the empty name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NetworkAddress {
    /// Where the address is valid.
    pub network: Arc<str>,
    /// The address.
    pub address: IpAddr,
}

/// What a workload is authenticated as.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity {
    /// The authority's name.
    pub trust_domain: Arc<str>,
    /// The namespace of the service account.
    pub namespace: Arc<str>,
    /// The service account.
    pub service_account: Arc<str>,
}

impl Identity {
    /// The identity as a SPIFFE ID.
    #[must_use]
    pub fn spiffe_id(&self) -> String {
        format!(
            "spiffe://{}/ns/{}/sa/{}",
            self.trust_domain, self.namespace, self.service_account
        )
    }
}

/// Something that runs and can be connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Workload {
    /// Its key.
    pub uid: Arc<str>,
    pub(super) name: Name,
    /// Its service account; the namespace is that of the workload, too.
    pub identity: Arc<Identity>,
    /// Where its addresses are valid.
    pub network: Arc<str>,
    /// Its addresses; may be none.
    pub addresses: Addresses,
    /// A name to resolve for who finds no address.
    pub hostname: Option<Box<str>>,
    /// How it is reached.
    pub protocol: Protocol,
    /// What its traffic has to pass.
    pub waypoint: Option<Arc<Gateway>>,
    /// How it is reached from other networks.
    pub network_gateway: Option<Arc<Gateway>>,
    /// The machine that it runs on.
    pub node: Arc<str>,
    /// The cluster that it runs in.
    pub cluster: Arc<str>,
    /// Where it runs.
    pub locality: Arc<Locality>,
    /// Its name in telemetry.
    pub canonical_name: Arc<str>,
    /// Its version in telemetry.
    pub canonical_revision: Arc<str>,
    /// What kind of thing owns it, in telemetry.
    pub workload_type: WorkloadType,
    /// The name of what owns it, in telemetry.
    pub workload_name: Arc<str>,
    /// Whether it speaks the tunnel protocol itself.
    pub native_tunnel: bool,
    /// What it wants to be told about connections that came by a tunnel.
    pub application_tunnel: Option<ApplicationTunnel>,
    /// The services that it belongs to.
    pub services: Arc<[Membership]>,
    /// Keys of the policies that select it.
    pub policies: Box<[Arc<str>]>,
    /// Whether it is fit for traffic.
    pub is_healthy: bool,
    /// Whether it shares its node's addresses, so that an address does not tell it from others.
    pub is_host_network: bool,
    /// Its share of the traffic relative to other workloads.
    pub capacity: u32,
}

impl Workload {
    /// Its name, for people.
    #[must_use]
    pub fn name(&self) -> &str {
        match &self.name {
            Name::EndOfUid(begin) => self.uid.get(*begin..).unwrap_or_default(),
            Name::Own(name) => name,
        }
    }
}

/// Where a workload's name is: Istio's uids end with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Name {
    EndOfUid(usize),
    Own(Box<str>),
}

/// The addresses of a workload: a slice of them.
#[derive(Clone, PartialEq, Eq)]
pub struct Addresses(Own);

/// Nearly all workloads have one, which then needs no memory of its own.
#[derive(Clone, PartialEq, Eq)]
enum Own {
    One(IpAddr),
    Other(Box<[IpAddr]>),
}

impl Deref for Addresses {
    type Target = [IpAddr];

    fn deref(&self) -> &[IpAddr] {
        match &self.0 {
            Own::One(address) => std::slice::from_ref(address),
            Own::Other(addresses) => addresses,
        }
    }
}

impl FromIterator<IpAddr> for Addresses {
    fn from_iter<I: IntoIterator<Item = IpAddr>>(addresses: I) -> Self {
        let addresses: Box<[IpAddr]> = addresses.into_iter().collect();
        Self(match *addresses {
            [address] => Own::One(address),
            _ => Own::Other(addresses),
        })
    }
}

impl fmt::Debug for Addresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&**self).finish()
    }
}

/// A workload's part in a service.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Membership {
    /// The service's key.
    pub service: Arc<str>,
    /// The workload's own ports for those of the service.
    pub ports: Arc<[PortMapping]>,
}

/// How a workload is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Protocol {
    /// As it comes.
    Plain,
    /// By an HBONE tunnel.
    Hbone,
}

/// What kind of thing owns a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WorkloadType {
    /// A Kubernetes Deployment, or what behaves like one.
    Deployment,
    /// A CronJob.
    CronJob,
    /// Nothing: it is a Pod of its own.
    Pod,
    /// A Job.
    Job,
}

/// What a workload wants to be told about connections that came by a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct ApplicationTunnel {
    /// Whether a PROXY protocol header goes before the connection's bytes.
    pub is_proxy_protocol: bool,
    /// The port for such connections, instead of the one that was asked for.
    pub port: Option<u16>,
}

/// A place. Parts that are not known are empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Locality {
    /// The widest part.
    pub region: Arc<str>,
    /// A part of the region.
    pub zone: Arc<str>,
    /// A part of the zone.
    pub subzone: Arc<str>,
}

/// Where a waypoint or a network's gateway is found.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Gateway {
    /// Who it is.
    pub destination: GatewayDestination,
    /// Its port for HBONE.
    pub hbone_port: u16,
}

/// Who a gateway is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum GatewayDestination {
    /// The service or workload with this address.
    Address(NetworkAddress),
    /// The service with this key, or the workload with this hostname.
    Hostname {
        /// The namespace.
        namespace: Arc<str>,
        /// The hostname.
        hostname: Arc<str>,
    },
}

/// Workloads that are reached under one name.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Service {
    /// Its key: `namespace/hostname`.
    pub key: Arc<str>,
    /// Its name, for people.
    pub name: Arc<str>,
    /// Its namespace.
    pub namespace: Arc<str>,
    /// What it is called by clients.
    pub hostname: Arc<str>,
    /// Its own addresses.
    pub addresses: Box<[NetworkAddress]>,
    /// Blocks of addresses that all belong to it, with the number of bits that count.
    pub blocks: Box<[(NetworkAddress, u8)]>,
    /// Its ports.
    pub ports: Arc<[PortMapping]>,
    /// Who may answer besides its workloads' own identities.
    pub subject_alt_names: Box<[Box<str>]>,
    /// What its traffic has to pass, unless one of `weighted_waypoints` is chosen.
    pub waypoint: Option<Arc<Gateway>>,
    /// Waypoints with their shares of the traffic.
    pub weighted_waypoints: Box<[(Arc<Gateway>, u32)]>,
    /// Which of its workloads are preferred.
    pub balancing: Balancing,
    /// Which families of addresses it may be reached by.
    pub families: Families,
    /// Whether it goes before services of the same hostname or address in other namespaces.
    pub is_canonical: bool,
    /// Whether gateways send their traffic through its waypoint, too.
    pub ingress_use_waypoint: bool,
    /// Whether only workloads of its namespace can see it.
    pub is_private: bool,
}

impl Service {
    /// What is spoken on a port of the service, as far as it is declared.
    #[must_use]
    pub fn protocol(&self, port: u16) -> AppProtocol {
        let mapping = self.ports.iter().find(|mapping| mapping.service == port);
        mapping.map_or_else(AppProtocol::default, |mapping| mapping.protocol)
    }

    /// Whether it is of a client's namespace.
    pub(super) fn is_own(&self, namespace: Option<&str>) -> bool {
        namespace == Some(&*self.namespace)
    }
}

/// A port that traffic comes for, and the one that it goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct PortMapping {
    /// The port of the service.
    pub service: u16,
    /// The port of a workload; absent if each workload has to name its own.
    pub target: Option<u16>,
    /// What is spoken there.
    pub protocol: AppProtocol,
}

/// What is spoken on a port of a service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AppProtocol {
    /// Nobody says, or it is one that later versions of the protocol may know: whoever has to know
    /// has to look.
    #[default]
    Undeclared,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 without TLS.
    Http2,
    /// gRPC, which is by HTTP/2 without TLS.
    Grpc,
    /// TLS, whatever is within.
    Tls,
    /// None of these.
    Tcp,
}

/// Which workloads of a service are preferred.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Balancing {
    /// The places that client and workload should share, the most important first.
    pub preferences: Box<[Scope]>,
    /// What the preferences mean.
    pub mode: Mode,
    /// Whether unhealthy workloads count like others.
    pub allows_unhealthy: bool,
}

/// A place that client and workload can share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Scope {
    /// The same region.
    Region,
    /// The same region and zone.
    Zone,
    /// The same region, zone and subzone.
    Subzone,
    /// The same machine.
    Node,
    /// The same cluster.
    Cluster,
    /// The same network.
    Network,
}

/// What preferences mean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Mode {
    /// Nothing: all workloads are alike.
    #[default]
    Any,
    /// Only workloads that share all preferred places.
    Strict,
    /// The workloads that share most of the preferred places, counted from the first one on.
    Failover,
    /// No workload is chosen: traffic goes to the address that it was sent to.
    Passthrough,
}

/// Which families of addresses a service may be reached by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Families {
    /// That of the service's addresses.
    #[default]
    Automatic,
    /// IPv4.
    V4,
    /// IPv6.
    V6,
    /// Both.
    Dual,
}

impl Families {
    /// Whether IPv4 is one of them.
    #[must_use]
    pub fn has_v4(self) -> bool {
        self != Self::V6
    }

    /// Whether IPv6 is one of them.
    #[must_use]
    pub fn has_v6(self) -> bool {
        self != Self::V4
    }

    /// Whether an address is of such a family.
    #[must_use]
    pub fn allows(self, address: IpAddr) -> bool {
        if address.is_ipv4() {
            self.has_v4()
        } else {
            self.has_v6()
        }
    }
}

/// A policy, as far as finding it goes. What it means is for a policy engine.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Policy {
    /// Its key: `namespace/name`.
    pub key: Arc<str>,
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Which workloads it is about.
    pub scope: PolicyScope,
    /// The whole policy.
    pub wire: Arc<security::Authorization>,
}

/// Which workloads a policy is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PolicyScope {
    /// All.
    Global,
    /// Those of its namespace.
    Namespace,
    /// Those that name it.
    Selector,
}

/// Policies by key, in the order of their keys.
pub(crate) type PolicyList = Arc<BTreeMap<Arc<str>, Arc<Policy>>>;
