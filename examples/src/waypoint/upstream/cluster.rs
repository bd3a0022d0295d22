use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use mesh_policy::traffic::balance::InvalidSet;
use mesh_policy::traffic::outlier::{Change, Detection, Outcome};
use mesh_policy::traffic::upstream::{Settings, UnknownSubset};

use super::order::{Order, Words};
use super::site::Ground;
use super::state::{State, Target};
use crate::waypoint::addressee::Addressee;

/// To what it is known when a service's cluster was asked for: most requests need not write it down.
const ABOUT: Duration = Duration::from_secs(60);

/// The endpoints of a port of a service, or of a subset of it, and what is known about them. A workload
/// that is asked for by itself is the only one.
///
/// Shared by all workers. What is known outlasts changes of the mesh and of the rules as far as it is
/// still about the same thing.
#[derive(Debug)]
pub(super) struct Cluster {
    /// As it was in the beginning.
    pub(super) to: Addressee,
    pub(super) port: u16,
    pub(super) subset: Option<Box<str>>,
    state: RwLock<Arc<State>>,
    /// One changes it at a time.
    changing: Mutex<()>,
    /// The microsecond in which it was last asked for; of a service, about.
    used: AtomicU64,
    has_answered: AtomicBool,
}

impl Cluster {
    pub(super) fn new(
        ground: Ground<'_>,
        to: &Addressee,
        (port, subset): (u16, Option<&str>),
        words: Words,
    ) -> Result<Self, ClusterError> {
        let settings = Arc::new(words.settings(port, subset)?);
        let state = State::new(ground, (to, port), (words, settings), None)?;
        Ok(Self {
            to: to.clone(),
            port,
            subset: subset.map(Into::into),
            state: RwLock::new(Arc::new(state)),
            changing: Mutex::default(),
            used: AtomicU64::new(micros(ground.now)),
            has_answered: AtomicBool::new(false),
        })
    }

    pub(super) fn state(&self) -> Arc<State> {
        Arc::clone(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// It is asked for.
    pub(super) fn touch(&self, now: Duration) {
        let is_about = self.to.service().is_some() && now.saturating_sub(self.used()) < ABOUT;
        if !is_about {
            self.used.store(micros(now), Ordering::Relaxed);
        }
    }

    /// Whether it was not asked for in this time.
    pub(super) fn is_unused(&self, time: Duration, now: Duration) -> bool {
        now.saturating_sub(self.used()) > time
    }

    /// Takes another mesh. What cannot be taken leaves endpoints as they were.
    pub(super) fn update(&self, ground: Ground<'_>) {
        self.change(|before| {
            let to = before.to.in_mesh(ground.mesh)?;
            if before.is_of(ground, &to, self.port) {
                return None;
            }
            let rules = (before.words.clone(), Arc::clone(&before.settings));
            said(State::new(ground, (&to, self.port), rules, Some(before)), &to)
        });
    }

    /// Whether it is what an order is for.
    pub(super) fn is_for(&self, order: &Order) -> bool {
        self.port == order.port && self.subset.as_deref() == order.subset.as_deref() && self.to.is(&order.to)
    }

    /// How much there is to lose if it is forgotten. Whoever may ask for any port must not have one
    /// forgotten that others use: what nobody answers at goes first, then what nobody has asked for
    /// lately.
    pub(super) fn worth(&self) -> impl Ord + use<> {
        (self.has_answered.load(Ordering::Relaxed), self.used())
    }

    /// Whether it goes by what an order does.
    pub(super) fn is_by(&self, order: &Order) -> bool {
        order.is_by(&self.state.read().unwrap_or_else(PoisonError::into_inner).words)
    }

    /// Takes other rules; `make` makes a state of them. What cannot be taken leaves what was before.
    pub(super) fn follow(
        &self,
        words: Words,
        make: impl FnOnce(&Addressee, (Words, Arc<Settings>), &State) -> Result<State, InvalidSet>,
    ) {
        self.change(|before| {
            let made = match words.settings(self.port, self.subset.as_deref()) {
                Ok(settings) if settings != *before.settings => {
                    make(&before.to, (words.clone(), Arc::new(settings)), before).map_err(ClusterError::from)
                }
                Ok(_) => Ok(before.by(words.clone())),
                Err(reason) => Err(reason.into()),
            };
            // It is asked for again and again, and no better for that.
            Some(said(made, &before.to).unwrap_or_else(|| before.by(words)))
        });
    }

    /// Gives endpoints more that have not been there for long.
    pub(super) fn warm(&self, now: Duration) {
        self.change(|before| said(before.warmer(now)?, &before.to));
    }

    /// An attempt by this endpoint has ended so.
    pub(super) fn record(&self, target: &Target, outcome: Outcome, now: Duration, random: u64) {
        if outcome != Outcome::LocalFailure && !self.has_answered.load(Ordering::Relaxed) {
            self.has_answered.store(true, Ordering::Relaxed);
        }
        if let Some(ejection) = target.record(outcome, now, random) {
            let workload = &target.site.workload.uid;
            tracing::warn!(%workload, cause = ?ejection.cause, "endpoint ejected");
            self.look_again();
        }
    }

    /// Brings endpoints back whose time is up.
    pub(super) fn sweep(&self, now: Duration, random: u64) {
        let state = self.state();
        let Some(detector) = &state.detector else {
            return;
        };
        let changes = detector.sweep(now, random);
        for change in &changes {
            match change {
                Change::Ejected { key, ejection } => {
                    tracing::warn!(workload = %key, cause = ?ejection.cause, "endpoint ejected");
                    if let Some(target) = state.by_uid().get(&**key) {
                        target.shut(now, random);
                    }
                }
                Change::Returned { key } => tracing::info!(workload = %key, "endpoint is back"),
                _ => {}
            }
        }
        if !changes.is_empty() {
            self.look_again();
        }
    }

    /// How often endpoints are to be looked at.
    pub(super) fn sweep_interval(&self) -> Option<Duration> {
        self.state().settings.detection.as_ref().map(Detection::sweep_interval)
    }

    fn used(&self) -> Duration {
        Duration::from_micros(self.used.load(Ordering::Relaxed))
    }

    fn look_again(&self) {
        self.change(|before| Some(before.look_again()));
    }

    fn change(&self, next: impl FnOnce(&State) -> Option<State>) {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.state();
        if let Some(next) = next(&before) {
            *self.state.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(next);
        }
    }
}

fn micros(moment: Duration) -> u64 {
    u64::try_from(moment.as_micros()).unwrap_or(u64::MAX)
}

/// What cannot be taken is told.
fn said<T, E: std::fmt::Display>(made: Result<T, E>, to: &Addressee) -> Option<T> {
    made.inspect_err(|reason| tracing::error!(of = %to.key(), %reason, "endpoints stay as they were"))
        .ok()
}

/// Why there are no endpoints.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClusterError {
    #[error(transparent)]
    Subset(#[from] UnknownSubset),
    #[error(transparent)]
    Set(#[from] InvalidSet),
}
