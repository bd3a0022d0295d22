//! The way of requests to endpoints: which, over which connection, and how often.
//!
//! A request is sent only once there is a connection to its endpoint's application, so that an
//! endpoint that is not there is never a reason to do anything twice.

mod affinity;
mod answer;
mod clock;
mod cluster;
mod connections;
mod dial;
mod due;
mod endpoints;
mod error;
mod exchange;
mod head;
mod members;
mod order;
mod pass;
mod replay;
mod shelf;
mod site;
mod state;
mod tasks;
mod terms;
#[cfg(test)]
mod tests;
mod tried;
mod tunnels;
mod wire;

pub(super) use self::endpoints::Endpoints;
pub(super) use self::error::{Fault, SendError};
pub(super) use self::order::{Order, Sent, Shadow};

use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::Request;
use hyper::header::{HeaderValue, SET_COOKIE};
use mesh_identity::SpiffeId;
use mesh_policy::traffic::retry::Conditions;
use tokio::sync::Semaphore;

use self::connections::Connections;
use self::dial::Dial;
use self::exchange::Exchange;
use self::head::Head;
use self::replay::Replay;
use self::tasks::Tasks;
use self::tunnels::OfWaypoint;
use super::addressee::Addressee;
use super::body::Body;
use super::headers::is_grpc;
use crate::proxy::tunnels::Tunnels;

/// How much of a body is kept so that it can be sent again, and to who gets copies: as much as in
/// Linkerd.
const REPLAY_BYTES: usize = 64 * 1024;
/// What an attempt that failed counts as where endpoints are compared by how soon they answer, as in
/// Linkerd: one that fails quickly is not a quick one.
const PENALTY: Duration = Duration::from_secs(5);
/// Copies of requests that are under way, for one worker; more are not made.
const MOST_SHADOWS: usize = 128;

/// A worker's way to endpoints: its connections, and what all workers know.
pub(super) struct Upstream<D = OfWaypoint> {
    inner: Arc<Inner<D>>,
    shadows: Tasks,
    room: Arc<Semaphore>,
}

struct Inner<D> {
    endpoints: Arc<Endpoints>,
    connections: Connections<D>,
    conditions: Conditions,
    of_workloads: Conditions,
}

impl Upstream {
    /// The connections of this worker, none so far. They are made under the identity `id`.
    pub(super) fn new(endpoints: Arc<Endpoints>, tunnels: Tunnels, id: SpiffeId) -> Self {
        let dial = OfWaypoint::new(tunnels, id, Arc::clone(&endpoints));
        Self::by(endpoints, dial)
    }
}

impl<D: Dial> Upstream<D> {
    fn by(endpoints: Arc<Endpoints>, dial: D) -> Self {
        let connections = Connections::new(dial, endpoints.clock);
        Self {
            inner: Arc::new(Inner {
                endpoints,
                connections,
                conditions: conditions(),
                // Nobody else could answer for a workload by itself.
                of_workloads: Conditions::unprocessed(),
            }),
            shadows: Tasks::default(),
            room: Arc::new(Semaphore::new(MOST_SHADOWS)),
        }
    }

    /// Sends a request to whom it is for, as often as rules allow.
    ///
    /// # Errors
    ///
    /// There is no answer, and why.
    ///
    /// # Cancel safety
    ///
    /// Dropped, the request is given up and so are all places that it has. Copies go on.
    pub(super) async fn send(&self, request: Request<Body>, order: &Order) -> Result<Sent, SendError> {
        let (parts, body) = request.into_parts();
        let Some(head) = Head::new(parts) else {
            return Err(before_any(Fault::Unwritable));
        };
        // What comes after an upgrade is no request, of which there could be copies; Envoy makes none.
        let shadows = if head.is_upgrade() { &[][..] } else { &order.shadows };
        let is_once = order.retries.as_ref().is_some_and(|retries| retries.attempts == 0);
        let is_kept = !is_once || !shadows.is_empty();
        let replay = Replay::new(body, if is_kept { REPLAY_BYTES } else { 0 });
        for shadow in shadows {
            self.shadow(&head, &replay, shadow);
        }
        self.inner.send(&head, &replay, order).await
    }

    /// Ends the connections that carry nothing, and each of the others with what it carries.
    pub(super) fn close(&self) {
        self.inner.connections.close();
    }

    /// Sends a copy of a request, once all of its body is known. Its host is the same, as in Istio since
    /// 1.28.
    fn shadow(&self, head: &Head, replay: &Replay, shadow: &Shadow) {
        let (head, whole, room) = (head.clone(), replay.tap(), Arc::clone(&self.room));
        let (inner, order) = (Arc::clone(&self.inner), Order::from(shadow.clone()));
        self.shadows.start(async move {
            let Ok(whole) = whole.await else {
                return;
            };
            // A client that does not send all of its request has no place here.
            let Ok(_place) = room.try_acquire() else {
                return tracing::debug!("request not mirrored: too many are");
            };
            match inner.send(&head, &Replay::from(whole), &order).await {
                Ok(sent) => ignore(sent).await,
                Err(reason) => tracing::debug!(%reason, "mirrored request failed"),
            }
        });
    }
}

impl<D: Dial> Inner<D> {
    async fn send(&self, head: &Head, replay: &Replay, order: &Order) -> Result<Sent, SendError> {
        let cluster = self.endpoints.cluster(order);
        let cluster = cluster.ok_or_else(|| before_any(Fault::NoCluster))?;
        let is_grpc = is_grpc(&head.headers);
        let timeouts = exchange::timeouts(order, head, is_grpc);
        let now = self.endpoints.clock.now();
        let settings = Arc::clone(&cluster.state().settings);
        let key = settings.affinity.as_ref();
        let conditions = match order.to {
            Addressee::Service(_) => &self.conditions,
            Addressee::Workload { .. } => &self.of_workloads,
        };
        let affinity = key.and_then(|key| affinity::Affinity::of(key, head, order, self.endpoints.chance.draw()));
        let exchange = Exchange {
            endpoints: &self.endpoints,
            connections: &self.connections,
            cluster,
            order,
            head,
            replay,
            is_grpc,
            affinity: affinity.as_ref().map(|affinity| affinity.hash),
            policy: exchange::policy(&settings, order, &timeouts, conditions),
            deadline: timeouts.request.map(|timeout| now.saturating_add(timeout)),
            is_clients: timeouts.request != order.timeouts.request,
        };
        let mut sent = exchange.run().await?;
        let given = affinity.and_then(|affinity| HeaderValue::try_from(affinity.cookie?).ok());
        if let Some(cookie) = given {
            sent.response.headers_mut().append(SET_COOKIE, cookie);
        }
        Ok(sent)
    }
}

/// After which ends a request is tried again where no rule says so: Istio's default, and what
/// Istio's waypoints have where there are no rules at all.
fn conditions() -> Conditions {
    Conditions::istio().or(&Conditions::unprocessed()).statuses([503])
}

/// Reads an answer that nobody waits for, so that its connection can be used again.
async fn ignore(sent: Sent) {
    let mut body = sent.response.into_body();
    while let Some(Ok(_)) = body.frame().await {}
}

fn before_any(fault: Fault) -> SendError {
    SendError {
        fault,
        attempts: 0,
        endpoint: None,
        stop: None,
    }
}
