use std::{
    collections::HashMap,
    fmt,
    future::{Future, pending},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use rustls::{
    crypto::CryptoProvider,
    time_provider::{DefaultTimeProvider, TimeProvider},
};
use rustls_pki_types::UnixTime;
use tokio::{
    sync::{Notify, oneshot},
    task::yield_now,
};

use super::{
    closing::{ClosePolicy, CloseReason, Closing},
    judge::{Grounds, Rules},
    registry::{Key, Registry, ScopeKey},
};
use crate::{
    authorize::PeerPolicy,
    outside::reached,
    profile::Profile,
    source::{Follower, SourceEnded},
    spiffe_id::SpiffeId,
    verify::VerifiedPeer,
};

/// How much judging may cost, in signatures, before others may use the thread and the lock: a few
/// milliseconds.
const BATCH: usize = 32;

/// The open connections of a process. Cloning is cheap.
#[derive(Clone)]
pub struct Live {
    shared: Arc<Shared>,
}

/// Sets up a [`Live`].
#[derive(Debug)]
pub struct LiveBuilder {
    follower: Follower,
    provider: Arc<CryptoProvider>,
    profile: Profile,
    policy: ClosePolicy,
    clock: Arc<dyn TimeProvider>,
}

struct Shared {
    state: Mutex<State>,
    follower: Follower,
    policy: ClosePolicy,
    clock: Arc<dyn TimeProvider>,
    /// Calls the driver to connections that were made suspect, or that expire sooner than others.
    bell: Notify,
}

struct State {
    registry: Registry,
    waiting: HashMap<Key, oneshot::Sender<Closing>>,
    /// Whether the driver will judge nobody any more.
    is_unattended: bool,
}

/// Goes with the driver, whether that was polled or not, and ends what it watched over.
struct Watch {
    shared: Arc<Shared>,
}

impl Live {
    /// Starts with the source that says whom to trust, and the cryptography to verify peers anew.
    pub fn builder(follower: Follower, provider: Arc<CryptoProvider>) -> LiveBuilder {
        LiveBuilder {
            follower,
            provider,
            profile: Profile::default(),
            policy: ClosePolicy::default(),
            clock: Arc::new(DefaultTimeProvider),
        }
    }

    /// A scope for connections that are admitted by one policy, such as those of a listener.
    pub fn scope(&self, policy: PeerPolicy) -> Scope {
        Scope {
            key: self.shared.state().registry.open_scope(policy),
            shared: Arc::clone(&self.shared),
        }
    }

    /// How many connections are registered.
    pub fn connections(&self) -> usize {
        self.shared.state().registry.len()
    }
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Live")
            .field("connections", &self.connections())
            .finish_non_exhaustive()
    }
}

impl LiveBuilder {
    /// Verifies peers anew under this profile: the one that their handshakes used. The default is
    /// [`Profile::istio`].
    #[must_use]
    pub fn profile(self, profile: Profile) -> Self {
        Self { profile, ..self }
    }

    /// Closes connections in this manner. The default is [`ClosePolicy::default`].
    #[must_use]
    pub fn close_policy(self, policy: ClosePolicy) -> Self {
        Self { policy, ..self }
    }

    /// Judges the validity of certificates by this clock. The default is the system's.
    #[must_use]
    pub fn clock(self, clock: Arc<dyn TimeProvider>) -> Self {
        Self { clock, ..self }
    }

    /// The connections, none so far, and the future that has to be polled for any to be closed. It
    /// never completes, and may be dropped with the last connection.
    ///
    /// Without it nobody would notice that trust in a peer has ended. So if it is dropped before
    /// that, or the task that polls it panics, connections that are still open are to be closed,
    /// and no others are admitted: [`CloseReason::Unattended`].
    ///
    /// When the source ends, what it last published stays in force.
    #[must_use = "nothing is closed unless the future is polled"]
    pub fn build(self) -> (Live, impl Future<Output = ()> + Send + 'static) {
        let rules = Rules {
            profile: self.profile,
            algorithms: self.provider.signature_verification_algorithms,
            closing: self.policy,
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                registry: Registry::new(rules, self.follower.snapshot()),
                waiting: HashMap::new(),
                is_unattended: false,
            }),
            follower: self.follower.clone(),
            policy: self.policy,
            clock: self.clock,
            bell: Notify::new(),
        });
        let live = Live {
            shared: Arc::clone(&shared),
        };
        (live, drive(Watch { shared }, self.follower))
    }
}

/// Connections that are admitted by one policy.
///
/// Dropping it closes nothing: its connections keep its last policy.
pub struct Scope {
    key: ScopeKey,
    shared: Arc<Shared>,
}

impl Scope {
    /// Takes in a connection whose handshake is complete: this side presented `local`, and verified
    /// `peer`.
    ///
    /// Register before the connection is used, and keep the guard as long as it is open.
    ///
    /// # Errors
    ///
    /// Why the connection is not to be used: what the source has published by now, or this scope's
    /// policy, does not admit it any more. With a clock that cannot be read, every peer has expired.
    pub fn register(&self, local: &SpiffeId, peer: VerifiedPeer) -> Result<Guard, CloseReason> {
        let now = self.shared.clock.current_time().ok_or(CloseReason::Expired)?;
        let (sender, receiver) = oneshot::channel();
        let mut grounds = Grounds::new(local.clone(), peer);
        // Verifying may take milliseconds, which others need not wait for.
        let terms = self.shared.attended()?.registry.terms(self.key)?;
        let mut judged = terms.judge(&mut grounds, now);
        let mut state = self.shared.attended()?;
        let latest = state.registry.terms(self.key)?;
        if !latest.are(&terms) {
            judged = latest.judge(&mut grounds, now);
        }
        judged?;
        let before = state.registry.next_deadline();
        let key = state.registry.admit(self.key, grounds);
        state.waiting.insert(key, sender);
        let is_sooner = state.registry.next_deadline() != before;
        drop(state);
        if is_sooner {
            self.shared.bell.notify_one();
        }
        Ok(Guard {
            key,
            shared: Arc::clone(&self.shared),
            closing: receiver,
            closed: None,
        })
    }

    /// Admits by this policy from now on. Connections whose peers it does not permit are closed.
    pub fn set_policy(&self, policy: PeerPolicy) {
        self.shared.state().registry.set_policy(self.key, policy);
        self.shared.bell.notify_one();
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        self.shared.state().registry.close_scope(self.key);
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope").finish_non_exhaustive()
    }
}

/// One registered connection. Dropping it ends the registration, and is to be done with the end of
/// the connection.
pub struct Guard {
    key: Key,
    shared: Arc<Shared>,
    closing: oneshot::Receiver<Closing>,
    closed: Option<Closing>,
}

impl Guard {
    /// Waits until the connection is to be closed, and says why and how. From then on the answer is
    /// there at once.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
    pub async fn closed(&mut self) -> Closing {
        if let Some(closed) = self.closed {
            return closed;
        }
        match (&mut self.closing).await {
            Ok(closing) => *self.closed.insert(closing),
            // The sender waits where this guard's key is held, and goes by sending.
            Err(_) => pending().await,
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.registry.remove(self.key);
        state.waiting.remove(&self.key);
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard")
            .field("closed", &self.closed)
            .finish_non_exhaustive()
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| {
            // Whoever panicked may have left indexes that do not fit their connections.
            let mut state = poisoned.into_inner();
            self.abandon(&mut state);
            state
        })
    }

    /// The state with what was published last, for connections that somebody watches over.
    fn attended(&self) -> Result<MutexGuard<'_, State>, CloseReason> {
        let mut state = self.state();
        if state.is_unattended {
            return Err(CloseReason::Unattended);
        }
        self.catch_up(&mut state);
        Ok(state)
    }

    /// Has every connection closed, and admits no other.
    fn abandon(&self, state: &mut State) {
        state.is_unattended = true;
        let closing = self.policy.closing(CloseReason::Unattended);
        for (key, sender) in std::mem::take(&mut state.waiting) {
            state.registry.remove(key);
            // Fails if the guard is being dropped, which then has no use for it.
            sender.send(closing).unwrap_or_default();
        }
    }

    /// Has what was published last count.
    fn catch_up(&self, state: &mut State) {
        let snapshot = self.follower.snapshot();
        if !Arc::ptr_eq(&snapshot, state.registry.snapshot()) {
            state.registry.apply(snapshot);
        }
    }

    /// Judges some suspects; whether there are more.
    fn judge(&self, now: UnixTime) -> bool {
        let mut state = self.state();
        self.catch_up(&mut state);
        for (key, reason) in state.registry.judge(now, BATCH) {
            if let Some(sender) = state.waiting.remove(&key) {
                // Fails if the guard is being dropped, which then has no use for it.
                sender.send(self.policy.closing(reason)).unwrap_or_default();
            }
        }
        state.registry.has_suspects()
    }

    /// The first second in which a connection has expired.
    fn next_expiry(&self) -> Option<UnixTime> {
        let deadline = self.state().registry.next_deadline()?;
        let after = Duration::from_secs(deadline.as_secs().saturating_add(1));
        Some(UnixTime::since_unix_epoch(after))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        self.shared.abandon(&mut state);
    }
}

async fn drive(watch: Watch, mut follower: Follower) {
    let shared = &*watch.shared;
    let mut source = Ok(());
    loop {
        // Without a clock nobody can be judged; `reached` waits for it.
        let now = reached(&*shared.clock, UnixTime::since_unix_epoch(Duration::ZERO)).await;
        while shared.judge(now) {
            yield_now().await;
        }
        let expiry = async {
            match shared.next_expiry() {
                Some(expiry) => reached(&*shared.clock, expiry).await,
                None => pending().await,
            }
        };
        let change = async {
            match source {
                Ok(()) => follower.changed().await,
                Err(SourceEnded) => pending().await,
            }
        };
        tokio::select! {
            _now = expiry => {}
            changed = change => source = changed,
            () = shared.bell.notified() => {}
        }
    }
}
