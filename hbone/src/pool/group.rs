//! What a pool's state holds: connections, and for each key a group.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use super::backoff::Backoff;
use crate::slot::ConnId;

/// A call that waits for a place. Serial numbers grow, so a group's waiters are in order of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct WaiterId {
    pub(super) group: GroupId,
    pub(super) serial: u64,
}

/// A key's group. Stays what it is for as long as the group dials or has waiters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct GroupId(pub(super) usize);

/// What belongs to one key.
#[derive(Debug)]
pub(super) struct Group<K, W, E> {
    pub(super) key: Arc<K>,
    /// The connections that take new tunnels, the oldest first.
    pub(super) usable: Vec<ConnId>,
    pub(super) waiters: VecDeque<Waiter<W>>,
    /// A dial is under way.
    pub(super) dialing: bool,
    /// A dial waits for room in the pool.
    pub(super) blocked: bool,
    pub(super) backoff: Option<Backoff<E>>,
}

#[derive(Debug)]
pub(super) struct Waiter<W> {
    pub(super) serial: u64,
    pub(super) call: W,
    /// Connections that refused the tunnel before.
    pub(super) avoid: Vec<ConnId>,
}

impl<K, W, E> Group<K, W, E> {
    pub(super) fn new(key: Arc<K>) -> Self {
        Self {
            key,
            usable: Vec::new(),
            waiters: VecDeque::new(),
            dialing: false,
            blocked: false,
            backoff: None,
        }
    }

    /// Whether nothing but past failures is left of it.
    pub(super) fn is_deserted(&self) -> bool {
        self.usable.is_empty() && self.waiters.is_empty() && !self.dialing
    }
}

/// A connection.
#[derive(Debug)]
pub(super) struct Conn<H> {
    pub(super) serial: u64,
    /// Its key's group; valid while the connection is usable.
    pub(super) group: GroupId,
    pub(super) handle: H,
    pub(super) phase: Phase,
    /// Tunnels that may be open at a time.
    pub(super) limit: usize,
    /// Places taken.
    pub(super) tunnels: usize,
    /// Since when no place is taken, if none is.
    pub(super) idle_since: Instant,
    /// From when on it is too old.
    pub(super) expires_at: Option<Instant>,
    /// The peer has answered a request on it.
    pub(super) proven: bool,
}

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Takes new tunnels.
    Usable,
    /// Takes none, and carries some.
    Retired,
    /// Has been told to close.
    Closing,
    /// Is gone; places on it are still to be given back.
    Ended,
}

impl<H> Conn<H> {
    pub(super) fn has_room(&self) -> bool {
        self.tunnels < self.limit
    }

    pub(super) fn is_idle(&self) -> bool {
        self.phase == Phase::Usable && self.tunnels == 0
    }
}
