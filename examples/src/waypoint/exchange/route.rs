//! What routes have become of a request.

use bytes::Bytes;
use hyper::header::{HeaderValue, LOCATION};
use hyper::http::Extensions;
use hyper::http::request::Parts;
use hyper::http::uri::{PathAndQuery, Scheme};
use hyper::upgrade::OnUpgrade;
use hyper::{Request, Response, StatusCode, Uri};
use mesh_policy::authz::Permit;
use mesh_policy::traffic::{
    Abort, AnswerEdits, EditHeaders, Failed, Forward, Plan, Retries, RouteRequest, Rule, Step, Timeouts,
};
use mesh_policy::{Known, RequestFacts, traffic::Choice};
use mesh_xds::store::AppProtocol;
use tokio::time::sleep;

use super::judge::with_facts;
use super::standing::Standing;
use super::upgrade::Upgrade;
use super::websocket::Opening;
use super::{Ending, Subject, refuse};
use crate::waypoint::account::Account;
use crate::waypoint::addressee::Addressee;
use crate::waypoint::answer::Answer;
use crate::waypoint::body::{self, Body};
use crate::waypoint::client::Client;
use crate::waypoint::headers::{self, Edited};
use crate::waypoint::reply::Reply;
use crate::waypoint::snapshot::{Destination, Routes, Served, Snapshot};
use crate::waypoint::upstream::{Order, Shadow};

/// The rule that takes a request, if its service has routes and one of them does. Limits may be for that
/// rule alone, so that it is known before anything is counted.
pub(super) fn choose<'s>(client: &Client, served: &'s Served, head: &Parts, subject: &Subject) -> Option<Choice<'s>> {
    let Routes::Table(table) = served.routes(client.port)? else {
        return None;
    };
    with_facts(client, head, subject, Known::Unavailable, |facts| {
        table.decide(&request(client, facts))
    })
}

/// A request as routes see it.
fn request<'f>(client: &Client, facts: &'f RequestFacts<'f>) -> RouteRequest<'f> {
    RouteRequest::new(facts).port(client.port).scheme(b"http")
}

/// A request that may pass, on its way.
pub(super) struct Passing<'a> {
    pub(super) client: &'a Client,
    pub(super) snapshot: &'a Snapshot,
    pub(super) served: &'a Served,
    /// The rule that takes it.
    pub(super) choice: Option<Choice<'a>>,
    pub(super) head: Parts,
    pub(super) content: Body,
    pub(super) subject: Subject,
    /// Nothing is sent on without one.
    pub(super) permit: Permit,
    /// If it is to go on by WebSocket.
    pub(super) standing: Option<Box<Standing>>,
}

impl Passing<'_> {
    /// Does with the request what the routes of its service say.
    pub(super) async fn carry(self, account: &mut Account) -> Result<Ending, Answer> {
        match self.served.routes(self.client.port) {
            None => return self.send(None, account).await,
            Some(Routes::Broken) => {
                let status = StatusCode::INTERNAL_SERVER_ERROR;
                return Err(Answer::new(status, "NR", "the service's routes cannot be carried out"));
            }
            Some(Routes::Table(_)) => {}
        }
        let missed = || Answer::new(StatusCode::NOT_FOUND, "NR", "no route takes it");
        let choice = self.choice.ok_or_else(missed)?;
        let plan = with_facts(self.client, &self.head, &self.subject, Known::Unavailable, |facts| {
            let chance = &self.client.worker.gateway.chance;
            choice.plan(&request(self.client, facts), || chance.draw())
        });
        let Plan { delay, step, .. } = plan;
        account.takes(name(&choice));
        if let Some(delay) = delay {
            sleep(delay).await;
        }
        match step {
            Step::Abort(abort) => Err(aborted(abort)),
            Step::Preflight(cors) => {
                let mut response = Response::new(body::whole(""));
                cors.apply(&mut Edited(response.headers_mut()));
                Ok(Ending::Answer(response))
            }
            Step::Redirect {
                status,
                location,
                answer,
            } => {
                let mut reply = Reply::bare(self::status(status));
                let location = HeaderValue::from_bytes(&location).map_err(unwritable)?;
                reply.headers.insert(LOCATION, location);
                Ok(replied(reply, self.subject.is_call, &answer))
            }
            Step::Respond { response, answer } => {
                let mut reply = Reply::bare(status(response.status)).saying(response.body.to_vec());
                for (name, value) in &response.headers {
                    Edited(&mut reply.headers).add(name, value);
                }
                Ok(replied(reply, self.subject.is_call, &answer))
            }
            Step::Forward(forward) => self.send(Some((choice.rule(), forward)), account).await,
            Step::Fail(cause) => Err(failed(cause)),
            _ => Err(Answer::new(
                StatusCode::NOT_IMPLEMENTED,
                "NR",
                "the rule asks for what is not known here",
            )),
        }
    }

    /// Sends the request on: as a rule says, or else to the service that it was for.
    async fn send(self, routed: Option<(&Rule, Forward<'_>)>, account: &mut Account) -> Result<Ending, Answer> {
        let Self {
            client,
            snapshot,
            served,
            choice: _,
            mut head,
            content,
            mut subject,
            permit,
            standing,
        } = self;
        let mut order = order(client, snapshot, served, &subject, routed.as_ref())?;
        let mut authority = subject.authority.clone();
        let mut target = subject.path.borrowed().target().to_vec();
        if let Some((_, forward)) = &routed {
            for edits in forward.request_headers {
                edits.apply(&mut Edited(&mut head.headers));
            }
            if let Some(host) = forward.host {
                authority = host.parse().map_err(unwritable)?;
            }
            if let Some(changed) = &forward.target {
                target.clone_from(changed);
            }
        }
        let chance = &client.worker.gateway.chance;
        let opening = subject.opening.take();
        let opening = opening.map(|opening| opening.ask(&mut head.headers, || chance.draw()));
        if opening.is_some() {
            order.is_http2 = false;
        }
        let uri = Uri::builder().scheme(Scheme::HTTP).authority(authority);
        let target = PathAndQuery::try_from(&target[..]).map_err(unwritable)?;
        head.uri = uri.path_and_query(target).build().map_err(unwritable)?;
        head.extensions = Extensions::new();
        let sent = client
            .worker
            .upstream
            .send(Request::from_parts(head, content), &order)
            .await;
        let mut sent = match sent {
            Ok(sent) => sent,
            Err(error) => {
                account.tried(error.endpoint.as_deref(), error.attempts);
                let mut response = refuse(Answer::from(error), account, subject.is_call);
                if let Some((_, forward)) = &routed {
                    forward.answer.apply(&mut Edited(response.headers_mut()));
                }
                return Ok(Ending::Answer(response));
            }
        };
        account.answered_by(&sent.endpoint, sent.attempts, sent.flags.to_string());
        let lines = sent.response.headers_mut();
        headers::end_to_end(lines);
        if let Some((_, forward)) = &routed {
            forward.answer.apply(&mut Edited(lines));
        }
        if sent.response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let opening = opening.zip(standing);
            return switched(sent.response, opening, permit).map(Ending::Upgrade);
        }
        Ok(Ending::Answer(sent.response))
    }
}

fn order(
    client: &Client,
    snapshot: &Snapshot,
    served: &Served,
    subject: &Subject,
    routed: Option<&(&Rule, Forward<'_>)>,
) -> Result<Order, Answer> {
    let (destination, shadows, timeouts, retries): (_, _, Timeouts, Option<Retries>) = match routed {
        None => (
            snapshot.itself(served, client.port),
            Vec::new(),
            Timeouts::default(),
            None,
        ),
        Some((rule, forward)) => {
            let target = &forward.backend.target;
            let destination = snapshot.destination(target).cloned();
            let unknown = || {
                Answer::new(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "NC",
                    &format!("`{target}` is not known"),
                )
            };
            let mirrors = forward.mirrors.iter();
            let shadows = mirrors.filter_map(|mirror| snapshot.destination(&mirror.target).cloned());
            let shadows = shadows.map(|destination| Shadow {
                is_http2: is_http2(snapshot, (&destination.to, destination.port), subject.is_http2),
                to: destination.to,
                port: destination.port,
                subset: destination.subset,
                rule: destination.rule,
                policy: destination.policy,
            });
            let destination = destination.ok_or_else(unknown)?;
            (destination, shadows.collect(), rule.timeouts, rule.retries.clone())
        }
    };
    let Destination {
        to,
        port,
        subset,
        rule,
        policy,
    } = destination;
    Ok(Order {
        is_http2: is_http2(snapshot, (&to, port), subject.is_http2),
        to,
        port,
        subset,
        rule,
        policy,
        timeouts,
        retries,
        source_addr: client.addr,
        shadows,
    })
}

/// Whether requests go to a port by HTTP/2: as it is declared, or else as the client has it.
fn is_http2(snapshot: &Snapshot, (to, port): (&Addressee, u16), of_client: bool) -> bool {
    match to.protocol(&snapshot.mesh, port) {
        AppProtocol::Http1 => false,
        AppProtocol::Http2 | AppProtocol::Grpc => true,
        _ => of_client,
    }
}

/// The route's own name and which of its rules it is.
fn name(choice: &Choice<'_>) -> String {
    let route = &choice.route().id;
    match &choice.rule().name {
        Some(rule) => format!("{}/{}/{rule}", route.namespace, route.name),
        None => format!("{}/{}/{}", route.namespace, route.name, choice.rule_index()),
    }
}

fn aborted(abort: Abort) -> Answer {
    match abort {
        Abort::Http(code) => Answer::aborted(status(code), None),
        Abort::Grpc(code) => Answer::aborted(StatusCode::OK, Some(code.into())),
        _ => Answer::aborted(StatusCode::INTERNAL_SERVER_ERROR, None),
    }
}

/// A rule's own answer, in the way of the request.
fn replied(reply: Reply, is_call: bool, edits: &AnswerEdits<'_>) -> Ending {
    let reply = match is_call {
        true => reply.for_call(None),
        false => reply,
    };
    let mut response = Response::<Bytes>::from(reply).map(body::whole);
    edits.apply(&mut Edited(response.headers_mut()));
    Ending::Answer(response)
}

fn switched(
    mut response: Response<Body>,
    opening: Option<(Opening, Box<Standing>)>,
    permit: Permit,
) -> Result<Upgrade, Answer> {
    let endpoint = response.extensions_mut().remove::<OnUpgrade>();
    let opened = |(opening, standing): (Opening, _)| Some((opening.opened(&mut response)?, standing));
    let client = opening.and_then(opened);
    match (client, endpoint) {
        (Some((client, standing)), Some(endpoint)) => Ok(Upgrade {
            client,
            endpoint,
            response,
            permit,
            standing,
        }),
        _ => Err(Answer::new(
            StatusCode::BAD_GATEWAY,
            "UPE",
            "the endpoint goes on by what nobody asked for",
        )),
    }
}

fn failed(failed: Failed<'_>) -> Answer {
    let reason = failed.cause.to_string();
    let (code, grpc) = failed.status();
    let code = if grpc.is_some() {
        StatusCode::INTERNAL_SERVER_ERROR
    } else {
        status(code)
    };
    Answer::new(code, "NC", &reason).with_grpc_status(grpc.map(u32::from))
}

fn unwritable(error: impl std::error::Error) -> Answer {
    Answer::new(StatusCode::INTERNAL_SERVER_ERROR, "-", &error)
}

/// Statuses of routes are checked when they are read.
fn status(code: u16) -> StatusCode {
    StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}
