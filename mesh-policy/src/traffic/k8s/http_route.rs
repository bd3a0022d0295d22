use std::time::Duration;

use super::{
    backend::backends,
    duration, filter,
    metadata::Metadata,
    reference::{Claimed, parents},
    scope::{Scope, field_name, hosts},
};
use crate::{
    facts::header::is_token,
    manifest::{Object, Problem, ReadFault, object::unfit},
    traffic::{
        header::{HeaderMatch, HeaderTest},
        matching::{PathMatch, RouteMatch, SegmentPrefix},
        model::{Retries, Route, RouteKind, Rule},
        pattern::Pattern,
        query::QueryMatch,
        retry::{Backoff, Conditions},
        rewrite::PathChange,
        timeout::Timeouts,
    },
};

/// Rules in a route.
pub(super) const MAX_RULES: usize = 16;

/// Kinds of requests in a rule, and in all rules of a route.
const MAX_MATCHES: usize = 64;
const MAX_ALL_MATCHES: usize = 128;

/// Headers and parameters in a kind of requests.
const MAX_TESTS: usize = 16;

pub(super) fn read(
    metadata: Metadata,
    mut spec: Object,
    scope: &mut Scope,
    claimed: &mut Option<Claimed>,
) -> Result<Route, Problem> {
    let namespace = metadata.namespace.clone();
    let mut route = metadata.route(RouteKind::Http, &scope.file);
    route.parents = parents(&mut spec, &namespace)?;
    route.hosts = hosts(&mut spec, "hostnames")?;
    *claimed = Some(Claimed::of(&route));
    let (line, path) = (spec.line_of("rules"), spec.path("rules"));
    let list = spec.objects_at_most(MAX_RULES, "rules")?;
    spec.refuse(&["useDefaultGateways"])?;
    spec.finish()?;
    for object in list {
        route.rules.push(rule(object, &namespace, scope)?);
    }
    if route.rules.iter().map(|rule| rule.matches.len()).sum::<usize>() > MAX_ALL_MATCHES {
        let (field, limit) = (format!("{path}.matches").into(), MAX_ALL_MATCHES);
        return Err((line, ReadFault::TooMany { field, limit }));
    }
    Ok(route.shrunk())
}

fn rule(mut object: Object, namespace: &str, scope: &mut Scope) -> Result<Rule, Problem> {
    let mut rule = Rule {
        name: object.text("name")?.map(Into::into),
        ..Rule::default()
    };
    let list = object.objects_at_most(MAX_MATCHES, "matches")?;
    for asked in list {
        rule.matches.push(route_match(asked, scope)?);
    }
    Ok(scope.rule(rule, |rule, scope| outcome(rule, object, namespace, scope)))
}

/// What becomes of the rule's requests.
fn outcome(rule: &mut Rule, mut object: Object, namespace: &str, scope: &mut Scope) -> Result<(), Problem> {
    let (line, field) = (object.line_of("filters"), object.path("filters"));
    let line_of_backends = object.line_of("backendRefs");
    rule.filters = filter::read(&mut object, RouteKind::Http, namespace)?;
    rule.backends = backends(&mut object, RouteKind::Http, namespace, scope)?;
    check_prefix(rule, line, &field)?;
    if rule.filters.redirect.is_some() && !rule.backends.as_slice().is_empty() {
        let (field, other) = (object.path("backendRefs").into(), "requestRedirect".into());
        return Err((line_of_backends, ReadFault::Excluded { field, other }));
    }
    rule.timeouts = object
        .object("timeouts")?
        .map(timeouts)
        .transpose()?
        .unwrap_or_default();
    rule.retries = object.object("retry")?.map(retries).transpose()?;
    object.refuse(&["sessionPersistence"])?;
    object.finish()
}

/// What is replaced has to be the same for all requests of the rule: one prefix.
fn check_prefix(rule: &Rule, line: u32, field: &str) -> Result<(), Problem> {
    let of_backends = rule.backends.as_slice().iter();
    let of_backends = of_backends.map(|backend| (&backend.redirect, &backend.rewrite));
    let all = of_backends.chain([(&rule.filters.redirect, &rule.filters.rewrite)]);
    let mut changes = all.flat_map(|(redirect, rewrite)| {
        let redirect = redirect.as_ref().and_then(|redirect| redirect.path.as_ref());
        [redirect, rewrite.as_ref().and_then(|rewrite| rewrite.path.as_ref())]
    });
    let replaces = changes.any(|change| matches!(change, Some(PathChange::Prefix(_))));
    let is_one = match rule.matches.as_slice() {
        [] => true,
        [asked] => matches!(asked.path, None | Some(PathMatch::Segments(_))),
        _ => false,
    };
    if replaces && !is_one {
        return Err(unfit(line, field, "ReplacePrefixMatch"));
    }
    Ok(())
}

fn route_match(mut object: Object, scope: &mut Scope) -> Result<RouteMatch, Problem> {
    let path = object.object("path")?;
    let asked = RouteMatch {
        path: path.map(|path| path_match(path, scope)).transpose()?,
        headers: headers(&mut object, scope)?,
        query: query(&mut object, scope)?,
        method: object.mapped("method", |text| {
            let is_method = !text.is_empty() && text.bytes().all(is_token);
            is_method.then(|| Pattern::Exact(text.into()))
        })?,
        ..RouteMatch::default()
    };
    object.finish()?;
    Ok(asked)
}

fn path_match(mut object: Object, scope: &mut Scope) -> Result<PathMatch, Problem> {
    #[derive(Clone, Copy)]
    enum Type {
        Exact,
        Prefix,
        Regex,
    }
    let types = [
        ("Exact", Type::Exact),
        ("PathPrefix", Type::Prefix),
        ("RegularExpression", Type::Regex),
    ];
    let kind = object.word("type", &types)?.unwrap_or(Type::Prefix);
    let (line, field) = (object.line_of("value"), object.path("value"));
    let value = object.text("value")?.unwrap_or_else(|| "/".to_owned());
    object.finish()?;
    let path = match kind {
        Type::Exact => PathMatch::exact(&value),
        Type::Prefix => SegmentPrefix::new(&value).map(PathMatch::Segments),
        Type::Regex => return Ok(PathMatch::Regex(scope.regex(line, &field, &value)?)),
    };
    path.map_err(|_| unfit(line, &field, &value))
}

/// The headers that are asked for; of several of a name the first counts.
pub(super) fn headers(object: &mut Object, scope: &mut Scope) -> Result<Vec<HeaderMatch>, Problem> {
    let list = object.objects_at_most(MAX_TESTS, "headers")?;
    let mut headers: Vec<HeaderMatch> = Vec::new();
    for mut object in list {
        let (line, field) = (object.line_of("name"), object.path("name"));
        let name = field_name(line, &field, &object.required_text("name")?)?;
        let is_regex = is_regex(&mut object)?;
        let test = HeaderTest::Is(scope.pattern(&mut object, "value", is_regex)?);
        object.finish()?;
        if headers.iter().all(|known| known.name != name) {
            headers.push(HeaderMatch { name, test });
        }
    }
    Ok(headers)
}

fn query(object: &mut Object, scope: &mut Scope) -> Result<Vec<QueryMatch>, Problem> {
    let list = object.objects_at_most(MAX_TESTS, "queryParams")?;
    let mut query: Vec<QueryMatch> = Vec::new();
    for mut object in list {
        let name: Box<str> = object.required_text("name")?.into();
        let is_regex = is_regex(&mut object)?;
        let value = Some(scope.pattern(&mut object, "value", is_regex)?);
        object.finish()?;
        if query.iter().all(|known| known.name != name) {
            query.push(QueryMatch { name, value });
        }
    }
    Ok(query)
}

fn is_regex(object: &mut Object) -> Result<bool, Problem> {
    let found = object.word("type", &[("Exact", false), ("RegularExpression", true)])?;
    Ok(found.unwrap_or(false))
}

fn timeouts(mut object: Object) -> Result<Timeouts, Problem> {
    let line = object.line_of("backendRequest");
    let path = object.path("backendRequest");
    let request = object.mapped("request", duration::gateway_api)?;
    let attempt = object.mapped("backendRequest", duration::gateway_api)?;
    object.finish()?;
    let timeouts = Timeouts::new(request, attempt);
    match (timeouts.request, timeouts.attempt) {
        (Some(request), Some(attempt)) if attempt > request => Err(unfit(line, &path, &format!("{attempt:?}"))),
        _ => Ok(timeouts),
    }
}

/// Connections that were not made are tried again beside the statuses that are listed, as the API
/// recommends.
fn retries(mut object: Object) -> Result<Retries, Problem> {
    let mut retries = Retries::default();
    let path = object.path("codes");
    for (line, text) in object.texts("codes")? {
        let status = text.parse().ok().filter(|status| (400..=599).contains(status));
        let status = status.ok_or_else(|| unfit(line, &path, &text))?;
        let conditions = retries.conditions.unwrap_or_else(Conditions::unprocessed);
        retries.conditions = Some(conditions.statuses([status]));
    }
    let attempts = object.mapped("attempts", |text| text.parse().ok().filter(|attempts| *attempts >= 1))?;
    retries.attempts = attempts.unwrap_or(1);
    let wait = object.mapped("backoff", duration::gateway_api)?;
    retries.backoff = wait
        .filter(|wait: &Duration| !wait.is_zero())
        .map(|wait| Backoff::new().at_least(wait));
    object.finish()?;
    Ok(retries)
}
