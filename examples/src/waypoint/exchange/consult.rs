//! Whom else a request needs the consent of. They are asked first of all, as in Istio: what they change
//! about the request, a token that they bring for one, is what is judged then.

use std::sync::Arc;

use http_body_util::BodyExt;
use hyper::http::request::Parts;
use hyper::{Request, StatusCode};
use mesh_policy::Known;
use mesh_policy::authz::PolicySet;

use super::judge::with_facts;
use super::{Subject, wall_clock};
use crate::waypoint::answer::Answer;
use crate::waypoint::body::Body;
use crate::waypoint::client::Client;
use crate::waypoint::external::{About, Edits, End, Unauthorized};
use crate::waypoint::headers;

/// A request to which everybody agrees whom CUSTOM policies have asked about it.
pub(super) struct Agreed {
    /// As they have changed it.
    pub(super) head: Parts,
    pub(super) content: Body,
    /// Who was asked.
    pub(super) providers: Vec<Box<str>>,
    _by_consulting: (),
}

/// Asks the providers of those CUSTOM policies that a request matches: one after another, for what one
/// changes about it may be what the next one's policies turn on. What those who agree want changed about
/// the answer, whoever gives it, goes to `response`.
pub(super) async fn consult(
    client: &Client,
    set: &Arc<PolicySet>,
    request: Request<Body>,
    subject: &Subject,
    response: &mut Vec<Edits>,
) -> Result<Agreed, Answer> {
    let (head, content) = request.into_parts();
    let mut agreed = Agreed {
        head,
        content,
        providers: Vec::new(),
        _by_consulting: (),
    };
    // Once all have agreed whom policies name, nothing is left to be decided here.
    while agreed.providers.len() < set.providers().count()
        && let Some(provider) = next(client, set, &agreed, subject)
    {
        agreed = ask(client, provider, agreed, subject, response).await?;
    }
    Ok(agreed)
}

/// Who is to be asked next. CUSTOM policies cannot turn on what a token says.
fn next(client: &Client, set: &Arc<PolicySet>, agreed: &Agreed, subject: &Subject) -> Option<Box<str>> {
    let decision = with_facts(client, &agreed.head, subject, Known::Unavailable, |facts| {
        set.decide(facts)
    });
    let has_agreed = |name: &str| agreed.providers.iter().any(|agreed| **agreed == *name);
    let mut wanted = decision.providers(set).filter(|name| !has_agreed(name));
    wanted.next().map(Box::from)
}

async fn ask(
    client: &Client,
    provider: Box<str>,
    before: Agreed,
    subject: &Subject,
    response: &mut Vec<Edits>,
) -> Result<Agreed, Answer> {
    let Agreed {
        head,
        content,
        mut providers,
        _by_consulting: (),
    } = before;
    let worker = &client.worker;
    let id = head.headers.get(headers::REQUEST_ID).and_then(|id| id.to_str().ok());
    let id = id.unwrap_or_default().to_owned();
    let unknown = ([0, 0, 0, 0], 0).into();
    let about = About {
        source: End {
            address: client.addr.unwrap_or(unknown),
            identity: Some(&client.id),
        },
        destination: End {
            address: client.destination.unwrap_or(unknown),
            identity: Some(&worker.gateway.id),
        },
        authority: subject.authority.as_str(),
        id: &id,
        time: wall_clock(),
    };
    let request = Request::from_parts(head, content);
    let asked = worker.external.authorize([&*provider], request, &about);
    match asked.await {
        Ok(authorized) => {
            let (mut head, content) = authorized.request.into_parts();
            headers::request_end_to_end(&mut head.headers);
            response.push(authorized.response);
            providers.push(provider);
            Ok(Agreed {
                head,
                content: content.boxed(),
                providers,
                _by_consulting: (),
            })
        }
        Err(Unauthorized::Refused(refused)) => Err(refused.into()),
        Err(Unauthorized::Body(error)) => Err(Answer::malformed(StatusCode::BAD_REQUEST, &error)),
    }
}
