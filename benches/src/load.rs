//! Requests that go on, and how long each took.

use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

/// Callers, each a task, that go on until this is dropped.
#[derive(Debug, Default)]
pub struct Load {
    callers: JoinSet<io::Result<Infallible>>,
    times: Times,
}

/// How long each request took that was answered.
#[derive(Clone, Debug, Default)]
pub struct Times(Arc<Mutex<Vec<Duration>>>);

impl Load {
    /// Where callers tell.
    pub fn times(&self) -> Times {
        self.times.clone()
    }

    /// Adds a caller, or what callers need.
    pub fn spawn(&mut self, caller: impl Future<Output = io::Result<Infallible>> + Send + 'static) {
        self.callers.spawn(caller);
    }

    /// The times of the requests since the last look, if all went well.
    pub fn take(&mut self) -> io::Result<Vec<Duration>> {
        if let Some(ended) = self.callers.try_join_next() {
            ended.map_err(io::Error::other)??;
        }
        Ok(std::mem::take(&mut self.times.lock()))
    }
}

impl Times {
    /// A request was answered that was due then.
    pub fn record(&self, due: Instant) {
        self.lock().push(due.elapsed());
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Duration>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The time in seconds that so many percent of them do not exceed.
pub fn percentile(times: &mut [Duration], percent: usize) -> f64 {
    times.sort_unstable();
    let time = times.get(times.len() * percent / 100);
    time.map_or(f64::NAN, Duration::as_secs_f64)
}
