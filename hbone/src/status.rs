//! How a connection is, for those who open tunnels on it.

/// How a client's connection is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// Tunnels that are open or being opened.
    pub tunnels: usize,
    /// Tunnels that may be open at a time: the lower of the configured limit and the peer's.
    pub limit: usize,
    /// Whether new tunnels can be opened; `false` for good once the connection drains or ends.
    pub accepting: bool,
}
