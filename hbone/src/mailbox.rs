//! What the handles of a connection have for its driver.

use std::collections::VecDeque;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::bell::Bell;
use crate::slot::Slot;
use crate::tunnel::Tunnel;

/// Tunnels to open, and orders to end.
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    bell: Arc<Bell>,
    mail: Mutex<Mail>,
}

#[derive(Debug, Default)]
struct Mail {
    opens: VecDeque<Open>,
    orders: Orders,
    /// The driver is gone: nothing put here is ever seen.
    closed: bool,
}

/// A tunnel to open.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) tunnel: Arc<Tunnel>,
    pub(crate) head: http::Request<()>,
    /// The place that a pool keeps for it. Without one it may wait for a place.
    pub(crate) slot: Option<Slot>,
}

/// How a connection is to end.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Orders {
    /// Take nothing new, and reset what is still open after this long.
    pub(crate) drain: Option<Duration>,
    /// No handle is left that could open a tunnel.
    pub(crate) abandoned: bool,
}

impl Mailbox {
    /// Calls the driver.
    pub(crate) fn bell(&self) -> &Arc<Bell> {
        &self.bell
    }

    /// A tunnel is to be opened; answers whether the driver is there to do it.
    pub(crate) fn open(&self, open: Open) -> bool {
        let mut mail = self.lock();
        if mail.closed {
            return false;
        }
        mail.opens.push_back(open);
        drop(mail);
        self.bell.mail();
        true
    }

    /// Changes the orders.
    pub(crate) fn order(&self, change: impl FnOnce(&mut Orders)) {
        change(&mut self.lock().orders);
        self.bell.mail();
    }

    /// Takes what has come in.
    pub(crate) fn collect(&self, opens: &mut VecDeque<Open>) -> Orders {
        let mut mail = self.lock();
        opens.append(&mut mail.opens);
        mail.orders
    }

    /// The driver will not look again. Gives back the tunnels that nobody opened.
    pub(crate) fn close(&self) -> VecDeque<Open> {
        let mut mail = self.lock();
        mail.closed = true;
        mem::take(&mut mail.opens)
    }

    fn lock(&self) -> MutexGuard<'_, Mail> {
        self.mail.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
