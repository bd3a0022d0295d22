//! Where a connection goes: to whom, over which hop, and who has to answer there.
//!
//! [`resolve`] is a function of a [`Snapshot`], of who connects to what, and of a random number. It
//! follows Istio's order: a service before a workload, a service's waypoint before its workloads, a
//! network's gateway before what lies behind it.
//!
//! What is not known passes through as it came. What is known and cannot be done as the mesh says is
//! an error: a connection never goes around a waypoint that is missing, or to a workload that is
//! unfit.

mod balance;
mod gateway;
mod route;

pub use route::{Expected, Hop, Place, Route, Tunnel, Via};

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use thiserror::Error;

use crate::store::{Families, Found, Gateway, Mode, Protocol, Service, Snapshot, Workload};
use balance::{Choice, Pick, Reach, pick};
use gateway::{Stop, is_behind, stop_at};

/// Who connects to what.
#[derive(Clone, Copy, Debug)]
pub struct Query<'a> {
    source: &'a Workload,
    target: Target<'a>,
    port: u16,
    random: u64,
    hbone_port: u16,
}

impl<'a> Query<'a> {
    /// A connection from `source` to a port of `target`. `random` decides between waypoints and
    /// workloads that have a share each, so it should be another number for each connection.
    #[must_use]
    pub fn new(source: &'a Workload, target: Target<'a>, port: u16, random: u64) -> Self {
        Self {
            source,
            target,
            port,
            random,
            hbone_port: 15008,
        }
    }

    /// The port on which workloads take tunnels, 15008 by default. Waypoints and gateways name their
    /// own.
    #[must_use]
    pub fn hbone_port(mut self, port: u16) -> Self {
        self.hbone_port = port;
        self
    }
}

/// What a connection was made to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Target<'a> {
    /// An address in the network of the source.
    Address(IpAddr),
    /// A hostname.
    Hostname(&'a str),
}

/// Why a connection cannot be made as the mesh says.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ResolveError {
    /// Neither a service nor a workload has that hostname.
    #[error("nothing in the mesh is called `{0}`")]
    UnknownHostname(Box<str>),
    /// The service has no workload that is fit, reachable, and has that port.
    #[error("`{service}` has no workload for port {port}")]
    NoWorkload {
        /// The service's key.
        service: Arc<str>,
        /// The port.
        port: u16,
    },
    /// Traffic has to pass a waypoint that is not there, or has no workload that could take it.
    #[error("the waypoint of `{0}` is not there")]
    NoWaypoint(Arc<str>),
    /// What is to be reached is in another network, and the way into it is not known.
    #[error("there is no way to `{0}` in network `{1}`")]
    NoNetworkGateway(Arc<str>, Arc<str>),
    /// The workload has no address that fits, and no hostname to resolve.
    #[error("`{0}` has no address of the family")]
    NoAddress(Arc<str>),
}

/// Says where a connection goes.
///
/// # Errors
///
/// The destination is known, and cannot be reached in the way that the mesh says. The connection has
/// to be refused: another way would go around a waypoint, or end at nobody.
pub fn resolve<'a>(snapshot: &'a Snapshot, query: &Query<'a>) -> Result<Route<'a>, ResolveError> {
    let namespace = Some(&*query.source.identity.namespace);
    let (service, workload) = match query.target {
        Target::Address(address) => {
            let network = &*query.source.network;
            let service = snapshot.group_at(network, address, namespace);
            (
                service,
                if service.is_none() {
                    snapshot.workload_in(network, address)
                } else {
                    None
                },
            )
        }
        Target::Hostname(hostname) => {
            let service = snapshot.group_named(hostname, namespace);
            (
                service,
                if service.is_none() {
                    snapshot.workload_named(hostname)
                } else {
                    None
                },
            )
        }
    };
    match (service, workload, query.target) {
        (Some(service), ..) => to_service(snapshot, query, service),
        (None, Some(workload), _) => to_workload(snapshot, query, workload),
        (None, None, Target::Address(_)) => Ok(query.passthrough(None)),
        (None, None, Target::Hostname(hostname)) => Err(ResolveError::UnknownHostname(hostname.into())),
    }
}

fn to_service<'a>(snapshot: &'a Snapshot, query: &Query<'a>, found: Found<'a>) -> Result<Route<'a>, ResolveError> {
    let (service, _) = found;
    if let Some(gateway) = service_waypoint(service, query)?
        && !is_behind(snapshot, gateway, query.source)
    {
        return to_waypoint(snapshot, query, gateway, Some(service), &service.key);
    }
    if service.balancing.mode == Mode::Passthrough
        && let Target::Address(_) = query.target
    {
        return Ok(query.passthrough(Some(service)));
    }
    let choice = Choice {
        source: query.source,
        port: query.port,
        wanted: query.wanted(),
        reach: Reach::Network,
    };
    let chosen = pick(found, &choice, query.random).ok_or_else(|| ResolveError::NoWorkload {
        service: Arc::clone(&service.key),
        port: query.port,
    })?;
    match chosen {
        Pick::Remote { workload } => {
            let expected = Expected {
                identity: &workload.identity,
                names: &service.subject_alt_names,
            };
            Ok(Route {
                service: Some(service),
                workload: Some(workload),
                hop: through_network_gateway(snapshot, query, workload, service, expected)?,
                via: Via::Direct,
            })
        }
        Pick::Local { workload, host, port } => Ok(Route {
            service: Some(service),
            workload: Some(workload),
            hop: query.direct(workload, host.at(port), host, &service.subject_alt_names),
            via: Via::Direct,
        }),
    }
}

fn to_workload<'a>(
    snapshot: &'a Snapshot,
    query: &Query<'a>,
    workload: &'a Arc<Workload>,
) -> Result<Route<'a>, ResolveError> {
    if let Some(gateway) = &workload.waypoint
        && !is_behind(snapshot, gateway, query.source)
    {
        return to_waypoint(snapshot, query, gateway, None, &workload.uid);
    }
    if workload.network != query.source.network {
        // Without a service there is no name that means the same in both networks.
        let network = Arc::clone(&workload.network);
        return Err(ResolveError::NoNetworkGateway(Arc::clone(&workload.uid), network));
    }
    let host = balance::host(workload, query.wanted(), Families::Automatic)
        .ok_or_else(|| ResolveError::NoAddress(Arc::clone(&workload.uid)))?;
    Ok(Route {
        service: None,
        workload: Some(workload),
        hop: query.direct(workload, host.at(query.port), host, &[]),
        via: Via::Direct,
    })
}

/// To the waypoint that `owner`'s traffic has to pass.
fn to_waypoint<'a>(
    snapshot: &'a Snapshot,
    query: &Query<'a>,
    gateway: &'a Gateway,
    service: Option<&'a Arc<Service>>,
    owner: &Arc<str>,
) -> Result<Route<'a>, ResolveError> {
    let stop = stop_at(
        snapshot,
        gateway,
        query.source,
        (query.wanted(), Reach::Network),
        query.random,
    )
    .ok_or_else(|| ResolveError::NoWaypoint(Arc::clone(owner)))?;
    let hop = match (stop, service) {
        (Stop::Local { peer, expected, .. }, _) => Hop::Hbone(Tunnel {
            peer,
            authority: query.place(),
            expected,
        }),
        (Stop::Remote { workload, expected }, Some(service)) => {
            through_network_gateway(snapshot, query, workload, service, expected)?
        }
        (Stop::Remote { workload, .. }, None) => {
            let network = Arc::clone(&workload.network);
            return Err(ResolveError::NoNetworkGateway(Arc::clone(&workload.uid), network));
        }
    };
    Ok(Route {
        service,
        workload: Some(stop.workload()),
        hop,
        via: Via::Waypoint,
    })
}

/// To something of a service in another network: to its gateway, which is told the service by name.
fn through_network_gateway<'a>(
    snapshot: &'a Snapshot,
    query: &Query<'a>,
    workload: &'a Arc<Workload>,
    service: &'a Arc<Service>,
    inner: Expected<'a>,
) -> Result<Hop<'a>, ResolveError> {
    let stop = workload.network_gateway.as_ref().and_then(|gateway| {
        stop_at(
            snapshot,
            gateway,
            query.source,
            (query.wanted(), Reach::Anywhere),
            query.random,
        )
    });
    match stop {
        Some(Stop::Local { peer, expected, .. }) => Ok(Hop::DoubleHbone {
            outer: Tunnel {
                peer,
                authority: Place::Hostname(&service.hostname, query.port),
                expected,
            },
            inner,
        }),
        Some(Stop::Remote { .. }) | None => {
            let network = Arc::clone(&workload.network);
            Err(ResolveError::NoNetworkGateway(Arc::clone(&service.key), network))
        }
    }
}

/// The waypoint for one connection. Shares that add up to nothing leave it to the one without.
fn service_waypoint<'a>(
    service: &'a Arc<Service>,
    query: &Query<'_>,
) -> Result<Option<&'a Arc<Gateway>>, ResolveError> {
    let total: u64 = service
        .weighted_waypoints
        .iter()
        .map(|(_, weight)| u64::from(*weight))
        .sum();
    if total == 0 {
        if service.waypoint.is_none() && !service.weighted_waypoints.is_empty() {
            return Err(ResolveError::NoWaypoint(Arc::clone(&service.key)));
        }
        return Ok(service.waypoint.as_ref());
    }
    let mut left = balance::share(query.random >> 32, total);
    for (gateway, weight) in &service.weighted_waypoints {
        match left.checked_sub(u64::from(*weight)) {
            Some(rest) => left = rest,
            None => return Ok(Some(gateway)),
        }
    }
    Ok(service.waypoint.as_ref())
}

impl<'a> Query<'a> {
    fn passthrough(&self, service: Option<&'a Arc<Service>>) -> Route<'a> {
        Route {
            service,
            workload: None,
            hop: Hop::Plain { place: self.place() },
            via: Via::Direct,
        }
    }

    /// To a workload in the same network, which has `host`.
    fn direct(
        &self,
        workload: &'a Arc<Workload>,
        place: Place<'a>,
        host: balance::Host<'a>,
        names: &'a [Box<str>],
    ) -> Hop<'a> {
        match workload.protocol {
            Protocol::Plain => Hop::Plain { place },
            Protocol::Hbone => Hop::Hbone(Tunnel {
                peer: host.at(self.hbone_port),
                authority: place,
                expected: Expected {
                    identity: &workload.identity,
                    names,
                },
            }),
        }
    }

    /// What was asked for, as it was asked for.
    fn place(&self) -> Place<'a> {
        match self.target {
            Target::Address(address) => Place::Address(SocketAddr::new(address, self.port)),
            Target::Hostname(hostname) => Place::Hostname(hostname, self.port),
        }
    }

    /// The address that is best: the one asked for, or else one of the family that the source
    /// speaks.
    fn wanted(&self) -> balance::Wanted {
        match self.target {
            Target::Address(address) => balance::Wanted::Address(address),
            Target::Hostname(_) => balance::Wanted::Family {
                is_v4: self.source.addresses.first().is_none_or(IpAddr::is_ipv4),
            },
        }
    }
}
