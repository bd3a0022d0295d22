use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use hbone::Authority;
use mesh_identity::PeerPolicy;
use mesh_policy::traffic::balance::Locality;
use mesh_xds::resolve::{Hop, Query, Target, resolve_remote};
use mesh_xds::store::{Endpoint, Families, Protocol, Scope, Service, Snapshot, Workload};

use crate::proxy::stretch::{Spot, Stretch, servers};
use crate::waypoint::labels::WorkloadLabels;

/// Where an endpoint of a service is, and how it is reached.
#[derive(Debug)]
pub(in crate::waypoint) struct Site {
    pub(in crate::waypoint) workload: Arc<Workload>,
    pub(in crate::waypoint) way: Way,
    /// Tells its connections from those of others. An endpoint that is reached in another way has
    /// another.
    pub(super) id: SiteId,
}

/// How an endpoint is reached.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::waypoint) enum Way {
    /// By a tunnel to who it is.
    Tunnel(Stretch),
    /// By a tunnel within one to the gateway of its network.
    Within {
        outer: Stretch,
        /// Who has to answer within.
        servers: PeerPolicy,
    },
    /// As the mesh says of what has no tunnels.
    Plain(Spot),
}

/// Names a site in a process. Its clones are one; when there are none left nobody asks for the
/// endpoint any more.
#[derive(Clone, Debug)]
pub(super) struct SiteId(Arc<u64>);

impl SiteId {
    pub(super) fn number(&self) -> u64 {
        *self.0
    }

    pub(super) fn life(&self) -> Weak<u64> {
        Arc::downgrade(&self.0)
    }
}

/// Gives out names.
#[derive(Debug, Default)]
pub(super) struct SiteIds(AtomicU64);

impl SiteIds {
    fn next(&self) -> SiteId {
        SiteId(Arc::new(self.0.fetch_add(1, Ordering::Relaxed)))
    }
}

/// Where this waypoint is.
#[derive(Clone, Debug)]
pub(in crate::waypoint) struct Here {
    pub(in crate::waypoint) network: Arc<str>,
    /// Its workload, whose place counts where near endpoints are preferred. Without one all are alike.
    pub(in crate::waypoint) workload: Option<Arc<Workload>>,
    /// Where workloads take tunnels.
    pub(in crate::waypoint) hbone_port: u16,
}

/// What a cluster is made of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ground<'a> {
    pub(super) mesh: &'a Snapshot,
    pub(super) here: &'a Here,
    pub(super) labels: &'a WorkloadLabels,
    pub(super) ids: &'a SiteIds,
    pub(super) now: Duration,
}

impl Site {
    /// A workload that is reached so. One that is reached as before keeps its connections.
    pub(super) fn new(ids: &SiteIds, workload: &Arc<Workload>, way: Way, before: Option<&Self>) -> Self {
        let before = before.filter(|before| before.way == way);
        Self {
            workload: Arc::clone(workload),
            id: before.map_or_else(|| ids.next(), |before| before.id.clone()),
            way,
        }
    }

    /// The way to an endpoint for a port of a service. `None` if there is none from here: it has no
    /// such port, is in a network that has no gateway, or has no address that could be used.
    pub(super) fn way(ground: Ground<'_>, service: &Arc<Service>, endpoint: &Endpoint, port: u16) -> Option<Way> {
        let here = ground.here;
        let workload = endpoint.workload();
        let target = endpoint.target_port(service, port)?;
        if workload.network != here.network {
            return remote(ground, service, workload, port);
        }
        let host = Host::of(here, service.families, workload)?;
        host.way(here, workload, (target, &service.subject_alt_names))
    }

    /// The way to a port of a workload by itself, under the address that it was asked for by, if it was
    /// by one. `None` if there is none from here: without a service nothing is said that means the same
    /// in two networks.
    pub(super) fn way_to(here: &Here, workload: &Workload, (address, port): (Option<IpAddr>, u16)) -> Option<Way> {
        if workload.network != here.network {
            return None;
        }
        let host = match address {
            Some(address) => workload
                .addresses
                .contains(&address)
                .then_some(Host::Address(address))?,
            None => Host::of(here, Families::Automatic, workload)?,
        };
        host.way(here, workload, (port, &[]))
    }
}

/// The way through the gateway of another network. Which of the gateway's workloads is taken goes by
/// the endpoint, so that it stays the same one.
fn remote(ground: Ground<'_>, service: &Arc<Service>, workload: &Arc<Workload>, port: u16) -> Option<Way> {
    let own = ground.here.workload.as_deref()?;
    let lot = BuildHasherDefault::<DefaultHasher>::default().hash_one(&workload.uid);
    let query = Query::new(own, Target::Hostname(&service.hostname), port, lot).hbone_port(ground.here.hbone_port);
    match resolve_remote(ground.mesh, &query, service, workload).ok()? {
        Hop::DoubleHbone { outer, inner } => Some(Way::Within {
            outer: Stretch::try_from(&outer).ok()?,
            servers: servers(inner.identity, inner.names).ok()?,
        }),
        _ => None,
    }
}

enum Host<'a> {
    Address(IpAddr),
    Name(&'a str),
}

impl<'a> Host<'a> {
    fn of(here: &Here, families: Families, workload: &'a Workload) -> Option<Self> {
        let own = here.workload.as_ref().and_then(|workload| workload.addresses.first());
        let is_v4 = own.is_none_or(IpAddr::is_ipv4);
        let allowed = || workload.addresses.iter().filter(|address| families.allows(**address));
        let address = allowed()
            .find(|address| address.is_ipv4() == is_v4)
            .or_else(|| allowed().next());
        let name = workload.hostname.as_deref().map(Self::Name);
        address.map(|address| Self::Address(*address)).or(name)
    }

    /// The way to a port of a workload there, which may go by these names.
    fn way(&self, here: &Here, workload: &Workload, (port, names): (u16, &[Box<str>])) -> Option<Way> {
        Some(match workload.protocol {
            Protocol::Hbone => Way::Tunnel(Stretch {
                peer: self.at(here.hbone_port),
                authority: self.authority(port)?,
                servers: servers(&workload.identity, names).ok()?,
            }),
            Protocol::Plain => Way::Plain(self.at(port)),
            _ => return None,
        })
    }

    fn at(&self, port: u16) -> Spot {
        match self {
            Self::Address(address) => Spot::Addr(SocketAddr::new(*address, port)),
            Self::Name(name) => Spot::Name((*name).to_owned(), port),
        }
    }

    fn authority(&self, port: u16) -> Option<Authority> {
        match self {
            Self::Address(address) => SocketAddr::new(*address, port).try_into().ok(),
            Self::Name(name) => Authority::new(name, port).ok(),
        }
    }
}

/// Whether two workloads share a place.
pub(super) fn shares(one: &Workload, other: &Workload, scope: Scope) -> bool {
    let (here, there) = (&*one.locality, &*other.locality);
    match scope {
        Scope::Region => here.region == there.region,
        Scope::Zone => (&here.region, &here.zone) == (&there.region, &there.zone),
        Scope::Subzone => here == there,
        Scope::Node => one.node == other.node,
        Scope::Cluster => one.cluster == other.cluster,
        Scope::Network => one.network == other.network,
        _ => false,
    }
}

pub(super) fn locality(workload: &Workload) -> Locality {
    let place = &*workload.locality;
    Locality::new(&*place.region, &*place.zone, &*place.subzone)
}
