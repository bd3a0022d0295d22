use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::route::Place;
use crate::store::{Endpoint, Families, Found, Mode, Scope, Service, Workload};

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

impl Wanted {
    fn is_v4(self) -> bool {
        match self {
            Self::Address(address) => address.is_ipv4(),
            Self::Family { is_v4 } => is_v4,
        }
    }

    fn is_one_of(self, workload: &Workload) -> bool {
        matches!(self, Self::Address(address) if workload.addresses.contains(&address))
    }
}

/// Chooses a workload of a service by its share among the best ones.
///
/// Each is looked at once and nothing is collected: a workload takes the place of the one chosen so
/// far with the probability of its share in what has been seen, which leaves each with its share of
/// all. Where many follow each other that are alike, only one of them is looked at, any, and it
/// stands for all of them.
pub(super) fn pick<'a>((service, endpoints): Found<'a>, choice: &Choice<'_>, random: u64) -> Option<Pick<'a>> {
    let mut lot = Lot {
        rank: 0,
        total: 0,
        chosen: None,
        draws: Draws(random),
    };
    for (stretch, is_alike) in endpoints.stretches() {
        let any = lot.draws.one_of(stretch);
        match any.filter(|any| is_alike && choice.judges_alike(service, any)) {
            Some(any) => lot.offer(any, choice.judge(service, any), stretch.len()),
            None => stretch
                .iter()
                .for_each(|one| lot.offer(one, choice.judge(service, one), 1)),
        }
    }
    choice.take(service, lot.chosen?)
}

/// One of the best that were offered so far.
struct Lot<'a> {
    rank: usize,
    /// The shares of those with that rank.
    total: u64,
    chosen: Option<&'a Endpoint>,
    draws: Draws,
}

impl<'a> Lot<'a> {
    /// Offers an endpoint that stands for so many, with its rank and the share of each.
    fn offer(&mut self, endpoint: &'a Endpoint, judged: Option<(usize, u32)>, count: usize) {
        let Some((rank, capacity)) = judged.filter(|(rank, _)| *rank >= self.rank) else {
            return;
        };
        if rank > self.rank {
            (self.rank, self.total) = (rank, 0);
        }
        let capacity = u64::from(capacity) * count as u64;
        self.total += capacity;
        if self.total == capacity || self.draws.below(self.total) < capacity {
            self.chosen = Some(endpoint);
        }
    }
}

/// The numbers of the SplitMix64 sequence.
struct Draws(u64);

impl Draws {
    fn one_of<'a>(&mut self, all: &'a [Endpoint]) -> Option<&'a Endpoint> {
        let index = self.below(all.len() as u64);
        all.get(usize::try_from(index).ok()?)
    }

    fn below(&mut self, total: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        share((mixed ^ (mixed >> 31)) >> 32, total)
    }
}

/// A number below `total`, chosen by 32 random bits.
pub(super) fn share(random: u64, total: u64) -> u64 {
    let share = (u128::from(random) * u128::from(total)) >> 32;
    u64::try_from(share).unwrap_or(u64::MAX)
}

/// Where a workload is: the address that is wanted, one of that family, or a name to resolve.
pub(super) fn host(workload: &Workload, wanted: Wanted, families: Families) -> Option<Host<'_>> {
    if let Wanted::Address(address) = wanted
        && wanted.is_one_of(workload)
    {
        return Some(Host::Address(address));
    }
    let is_v4 = wanted.is_v4();
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
    /// How good a workload is, and its share. `None` if it cannot be chosen.
    fn judge(&self, service: &Service, endpoint: &Endpoint) -> Option<(usize, u32)> {
        let is_fit = endpoint.is_healthy || service.balancing.allows_unhealthy;
        if !is_fit || endpoint.capacity() == 0 {
            return None;
        }
        self.port(service, endpoint)?;
        let can_be_reached = if self.reaches(endpoint) {
            self.has_host(service, endpoint)
        } else {
            endpoint.has_network_gateway
        };
        if can_be_reached {
            Some((self.rank(service, endpoint)?, endpoint.capacity()))
        } else {
            None
        }
    }

    /// What choosing a workload means.
    fn take<'a>(&self, service: &'a Service, endpoint: &'a Endpoint) -> Option<Pick<'a>> {
        let workload = endpoint.workload();
        if !self.reaches(endpoint) {
            return Some(Pick::Remote { workload });
        }
        Some(Pick::Local {
            workload,
            host: host(workload, self.wanted, service.families)?,
            port: self.port(service, endpoint)?,
        })
    }

    /// A workload that is told of tunnels takes them on the port that it is known by.
    fn port(&self, service: &Service, endpoint: &Endpoint) -> Option<u16> {
        let port = endpoint.target_port(service, self.port);
        port.or(endpoint.has_application_tunnel.then_some(self.port))
    }

    /// Whether those that are like an endpoint are judged as it is: neither by where they are nor by
    /// an address that only one of them has.
    fn judges_alike(&self, service: &Service, endpoint: &Endpoint) -> bool {
        let is_anywhere_equal = matches!(service.balancing.mode, Mode::Any | Mode::Passthrough);
        is_anywhere_equal && (!self.reaches(endpoint) || self.has_any_host(service, endpoint))
    }

    /// Whether a workload has an address that fits, or a name; what [`host`] finds out.
    fn has_host(&self, service: &Service, endpoint: &Endpoint) -> bool {
        self.has_any_host(service, endpoint) || self.wanted.is_one_of(endpoint.workload())
    }

    fn has_any_host(&self, service: &Service, endpoint: &Endpoint) -> bool {
        let has_family = if self.wanted.is_v4() {
            endpoint.has_v4 && service.families.has_v4()
        } else {
            endpoint.has_v6 && service.families.has_v6()
        };
        has_family || endpoint.has_hostname
    }

    /// How many preferred places a workload shares with the source, counted from the first. That
    /// the network comes first is a wish that goes before all others, and no condition: what is in
    /// another network stays reachable by its gateway.
    fn rank(&self, service: &Service, endpoint: &Endpoint) -> Option<usize> {
        let balancing = &service.balancing;
        let is_strict = match balancing.mode {
            Mode::Strict => true,
            Mode::Failover => false,
            Mode::Any | Mode::Passthrough => return Some(0),
        };
        let workload = endpoint.workload();
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

    fn reaches(&self, endpoint: &Endpoint) -> bool {
        self.reach == Reach::Anywhere || endpoint.is_in(&self.source.network)
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
