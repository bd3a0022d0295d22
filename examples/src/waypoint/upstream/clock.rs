use std::time::Duration;

use tokio::time::Instant;

/// Moments as deciders take them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock(Instant);

impl Clock {
    pub(super) fn start() -> Self {
        Self(Instant::now())
    }

    pub(super) fn now(self) -> Duration {
        self.0.elapsed()
    }

    /// The moment by which the runtime's timers go; `None` for the end of time.
    pub(super) fn instant(self, moment: Duration) -> Option<Instant> {
        self.0.checked_add(moment)
    }
}
