//! How a connection of a workload gets to its destination.

use std::net::SocketAddr;
use std::sync::Arc;

use hbone::{Authority, Host};
use mesh_identity::{PeerPolicy, SpiffeIdError};
use mesh_xds::resolve::{Hop, Place, Query, ResolveError, Target, Tunnel, Via, resolve};

use super::mesh::{Mesh, Resident};
use crate::proxy::labels::ServiceName;
use crate::proxy::party::Party;
use crate::proxy::stretch::{Spot, Stretch, StretchError, servers};

/// What was found out about a connection before it is made.
pub(super) struct Plan {
    pub(super) way: Way,
    /// Who gets the connection next.
    pub(super) next: Party,
    pub(super) service: Option<ServiceName>,
}

/// How a connection goes.
pub(super) enum Way {
    /// As it came.
    Plain(Spot),
    /// To a workload of this node, which needs no tunnel to itself.
    Home(Arc<Resident>, SocketAddr),
    /// By a tunnel.
    Hbone(Stretch),
    /// By a tunnel within a tunnel.
    Double {
        outer: Stretch,
        /// Who has to answer within.
        servers: PeerPolicy,
    },
}

/// Plans a connection of `source` to `target`.
pub(super) fn plan(
    mesh: &Mesh,
    source: &Resident,
    target: &Authority,
    (hbone_port, random): (u16, u64),
) -> Result<Plan, PlanError> {
    let wanted = match target.host() {
        Host::Ip(ip) => Target::Address(ip.to_canonical()),
        Host::Name(name) => Target::Hostname(name),
    };
    let query = Query::new(&source.workload, wanted, target.port(), random).hbone_port(hbone_port);
    let route = resolve(&mesh.snapshot, &query)?;
    let next = route.workload;
    let home = next
        .filter(|workload| route.via == Via::Direct && workload.application_tunnel.is_none())
        .and_then(|workload| mesh.resident(&workload.uid));
    let way = match (route.hop, home) {
        (
            Hop::Hbone(Tunnel {
                authority: Place::Address(addr),
                ..
            }),
            Some(resident),
        ) => Way::Home(Arc::clone(resident), addr),
        (Hop::Hbone(tunnel), _) => Way::Hbone(Stretch::try_from(&tunnel)?),
        (Hop::DoubleHbone { outer, inner }, _) => Way::Double {
            outer: Stretch::try_from(&outer)?,
            servers: servers(inner.identity, inner.names)?,
        },
        (Hop::Plain { place }, _) => Way::Plain(place.try_into()?),
        _ => return Err(PlanError::Unsupported),
    };
    let id = match &way {
        Way::Hbone(_) | Way::Home(..) => next.map(|workload| workload.identity.spiffe_id().parse()).transpose()?,
        Way::Plain(_) | Way::Double { .. } => None,
    };
    let party = next.map(|workload| Party::from(&**workload)).unwrap_or_default();
    Ok(Plan {
        way,
        next: party.authenticated(id.as_ref()),
        service: route.service.map(|service| ServiceName::from(&**service)),
    })
}

impl Way {
    /// Where to connect first.
    pub(super) fn next_hop(&self) -> String {
        match self {
            Self::Plain(spot) => spot.to_string(),
            Self::Home(_, addr) => addr.to_string(),
            Self::Hbone(stretch) | Self::Double { outer: stretch, .. } => stretch.peer.to_string(),
        }
    }

    /// What a tunnel is asked for.
    pub(super) fn authority(&self) -> Option<&Authority> {
        match self {
            Self::Plain(_) | Self::Home(..) => None,
            Self::Hbone(stretch) | Self::Double { outer: stretch, .. } => Some(&stretch.authority),
        }
    }
}

/// Why a connection is not to be made.
#[derive(Debug, thiserror::Error)]
pub(super) enum PlanError {
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    #[error(transparent)]
    Stretch(#[from] StretchError),
    #[error("destination: {0}")]
    Identity(#[from] SpiffeIdError),
    #[error("the mesh wants a way that is not known here")]
    Unsupported,
}
