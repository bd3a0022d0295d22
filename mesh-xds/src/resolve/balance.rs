use std::net::{IpAddr, SocketAddr};
use std::ops::ControlFlow;
use std::sync::Arc;

use super::route::Place;
use crate::store::{Endpoint, Families, Mode, Scope, Service, Snapshot, Workload};

/// A workload that was chosen from a service.
#[derive(Clone, Copy, Debug)]
pub(super) enum Pick<'a> {
    /// In the network of the source.
    Local {
        workload: &'a Arc<Workload>,
        host: Host<'a>,
        port: u16,
    },
    /// Behind a network's gateway.
    Remote { workload: &'a Arc<Workload> },
}

/// Where a workload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Host<'a> {
    Address(IpAddr),
    Hostname(&'a str),
}

impl<'a> Host<'a> {
    pub(super) fn at(self, port: u16) -> Place<'a> {
        match self {
            Self::Address(address) => Place::Address(SocketAddr::new(address, port)),
            Self::Hostname(hostname) => Place::Hostname(hostname, port),
        }
    }
}

/// Which address of a workload is best.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wanted {
    /// This one, or else one of its family.
    Address(IpAddr),
    Family {
        is_v4: bool,
    },
}

/// What can be connected to without another network's gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// What is in the network of the source.
    Network,
    /// Everything: gateways between networks are there to be reached from outside.
    Anywhere,
}

/// Chooses a workload of a service by its share among the best ones.
///
/// The workloads are looked at twice, to find how good the best are and how much they can take, and
/// then the one: nothing is collected.
pub(super) fn pick<'a>(
    snapshot: &'a Snapshot,
    service: &'a Service,
    choice: &Choice<'_>,
    random: u64,
) -> Option<Pick<'a>> {
    let endpoints = snapshot.endpoints(&service.key);
    let (mut best, mut total) = (0, 0_u64);
    endpoints.visit(|endpoint| {
        if let Some((rank, _)) = choice.judge(service, endpoint) {
            if rank > best {
                (best, total) = (rank, 0);
            }
            if rank == best {
                total += u64::from(endpoint.workload().capacity);
            }
        }
        ControlFlow::<()>::Continue(())
    });
    if total == 0 {
        return None;
    }
    let mut left = share(random & u64::from(u32::MAX), total);
    endpoints.visit(|endpoint| {
        if let Some((rank, pick)) = choice.judge(service, endpoint)
            && rank == best
        {
            match left.checked_sub(u64::from(endpoint.workload().capacity)) {
                Some(rest) => left = rest,
                None => return ControlFlow::Break(pick),
            }
        }
        ControlFlow::Continue(())
    })
}

/// A number below `total`, chosen by 32 random bits.
pub(super) fn share(random: u64, total: u64) -> u64 {
    let share = (u128::from(random) * u128::from(total)) >> 32;
    u64::try_from(share).unwrap_or(u64::MAX)
}

/// Where a workload is: the address that is wanted, one of that family, or a name to resolve.
pub(super) fn host(workload: &Workload, wanted: Wanted, families: Families) -> Option<Host<'_>> {
    let is_v4 = match wanted {
        Wanted::Address(address) if workload.addresses.contains(&address) => return Some(Host::Address(address)),
        Wanted::Address(address) => address.is_ipv4(),
        Wanted::Family { is_v4 } => is_v4,
    };
    let fits = |address: &&IpAddr| address.is_ipv4() == is_v4 && families.allows(**address);
    let address = workload
        .addresses
        .iter()
        .find(fits)
        .map(|address| Host::Address(*address));
    address.or_else(|| workload.hostname.as_deref().map(Host::Hostname))
}

/// What the workloads of a service are measured by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Choice<'q> {
    pub(super) source: &'q Workload,
    pub(super) port: u16,
    pub(super) wanted: Wanted,
    pub(super) reach: Reach,
}

impl Choice<'_> {
    /// How good a workload is, and what choosing it means. `None` if it cannot be chosen.
    fn judge<'a>(&self, service: &'a Service, endpoint: &'a Endpoint) -> Option<(usize, Pick<'a>)> {
        let workload = endpoint.workload();
        if !workload.is_healthy && !service.balancing.allows_unhealthy {
            return None;
        }
        // A workload that is told of tunnels takes them on the port that it is known by.
        let takes_any = workload.application_tunnel.is_some();
        let port = endpoint
            .target_port(service, self.port)
            .or(takes_any.then_some(self.port))?;
        let pick = if self.reaches(workload) {
            Pick::Local {
                workload,
                host: host(workload, self.wanted, service.families)?,
                port,
            }
        } else {
            workload.network_gateway.as_ref()?;
            Pick::Remote { workload }
        };
        Some((self.rank(service, workload)?, pick))
    }

    /// How many preferred places a workload shares with the source, counted from the first. That
    /// the network comes first is a wish that goes before all others, and no condition: what is in
    /// another network stays reachable by its gateway.
    fn rank(&self, service: &Service, workload: &Workload) -> Option<usize> {
        let balancing = &service.balancing;
        let is_strict = match balancing.mode {
            Mode::Strict => true,
            Mode::Failover => false,
            Mode::Any | Mode::Passthrough => return Some(0),
        };
        let (is_near, places) = match balancing.preferences.split_first() {
            Some((Scope::Network, rest)) => (self.shares(Scope::Network, workload), rest),
            _ => (false, &*balancing.preferences),
        };
        let shared = places.iter().take_while(|scope| self.shares(**scope, workload)).count();
        if is_strict && shared < places.len() {
            return None;
        }
        Some(shared + if is_near { places.len() + 1 } else { 0 })
    }

    pub(super) fn reaches(&self, workload: &Workload) -> bool {
        self.reach == Reach::Anywhere || workload.network == self.source.network
    }

    fn shares(&self, scope: Scope, workload: &Workload) -> bool {
        let (here, there) = (&*self.source.locality, &*workload.locality);
        match scope {
            Scope::Region => here.region == there.region,
            Scope::Zone => (&here.region, &here.zone) == (&there.region, &there.zone),
            Scope::Subzone => here == there,
            Scope::Node => self.source.node == workload.node,
            Scope::Cluster => self.source.cluster == workload.cluster,
            Scope::Network => self.source.network == workload.network,
        }
    }
}
