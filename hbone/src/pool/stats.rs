//! What a pool counts.

/// What a pool has done since it was made, and what it holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolStats {
    /// Places on a connection that were there when they were asked for.
    pub hits: u64,
    /// Places that had to be waited for.
    pub waits: u64,
    /// Waits that were given up: the acquire timeout passed, or the call was dropped.
    pub waits_given_up: u64,
    /// Calls that failed at once since the key's dials had just failed.
    pub held_off: u64,
    /// Calls that failed at once since too many waited.
    pub crowded_out: u64,
    /// Tunnels tried again on another connection.
    pub retries: u64,
    /// Dials started.
    pub dials: u64,
    /// Dials that failed.
    pub dial_failures: u64,
    /// Connections closed because they were idle.
    pub evicted_idle: u64,
    /// Connections taken out of use because of their age.
    pub evicted_aged: u64,
    /// Idle connections closed to make room for another key's.
    pub evicted_for_room: u64,
    /// Connections that the peer ended, or that were lost, while they were in use.
    pub lost: u64,
    /// Keys that are known, for their connections, waiters or failures.
    pub keys: usize,
    /// Connections that are open, with those that only wait for their last tunnel.
    pub connections: usize,
    /// Dials under way.
    pub dialing: usize,
    /// Places taken: tunnels that are open or being opened.
    pub tunnels: usize,
    /// Calls that wait for a place.
    pub waiting: usize,
}
