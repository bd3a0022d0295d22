use std::net::SocketAddr;
use std::time::SystemTime;

use mesh_identity::SpiffeId;

/// What is told about a request beside its head.
#[derive(Clone, Copy, Debug)]
pub(in crate::waypoint) struct About<'a> {
    /// Who sends it.
    pub(in crate::waypoint) source: End<'a>,
    /// Whom it was sent to, and who this proxy is.
    pub(in crate::waypoint) destination: End<'a>,
    /// `:authority`, or `host`.
    pub(in crate::waypoint) authority: &'a str,
    /// The request's ID.
    pub(in crate::waypoint) id: &'a str,
    /// When it came.
    pub(in crate::waypoint) time: SystemTime,
}

/// One end of a connection.
#[derive(Clone, Copy, Debug)]
pub(in crate::waypoint) struct End<'a> {
    /// Where it is.
    pub(in crate::waypoint) address: SocketAddr,
    /// Who it is, verified.
    pub(in crate::waypoint) identity: Option<&'a SpiffeId>,
}
