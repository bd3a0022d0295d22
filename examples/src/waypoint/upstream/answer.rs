use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::HeaderMap;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use mesh_policy::traffic::balance::InFlight;
use mesh_policy::traffic::breaker::Permit;
use mesh_policy::traffic::outlier::Outcome;
use tokio::time::Sleep;

use super::cluster::Cluster;
use super::endpoints::Endpoints;
use super::shelf::Lease;
use super::state::Target;
use crate::waypoint::body::BodyError;
use crate::waypoint::headers::grpc_status;

/// The body of an endpoint's answer, which holds what its request takes up.
pub(super) struct Answer {
    body: Incoming,
    places: Option<Places>,
    deadline: Option<Pin<Box<Sleep>>>,
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
    pub(super) fn new(body: Incoming, places: Places, deadline: Option<Pin<Box<Sleep>>>) -> Self {
        let mut answer = Self {
            body,
            places: Some(places),
            deadline,
        };
        if answer.body.is_end_stream() {
            answer.end(None);
        }
        answer
    }

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

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) else {
            let is_late = |deadline: &mut Pin<Box<Sleep>>| deadline.as_mut().poll(cx).is_ready();
            if self.places.is_some() && self.deadline.as_mut().is_some_and(is_late) {
                self.fail();
                return Poll::Ready(Some(Err(BodyError::Timeout)));
            }
            return Poll::Pending;
        };
        match &frame {
            None => self.end(None),
            Some(Err(_)) => self.fail(),
            Some(Ok(frame)) if frame.is_trailers() => self.end(frame.trailers_ref()),
            Some(Ok(_)) if self.body.is_end_stream() => self.end(None),
            Some(Ok(_)) => {}
        }
        Poll::Ready(frame.map(|frame| frame.map_err(BodyError::Endpoint)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
