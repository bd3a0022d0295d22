//! Waiting for what happens by and by.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::undeclared::Undeclared;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// Time between two looks.
const INTERVAL: Duration = Duration::from_millis(10);

/// Looks until there is something to see.
pub(super) async fn until<T>(
    what: &'static str,
    mut look: impl AsyncFnMut() -> Result<Option<T>, Undeclared>,
) -> Result<T, Undeclared> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if let Some(seen) = look().await? {
            return Ok(seen);
        }
        sleep(INTERVAL).await;
    }
    Err(Undeclared::Late(what))
}

/// What somebody does, unless it takes too long.
pub(super) async fn soon<T>(what: &'static str, done: impl Future<Output = T>) -> Result<T, Undeclared> {
    timeout(PATIENCE, done).await.map_err(|_| Undeclared::Late(what))
}
