//! A place that is kept on a connection for one tunnel.

use std::fmt;
use std::sync::Weak;

/// Whoever counts the places of connections.
pub(crate) trait Places: Send + Sync {
    /// The place `id` is free.
    fn release(&self, id: ConnId);
}

/// A connection, as whoever counts its places knows it. The serial number tells it from an
/// earlier one in the same place of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ConnId {
    pub(crate) index: usize,
    pub(crate) serial: u64,
}

/// A place on a connection, given back when this is dropped: with the tunnel's stream, or before
/// if none was opened.
pub(crate) struct Slot {
    owner: Weak<dyn Places>,
    id: ConnId,
}

impl Slot {
    pub(crate) fn new(owner: Weak<dyn Places>, id: ConnId) -> Self {
        Self { owner, id }
    }

    pub(crate) fn id(&self) -> ConnId {
        self.id
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(owner) = self.owner.upgrade() {
            owner.release(self.id);
        }
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Slot").field(&self.id).finish()
    }
}
