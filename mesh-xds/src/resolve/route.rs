use std::net::SocketAddr;
use std::sync::Arc;

use crate::store::{Identity, Service, Workload};

/// Where a connection goes.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Route<'a> {
    /// The service that was addressed.
    pub service: Option<&'a Arc<Service>>,
    /// Who gets the connection next: a workload of the service or the one addressed, or that of its
    /// waypoint. `None` if nobody knows.
    pub workload: Option<&'a Arc<Workload>>,
    /// How it gets there.
    pub hop: Hop<'a>,
    /// What the hop leads to.
    pub via: Via,
}

/// What a hop leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Via {
    /// The destination itself.
    Direct,
    /// A waypoint, which knows what comes after it.
    Waypoint,
}

/// How a connection gets to whom it goes next.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Hop<'a> {
    /// As it came.
    Plain {
        /// Where to connect.
        place: Place<'a>,
    },
    /// By a tunnel.
    Hbone(Tunnel<'a>),
    /// By a tunnel within a tunnel, through a network's gateway.
    DoubleHbone {
        /// The tunnel to the gateway.
        outer: Tunnel<'a>,
        /// Who has to answer the tunnel within it. Its authority is that of the outer one.
        inner: Expected<'a>,
    },
}

/// A tunnel to be made.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Tunnel<'a> {
    /// Where to connect.
    pub peer: Place<'a>,
    /// What to ask for.
    pub authority: Place<'a>,
    /// Who has to answer.
    pub expected: Expected<'a>,
}

/// A host and a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Place<'a> {
    /// An address.
    Address(SocketAddr),
    /// A hostname. To connect there it has to be resolved; in an authority it stays.
    Hostname(&'a str, u16),
}

/// Who may answer.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Expected<'a> {
    /// The identity of the workload.
    pub identity: &'a Identity,
    /// Names that the service may go by, besides.
    pub names: &'a [Box<str>],
}
