//! Calls of one service, over one connection of a worker.

use std::fmt::Display;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Request, Response, Status};

use super::config::Service;
use crate::proxy::control_plane::{Dial, DialSetupError};

/// The longest answer, in bytes: header lines and a page that says no.
pub(super) const MAX_ANSWER: usize = 256 * 1024;

/// Time between two questions whether the service is still there, and for its answer. A connection
/// that is silently gone fails requests for no longer than that.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(5));

/// Time between two lines about one service's failures.
const QUIET: Duration = Duration::from_secs(10);

/// A service, as all workers share it.
#[derive(Clone)]
pub(super) struct Called {
    name: Arc<str>,
    endpoint: Endpoint,
    dial: Dial,
    timeout: Duration,
    places: Arc<Semaphore>,
    complaints: Arc<Complaints>,
}

impl Called {
    /// A service that `name` tells operators of, with the time for an answer, and how many calls may
    /// wait for theirs.
    ///
    /// # Errors
    ///
    /// It cannot be called so, or authenticated as the configuration asks.
    pub(super) fn new(name: &str, server: Service, timeout: Duration, calls: usize) -> Result<Self, DialSetupError> {
        // What the service takes itself to be called.
        let origin: Uri = format!("http://{}", server.address()).parse()?;
        let endpoint = Endpoint::from(origin)
            .http2_keep_alive_interval(KEEPALIVE.0)
            .keep_alive_timeout(KEEPALIVE.1);
        Ok(Self {
            name: name.into(),
            endpoint,
            dial: Dial::new(&server.into())?,
            timeout,
            places: Arc::new(Semaphore::new(calls)),
            complaints: Arc::default(),
        })
    }

    /// A worker's connection, which is made when it is first needed. Takes the worker's runtime.
    pub(super) fn caller(&self) -> Caller {
        Caller {
            channel: self.endpoint.connect_with_connector_lazy(self.dial.clone()),
            called: self.clone(),
        }
    }
}

/// A worker's connection to a service.
pub(super) struct Caller {
    channel: Channel,
    called: Called,
}

impl Caller {
    /// Calls the service once, if too many calls are not under way, waits no longer than it may
    /// take, and reads the answer.
    pub(super) async fn call<Q, A, R, F: Display>(
        &self,
        question: Q,
        call: impl AsyncFnOnce(Channel, Request<Q>) -> Result<Response<A>, Status>,
        read: impl FnOnce(A) -> Result<R, F>,
    ) -> Result<R, Silence<F>> {
        let answer = match self.wait(question, call).await {
            Ok(answer) => read(answer).map_err(Silence::Fault),
            Err(silence) => Err(silence),
        };
        answer.inspect_err(|silence| self.note(silence))
    }

    async fn wait<Q, A, F>(
        &self,
        question: Q,
        call: impl AsyncFnOnce(Channel, Request<Q>) -> Result<Response<A>, Status>,
    ) -> Result<A, Silence<F>> {
        let Called {
            timeout: time, places, ..
        } = &self.called;
        let _place = places.try_acquire().map_err(|_| Silence::Overflow)?;
        let mut question = Request::new(question);
        question.set_timeout(*time);
        match timeout(*time, call(self.channel.clone(), question)).await {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) => Err(Silence::Call(Box::new(status))),
            Err(_) => Err(Silence::Deadline { after: *time }),
        }
    }

    /// Tells operators of a failure, and for a while of no more.
    fn note<F: Display>(&self, silence: &Silence<F>) {
        let Called { name, complaints, .. } = &self.called;
        if let Some(unsaid) = complaints.next(Instant::now().into_std()) {
            tracing::warn!(service = &**name, reason = %silence, unsaid, "external service gives no answer");
        }
    }
}

/// Failures that operators are told of from time to time.
#[derive(Default)]
struct Complaints(Mutex<Unsaid>);

#[derive(Default)]
struct Unsaid {
    said: Option<std::time::Instant>,
    since: u64,
}

impl Complaints {
    /// One more. If it is time to say something, how many there were of which nothing was said.
    fn next(&self, now: std::time::Instant) -> Option<u64> {
        let mut unsaid = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if unsaid
            .said
            .is_some_and(|said| now.saturating_duration_since(said) < QUIET)
        {
            unsaid.since += 1;
            return None;
        }
        unsaid.said = Some(now);
        Some(std::mem::take(&mut unsaid.since))
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Silence<F> {
    #[error("too many calls are under way")]
    Overflow,
    #[error("nothing came within {after:?}")]
    Deadline { after: Duration },
    #[error("the call failed: {}", .0.code().description())]
    Call(Box<Status>),
    /// There was one, and it is of no use.
    #[error("{0}")]
    Fault(F),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_service_is_not_told_of_with_every_request() {
        let complaints = Complaints::default();
        let now = Instant::now().into_std();
        let told = [0, 1, 9, 10, 11, 30].map(|second| complaints.next(now + Duration::from_secs(second)));
        assert_eq!(told, [Some(0), None, None, Some(2), None, Some(1)]);
    }
}
