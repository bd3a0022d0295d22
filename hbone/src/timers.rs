//! Whose timers deadlines wait with.

use std::time::Instant;

use tokio::runtime::Handle;
use tokio::time::{Sleep, sleep_until};

/// The timers of one runtime: of the current one by default.
///
/// A runtime that has timers arms the kernel's with each wait for events, which for small messages
/// is a part of their cost that can be seen. Where connections run on threads of their own, their
/// deadlines may be kept by another thread, and theirs wait for nothing but sockets. Handshakes,
/// answers and closes still have theirs with the current runtime, for as long as they take.
#[derive(Clone, Debug, Default)]
pub struct Timers(Option<Handle>);

impl Timers {
    /// The timers of `runtime`, which has to be driven and to outlive whoever waits with them.
    ///
    /// # Panics
    ///
    /// Connections and pools panic that are polled after `runtime` was shut down, or if it was made
    /// without timers.
    #[must_use]
    pub fn of(runtime: Handle) -> Self {
        Self(Some(runtime))
    }

    pub(crate) fn sleep_until(&self, at: Instant) -> Sleep {
        let _entered = self.0.as_ref().map(Handle::enter);
        sleep_until(at.into())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::runtime::Builder;

    use super::*;

    #[test]
    fn a_runtime_without_timers_waits_with_those_of_another() {
        let keeper = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_time()
            .build()
            .unwrap();
        let waiter = Builder::new_current_thread().build().unwrap();
        #[expect(clippy::disallowed_methods, reason = "any instant will do as the origin")]
        let start = Instant::now();
        let timers = Timers::of(keeper.handle().clone());
        waiter.block_on(async { timers.sleep_until(start + Duration::from_millis(20)).await });
        assert!(start.elapsed() >= Duration::from_millis(20));
    }
}
