//! What handles and driver share.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::{Notify, watch};

use super::{
    call::CaError,
    schedule::{Limits, Number, Priority, Schedule, Step},
};
use crate::{spiffe_id::SpiffeId, svid::Svid};

/// How it stands with one identity.
#[derive(Clone, Default)]
pub(super) struct Standing {
    pub(super) svid: Option<Arc<Svid>>,
    /// How many calls have failed since the beginning, and how the last of them did.
    pub(super) failures: u64,
    pub(super) failure: Option<Arc<CaError>>,
}

pub(super) struct Desk {
    state: Mutex<State>,
    news: Notify,
    abandoned: AtomicBool,
}

struct State {
    schedule: Schedule,
    /// Empty once the driver is gone.
    standings: HashMap<Number, watch::Sender<Standing>>,
    ended: bool,
}

impl Desk {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            state: Mutex::new(State {
                schedule: Schedule::new(limits),
                standings: HashMap::new(),
                ended: false,
            }),
            news: Notify::new(),
            abandoned: AtomicBool::new(false),
        }
    }

    /// Somebody wants an identity.
    pub(super) fn want(
        &self,
        id: &SpiffeId,
        priority: Priority,
        now: Instant,
    ) -> Result<(Number, watch::Receiver<Standing>), Unwanted> {
        let mut state = self.state();
        if state.ended {
            return Err(Unwanted::Ended);
        }
        let number = state.schedule.want(id, priority, now).ok_or(Unwanted::TooMany)?;
        let standing = state.standings.entry(number).or_default().subscribe();
        drop(state);
        self.news.notify_one();
        Ok((number, standing))
    }

    pub(super) fn urge(&self, number: Number, now: Instant) {
        self.state().schedule.urge(number, Priority::RealTime, now);
        self.news.notify_one();
    }

    pub(super) fn release(&self, number: Number) {
        self.state().schedule.release(number);
        self.news.notify_one();
    }

    /// What to do now. A withdrawal is known to whoever waits by the time that this returns, and
    /// answered with whether the identity is still wanted.
    pub(super) fn next(&self, now: Instant) -> (Step, bool) {
        let mut state = self.state();
        let step = state.schedule.next(now);
        let mut wanted = true;
        if let Step::Withdraw(number) = step {
            wanted = state.schedule.knows(number);
            if wanted {
                state.tell(number, |standing| standing.svid = None);
            } else {
                state.standings.remove(&number);
            }
        }
        (step, wanted)
    }

    /// So much time has passed that `now` does not show.
    pub(super) fn skip(&self, span: Duration, now: Instant) {
        self.state().schedule.skip(span, now);
    }

    /// Settles a call by `settle`, which answers whether the identity is still wanted, and lets
    /// whoever waits know.
    pub(super) fn settle(
        &self,
        number: Number,
        settle: impl FnOnce(&mut Schedule) -> bool,
        tell: impl FnOnce(&mut Standing),
    ) -> bool {
        let mut state = self.state();
        let wanted = settle(&mut state.schedule);
        if wanted {
            state.tell(number, tell);
        }
        wanted
    }

    /// Waits until a handle has done something.
    pub(super) async fn news(&self) {
        self.news.notified().await;
    }

    pub(super) fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Acquire)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn tell(&mut self, number: Number, tell: impl FnOnce(&mut Standing)) {
        if let Some(standing) = self.standings.get(&number) {
            standing.send_modify(tell);
        }
    }
}

/// Why an identity cannot be wanted.
pub(super) enum Unwanted {
    TooMany,
    Ended,
}

/// All handles together: the last to go abandons the desk.
pub(super) struct Visitors(pub(super) Arc<Desk>);

impl Drop for Visitors {
    fn drop(&mut self) {
        self.0.abandoned.store(true, Ordering::Release);
        self.0.news.notify_one();
    }
}

/// The driver: with it goes every hope of a certificate.
pub(super) struct Attendant(pub(super) Arc<Desk>);

impl Drop for Attendant {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.ended = true;
        state.standings.clear();
    }
}
