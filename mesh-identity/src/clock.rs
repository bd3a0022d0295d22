//! Waiting for a moment of the wall clock.

use std::time::Duration;

use rustls::time_provider::TimeProvider;
use rustls_pki_types::UnixTime;
use tokio::time::sleep;

/// The longest sleep before the clock is read again: it may have been set in the meantime.
const MAX_SLEEP: Duration = Duration::from_secs(60);

/// Completes when the clock shows `moment` or later, and answers with what it shows. A clock that
/// cannot be read is waited for.
pub(crate) async fn reached(clock: &dyn TimeProvider, moment: UnixTime) -> UnixTime {
    loop {
        let left = match clock.current_time() {
            Some(now) if now >= moment => return now,
            Some(now) => Duration::from_secs(moment.as_secs() - now.as_secs()),
            None => MAX_SLEEP,
        };
        sleep(left.min(MAX_SLEEP)).await;
    }
}
