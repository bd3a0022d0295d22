//! One request, from its head to the answer.

mod judge;
mod route;
mod upgrade;

use std::sync::Arc;
use std::time::SystemTime;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::http::request::Parts;
use hyper::http::uri::Authority;
use hyper::upgrade::OnUpgrade;
use hyper::{Request, Response, StatusCode};
use mesh_policy::OwnedPath;
use mesh_policy::authz::Permit;

use self::judge::{Admission, judge};
use self::route::Passing;
use super::account::{Account, Told, is_grpc};
use super::answer::Answer;
use super::body::{self, Body};
use super::client::Client;
use super::external::{About, Edits, End, Unauthorized};
use super::headers;
use super::http::Conversation;
use super::strict::{self, Fault};

/// Answers a request: by an endpoint, if policies and routes have it so.
pub(super) async fn answer(conversation: &Conversation, request: Request<Incoming>) -> Response<Told> {
    let client = &conversation.client;
    let gateway = &client.worker.gateway;
    let (mut head, content) = request.into_parts();
    let is_call = is_grpc(&head.headers);
    let room = Arc::clone(&gateway.room).try_acquire_owned();
    let is_full = room.is_err();
    let mut account = Account::begin(client, &head, room.ok());
    account.traced(gateway.spans.begin(&mut head.headers, wall_clock()));
    if is_full {
        let refused = Answer::overloaded("OM", "too many requests are under way");
        account.fail(refused.flags.clone(), refused.reason.clone());
        return account.attach(refused.into_response(is_call));
    }
    let content = account.counting(body::of_client(content));
    let exchange = Exchange { client };
    match exchange.treat(head, content, &mut account).await {
        Ok(Ending::Answer(response)) => account.attach(response),
        Ok(Ending::Upgrade(upgrade)) => upgrade.begin(conversation, account),
        Err(refused) => {
            account.fail(refused.flags.clone(), refused.reason.clone());
            account.attach(refused.into_response(is_call))
        }
    }
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
    /// The client's connection, if that is to go on by WebSocket.
    upgrade: Option<OnUpgrade>,
}

struct Exchange<'c> {
    client: &'c Client,
}

impl Exchange<'_> {
    async fn treat(&self, mut head: Parts, content: Body, account: &mut Account) -> Result<Ending, Answer> {
        let gateway = &self.client.worker.gateway;
        let subject = self
            .subject(&mut head)
            .map_err(|fault| Answer::malformed(fault.status(), &fault))?;
        let snapshot = gateway.snapshot();
        let served = self.client.served(&snapshot);
        let served = served.ok_or_else(|| Answer::new(StatusCode::NOT_FOUND, "NR", "service gone from here"))?;
        headers::set_forwarded(&mut head.headers, || headers::uuid(|| gateway.chance.draw()));
        let mut subject = subject;
        if let Ok(authenticator) = &served.authenticator {
            gateway.keys.tried_for(|| authenticator.wanted_keys()).await;
        }
        let admission = judge(self.client, served, &head, &subject)?;
        let target = admission.apply(&mut head.headers);
        if let Some(target) = target {
            subject.path = self
                .normalized(&target)
                .map_err(|fault| Answer::malformed(fault.status(), &fault))?;
        }
        let (head, content, response, permit) = self.authorized(admission, head, content, &subject).await?;
        let (mut head, mut response) = (head, vec![response]);
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
        let wants = headers::wants_websocket(head.version, &head.headers);
        let upgrade = head.extensions.remove::<OnUpgrade>().filter(|_| wants);
        headers::request_end_to_end(&mut head.headers);
        Ok(Subject {
            authority,
            path,
            is_http2: head.version == hyper::Version::HTTP_2,
            upgrade,
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

    /// Asks whoever else is to be asked whether the request may pass.
    async fn authorized(
        &self,
        admission: Admission,
        head: Parts,
        content: Body,
        subject: &Subject,
    ) -> Result<(Parts, Body, Edits, Permit), Answer> {
        let (consultation, set) = match admission {
            Admission::Granted { permit, .. } => return Ok((head, content, Edits::default(), permit)),
            Admission::Ask { consultation, set, .. } => (consultation, set),
        };
        let worker = &self.client.worker;
        let id = head.headers.get(headers::REQUEST_ID).and_then(|id| id.to_str().ok());
        let id = id.unwrap_or_default().to_owned();
        let unknown = ([0, 0, 0, 0], 0).into();
        let about = About {
            source: End {
                address: self.client.addr.unwrap_or(unknown),
                identity: Some(&self.client.id),
            },
            destination: End {
                address: self.client.destination.unwrap_or(unknown),
                identity: Some(&worker.gateway.id),
            },
            authority: subject.authority.as_str(),
            id: &id,
            time: wall_clock(),
        };
        let request = Request::from_parts(head, content);
        let asked = worker.external.authorize(consultation.providers(&set), request, &about);
        match asked.await {
            Ok(authorized) => {
                let (mut head, content) = authorized.request.into_parts();
                headers::request_end_to_end(&mut head.headers);
                Ok((head, content.boxed(), authorized.response, consultation.all_agreed()))
            }
            Err(Unauthorized::Refused(refused)) => Err(refused.into()),
            Err(Unauthorized::Body(error)) => Err(Answer::malformed(StatusCode::BAD_REQUEST, &error)),
        }
    }
}
