//! What drivers take from the world: time that passes, and chance.

use std::{
    hash::{BuildHasher, RandomState},
    time::Instant,
};

/// The moment by tokio's clock.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Waits until a moment; for ever, if there is none.
pub(crate) async fn sleep_until(until: Option<Instant>) {
    match until {
        Some(until) => tokio::time::sleep_until(until.into()).await,
        None => std::future::pending().await,
    }
}

/// A random number. A new hash key is random, and the hash of nothing by it is as good.
pub(crate) fn random() -> u64 {
    RandomState::new().hash_one(())
}
