//! A pool's state under its lock, and the carrying out of what it decides.

use std::hash::{BuildHasher, RandomState};
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, oneshot};

use super::action::{Acquired, Action, Place, Refusal};
use super::config::PoolConfig;
use super::connect::{Connect, DialFailure, Key};
use super::group::{GroupId, WaiterId};
use super::state::State;
use super::stats::PoolStats;
use crate::client::Client;
use crate::slot::{ConnId, Places, Slot};

/// Time that a connection without tunnels has to end in order.
const CLOSE_GRACE: Duration = Duration::from_secs(1);

/// Why a dial failed, for all that waited for it.
pub(super) type Failure<K, C> = Arc<DialFailure<<C as Connect<K>>::Error>>;

/// The answer to a waiting call.
pub(super) type Answer<K, C> = Result<Lease, Refusal<Failure<K, C>>>;

/// The answer to a call: it is there, or will come.
pub(super) enum Asked<K: Key, C: Connect<K>> {
    Answered(Answer<K, C>),
    Waiting(WaiterId, oneshot::Receiver<Answer<K, C>>),
}

/// A place on a connection, for one tunnel.
#[derive(Debug)]
pub(super) struct Lease {
    pub(super) client: Client,
    pub(super) slot: Slot,
    /// The connection has carried a tunnel before.
    pub(super) proven: bool,
}

/// What the clones of a pool and its tasks share.
pub(super) struct Shared<K: Key, C: Connect<K>> {
    me: Weak<Self>,
    pub(super) connector: C,
    pub(super) config: PoolConfig,
    state: Mutex<PoolState<K, C>>,
    /// Dials for the worker to start.
    dials: Mutex<Vec<(GroupId, Arc<K>)>>,
    /// There are dials to start, or something is due earlier than the worker knows.
    poke: Notify,
    /// A connection has ended.
    ended: Notify,
}

type PoolState<K, C> = State<K, Client, oneshot::Sender<Answer<K, C>>, Failure<K, C>>;

impl<K: Key, C: Connect<K>> Shared<K, C> {
    pub(super) fn new(config: PoolConfig, connector: C) -> Arc<Self> {
        let seed = RandomState::new().hash_one(());
        Arc::new_cyclic(|me| Self {
            me: Weak::clone(me),
            connector,
            state: Mutex::new(State::new(config.clone(), seed)),
            config,
            dials: Mutex::default(),
            poke: Notify::new(),
            ended: Notify::new(),
        })
    }

    pub(super) fn acquire(&self, key: &K, avoid: &[ConnId]) -> Asked<K, C> {
        let mut answer = None;
        let acquired = self.decide(|state, now| {
            let call = || {
                let (call, receiver) = oneshot::channel();
                answer = Some(receiver);
                call
            };
            state.acquire(key, avoid, call, now)
        });
        match (acquired, answer) {
            (Acquired::Ready(place), _) => Asked::Answered(Ok(self.lease(place))),
            (Acquired::Refused(refusal), _) => Asked::Answered(Err(refusal)),
            (Acquired::Waiting(waiter), Some(answer)) => Asked::Waiting(waiter, answer),
            (Acquired::Waiting(_), None) => Asked::Answered(Err(Refusal::Closed)),
        }
    }

    pub(super) fn cancel(&self, waiter: WaiterId) {
        // What stood for the call is dropped outside the lock.
        drop(self.decide(|state, _| state.cancel(waiter)));
    }

    pub(super) fn connected(&self, group: GroupId, client: Client) -> ConnId {
        let limit = client.status().limit;
        self.decide(|state, now| state.connected(group, client, limit, now))
    }

    pub(super) fn dial_failed(&self, group: GroupId, failure: DialFailure<C::Error>) {
        tracing::debug!(error = %failure, "dial failed");
        let failure = Arc::new(failure);
        self.decide(|state, now| state.dial_failed(group, failure, now));
    }

    /// A request was answered on a connection.
    pub(super) fn proven(&self, conn: ConnId) {
        self.decide(|state, now| state.proven(conn, now));
    }

    /// The status of a connection may have changed.
    pub(super) fn refresh(&self, conn: ConnId) {
        self.decide(|state, now| Self::heed_status(state, conn, now));
    }

    pub(super) fn ended(&self, conn: ConnId) {
        self.decide(|state, now| state.ended(conn, Arc::new(DialFailure::Unused), now));
        self.ended.notify_waiters();
    }

    pub(super) fn tick(&self) {
        self.decide(State::tick);
    }

    /// Waits until there is something for the worker, which [`tick`](Self::tick)s at the instant
    /// of [`wake_at`](Self::wake_at) at the latest.
    pub(super) async fn poked(&self) {
        self.poke.notified().await;
    }

    pub(super) fn wake_at(&self) -> Option<Instant> {
        self.lock().wake_at()
    }

    pub(super) fn take_dials(&self) -> Vec<(GroupId, Arc<K>)> {
        mem::take(&mut self.dials.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes no more calls, and gives the tunnels that are open `timeout` to end.
    pub(super) fn close(&self, timeout: Duration) {
        for client in self.decide(|state, _| state.close()) {
            client.drain_within(timeout);
        }
    }

    /// Waits until there is no connection.
    pub(super) async fn emptied(&self) {
        loop {
            let ended = self.ended.notified();
            if self.stats().connections == 0 {
                return;
            }
            ended.await;
        }
    }

    pub(super) fn stats(&self) -> PoolStats {
        self.lock().stats()
    }

    /// Has the state decide, and does what it decided once the lock is free.
    fn decide<T>(&self, event: impl FnOnce(&mut PoolState<K, C>, Instant) -> T) -> T {
        let now = clock();
        let mut state = self.lock();
        let decision = event(&mut state, now);
        let actions = state.take_actions();
        drop(state);
        let mut events = Vec::new();
        for action in actions {
            match action {
                Action::Dial { group, key } => {
                    let mut dials = self.dials.lock().unwrap_or_else(PoisonError::into_inner);
                    dials.push((group, key));
                    drop(dials);
                    self.poke.notify_one();
                }
                Action::Grant { call, place } => {
                    // A call that is gone has its place given back by the drop.
                    drop(call.send(Ok(self.lease(place))));
                }
                Action::Fail { call, refusal } => drop(call.send(Err(refusal))),
                Action::Close(client) => client.drain_within(CLOSE_GRACE),
                Action::Observe(event) => events.push(event),
                Action::Rearm => self.poke.notify_one(),
            }
        }
        // Last, so that an observer that panics keeps nobody waiting.
        events.iter().for_each(|event| self.config.observe(event));
        decision
    }

    fn lease(&self, place: Place<Client>) -> Lease {
        let owner: Weak<Self> = Weak::clone(&self.me);
        Lease {
            client: place.handle,
            slot: Slot::new(owner, place.conn),
            proven: place.proven,
        }
    }

    fn heed_status(state: &mut PoolState<K, C>, conn: ConnId, now: Instant) {
        let Some(status) = state.handle(conn).map(Client::status) else {
            return;
        };
        if status.accepting {
            return state.limited(conn, status.limit, now);
        }
        state.gone(conn, Arc::new(DialFailure::Unused), now);
    }

    fn lock(&self) -> MutexGuard<'_, PoolState<K, C>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Key, C: Connect<K>> Places for Shared<K, C> {
    fn release(&self, conn: ConnId) {
        self.decide(|state, now| {
            // The driver gives places back before it tells of a connection's end, and nobody is
            // to be sent to a connection that ends.
            Self::heed_status(state, conn, now);
            state.release(conn, now);
        });
    }
}

fn clock() -> Instant {
    tokio::time::Instant::now().into_std()
}
