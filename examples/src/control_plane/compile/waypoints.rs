//! Which waypoint stands before what.

use mesh_policy::authz::Labels;
use mesh_xds_types::workload::gateway_address::Destination;
use mesh_xds_types::workload::{GatewayAddress, NamespacedHostname, NetworkAddress};

use super::super::objects::{Gateway, GatewayAt, Key, Metadata, Objects};
use super::octets::octets;
use super::{Notice, Settings, UnusableWaypoint, hostname};

const USE: &str = "istio.io/use-waypoint";
const USE_NAMESPACE: &str = "istio.io/use-waypoint-namespace";
const USE_CANARY: &str = "istio.io/use-waypoint-canary";
pub(super) const NETWORK: &str = "topology.istio.io/network";
const GATEWAY_NAME: &str = "gateway.networking.k8s.io/gateway-name";
const HBONE_PORT: u32 = 15008;

/// The gateways of a mesh.
pub(super) struct Waypoints<'o> {
    objects: &'o Objects,
    unusable: UnusableWaypoint,
    /// The network of everything that does not say otherwise.
    pub(super) network: String,
}

/// What may have a waypoint.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Served {
    Service,
    Workload,
}

impl<'o> Waypoints<'o> {
    pub(super) fn new(objects: &'o Objects, settings: &Settings) -> Self {
        let mut waypoints = Self {
            objects,
            unusable: settings.unusable_waypoint,
            network: String::new(),
        };
        let root = waypoints.namespace(&settings.root_namespace);
        let network = root.and_then(|labels| labels.get(NETWORK));
        waypoints.network = network.cloned().unwrap_or_default();
        waypoints
    }

    /// The waypoint of an object. Its own label counts before that of its namespace, also if it
    /// names a waypoint that cannot be used.
    pub(super) fn of(&self, metadata: &Metadata, served: Served, notices: &mut Vec<Notice>) -> Option<GatewayAddress> {
        if self.is_waypoint(metadata) {
            return None;
        }
        let namespace = &metadata.key.namespace;
        let of_namespace = self.namespace(namespace);
        let (labels, is_own) = match metadata.labels.contains_key(USE) {
            true => (&metadata.labels, true),
            false => (of_namespace?, false),
        };
        if metadata.labels.contains_key(USE_CANARY) {
            notices.push(Notice::Label {
                place: metadata.place.clone(),
                label: USE_CANARY,
            });
        }
        let name = labels.get(USE).filter(|name| *name != "none")?;
        let waypoint = Key {
            namespace: labels.get(USE_NAMESPACE).unwrap_or(namespace).clone(),
            name: name.clone(),
        };
        match self.usable(&waypoint, namespace, of_namespace, served) {
            Ok(address) => Some(address),
            // The label of a namespace is about its services or its workloads, as the waypoint has it.
            Err(Unusable::ForOthers) if !is_own => None,
            Err(unusable) => {
                let nobody = match self.unusable {
                    UnusableWaypoint::Refuse => Some(nobody(&waypoint)),
                    UnusableWaypoint::Bypass => None,
                };
                notices.push(Notice::Waypoint {
                    place: metadata.place.clone(),
                    waypoint,
                    then: self.unusable,
                    reason: unusable.reason(),
                });
                nobody
            }
        }
    }

    /// What a namespace is labelled with.
    pub(super) fn namespace(&self, name: &str) -> Option<&'o Labels> {
        let key = Key {
            namespace: String::new(),
            name: name.to_owned(),
        };
        self.objects.namespaces.get(&key).map(|namespace| &namespace.0.labels)
    }

    /// Whether the object is a part of a waypoint: its traffic would go around in circles.
    fn is_waypoint(&self, metadata: &Metadata) -> bool {
        let of_label = metadata.label(GATEWAY_NAME).map(|name| metadata.key.beside(name));
        [Some(&metadata.key), of_label.as_ref()]
            .into_iter()
            .flatten()
            .any(|key| self.objects.gateways.contains_key(key))
    }

    fn usable(
        &self,
        waypoint: &Key,
        namespace: &str,
        of_namespace: Option<&Labels>,
        served: Served,
    ) -> Result<GatewayAddress, Unusable> {
        let gateway = self.objects.gateways.get(waypoint).ok_or(Unusable::Missing)?;
        let is_for = match served {
            Served::Service => gateway.is_for_services,
            Served::Workload => gateway.is_for_workloads,
        };
        if !is_for {
            return Err(Unusable::ForOthers);
        }
        let (port, _) = gateway.listener.as_ref().ok_or(Unusable::NoListener)?;
        if !gateway.admits(namespace, of_namespace) {
            return Err(Unusable::Namespace);
        }
        Ok(GatewayAddress {
            hbone_mtls_port: (*port).into(),
            destination: Some(self.destination(gateway).ok_or(Unusable::NoAddress)?),
        })
    }

    fn destination(&self, gateway: &Gateway) -> Option<Destination> {
        let key = &gateway.metadata.key;
        let by_name = |hostname| {
            Destination::Hostname(NamespacedHostname {
                namespace: key.namespace.clone(),
                hostname,
            })
        };
        if self.objects.services.contains_key(key) {
            return Some(by_name(hostname(key)));
        }
        Some(match gateway.at.as_ref()? {
            GatewayAt::Hostname(name) => by_name(name.clone()),
            GatewayAt::Ip(ip) => Destination::Address(NetworkAddress {
                network: self.network.clone(),
                address: octets(*ip),
                length: None,
            }),
        })
    }
}

/// A waypoint that is not there, so that nodes refuse what has to pass it. No object can have such
/// a name: an underscore is not allowed in them.
fn nobody(waypoint: &Key) -> GatewayAddress {
    GatewayAddress {
        hbone_mtls_port: HBONE_PORT,
        destination: Some(Destination::Hostname(NamespacedHostname {
            namespace: waypoint.namespace.clone(),
            hostname: format!("{}.unusable_waypoint", waypoint.name),
        })),
    }
}

/// Why a waypoint cannot be used.
#[derive(Clone, Copy)]
enum Unusable {
    Missing,
    ForOthers,
    NoListener,
    Namespace,
    NoAddress,
}

impl Unusable {
    fn reason(self) -> &'static str {
        match self {
            Self::Missing => "there is no such Gateway of class `istio-waypoint`",
            Self::ForOthers => "its label `istio.io/waypoint-for` is for something else",
            Self::NoListener => "it has no listener of protocol `HBONE`",
            Self::Namespace => "its listener does not admit this namespace",
            Self::NoAddress => "it has neither a Service of its name nor an address",
        }
    }
}
