//! One request, from its head to the answer.

mod consult;
mod judge;
mod route;
mod upgrade;
mod websocket;

use std::sync::Arc;
use std::time::SystemTime;

use hyper::body::Incoming;
use hyper::http::request::Parts;
use hyper::http::uri::Authority;
use hyper::{Method, Request, Response, StatusCode};
use mesh_policy::OwnedPath;

use self::consult::{Agreed, consult};
use self::judge::judge;
use self::route::Passing;
use self::websocket::Opening;
use super::account::{Account, Told, is_grpc};
use super::answer::Answer;
use super::body::{self, Body};
use super::client::Client;
use super::headers;
use super::http::Conversation;
use super::strict::{self, Fault};

/// Answers a request: by an endpoint, if policies and routes have it so.
pub(super) async fn answer(conversation: &Conversation, request: Request<Incoming>) -> Response<Told> {
    let client = &conversation.client;
    let gateway = &client.worker.gateway;
    let (mut head, content) = request.into_parts();
    let is_connect = head.method == Method::CONNECT;
    // What looks like a success of CONNECT is one: gRPC's way to refuse is not for it.
    let is_call = is_grpc(&head.headers) && !is_connect;
    let room = Arc::clone(&gateway.room).try_acquire_owned();
    let is_full = room.is_err();
    let mut account = Account::begin(client, &head, room.ok());
    account.traced(gateway.spans.begin(&mut head.headers, wall_clock()));
    if is_full {
        let refused = Answer::overloaded("OM", "too many requests are under way");
        let response = refuse(refused, &mut account, is_call);
        return account.attach(response);
    }
    let content = account.counting(body::of_client(content));
    let exchange = Exchange { client };
    let response = match exchange.treat(head, content, &mut account).await {
        Ok(Ending::Upgrade(upgrade)) => return upgrade.begin(conversation, account),
        Ok(Ending::Answer(response)) => response,
        Err(refused) => refuse(refused, &mut account, is_call),
    };
    let response = match is_connect && response.status().is_success() {
        true => {
            let refused = Answer::new(StatusCode::BAD_GATEWAY, "UPE", "an answer in the place of a WebSocket");
            refuse(refused, &mut account, is_call)
        }
        false => response,
    };
    account.attach(response)
}

/// Answers without an endpoint.
fn refuse(refused: Answer, account: &mut Account, is_call: bool) -> Response<Body> {
    account.fail(refused.flags.clone(), refused.reason.clone());
    refused.into_response(is_call)
}

/// When it is, for those outside who are told.
#[expect(
    clippy::disallowed_methods,
    reason = "they have no other clock in common with this program"
)]
fn wall_clock() -> SystemTime {
    SystemTime::now()
}

/// How a request ends.
enum Ending {
    Answer(Response<Body>),
    /// The connection goes on by another protocol.
    Upgrade(upgrade::Upgrade),
}

/// What a request is about, once there can be no two opinions about that.
struct Subject {
    authority: Authority,
    path: OwnedPath,
    is_http2: bool,
    /// If it is to go on by WebSocket.
    opening: Option<Opening>,
}

struct Exchange<'c> {
    client: &'c Client,
}

impl Exchange<'_> {
    async fn treat(&self, mut head: Parts, content: Body, account: &mut Account) -> Result<Ending, Answer> {
        let gateway = &self.client.worker.gateway;
        let mut subject = self
            .subject(&mut head)
            .map_err(|fault| Answer::malformed(fault.status(), &fault))?;
        let snapshot = gateway.snapshot();
        let served = self.client.served(&snapshot);
        let served = served.ok_or_else(|| Answer::new(StatusCode::NOT_FOUND, "NR", "service gone from here"))?;
        headers::set_forwarded(&mut head.headers, || headers::uuid(|| gateway.chance.draw()));
        let set = judge::policies(served)?;
        let authenticator = served.authenticator.as_ref().map_err(Answer::denied)?;
        let mut agreed = consult(self.client, set, head, content, &subject).await?;
        gateway.keys.tried_for(|| authenticator.wanted_keys()).await;
        let (permit, changes) = judge(self.client, set, authenticator, &agreed, &subject)?;
        headers::apply(&changes, &mut agreed.head.headers);
        if let Some(target) = changes.target() {
            subject.path = self
                .normalized(target)
                .map_err(|fault| Answer::malformed(fault.status(), &fault))?;
        }
        let Agreed {
            mut head,
            content,
            response,
            ..
        } = agreed;
        let mut response = vec![response];
        let choice = route::choose(self.client, served, &head, &subject);
        let limits = snapshot.limits(served, choice.as_ref());
        judge::count(self.client, limits.clone(), &head, &subject)?;
        let asked = judge::asked(self.client, served, limits, &head, &subject);
        let within = asked.await?;
        within.request.apply(&mut head.headers);
        response.push(within.response);
        if gateway.shows_clients {
            headers::set_client(&mut head.headers, &gateway.id, &self.client.id);
        }
        let passing = Passing {
            client: self.client,
            snapshot: &snapshot,
            served,
            choice,
            head,
            content,
            subject,
            permit,
        };
        Ok(match passing.carry(account).await? {
            Ending::Answer(mut answer) => {
                for edits in response {
                    edits.apply(answer.headers_mut());
                }
                Ending::Answer(answer)
            }
            upgrade @ Ending::Upgrade(_) => upgrade,
        })
    }

    /// Checks a head, and leaves in it what is for the endpoint.
    fn subject(&self, head: &mut Parts) -> Result<Subject, Fault> {
        let gateway = &self.client.worker.gateway;
        let authority = strict::check(head, gateway.underscores)?;
        let target = head.uri.path_and_query().map_or("", |target| target.as_str());
        let path = self.normalized(target.as_bytes())?;
        let opening = Opening::asked_by(head);
        headers::request_end_to_end(&mut head.headers);
        Ok(Subject {
            authority,
            path,
            is_http2: head.version == hyper::Version::HTTP_2,
            opening,
        })
    }

    fn normalized(&self, target: &[u8]) -> Result<OwnedPath, Fault> {
        let mut buffer = Vec::new();
        let path = self
            .client
            .worker
            .gateway
            .normalization
            .normalize(target, &mut buffer)?;
        Ok(path.to_owned())
    }
}
