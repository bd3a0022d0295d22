//! Whether a request may pass: by its token, by policies, and by how many there have been.

use std::sync::Arc;

use hyper::http::request::Parts;
use mesh_policy::authz::{Admission, Permit, PolicySet};
use mesh_policy::jwt::{Authentication, Authenticator, Rejection};
use mesh_policy::traffic::rate::{Clusters, Limiter, TargetLimits};
use mesh_policy::{Claims, Facts, Known, RequestFacts};
use rustls::pki_types::UnixTime;

use super::Subject;
use super::consult::Agreed;
use crate::admission::{Refusal, admit};
use crate::waypoint::answer::Answer;
use crate::waypoint::client::Client;
use crate::waypoint::external::{Refused, Within};
use crate::waypoint::headers::Lines;
use crate::waypoint::snapshot::{Protection, Served};

/// The policies that decide about requests.
pub(super) fn policies(served: &Served) -> Result<&Arc<PolicySet>, Answer> {
    match &served.guard.protection {
        Protection::Policies(set) => Ok(set),
        Protection::Closed(reason) => Err(Answer::denied(reason)),
    }
}

/// Checks whose request it is, and has policies decide. What its token says about the request comes with
/// the permit.
pub(super) fn judge(
    client: &Client,
    set: &Arc<PolicySet>,
    authenticator: &Authenticator,
    Agreed { head, providers, .. }: &Agreed,
    subject: &Subject,
) -> Result<(Permit, Authentication), Answer> {
    let authentication = authenticate(client, authenticator, head, subject).map_err(|rejection| {
        let status = rejection.status().try_into().unwrap_or(hyper::StatusCode::UNAUTHORIZED);
        Answer::unauthenticated(status, rejection.challenge(), &rejection)
    })?;
    let permit = with_facts(client, head, subject, authentication.claims(), |facts| {
        admitted(set, set.decide(facts).admission(), providers).map_err(|refusal| {
            explain(set, facts);
            Answer::denied(&refusal)
        })
    })?;
    Ok((permit, authentication))
}

/// Checks whose request it is by the token in it.
pub(super) fn authenticate(
    client: &Client,
    authenticator: &Authenticator,
    head: &Parts,
    subject: &Subject,
) -> Result<Authentication, Rejection> {
    let gateway = &client.worker.gateway;
    with_facts(client, head, subject, Known::Unavailable, |facts| {
        authenticator.authenticate(facts, &gateway.keys, UnixTime::now(), gateway.algorithms)
    })
}

/// The permit that policies grant where these have agreed. Whoever else is to be asked has not.
pub(super) fn admitted(set: &PolicySet, answer: Admission, agreed: &[Box<str>]) -> Result<Permit, Refusal> {
    let has_agreed = |name: &str| agreed.iter().any(|agreed| **agreed == *name);
    match answer {
        Admission::Ask(consultation) if consultation.providers(set).all(has_agreed) => Ok(consultation.all_agreed()),
        answer => admit(set, answer),
    }
}

/// Tells which rule came closest to another decision.
fn explain(set: &PolicySet, facts: &RequestFacts<'_>) {
    if !tracing::enabled!(tracing::Level::DEBUG) {
        return;
    }
    let explanation = set.explain(facts);
    if let Some(miss) = explanation.nearest_miss() {
        let rule = miss.rule();
        let (policy, index) = (rule.policy().name(), rule.index());
        let failed: Vec<_> = miss.failed().iter().map(|field| field.label()).collect();
        tracing::debug!(%policy, rule = index, ?failed, "nearest miss");
    }
}

/// Counts a request against the limits of this program's own.
pub(super) fn count<'l>(
    client: &Client,
    limits: impl Iterator<Item = &'l TargetLimits> + Clone,
    head: &Parts,
    subject: &Subject,
) -> Result<(), Answer> {
    if limits.clone().next().is_none() {
        return Ok(());
    }
    let now = client.worker.gateway.began.elapsed();
    with_facts(client, head, subject, Known::Unavailable, |facts| {
        Limiter::check_all(limits.map(TargetLimits::limiter), facts, now)
            .map(|_| ())
            .map_err(|reached| Answer::limited(reached.limited.retry_after.unwrap_or_default(), &reached))
    })
}

/// Asks whoever counts requests for all proxies, also about what policies have to ask.
pub(super) fn asked<'w>(
    client: &'w Client,
    served: &Served,
    limits: impl Iterator<Item = &'w TargetLimits>,
    head: &Parts,
    subject: &Subject,
) -> impl Future<Output = Result<Within, Refused>> + Send {
    let worker = &client.worker;
    let clusters = Clusters {
        source: &worker.gateway.cluster,
        destination: served.to.key(),
    };
    let more = limits.map(TargetLimits::descriptors).filter(|more| !more.is_empty());
    let more: Vec<_> = more.collect();
    with_facts(client, head, subject, Known::Unavailable, |facts| {
        let facts = Facts::from(facts);
        worker.external.limit(served.to.key(), &more, facts, clusters)
    })
}

/// Puts together what is known about a request.
pub(super) fn with_facts<T>(
    client: &Client,
    head: &Parts,
    subject: &Subject,
    claims: Known<&Claims>,
    ask: impl FnOnce(&RequestFacts<'_>) -> T,
) -> T {
    let lines = Lines(&head.headers);
    let facts = RequestFacts::new(client.caller.facts(), head.method.as_str().as_bytes(), &lines)
        .authority(Known::Present(subject.authority.as_str().as_bytes()))
        .path(Known::Present(subject.path.borrowed()))
        .claims(claims);
    ask(&facts)
}
