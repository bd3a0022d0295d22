//! The connections of a pool.

use std::time::Instant;

use slab::Slab;

use super::group::GroupId;
use crate::slot::ConnId;

/// All connections that have not ended, or of which places are taken.
#[derive(Debug)]
pub(super) struct Conns<H>(Slab<(u64, Conn<H>)>);

impl<H> Conns<H> {
    pub(super) fn new() -> Self {
        Self(Slab::new())
    }

    pub(super) fn insert(&mut self, serial: u64, conn: Conn<H>) -> ConnId {
        let index = self.0.insert((serial, conn));
        ConnId { index, serial }
    }

    pub(super) fn get(&self, id: ConnId) -> Option<&Conn<H>> {
        let (serial, conn) = self.0.get(id.index)?;
        (*serial == id.serial).then_some(conn)
    }

    pub(super) fn get_mut(&mut self, id: ConnId) -> Option<&mut Conn<H>> {
        let (serial, conn) = self.0.get_mut(id.index)?;
        (*serial == id.serial).then_some(conn)
    }

    pub(super) fn remove(&mut self, id: ConnId) {
        if self.get(id).is_some() {
            self.0.remove(id.index);
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (ConnId, &Conn<H>)> {
        self.0.iter().map(|(index, (serial, conn))| {
            let id = ConnId { index, serial: *serial };
            (id, conn)
        })
    }

    /// The connections that take new tunnels.
    pub(super) fn usable(&self) -> impl Iterator<Item = (ConnId, &Conn<H>)> {
        self.iter().filter(|(_, conn)| conn.phase == Phase::Usable)
    }
}

/// A connection.
#[derive(Debug)]
pub(super) struct Conn<H> {
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
