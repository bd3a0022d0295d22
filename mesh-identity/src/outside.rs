//! What drivers take from the world: time that passes, and chance.

use std::time::Duration;
#[cfg(any(feature = "istio-ca", feature = "federation"))]
use std::{
    hash::{BuildHasher, RandomState},
    time::Instant,
};

use rustls::time_provider::TimeProvider;
use rustls_pki_types::UnixTime;

/// The longest sleep before a wall clock is read again: it may have been set in the meantime.
const MAX_SLEEP: Duration = Duration::from_secs(60);

/// Waits until the wall clock shows `moment` or later, and answers with what it shows. A clock that
/// cannot be read is waited for.
pub(crate) async fn reached(clock: &dyn TimeProvider, moment: UnixTime) -> UnixTime {
    loop {
        let left = match clock.current_time() {
            Some(now) if now >= moment => return now,
            Some(now) => Duration::from_secs(moment.as_secs() - now.as_secs()),
            None => MAX_SLEEP,
        };
        tokio::time::sleep(left.min(MAX_SLEEP)).await;
    }
}

/// The moment by tokio's clock.
#[cfg(any(feature = "istio-ca", feature = "federation"))]
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Waits until a moment of tokio's clock; for ever, if there is none.
#[cfg(any(feature = "istio-ca", feature = "federation"))]
pub(crate) async fn sleep_until(until: Option<Instant>) {
    match until {
        Some(until) => tokio::time::sleep_until(until.into()).await,
        None => std::future::pending().await,
    }
}

/// A random number. A new hash key is random, and the hash of nothing by it is as good.
#[cfg(any(feature = "istio-ca", feature = "federation"))]
pub(crate) fn random() -> u64 {
    RandomState::new().hash_one(())
}
