//! Calls places when they are due.

use std::convert::Infallible;
use std::sync::Arc;

use mesh_policy::jwt::KeySet;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::fetch::FetchError;
use super::schedule::{After, Schedule};
use super::{PlaceName, Shared};
use crate::proxy::chance::Chance;

/// The most places that are called at a time.
const MAX_CALLS: usize = 8;

pub(super) async fn drive(shared: Arc<Shared>) -> Infallible {
    let chance = Chance::new();
    let mut changed = shared.changed.subscribe();
    let mut schedule = Schedule::default();
    let mut calls = JoinSet::new();
    loop {
        changed.mark_unchanged();
        let now = Instant::now().into_std();
        schedule.follow(shared.places(), now);
        while calls.len() < MAX_CALLS
            && let Some((name, timeout)) = schedule.next(now)
        {
            let shared = Arc::clone(&shared);
            calls.spawn(async move {
                let fetched = shared.fetcher.fetch(&name, timeout).await;
                (name, fetched)
            });
        }
        let due = schedule.due().filter(|_| calls.len() < MAX_CALLS);
        tokio::select! {
            // The sender is in `shared`.
            _ = changed.changed() => {}
            Some(Ok((name, fetched))) = calls.join_next() => {
                let now = Instant::now().into_std();
                let after = schedule.called(&name, fetched.is_ok(), now, chance.draw());
                take(&shared, &name, fetched, after);
            }
            () = sleep_until(due.unwrap_or(now).into()), if due.is_some() => {}
        }
    }
}

fn take(shared: &Shared, name: &PlaceName, fetched: Result<KeySet, FetchError>, after: After) {
    let PlaceName { issuer, uri } = name;
    match fetched {
        Ok(keys) => shared.tried(name, |held| *held = Some(Arc::new(keys))),
        Err(reason) => {
            let is_dropped = after == After::Stale;
            if after != After::Again {
                tracing::warn!(issuer = &**issuer, uri = uri.as_deref(), %reason, is_dropped, "keys not fetched");
            }
            shared.tried(name, |held| {
                if is_dropped {
                    *held = None;
                }
            });
        }
    }
}
