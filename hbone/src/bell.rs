//! How a connection's driver is called, and by whom.

use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Wake, Waker};

/// Wakes a driver, at most once until it has looked, and not at all while it is at work.
#[derive(Debug)]
pub(crate) struct Bell(Mutex<Calls>);

#[derive(Debug)]
struct Calls {
    /// Tunnels that need the driver.
    tunnels: Vec<usize>,
    /// There is mail.
    mail: bool,
    /// The engine was woken since it was last polled, or never was.
    engine: bool,
    /// The driver is at work and will look here before it sleeps.
    awake: bool,
    driver: Option<Waker>,
}

impl Default for Bell {
    fn default() -> Self {
        Self(Mutex::new(Calls {
            tunnels: Vec::new(),
            mail: false,
            engine: true,
            awake: false,
            driver: None,
        }))
    }
}

impl Calls {
    fn answer(&mut self, tunnels: &mut Vec<usize>) -> bool {
        if !self.tunnels.is_empty() {
            tunnels.append(&mut self.tunnels);
        }
        mem::take(&mut self.mail)
    }
}

impl Bell {
    /// A tunnel needs the driver.
    pub(crate) fn tunnel(&self, key: usize) {
        self.ring(|calls| calls.tunnels.push(key));
    }

    /// There is mail for the driver.
    pub(crate) fn mail(&self) {
        self.ring(|calls| calls.mail = true);
    }

    /// The driver begins a turn: adds the tunnels that need it to `tunnels`, and answers whether
    /// there is mail.
    pub(crate) fn begin_turn(&self, cx: &Context<'_>, tunnels: &mut Vec<usize>) -> bool {
        let mut calls = self.lock();
        calls.awake = true;
        match &mut calls.driver {
            Some(driver) => driver.clone_from(cx.waker()),
            driver => *driver = Some(cx.waker().clone()),
        }
        calls.answer(tunnels)
    }

    /// The engine is about to be polled; answers whether it was called since it was last.
    pub(crate) fn begin_poll(&self) -> bool {
        mem::take(&mut self.lock().engine)
    }

    /// The engine is to be polled again; the driver, who is at work, calls itself.
    pub(crate) fn engine(&self) {
        self.ring(|calls| calls.engine = true);
    }

    /// Ends a turn, unless it has `more` to do or somebody called meanwhile: as
    /// [`begin_turn`](Self::begin_turn), or `None` if it ended.
    pub(crate) fn end_turn(&self, more: bool, tunnels: &mut Vec<usize>) -> Option<bool> {
        let mut calls = self.lock();
        calls.awake = more || calls.engine || calls.mail || !calls.tunnels.is_empty();
        calls.awake.then(|| calls.answer(tunnels))
    }

    fn ring(&self, call: impl FnOnce(&mut Calls)) {
        let mut calls = self.lock();
        call(&mut calls);
        let driver = if mem::replace(&mut calls.awake, true) {
            None
        } else {
            calls.driver.clone()
        };
        drop(calls);
        if let Some(driver) = driver {
            driver.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Calls> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The engine's waker.
impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.engine();
    }
}
