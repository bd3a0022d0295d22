//! Cancellation at every await point, and counting of wake-ups.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};
use std::task::{Poll, Wake, Waker};
use std::time::Duration;

/// Beyond this many polls an operation is taken to spin rather than to progress.
const MAX_POLLS: usize = 10_000;

/// How long one run may take in all, in tokio time.
const WAKE_DEADLINE: Duration = Duration::from_secs(600);

/// How one run of an operation under [`cancel_at_every_await`] ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Run<T> {
    /// Dropped right after it was polled this many times; 0 means that it was never polled.
    Cancelled {
        /// The number of polls it got.
        polls: usize,
    },
    /// It came to its end, so every point at which it waits has been tried before.
    Completed(T),
}

/// Runs `operation` again and again, each time in a fresh world, dropping it after 0, 1, 2, ... polls until it completes.
///
/// `world` builds what the operation needs; `check` gets the world back after each run, for asserting that nothing
/// leaked and that the world still works. A run is polled only when it was woken, so the rest of the world moves between
/// two polls. Returns how many polls the completed run took.
///
/// # Panics
///
/// When a run waits for a wake-up past 600 s of tokio time since its start, or is not complete after 10,000 polls.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// use mesh_testkit::poll::{Run, cancel_at_every_await};
/// use tokio::sync::Mutex;
///
/// cancel_at_every_await(
///     async || Mutex::new(0),
///     async |counter| {
///         let mut held = counter.lock().await;
///         tokio::task::yield_now().await;
///         *held += 1;
///     },
///     async |counter, run| {
///         let counted = counter.try_lock().expect("the lock is free again");
///         assert_eq!(*counted == 1, run == Run::Completed(()));
///     },
/// )
/// .await;
/// # }
/// ```
pub async fn cancel_at_every_await<W, T>(
    mut world: impl AsyncFnMut() -> W,
    mut operation: impl AsyncFnMut(&mut W) -> T,
    mut check: impl AsyncFnMut(W, Run<T>),
) -> usize {
    for polls in 0..=MAX_POLLS {
        let mut scene = world().await;
        match poll_at_most(polls, operation(&mut scene)).await {
            Some(output) => {
                check(scene, Run::Completed(output)).await;
                return polls;
            }
            None => check(scene, Run::Cancelled { polls }).await,
        }
    }
    panic!("the operation did not complete within {MAX_POLLS} polls");
}

/// Drives `future` until it completes or was polled `limit` times, and drops it there.
async fn poll_at_most<F: Future>(limit: usize, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut deadline = pin!(tokio::time::sleep(WAKE_DEADLINE));
    let mut polls = 0;
    poll_fn(|cx| {
        if polls == limit {
            return Poll::Ready(None);
        }
        // First, for the deadline's own wake-up must not pass for one of the future.
        let overdue = deadline.as_mut().poll(cx).is_ready();
        assert!(
            !overdue,
            "the operation was not woken for its next poll within {WAKE_DEADLINE:?}"
        );
        polls += 1;
        match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if polls == limit => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// Counts how often its [`Waker`] was woken, to prove that a wake-up is neither lost nor given for nothing.
#[derive(Clone, Debug, Default)]
pub struct WakeCounter {
    wakes: Arc<Wakes>,
}

#[derive(Debug, Default)]
struct Wakes(AtomicUsize);

impl WakeCounter {
    /// A waker that this counter counts.
    #[must_use]
    pub fn waker(&self) -> Waker {
        Arc::clone(&self.wakes).into()
    }

    /// How often any of the wakers was woken so far.
    #[must_use]
    pub fn count(&self) -> usize {
        self.wakes.0.load(Ordering::SeqCst)
    }
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Context;
    use tokio::task::yield_now;

    #[tokio::test]
    async fn drops_at_each_await_in_turn() {
        let mut reached = Vec::new();
        let polls = cancel_at_every_await(
            async || 0,
            async |step: &mut u32| {
                for _ in 0..3 {
                    *step += 1;
                    yield_now().await;
                }
                "done"
            },
            async |step, run| reached.push((step, run)),
        )
        .await;
        assert_eq!(polls, 4);
        let expected = [
            (0, Run::Cancelled { polls: 0 }),
            (1, Run::Cancelled { polls: 1 }),
            (2, Run::Cancelled { polls: 2 }),
            (3, Run::Cancelled { polls: 3 }),
            (3, Run::Completed("done")),
        ];
        assert_eq!(reached, expected);
    }

    #[tokio::test(start_paused = true)]
    #[should_panic(expected = "was not woken for its next poll within 600s")]
    async fn reports_a_lost_wake_up() {
        let polled_once = async |first: &mut bool| {
            poll_fn(|_| {
                if std::mem::take(first) {
                    Poll::Pending
                } else {
                    Poll::Ready(())
                }
            })
            .await;
        };
        cancel_at_every_await(async || true, polled_once, async |_, _| ()).await;
    }

    #[test]
    fn counts_wake_ups() {
        let counter = WakeCounter::default();
        let waker = counter.waker();
        let mut yielding = Box::pin(async {
            let mut yielded = false;
            poll_fn(|cx| {
                if yielded {
                    return Poll::Ready(());
                }
                yielded = true;
                cx.waker().wake_by_ref();
                Poll::Pending
            })
            .await;
        });
        let mut cx = Context::from_waker(&waker);
        assert!(yielding.as_mut().poll(&mut cx).is_pending());
        assert_eq!(counter.count(), 1);
        assert!(yielding.as_mut().poll(&mut cx).is_ready());
        assert_eq!(counter.count(), 1);
    }
}
