//! Whose timers deadlines wait with.

use std::time::Instant;

use tokio::runtime::Handle;
use tokio::time::{Sleep, sleep_until};

/// The timers of one runtime: of whichever is current, unless another was named.
#[derive(Clone, Debug, Default)]
pub(crate) struct Timers(Option<Handle>);

impl Timers {
    pub(crate) fn of(runtime: Handle) -> Self {
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
