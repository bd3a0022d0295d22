//! A tunnel to be made.

use std::fmt;
use std::net::SocketAddr;

use hbone::Authority;
use mesh_identity::PeerPolicy;

/// Where it begins, what for, and who has to answer.
#[derive(Debug)]
pub(crate) struct Stretch {
    pub(crate) peer: Spot,
    pub(crate) authority: Authority,
    pub(crate) servers: PeerPolicy,
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
