use std::sync::{Arc, Mutex, PoisonError, Weak};

use hyper::rt::Executor;
use tokio::task::{AbortHandle, JoinSet};

/// The tasks of a worker's connections, which end with their owner.
#[derive(Default)]
pub(super) struct Tasks(Arc<Mutex<JoinSet<()>>>);

/// Starts tasks for as long as their owner is there.
#[derive(Clone)]
pub(super) struct Starter(Weak<Mutex<JoinSet<()>>>);

impl Tasks {
    pub(super) fn starter(&self) -> Starter {
        Starter(Arc::downgrade(&self.0))
    }

    pub(super) fn start(&self, task: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        start(&self.0, task)
    }
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Starter {
    fn execute(&self, task: F) {
        if let Some(tasks) = self.0.upgrade() {
            start(&tasks, task);
        }
    }
}

fn start(tasks: &Mutex<JoinSet<()>>, task: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
    let mut tasks = tasks.lock().unwrap_or_else(PoisonError::into_inner);
    // Whatever has ended makes room, so that there are no more than are running.
    while tasks.try_join_next().is_some() {}
    tasks.spawn(task)
}
