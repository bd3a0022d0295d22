//! Clocks that move only when told to: one for state machines that take `now` as a value, and a calendar for whoever
//! waits by tokio's time.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};
use std::time::{Duration, Instant};

use rustls::{pki_types::UnixTime, time_provider::TimeProvider};

/// How far the clock's start lies beyond the real instant it was made from, so that a state machine may subtract from
/// `now` without leaving the range of `Instant` on a machine that has just booted.
const HEADROOM: Duration = Duration::from_secs(1_000_000);

/// A manual clock. Clones share the same time.
///
/// For code that reads tokio's own clock use tokio's paused time instead; this one is for code that is handed its
/// instants.
#[derive(Clone, Debug)]
pub struct ManualClock {
    start: Instant,
    elapsed_nanos: Arc<AtomicU64>,
}

impl ManualClock {
    /// A clock that stands at an arbitrary instant.
    #[must_use]
    #[expect(
        clippy::new_without_default,
        reason = "a clock is made on purpose: two defaults would disagree"
    )]
    pub fn new() -> Self {
        // An `Instant` has no constructor but a clock; which one does not matter here.
        let start = tokio::time::Instant::now().into_std() + HEADROOM;
        Self {
            start,
            elapsed_nanos: Arc::new(AtomicU64::new(0)),
        }
    }

    /// Moves the time forward, for all clones.
    pub fn advance(&self, by: Duration) {
        let nanos = u64::try_from(by.as_nanos()).expect("a clock advances by less than 584 years");
        self.elapsed_nanos.fetch_add(nanos, Ordering::SeqCst);
    }

    /// The instant at which the clock stands.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.start + self.elapsed()
    }

    /// The same instant in tokio's type.
    #[must_use]
    pub fn tokio_now(&self) -> tokio::time::Instant {
        tokio::time::Instant::from_std(self.now())
    }

    /// How far the clock was advanced since it was made.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        Duration::from_nanos(self.elapsed_nanos.load(Ordering::SeqCst))
    }
}

/// A calendar that moves with tokio's clock, and so stands still while that is paused. Clones share the same time.
#[derive(Clone, Debug)]
pub struct Calendar {
    epoch: Duration,
    began: tokio::time::Instant,
    skipped_secs: Arc<AtomicU64>,
}

impl Calendar {
    /// The second at which every [new](Self::new) calendar begins, after 1970.
    pub const EPOCH: Duration = Duration::from_secs(1_900_000_000);

    /// A calendar that begins now.
    #[must_use]
    #[expect(
        clippy::new_without_default,
        reason = "a calendar is begun on purpose: two defaults would disagree"
    )]
    pub fn new() -> Self {
        Self::since(Self::EPOCH)
    }

    /// A calendar that begins with what the system's clock says, for programs that have no other.
    #[must_use]
    pub fn of_today() -> Self {
        Self::since(Duration::from_secs(UnixTime::now().as_secs()))
    }

    fn since(epoch: Duration) -> Self {
        Self {
            epoch,
            began: tokio::time::Instant::now(),
            skipped_secs: Arc::default(),
        }
    }

    /// The moment of now.
    #[must_use]
    pub fn now(&self) -> UnixTime {
        let skipped = Duration::from_secs(self.skipped_secs.load(Ordering::SeqCst));
        UnixTime::since_unix_epoch(self.epoch + self.began.elapsed() + skipped)
    }

    /// Moves on by whole seconds while tokio's clock stands still, as where a machine was asleep; for all clones.
    pub fn skip(&self, span: Duration) {
        self.skipped_secs.fetch_add(span.as_secs(), Ordering::SeqCst);
    }
}

impl TimeProvider for Calendar {
    fn current_time(&self) -> Option<UnixTime> {
        Some(self.now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_calendar_moves_with_tokio() {
        let calendar = Calendar::new();
        tokio::time::advance(Duration::from_secs(90)).await;
        assert_eq!(calendar.clone().now().as_secs(), Calendar::EPOCH.as_secs() + 90);
        calendar.clone().skip(Duration::from_secs(10));
        assert_eq!(calendar.now().as_secs(), Calendar::EPOCH.as_secs() + 100);
    }

    #[test]
    fn stands_still_until_advanced() {
        let clock = ManualClock::new();
        let start = clock.now();
        assert_eq!(clock.now(), start);
        clock.advance(Duration::from_millis(1500));
        assert_eq!(clock.now() - start, Duration::from_millis(1500));
        assert_eq!(clock.elapsed(), Duration::from_millis(1500));
        assert_eq!(clock.tokio_now().into_std(), clock.now());
    }

    #[test]
    fn clones_share_the_time() {
        let clock = ManualClock::new();
        let other = clock.clone();
        other.advance(Duration::from_secs(3));
        assert_eq!(clock.now(), other.now());
        assert_eq!(clock.elapsed(), Duration::from_secs(3));
    }

    #[test]
    fn leaves_room_to_look_back() {
        assert!(
            ManualClock::new()
                .now()
                .checked_sub(Duration::from_secs(86_400))
                .is_some()
        );
    }
}
