//! Bounds and times of a pool.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::observe::{Event, Observer};
use crate::timers::Timers;

/// The longest of all times, so that an instant and a time always make an instant.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// The shortest time between a failure and the next dial: a peer that fails at once must not
/// keep the pool busy.
const SHORTEST_BACKOFF: Duration = Duration::from_millis(10);

/// Bounds and times of a [`Pool`](super::Pool). No time is longer than ten years.
///
/// ```
/// use std::time::Duration;
///
/// let mut config = hbone::PoolConfig::default();
/// config.set_max_connections(200).set_idle_timeout(Duration::from_secs(60));
/// ```
#[derive(Clone)]
pub struct PoolConfig {
    pub(super) max_connections: usize,
    pub(super) max_connections_per_key: usize,
    pub(super) max_waiters_per_key: usize,
    pub(super) spread_above: usize,
    pub(super) tries: u32,
    pub(super) idle_timeout: Duration,
    pub(super) max_age: Option<Duration>,
    pub(super) first_backoff: Duration,
    pub(super) max_backoff: Duration,
    pub(super) acquire_timeout: Duration,
    pub(super) dial_timeout: Duration,
    pub(super) timers: Timers,
    observer: Option<Arc<dyn Observer>>,
}

impl Default for PoolConfig {
    fn default() -> Self {
        Self {
            max_connections: 1024,
            max_connections_per_key: 64,
            max_waiters_per_key: 4096,
            spread_above: 64,
            tries: 3,
            idle_timeout: Duration::from_secs(5 * 60),
            max_age: Some(Duration::from_secs(60 * 60)),
            first_backoff: Duration::from_millis(250),
            max_backoff: Duration::from_secs(10),
            acquire_timeout: Duration::from_secs(15),
            dial_timeout: Duration::from_secs(10),
            timers: Timers::default(),
            observer: None,
        }
    }
}

impl PoolConfig {
    /// Connections of all keys together, with those that are being dialled or wait for their last
    /// tunnel. Default 1024; at least 1.
    ///
    /// At the bound a dial takes the place of the connection that was idle for the longest time,
    /// and waits if none is.
    pub fn set_max_connections(&mut self, connections: usize) -> &mut Self {
        self.max_connections = connections.max(1);
        self
    }

    /// Connections of one key that take new tunnels. Default 64; at least 1.
    pub fn set_max_connections_per_key(&mut self, connections: usize) -> &mut Self {
        self.max_connections_per_key = connections.max(1);
        self
    }

    /// Calls that may wait for a connection of one key; one more fails at once. Default
    /// 4096; at least 1.
    pub fn set_max_waiters_per_key(&mut self, waiters: usize) -> &mut Self {
        self.max_waiters_per_key = waiters.max(1);
        self
    }

    /// Tunnels that the least loaded connection of a key may carry before a further connection is
    /// dialled, though there is room. Default 64; at least 1.
    ///
    /// One task, and so one core, works for a connection at a time, and a segment that the network
    /// loses delays all of its tunnels. A lower number spends handshakes on more connections; with
    /// `usize::MAX` there is another only when the others are full.
    pub fn set_spread_above(&mut self, tunnels: usize) -> &mut Self {
        self.spread_above = tunnels.max(1);
        self
    }

    /// What evictions wait with. Default: the timers of the runtime that the pool was made in.
    pub fn set_timers(&mut self, timers: Timers) -> &mut Self {
        self.timers = timers;
        self
    }

    /// Connections on which one tunnel is tried, if its request was provably not processed on
    /// those before. Default 3; at least 1.
    pub fn set_tries(&mut self, tries: u32) -> &mut Self {
        self.tries = tries.max(1);
        self
    }

    /// Time without a tunnel after which a connection is closed. Default 5 min.
    pub fn set_idle_timeout(&mut self, timeout: Duration) -> &mut Self {
        self.idle_timeout = timeout.min(LONGEST);
        self
    }

    /// Age at which a connection takes no more tunnels; it ends with its last. Each connection
    /// lives for this long or up to an eighth less, so that those that were made together do not
    /// end together. `None` is forever. Default 1 h.
    ///
    /// New connections are made with the certificates of their time, so this also bounds for how
    /// long new tunnels are opened under an old one.
    pub fn set_max_age(&mut self, age: Option<Duration>) -> &mut Self {
        self.max_age = age.map(|age| age.min(LONGEST));
        self
    }

    /// Time without a new dial of a key after a dial failed. It doubles with each failure in a
    /// row, from `first` to `max`, and half of it is random. Default 250 ms to 10 s; at least
    /// 10 ms.
    ///
    /// A connection that the peer ends before it has answered a request on it counts as a failed
    /// dial, except for the first in a row: a peer may be on the point of leaving.
    pub fn set_backoff(&mut self, first: Duration, max: Duration) -> &mut Self {
        self.first_backoff = first.clamp(SHORTEST_BACKOFF, LONGEST);
        self.max_backoff = max.clamp(self.first_backoff, LONGEST);
        self
    }

    /// Time that opening a tunnel may wait for connections, over all tries. Default 15 s.
    ///
    /// The peer's response has a time of its own
    /// ([`Config::set_response_timeout`](crate::Config::set_response_timeout)).
    pub fn set_acquire_timeout(&mut self, timeout: Duration) -> &mut Self {
        self.acquire_timeout = timeout.min(LONGEST);
        self
    }

    /// Time for a whole dial, whatever the connector's own limits are. Default 10 s.
    pub fn set_dial_timeout(&mut self, timeout: Duration) -> &mut Self {
        self.dial_timeout = timeout.min(LONGEST);
        self
    }

    /// Who is told what the pool does. Default: nobody.
    pub fn set_observer(&mut self, observer: Arc<dyn Observer>) -> &mut Self {
        self.observer = Some(observer);
        self
    }

    pub(super) fn observe(&self, event: &Event) {
        if let Some(observer) = &self.observer {
            observer.event(event);
        }
    }
}

impl fmt::Debug for PoolConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolConfig")
            .field("max_connections", &self.max_connections)
            .field("max_connections_per_key", &self.max_connections_per_key)
            .field("max_waiters_per_key", &self.max_waiters_per_key)
            .field("spread_above", &self.spread_above)
            .field("tries", &self.tries)
            .field("idle_timeout", &self.idle_timeout)
            .field("max_age", &self.max_age)
            .field("first_backoff", &self.first_backoff)
            .field("max_backoff", &self.max_backoff)
            .field("acquire_timeout", &self.acquire_timeout)
            .field("dial_timeout", &self.dial_timeout)
            .finish_non_exhaustive()
    }
}
