//! Calls of one service, over one connection of a worker.

use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hbone::Authority;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status};

use super::config::Service;
use crate::proxy::control_plane::{Dial, DialSetupError};

/// The longest answer, in bytes: header lines and a page that says no.
pub(super) const MAX_ANSWER: usize = 256 * 1024;

/// Time between two questions whether the service is still there, and for its answer. A connection
/// that is silently gone fails requests for no longer than that.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(5));

/// A service, as all workers share it.
#[derive(Clone)]
pub(super) struct Called {
    name: Arc<str>,
    endpoint: Endpoint,
    dial: Dial,
    timeout: Duration,
    places: Arc<Semaphore>,
    is_lost: Arc<AtomicBool>,
}

impl Called {
    /// A service that `name` tells operators of, with the time for an answer, and how many calls may
    /// wait for theirs.
    ///
    /// # Errors
    ///
    /// It cannot be authenticated as the configuration asks.
    pub(super) fn new(name: &str, server: Service, timeout: Duration, calls: usize) -> Result<Self, DialSetupError> {
        let endpoint = Endpoint::from(origin(server.address()))
            .http2_keep_alive_interval(KEEPALIVE.0)
            .keep_alive_timeout(KEEPALIVE.1);
        Ok(Self {
            name: name.into(),
            endpoint,
            dial: Dial::new(&server.into())?,
            timeout,
            places: Arc::new(Semaphore::new(calls)),
            is_lost: Arc::new(AtomicBool::new(false)),
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

/// What the service takes itself to be called.
fn origin(address: &Authority) -> tonic::transport::Uri {
    format!("http://{address}")
        .parse()
        .unwrap_or_else(|_| tonic::transport::Uri::from_static("http://external"))
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
        self.note(answer.as_ref().err());
        answer
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

    /// Tells operators when answers cease and when they come again, and not of each.
    fn note<F: Display>(&self, silence: Option<&Silence<F>>) {
        let Called { name, is_lost, .. } = &self.called;
        match silence {
            Some(reason) if !is_lost.swap(true, Ordering::Relaxed) => {
                tracing::warn!(service = &**name, %reason, "external service gives no answer");
            }
            None if is_lost.load(Ordering::Relaxed) && is_lost.swap(false, Ordering::Relaxed) => {
                tracing::info!(service = &**name, "external service answers again");
            }
            _ => {}
        }
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
