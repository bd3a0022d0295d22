use std::sync::Arc;

use super::balance::{Choice, Pick, Reach, Wanted, host, pick};
use super::route::{Expected, Place};
use crate::store::{Families, Found, Gateway, GatewayDestination, Snapshot, Workload};

/// A workload of a waypoint or gateway.
#[derive(Clone, Copy, Debug)]
pub(super) enum Stop<'a> {
    /// One that can be connected to.
    Local {
        workload: &'a Arc<Workload>,
        peer: Place<'a>,
        expected: Expected<'a>,
    },
    /// One that is in another network.
    Remote {
        workload: &'a Arc<Workload>,
        expected: Expected<'a>,
    },
}

impl<'a> Stop<'a> {
    pub(super) fn workload(self) -> &'a Arc<Workload> {
        match self {
            Self::Local { workload, .. } | Self::Remote { workload, .. } => workload,
        }
    }
}

/// The workload of a waypoint or gateway that takes a connection of `source`.
///
/// One that is known by its address is reached by that family; one that is known by its name by the
/// family that is wanted.
pub(super) fn stop_at<'a>(
    snapshot: &'a Snapshot,
    gateway: &Gateway,
    source: &Workload,
    (wanted, reach): (Wanted, Reach),
    random: u64,
) -> Option<Stop<'a>> {
    let wanted = match (&gateway.destination, wanted) {
        (GatewayDestination::Address(place), _) => Wanted::Address(place.address),
        (GatewayDestination::Hostname { .. }, Wanted::Address(address)) => Wanted::Family {
            is_v4: address.is_ipv4(),
        },
        (GatewayDestination::Hostname { .. }, family @ Wanted::Family { .. }) => family,
    };
    let choice = Choice {
        source,
        port: gateway.hbone_port,
        wanted,
        reach,
    };
    match find(snapshot, gateway)? {
        Target::Workload(workload) => {
            let expected = Expected {
                identity: &workload.identity,
                names: &[],
            };
            if reach == Reach::Network && workload.network != source.network {
                return Some(Stop::Remote { workload, expected });
            }
            let host = host(workload, wanted, Families::Automatic)?;
            Some(Stop::Local {
                workload,
                peer: host.at(gateway.hbone_port),
                expected,
            })
        }
        Target::Service(found) => {
            let pick = pick(found, &choice, random)?;
            let (service, _) = found;
            let (Pick::Local { workload, .. } | Pick::Remote { workload }) = pick;
            let expected = Expected {
                identity: &workload.identity,
                names: &service.subject_alt_names,
            };
            Some(match pick {
                Pick::Local { host, port, .. } => Stop::Local {
                    workload,
                    peer: host.at(port),
                    expected,
                },
                Pick::Remote { .. } => Stop::Remote { workload, expected },
            })
        }
    }
}

/// Whether a workload is one of those behind a waypoint's address: it must not be sent to itself.
pub(super) fn is_behind(snapshot: &Snapshot, gateway: &Gateway, workload: &Workload) -> bool {
    match find(snapshot, gateway) {
        Some(Target::Workload(found)) => found.uid == workload.uid,
        Some(Target::Service((_, endpoints))) => endpoints.get(&workload.uid).is_some(),
        None => false,
    }
}

/// What a waypoint or gateway is.
enum Target<'a> {
    Service(Found<'a>),
    Workload(&'a Arc<Workload>),
}

/// A service, or else a workload.
fn find<'a>(snapshot: &'a Snapshot, gateway: &Gateway) -> Option<Target<'a>> {
    let (found, workload) = match &gateway.destination {
        GatewayDestination::Address(place) => (
            snapshot.group_at(&place.network, place.address, None),
            snapshot.workload_at(place),
        ),
        GatewayDestination::Hostname { namespace, hostname } => (
            snapshot
                .group_named(hostname, Some(namespace))
                .filter(|(service, _)| service.namespace == *namespace),
            snapshot
                .workload_named(hostname)
                .filter(|workload| workload.identity.namespace == *namespace),
        ),
    };
    found.map(Target::Service).or(workload.map(Target::Workload))
}
