//! One request, from its head to the answer.

mod consult;
mod judge;
mod route;
mod standing;
mod upgrade;
mod websocket;

use std::time::SystemTime;

use hyper::body::Incoming;
use hyper::http::request::Parts;
use hyper::http::uri::Authority;
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use mesh_policy::OwnedPath;

use self::consult::{Agreed, consult};
use self::judge::judge;
use self::route::Passing;
use self::standing::Standing;
use self::websocket::Opening;
use super::account::Account;
use super::answer::Answer;
use super::body::{self, Body};
use super::client::Client;
use super::external::Edits;
use super::headers::{self, is_grpc};
use super::http::Conversation;
use super::snapshot::{Served, Snapshot};
use super::stream::Told;
use super::strict::{self, Fault};

/// Answers a request: by an endpoint, if policies and routes have it so.
pub(super) async fn answer(conversation: &Conversation, request: Request<Incoming>) -> Response<Told> {
    let client = &conversation.client;
    let gateway = &client.worker.gateway;
    let (mut head, content) = request.into_parts();
    let is_connect = head.method == Method::CONNECT;
    // What looks like a success of CONNECT is one: gRPC's way to refuse is not for it.
    let is_call = is_grpc(&head.headers) && !is_connect;
    let stream = conversation.streams.open(head.version);
    let (place, full) = match client.share.take() {
        Ok(place) => (Some(place), None),
        Err(full) => (None, Some(full)),
    };
    let mut account = Account::begin(client, &stream, &head, place);
    account.traced(gateway.spans.begin(&mut head.headers, wall_clock()));
    if let Some(full) = full {
        let response = refuse(Answer::overloaded("OM", &full), &mut account, is_call);
        return account.attach(stream, response);
    }
    let content = stream.progress.counting(body::of_client(content));
    let exchange = Exchange { client };
    let treated = tokio::select! {
        biased;
        treated = exchange.treat(head, content, &mut account) => treated,
        () = stream.given_up() => {
            stream.progress.end();
            Err(Answer::idle(stream.progress.is_whole()))
        }
    };
    let response = match treated {
        Ok(Ending::Upgrade(upgrade)) => return upgrade.begin(conversation, stream, account),
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
    account.attach(stream, response)
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

impl Ending {
    fn headers_mut(&mut self) -> &mut HeaderMap {
        match self {
            Self::Answer(response) => response.headers_mut(),
            Self::Upgrade(upgrade) => upgrade.response.headers_mut(),
        }
    }
}

/// What a request is about, once there can be no two opinions about that.
struct Subject {
    authority: Authority,
    path: OwnedPath,
    is_http2: bool,
    /// Whether it is a call of gRPC.
    is_call: bool,
    /// If it is to go on by WebSocket.
    opening: Option<Opening>,
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
        let served =
            served.ok_or_else(|| Answer::new(StatusCode::NOT_FOUND, "NR", "who is asked for is gone from here"))?;
        let served = &*served;
        headers::set_forwarded(&mut head.headers, || headers::uuid(|| gateway.chance.draw()));
        account.identified(&head.headers);
        let request = Request::from_parts(head, content);
        let mut response = Vec::new();
        let is_call = subject.is_call;
        let passed = self.pass(&snapshot, served, request, subject, &mut response, account);
        let passed = passed.await;
        let mut ending = passed.unwrap_or_else(|refused| Ending::Answer(refuse(refused, account, is_call)));
        // As an answer passes Envoy's filters: whoever was asked last comes first.
        for edits in response.into_iter().rev() {
            edits.apply(ending.headers_mut());
        }
        Ok(ending)
    }

    /// Has everybody asked who has a say in a request, has it judged, and sends it on. Whoever agrees
    /// has a say in the answer, too, even if that is another's refusal.
    async fn pass(
        &self,
        snapshot: &Snapshot,
        served: &Served,
        request: Request<Body>,
        mut subject: Subject,
        response: &mut Vec<Edits>,
        account: &mut Account,
    ) -> Result<Ending, Answer> {
        let gateway = &self.client.worker.gateway;
        let set = judge::policies(served)?;
        let mut agreed = consult(self.client, set, request, &subject, response).await?;
        let authenticator = served.guard.authenticator.as_ref().map_err(Answer::denied)?;
        gateway.keys.tried_for(|| authenticator.wanted_keys()).await;
        let (permit, authentication) = judge(self.client, set, authenticator, &agreed, &subject)?;
        let changes = authentication.changes().clone();
        let standing = || Box::new(Standing::new(&agreed, &subject, authentication, authenticator));
        let standing = subject.opening.is_some().then(standing);
        headers::apply(&changes, &mut agreed.head.headers);
        if let Some(target) = changes.target() {
            subject.path = self
                .normalized(target)
                .map_err(|fault| Answer::malformed(fault.status(), &fault))?;
        }
        let Agreed { mut head, content, .. } = agreed;
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
            snapshot,
            served,
            choice,
            head,
            content,
            subject,
            permit,
            standing,
        };
        passing.carry(account).await
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
            is_call: is_grpc(&head.headers) && opening.is_none(),
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
