use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use hyper::HeaderMap;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use mesh_policy::traffic::balance::InFlight;
use mesh_policy::traffic::breaker::Permit;
use mesh_policy::traffic::outlier::Outcome;
use tokio::task::AbortHandle;
use tokio::time::sleep_until;

use super::cluster::Cluster;
use super::due::{Due, Whose};
use super::endpoints::Endpoints;
use super::shelf::Lease;
use super::state::Target;
use super::tasks::Tasks;
use crate::waypoint::body::BodyError;
use crate::waypoint::headers::grpc_status;

/// The body of an endpoint's answer, which holds what its request takes up.
pub(super) struct Answer {
    open: Shared,
    /// Ends when the request's time is up, whether anybody reads or not.
    limit: Option<AbortHandle>,
}

/// What there is of an answer until its end, or until there is no more time for it.
type Shared = Arc<Mutex<Open>>;

struct Open {
    /// `None` when its time is up.
    body: Option<Incoming>,
    places: Option<Places>,
    /// Who waits for more.
    reader: Option<Waker>,
}

/// What a request takes up until its answer has ended.
pub(super) struct Places {
    pub(super) lease: Lease,
    pub(super) request: Permit,
    pub(super) in_flight: InFlight,
    pub(super) report: Report,
}

/// By what an endpoint is told apart from others that do better.
#[derive(Clone)]
pub(super) struct Report {
    pub(super) endpoints: Arc<Endpoints>,
    pub(super) cluster: Arc<Cluster>,
    pub(super) target: Arc<Target>,
    /// Whether the end of the answer says how the call went, and not its head.
    pub(super) is_open: bool,
}

impl Answer {
    /// An answer that may take until it is `due`. Tasks look after that.
    pub(super) fn new(body: Incoming, places: Places, due: Option<Due>, tasks: &Tasks) -> Self {
        let mut open = Open {
            body: Some(body),
            places: Some(places),
            reader: None,
        };
        if open.is_end_stream() {
            open.end(None);
        }
        let is_over = open.places.is_none();
        let open = Arc::new(Mutex::new(open));
        let limit = due.filter(|_| !is_over).map(|due| {
            let open = Arc::clone(&open);
            tasks.start(async move {
                sleep_until(due.at).await;
                cut_off(&open, due.whose);
            })
        });
        Self { open, limit }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if let Some(limit) = &self.limit {
            limit.abort();
        }
    }
}

impl Open {
    /// It was read to its end.
    fn end(&mut self, trailers: Option<&HeaderMap>) {
        let Some(places) = self.places.take() else {
            return;
        };
        if places.report.is_open {
            let status = trailers.and_then(grpc_status);
            places
                .report
                .record(status.map_or(Outcome::ServerError, Outcome::of_grpc));
        }
        let now = places.report.endpoints.clock.now();
        places.lease.give_back(now);
    }

    fn fail(&mut self) {
        if let Some(places) = self.places.take() {
            places.report.record(Outcome::LocalFailure);
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_some_and(Incoming::is_end_stream)
    }
}

/// Ends an answer whose time is up.
fn cut_off(open: &Mutex<Open>, whose: Whose) {
    let mut open = lock(open);
    let Some(places) = open.places.take() else {
        return;
    };
    let (body, reader) = (open.body.take(), open.reader.take());
    // Others may want the lock by what is let go.
    drop(open);
    // Where nobody waits it is not the endpoint that is late.
    if reader.is_some() && whose == Whose::Request {
        places.report.record(Outcome::LocalFailure);
    }
    reader.into_iter().for_each(Waker::wake);
    drop((body, places));
}

fn lock(open: &Mutex<Open>) -> MutexGuard<'_, Open> {
    open.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Report {
    pub(super) fn record(&self, outcome: Outcome) {
        let Endpoints { clock, chance, .. } = &*self.endpoints;
        self.cluster.record(&self.target, outcome, clock.now(), chance.draw());
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut open = lock(&self.open);
        open.reader = None;
        let Some(body) = &mut open.body else {
            return Poll::Ready(Some(Err(BodyError::Timeout)));
        };
        let Poll::Ready(frame) = Pin::new(body).poll_frame(cx) else {
            open.reader = self.limit.is_some().then(|| cx.waker().clone());
            return Poll::Pending;
        };
        match &frame {
            None => open.end(None),
            Some(Err(_)) => open.fail(),
            Some(Ok(frame)) if frame.is_trailers() => open.end(frame.trailers_ref()),
            Some(Ok(_)) if open.is_end_stream() => open.end(None),
            Some(Ok(_)) => {}
        }
        Poll::Ready(frame.map(|frame| frame.map_err(BodyError::Endpoint)))
    }

    fn is_end_stream(&self) -> bool {
        lock(&self.open).is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let open = lock(&self.open);
        open.body.as_ref().map_or_else(SizeHint::default, Incoming::size_hint)
    }
}
