//! A tunnel to be made.

use std::fmt;
use std::net::SocketAddr;

use hbone::{Authority, AuthorityError};
use mesh_identity::{PeerPolicy, SpiffeIdError};
use mesh_xds::resolve::{Place, Tunnel};
use mesh_xds::store::Identity;

/// Where it begins, what for, and who has to answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Stretch {
    pub(crate) peer: Spot,
    pub(crate) authority: Authority,
    pub(crate) servers: PeerPolicy,
}

impl TryFrom<&Tunnel<'_>> for Stretch {
    type Error = StretchError;

    fn try_from(tunnel: &Tunnel<'_>) -> Result<Self, StretchError> {
        Ok(Self {
            peer: tunnel.peer.try_into()?,
            authority: match tunnel.authority {
                Place::Address(addr) => addr.try_into()?,
                Place::Hostname(name, port) => Authority::new(name, port)?,
                _ => return Err(StretchError::Unsupported),
            },
            servers: servers(tunnel.expected.identity, tunnel.expected.names)?,
        })
    }
}

/// Who may answer: a workload, and who else its service names. Names that are no SPIFFE IDs let nobody
/// answer.
pub(crate) fn servers(identity: &Identity, names: &[Box<str>]) -> Result<PeerPolicy, SpiffeIdError> {
    let identity = identity.spiffe_id().parse()?;
    let names = names.iter().filter_map(|name| name.parse().ok());
    Ok(PeerPolicy::one_of(names.chain([identity])))
}

/// Where to connect.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Spot {
    Addr(SocketAddr),
    Name(String, u16),
}

impl fmt::Display for Spot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Addr(addr) => write!(f, "{addr}"),
            Self::Name(name, port) => write!(f, "{name}:{port}"),
        }
    }
}

impl TryFrom<Place<'_>> for Spot {
    type Error = StretchError;

    fn try_from(place: Place<'_>) -> Result<Self, StretchError> {
        match place {
            Place::Address(addr) => Ok(Self::Addr(addr)),
            Place::Hostname(name, port) => Ok(Self::Name(name.to_owned(), port)),
            _ => Err(StretchError::Unsupported),
        }
    }
}

/// Why a tunnel cannot be made as the mesh says.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StretchError {
    #[error("destination: {0}")]
    Authority(#[from] AuthorityError),
    #[error("destination: {0}")]
    Identity(#[from] SpiffeIdError),
    #[error("the mesh wants a way that is not known here")]
    Unsupported,
}
