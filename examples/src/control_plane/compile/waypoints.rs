//! Which waypoint stands before what.

use mesh_xds_types::workload::gateway_address::Destination;
use mesh_xds_types::workload::{GatewayAddress, NamespacedHostname, NetworkAddress, WeightedWaypoint};

use super::super::objects::{Gateway, GatewayAt, Key, Metadata, Objects};
use super::octets::octets;
use super::{Notice, Settings, UnusableWaypoint, hostname};

const USE: &str = "istio.io/use-waypoint";
const USE_NAMESPACE: &str = "istio.io/use-waypoint-namespace";
const USE_CANARY: &str = "istio.io/use-waypoint-canary";
const USE_CANARY_NAMESPACE: &str = "istio.io/use-waypoint-canary-namespace";
const USE_CANARY_WEIGHT: &str = "istio.io/use-waypoint-canary-weight";
pub(super) const NETWORK: &str = "topology.istio.io/network";
pub(super) const GATEWAY_NAME: &str = "gateway.networking.k8s.io/gateway-name";
const HBONE_PORT: u32 = 15008;

/// All of the weight of two waypoints.
const WHOLE: u32 = 100;

/// The gateways of a mesh.
pub(super) struct Waypoints<'o> {
    objects: &'o Objects,
    unusable: UnusableWaypoint,
    /// The network of everything that does not say otherwise.
    pub(super) network: String,
}

/// What may have a waypoint.
#[derive(Clone, Copy)]
pub(super) enum Served<'s> {
    Service,
    /// With the metadata of its service account, if that is there.
    Workload(Option<&'s Metadata>),
}

/// The waypoints of something.
#[derive(Clone, Debug, Default)]
pub(super) struct Attached {
    /// What has to be passed, unless one of the next is chosen.
    pub(super) waypoint: Option<GatewayAddress>,
    pub(super) weighted: Vec<WeightedWaypoint>,
    /// Who has to know it, a canary without a share included: it is to be ready when it gets one.
    pub(super) gateways: Vec<Key>,
}

impl<'o> Waypoints<'o> {
    pub(super) fn new(objects: &'o Objects, settings: &Settings) -> Self {
        let mut waypoints = Self {
            objects,
            unusable: settings.unusable_waypoint,
            network: String::new(),
        };
        let root = waypoints.namespace(&settings.root_namespace);
        let network = root.and_then(|root| root.label(NETWORK));
        waypoints.network = network.unwrap_or_default().to_owned();
        waypoints
    }

    /// The waypoints of an object. Its own label counts before that of its service account, and that
    /// before the one of its namespace, also if it names a waypoint that cannot be used.
    pub(super) fn of(&self, metadata: &Metadata, served: Served<'_>, notices: &mut Vec<Notice>) -> Attached {
        if self.is_waypoint(metadata) {
            return Attached::default();
        }
        let account = match served {
            Served::Service => None,
            Served::Workload(account) => account,
        };
        let of_namespace = self.namespace(&metadata.key.namespace);
        let labelled = [Some(metadata), account].into_iter().flatten();
        let mut labelled = labelled.filter(|metadata| metadata.labels.contains_key(USE));
        let (says, is_own) = match labelled.next() {
            Some(own) => (own, true),
            None => match of_namespace {
                Some(namespace) => (namespace, false),
                None => return Attached::default(),
            },
        };
        let Some(waypoint) = named(says, USE, USE_NAMESPACE, metadata) else {
            return Attached::default();
        };
        let usable = |waypoint: &Key| self.usable(waypoint, &metadata.key.namespace, of_namespace, served);
        match usable(&waypoint) {
            Ok(address) => {
                let mut attached = Attached {
                    waypoint: Some(address),
                    weighted: Vec::new(),
                    gateways: vec![waypoint],
                };
                if let Some(canary) = named(says, USE_CANARY, USE_CANARY_NAMESPACE, metadata) {
                    match served {
                        Served::Service => attached.add(canary, says, usable, notices),
                        Served::Workload(_) if is_own => notices.push(Notice::Label {
                            place: says.place.clone(),
                            label: USE_CANARY,
                        }),
                        Served::Workload(_) => {}
                    }
                }
                attached
            }
            // The label of a namespace is about its services or its workloads, as the waypoint has it.
            Err(Unusable::ForOthers) if !is_own => Attached::default(),
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
                Attached {
                    waypoint: nobody,
                    ..Attached::default()
                }
            }
        }
    }

    /// What a namespace is labelled with.
    pub(super) fn namespace(&self, name: &str) -> Option<&'o Metadata> {
        let key = Key {
            namespace: String::new(),
            name: name.to_owned(),
        };
        self.objects.namespaces.get(&key).map(|namespace| &namespace.0)
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
        of_namespace: Option<&Metadata>,
        served: Served<'_>,
    ) -> Result<GatewayAddress, Unusable> {
        let gateway = self.objects.gateways.get(waypoint).ok_or(Unusable::Missing)?;
        let is_for = match served {
            Served::Service => gateway.is_for_services,
            Served::Workload(_) => gateway.is_for_workloads,
        };
        if !is_for {
            return Err(Unusable::ForOthers);
        }
        let (port, _) = gateway.listener.as_ref().ok_or(Unusable::NoListener)?;
        if !gateway.admits(namespace, of_namespace.map(|namespace| &namespace.labels)) {
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

impl Attached {
    /// Adds a canary, with the share that an annotation gives it.
    fn add(
        &mut self,
        canary: Key,
        says: &Metadata,
        usable: impl Fn(&Key) -> Result<GatewayAddress, Unusable>,
        notices: &mut Vec<Notice>,
    ) {
        let unused = |reason| Notice::Canary {
            place: says.place.clone(),
            canary: canary.clone(),
            reason,
        };
        let share = match says.annotation(USE_CANARY_WEIGHT).map(str::parse) {
            None => 0,
            Some(Ok(share)) if share <= WHOLE => share,
            Some(_) => {
                notices.push(unused("its weight is no whole number from 0 to 100"));
                0
            }
        };
        match usable(&canary) {
            Ok(address) => {
                let weighted = [(self.waypoint.clone(), WHOLE - share), (Some(address), share)];
                if share > 0 {
                    self.weighted = weighted
                        .into_iter()
                        .map(|(destination, weight)| WeightedWaypoint { destination, weight })
                        .collect();
                }
                self.gateways.push(canary);
            }
            Err(unusable) => notices.push(unused(unusable.reason())),
        }
    }
}

/// The waypoint that labels name for an object, if they name one.
fn named(says: &Metadata, name: &str, namespace: &str, of: &Metadata) -> Option<Key> {
    let name = says.label(name).filter(|name| *name != "none")?;
    let namespace = says.label(namespace).unwrap_or(&of.key.namespace);
    Some(Key {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    })
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
