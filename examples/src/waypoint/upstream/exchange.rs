use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::{HeaderMap, Response, StatusCode};
use mesh_policy::traffic::balance::EndpointId;
use mesh_policy::traffic::breaker::{Permit, Resource};
use mesh_policy::traffic::outlier::{self, Admission};
use mesh_policy::traffic::retry::{self, Call, Conditions, Decision, Policy, Pushback, Stop};
use mesh_policy::traffic::upstream::Settings;
use mesh_policy::traffic::{Timeouts, grpc_timeout};
use mesh_xds::store::Workload;
use tokio::time::{Instant, sleep};

use super::PENALTY;
use super::answer::{Answer, Places, Report};
use super::cluster::Cluster;
use super::connections::Connections;
use super::dial::Dial;
use super::due::{self, Due, Whose};
use super::endpoints::Endpoints;
use super::error::{Fault, Flags, Late, SendError};
use super::head::Head;
use super::order::{Order, Sent};
use super::replay::Replay;
use super::shelf::Lease;
use super::state::{Chosen, State};
use super::terms::Terms;
use super::tried::Tried;
use crate::waypoint::body::Body;
use crate::waypoint::headers::grpc_status;

/// For how long a client is kept waiting because an endpoint wants to be left alone. Who wants more
/// is passed on to the client, who is told for how long.
const PUSHBACK: Duration = Duration::from_secs(1);
/// How many connections in a row may turn out to be gone before a request fails by it.
const MOST_STALE: u32 = 16;
/// How long others wait for the answer to the one request that tries an endpoint.
const PROBE_PATIENCE: Duration = Duration::from_secs(10);

/// A request, from the choice of an endpoint to its answer.
pub(super) struct Exchange<'a, D> {
    pub(super) endpoints: &'a Arc<Endpoints>,
    pub(super) connections: &'a Connections<D>,
    pub(super) cluster: Arc<Cluster>,
    pub(super) order: &'a Order,
    pub(super) head: &'a Head,
    pub(super) replay: &'a Replay,
    pub(super) is_grpc: bool,
    /// Where the request belongs.
    pub(super) affinity: Option<u64>,
    pub(super) policy: Policy,
    /// When all must be done.
    pub(super) deadline: Option<Duration>,
    /// Whether that is what the client says, and no route.
    pub(super) is_clients: bool,
}

/// An attempt that an endpoint has answered.
struct Answered {
    endpoint: (EndpointId, Arc<Workload>),
    response: Response<Incoming>,
    places: Places,
}

/// An attempt that has come to nothing.
struct Failed {
    /// Who was tried, if there was somebody.
    endpoint: Option<(EndpointId, Arc<Workload>)>,
    fault: Fault,
}

impl<D: Dial> Exchange<'_, D> {
    /// Tries until there is an answer to be passed on, or nothing more is to be tried.
    pub(super) async fn run(self) -> Result<Sent, SendError> {
        let mut tried = Tried::default();
        let mut attempts = 0;
        let mut held: Option<Permit> = None;
        loop {
            attempts += 1;
            let state = self.cluster.state();
            if attempts == 1 {
                state.count(self.endpoints.clock.now());
            }
            let attempt = self.attempt(&state, attempts, &tried).await;
            drop(held.take());
            match self.decide(&state, attempts, &attempt) {
                Decision::Retry(_) if !self.replay.take_back() => {
                    return self.finish(attempt, attempts, Stop::BodyGone);
                }
                Decision::Retry(retry) => {
                    held = retry.permit;
                    // The connection of an answer that nobody wants ends with it.
                    let (endpoint, is_unreached) = match attempt {
                        Ok(Answered { endpoint, .. }) => (Some(endpoint), false),
                        Err(Failed { endpoint, fault }) => (endpoint, matches!(fault, Fault::Connect(_))),
                    };
                    if let Some((id, _)) = endpoint
                        && retry.elsewhere
                    {
                        tried.add(id, is_unreached);
                    }
                    sleep(retry.after).await;
                }
                Decision::Stop(stop) => return self.finish(attempt, attempts, stop),
            }
        }
    }

    fn finish(&self, attempt: Result<Answered, Failed>, attempts: u32, stop: Stop) -> Result<Sent, SendError> {
        // A request that may be sent once has no retries to use up.
        let stop = Some(stop).filter(|stop| attempts > 1 || *stop != Stop::Attempts);
        match attempt {
            Ok(Answered {
                endpoint: (_, endpoint),
                response,
                places,
            }) => Ok(Sent {
                response: self.answer(response, places),
                endpoint,
                attempts,
                flags: Flags::of_answer(stop),
            }),
            Err(Failed { endpoint, fault }) => Err(SendError {
                fault,
                attempts,
                endpoint: endpoint.map(|(_, workload)| workload),
                stop,
            }),
        }
    }

    fn answer(&self, response: Response<Incoming>, places: Places) -> Response<Body> {
        let (head, body) = response.into_parts();
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            let count = Arc::clone(places.lease.count());
            count.hold((places.request, places.in_flight));
            return Response::from_parts(head, crate::waypoint::body::of_endpoint(body));
        }
        let due = self.due(self.deadline).map(|due| match self.replay.is_read() {
            true => due,
            // The endpoint may be waiting for it.
            false => Due {
                whose: Whose::Client,
                ..due
            },
        });
        let answer = Answer::new(body, places, due, &self.connections.tasks);
        Response::from_parts(head, Body::new(answer))
    }

    /// One attempt, which counts for its endpoint however it ends.
    async fn attempt(&self, state: &State, attempts: u32, tried: &Tried) -> Result<Answered, Failed> {
        let now = self.endpoints.clock.now();
        let ask = tried.ask().hash(self.affinity);
        let chosen = state.choose(ask, now, self.endpoints.chance.draw());
        let Chosen {
            id,
            target,
            in_flight,
            probe,
        } = chosen.map_err(|reason| Failed {
            endpoint: None,
            fault: Fault::NoHealthyEndpoint(reason),
        })?;
        let report = Report {
            endpoints: Arc::clone(self.endpoints),
            cluster: Arc::clone(&self.cluster),
            target: Arc::clone(&target),
            is_open: false,
        };
        let call = self.call(attempts);
        let deadline = self.policy.attempt_deadline(&call, now);
        let probe = Probe(Mutex::new(probe));
        let exchanged = probe.watch(self.exchange(state, &report, attempts, deadline)).await;
        let endpoint = (id, Arc::clone(&target.site.workload));
        let now = self.endpoints.clock.now();
        match exchanged {
            Ok((response, lease, request)) => {
                let outcome = outcome_of(response.status(), response.headers(), self.is_grpc);
                let is_bad = response.status() == StatusCode::TOO_MANY_REQUESTS || outcome.is_some_and(is_failure);
                in_flight.measure(now, if is_bad { PENALTY } else { Duration::ZERO });
                if let Some(outcome) = outcome {
                    report.record(outcome);
                }
                probe.judge(!outcome.is_some_and(is_failure));
                let places = Places {
                    lease,
                    request,
                    in_flight,
                    report: Report {
                        is_open: outcome.is_none(),
                        ..report
                    },
                };
                Ok(Answered {
                    endpoint,
                    response,
                    places,
                })
            }
            Err(fault) => {
                if fault.is_of_endpoint() {
                    in_flight.measure(now, PENALTY);
                    report.record(outlier::Outcome::LocalFailure);
                }
                Err(Failed {
                    endpoint: Some(endpoint),
                    fault,
                })
            }
        }
    }

    /// Gets a connection, and then an answer on it.
    async fn exchange(
        &self,
        state: &State,
        report: &Report,
        attempts: u32,
        deadline: Option<Duration>,
    ) -> Result<(Response<Incoming>, Lease, Permit), Fault> {
        let due = self.due(deadline);
        let (site, terms) = (&report.target.site, Terms::of(&state.settings));
        let mut stale = 0;
        loop {
            let acquiring = self
                .connections
                .acquire(site, self.order.is_http2, &terms, &state.breaker, due);
            let mut lease = acquiring.await?;
            let permit = state.breaker.acquire(Resource::Requests).map_err(Fault::Overflow)?;
            let request = self.head.write(attempts, lease.is_http2(), self.replay.play());
            let began = Instant::now();
            let late = |due: Due| match self.replay.is_late(began) {
                true => due.fault(Late::Client),
                false => due.fault(Late::Endpoint),
            };
            let sending = lease.send(request.ok_or(Fault::Unwritable)?);
            match due::wait(due, late, sending).await.and_then(|sent| sent) {
                Ok(response) => return Ok((response, lease, permit)),
                Err(_) if self.replay.has_failed() => return Err(Fault::Client),
                // It was idle for too long, which says nothing about who is at its other end. Each such
                // connection is one less.
                Err(Fault::ResetBeforeRequest) if lease.is_used() && stale < MOST_STALE && self.replay.take_back() => {
                    stale += 1;
                }
                Err(fault) => return Err(fault),
            }
        }
    }

    /// When this time is up.
    fn due(&self, deadline: Option<Duration>) -> Option<Due> {
        let at = self.endpoints.clock.instant(deadline?)?;
        let whose = match (deadline == self.deadline, self.is_clients) {
            (false, _) => Whose::Attempt,
            (true, false) => Whose::Request,
            (true, true) => Whose::Client,
        };
        Some(Due { at, whose })
    }

    fn decide(&self, state: &State, attempts: u32, attempt: &Result<Answered, Failed>) -> Decision<Option<Permit>> {
        let outcome = match attempt {
            Ok(answered) => retry::Outcome::Response(head_of(&answered.response)),
            Err(failed) => match failed.fault.failure() {
                Some(failure) => retry::Outcome::Failure(failure),
                None => return Decision::Stop(Stop::Condition),
            },
        };
        let now = self.endpoints.clock.now();
        // Nothing has reached an application where there was no connection: going to another one
        // adds nothing to their load.
        let is_unsent = outcome == retry::Outcome::Failure(retry::Failure::Connect);
        let admit = || match is_unsent {
            true => Some(None),
            false => state.retry(now).map(Some),
        };
        let call = self.call(attempts).can_be_sent_again(self.replay.can_be_played());
        self.policy
            .decide(&call, &outcome, now, self.endpoints.chance.draw(), admit)
    }

    fn call(&self, attempts: u32) -> Call {
        Call::new(self.head.method.as_str().as_bytes())
            .attempts(attempts)
            .deadline(self.deadline)
    }
}

/// The one request that tries an endpoint, if it is that.
struct Probe(Mutex<Option<Admission>>);

impl Probe {
    /// Waits for an attempt. If that takes too long, another request may try the endpoint.
    async fn watch<T>(&self, attempt: impl Future<Output = T>) -> T {
        if self.lock().is_none() {
            return attempt.await;
        }
        let mut attempt = pin!(attempt);
        tokio::select! {
            ended = &mut attempt => return ended,
            () = sleep(PROBE_PATIENCE) => drop(self.lock().take()),
        }
        attempt.await
    }

    /// If the endpoint is well, all may ask it; otherwise another one may try.
    fn judge(&self, is_well: bool) {
        let admission = self.lock().take();
        if let Some(admission) = admission.filter(|_| is_well) {
            admission.succeed();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Admission>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How a request is tried again; after which ends, if no rule says so, is `by_default`.
pub(super) fn policy(settings: &Settings, order: &Order, timeouts: &Timeouts, by_default: &Conditions) -> Policy {
    let retries = order.retries.as_ref();
    let policy = settings.retry_policy(retries, timeouts).longest_pushback(PUSHBACK);
    match retries.and_then(|retries| retries.conditions.as_ref()) {
        Some(_) => policy,
        None => policy.conditions(by_default.clone()),
    }
}

/// The times of a request, with what its client says.
pub(super) fn timeouts(order: &Order, head: &Head, is_grpc: bool) -> Timeouts {
    let of_client = head.grpc_timeout().filter(|_| is_grpc).and_then(grpc_timeout);
    order.timeouts.with_grpc_timeout(of_client)
}

/// What an answer's head says about its endpoint; `None` if a call's end is to say it.
fn outcome_of(status: StatusCode, headers: &HeaderMap, is_grpc: bool) -> Option<outlier::Outcome> {
    match (is_grpc && status == StatusCode::OK, grpc_status(headers)) {
        (false, _) => Some(outlier::Outcome::of_status(status.as_u16())),
        (true, Some(status)) => Some(outlier::Outcome::of_grpc(status)),
        (true, None) => None,
    }
}

fn is_failure(outcome: outlier::Outcome) -> bool {
    outcome != outlier::Outcome::Success
}

fn head_of(response: &Response<Incoming>) -> retry::Response {
    let headers = response.headers();
    let of_grpc = headers
        .get("grpc-retry-pushback-ms")
        .map(|value| Pushback::of_grpc(value.as_bytes()));
    let of_http = || Pushback::of_retry_after(headers.get(hyper::header::RETRY_AFTER)?.as_bytes());
    retry::Response::new(response.status().as_u16())
        .grpc_status(grpc_status(headers))
        .rate_limited(headers.contains_key("x-envoy-ratelimited"))
        .pushback(of_grpc.or_else(of_http))
}
