//! Waiting beside something busy: what has not been called is not polled.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// Polls only after its own waker was called, and at first.
///
/// A task that is woken for every message would otherwise ask each of its deadlines and orders
/// whether it is their turn.
#[derive(Debug)]
pub(crate) struct Doze {
    call: Arc<Call>,
    waker: Waker,
    /// The task that `call` knows.
    task: Option<Waker>,
}

#[derive(Debug)]
struct Call {
    called: AtomicBool,
    task: Mutex<Option<Waker>>,
}

impl Doze {
    pub(crate) fn new() -> Self {
        let call = Arc::new(Call {
            called: AtomicBool::new(true),
            task: Mutex::new(None),
        });
        Self {
            waker: Waker::from(Arc::clone(&call)),
            call,
            task: None,
        }
    }

    /// Has the next poll take place.
    pub(crate) fn rouse(&self) {
        self.call.called.store(true, Ordering::Release);
    }

    /// Polls with a waker of its own, which calls the task of `cx`. What is ready may be ready again.
    pub(crate) fn poll<T>(&mut self, cx: &Context<'_>, poll: impl FnOnce(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
        // The task is known before the call is looked for, so that none is lost.
        if !self.task.as_ref().is_some_and(|task| task.will_wake(cx.waker())) {
            self.call.answer_to(cx.waker());
            self.task = Some(cx.waker().clone());
        }
        if !self.call.called.swap(false, Ordering::AcqRel) {
            return Poll::Pending;
        }
        let polled = poll(&mut Context::from_waker(&self.waker));
        if polled.is_ready() {
            self.rouse();
        }
        polled
    }
}

impl Call {
    fn answer_to(&self, task: &Waker) {
        let mut known = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        *known = Some(task.clone());
    }
}

impl Wake for Call {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.called.store(true, Ordering::Release);
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(task) = task {
            task.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{Future, poll_fn};
    use std::pin::pin;
    use std::sync::atomic::AtomicUsize;

    use tokio::sync::oneshot;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn polls_when_it_is_called_and_not_otherwise() {
        let (sender, mut receiver) = oneshot::channel();
        let (mut doze, mut polls) = (Doze::new(), 0);
        let woken = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&woken));
        let mut future = pin!(poll_fn(|cx| doze.poll(cx, |cx| {
            polls += 1;
            pin!(&mut receiver).poll(cx)
        })));
        for _ in 0..3 {
            assert!(future.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        }
        sender.send(7).unwrap();
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
        assert_eq!(
            future.as_mut().poll(&mut Context::from_waker(&waker)),
            Poll::Ready(Ok(7))
        );
        assert_eq!(polls, 2);
    }

    #[test]
    fn the_task_that_polled_last_is_called() {
        let (sender, mut receiver) = oneshot::channel::<()>();
        let mut doze = Doze::new();
        let tasks = [Arc::new(Count::default()), Arc::new(Count::default())];
        for task in &tasks {
            let waker = Waker::from(Arc::clone(task));
            let polled = doze.poll(&Context::from_waker(&waker), |cx| pin!(&mut receiver).poll(cx));
            assert!(polled.is_pending());
        }
        drop(sender);
        assert_eq!(tasks.map(|task| task.0.load(Ordering::Relaxed)), [0, 1]);
    }
}
