use std::sync::Arc;

use super::{
    cors, duration,
    istio::{destination, direct_response, fault, header_edits, percentage, redirect, rewrite},
    metadata::Metadata,
    reference::{Claimed, port},
    scope::{Scope, field_name, hosts},
};
use crate::{
    manifest::{Object, Problem, ReadFault, object::unfit},
    traffic::{
        backend::{Backend, Backends},
        filter::Mirror,
        fraction::Fraction,
        header::{HeaderMatch, HeaderTest},
        matching::{PathMatch, RouteMatch},
        model::{Retries, RouteKind, Rule, VirtualService},
        pattern::Pattern,
        query::QueryMatch,
        retry::{Backoff, InvalidCondition},
        timeout::Timeouts,
    },
};

/// Who may get copies of a rule's requests: what a [`Plan`](crate::traffic::Plan) holds.
const MAX_MIRRORS: usize = 64;

/// Keys that stand for fields of their own, and that Istio passes over as headers.
const NO_HEADERS: [&str; 4] = ["uri", "scheme", "method", "authority"];

/// The rules that are about no requests.
const NO_HTTP: [&str; 2] = ["tcp", "tls"];

pub(super) fn read(
    metadata: Metadata,
    mut spec: Object,
    scope: &mut Scope,
    claimed: &mut Option<Claimed>,
) -> Result<VirtualService, Problem> {
    let namespace = metadata.namespace.clone();
    let mut route = metadata.route(RouteKind::VirtualService, &scope.file);
    route.hosts = hosts(&mut spec, "hosts")?;
    // Taken back once it is known to be about no request of the mesh: what cannot be read may be.
    *claimed = Some(Claimed::of(&route));
    let mut service = VirtualService::new(route);
    let texts = |texts: Vec<(u32, String)>| texts.into_iter().map(|(_, text)| text.into()).collect();
    let gateways: Vec<_> = texts(spec.texts("gateways")?);
    if !gateways.is_empty() {
        service.gateways = gateways;
    }
    service.export_to = texts(spec.texts("exportTo")?);
    let rules = spec.objects("http")?;
    // A field that nobody knows may be where its rules are.
    let has_others = spec.fields().iter().any(|(name, _)| !NO_HTTP.contains(&&**name));
    if (rules.is_empty() && !has_others) || !service.counts_in_mesh() {
        *claimed = None;
    }
    let mut route = Arc::unwrap_or_clone(service.route);
    for object in rules {
        route.rules.extend(rule(object, &namespace, scope)?);
    }
    spec.refuse(&NO_HTTP)?;
    spec.finish()?;
    service.route = route.shrunk().into();
    Ok(service)
}

/// None for a rule that is for gateways of Istio alone, which nothing here is.
fn rule(mut object: Object, namespace: &str, scope: &mut Scope) -> Result<Option<Rule>, Problem> {
    let mut rule = Rule {
        name: object.text("name")?.map(Into::into),
        ..Rule::default()
    };
    let mut unsupported = None;
    let list = object.objects("match")?;
    let is_for_all = list.is_empty();
    for mut asked in list {
        let gateways = asked.texts("gateways")?;
        if !gateways.is_empty() && gateways.iter().all(|(_, name)| name != "mesh") {
            continue;
        }
        let (asked, fault) = route_match(asked, scope)?;
        rule.matches.push(asked);
        unsupported = unsupported.or(fault);
    }
    if rule.matches.is_empty() && !is_for_all {
        return Ok(None);
    }
    Ok(Some(scope.rule(rule, |rule, scope| match unsupported {
        Some(fault) => Err(fault),
        None => outcome(rule, object, namespace, scope),
    })))
}

/// What becomes of the rule's requests.
fn outcome(rule: &mut Rule, mut object: Object, namespace: &str, scope: &mut Scope) -> Result<(), Problem> {
    object.refuse(&["delegate", "mirrorPercent", "mirror_percent"])?;
    let filters = &mut rule.filters;
    if let Some(headers) = object.object("headers")? {
        (filters.request_headers, filters.response_headers) = header_edits(headers)?;
    }
    filters.fault = object.object("fault")?.map(fault).transpose()?;
    filters.cors = object
        .object("corsPolicy")?
        .map(|policy| cors::istio(policy, scope).map(Box::new))
        .transpose()?;
    let boxed = object.object("rewrite")?.map(|object| rewrite(object).map(Box::new));
    filters.rewrite = boxed.transpose()?;
    let boxed = object.object("redirect")?.map(|object| redirect(object).map(Box::new));
    filters.redirect = boxed.transpose()?;
    let boxed = object.object("directResponse")?;
    let boxed = boxed.map(|object| direct_response(object).map(Box::new));
    filters.respond = boxed.transpose()?;
    filters.mirrors = mirrors(&mut object, namespace)?;
    let ends = [
        (filters.redirect.is_some(), "redirect"),
        (filters.respond.is_some(), "directResponse"),
    ];
    let line = object.line();
    rule.backends = backends(&mut object, namespace)?;
    let ends = ends.into_iter().filter(|(is_there, _)| *is_there).map(|(_, name)| name);
    let mut all = ends.chain((!rule.backends.as_slice().is_empty()).then_some("route"));
    match (all.next(), all.next()) {
        (None, _) => {
            let field = object.path("route").into();
            return Err((line, ReadFault::Missing { field }));
        }
        (Some(one), Some(other)) => {
            let (field, other) = (object.path(one).into(), object.path(other).into());
            return Err((line, ReadFault::Excluded { field, other }));
        }
        (Some(_), None) => {}
    }
    rule.timeouts = Timeouts::new(object.mapped("timeout", duration::istio)?, None);
    rule.retries = object.object("retries")?.map(retries).transpose()?;
    object.finish()
}

/// What is asked of requests, and the first thing of it that nothing here can ask.
fn route_match(mut object: Object, scope: &mut Scope) -> Result<(RouteMatch, Option<Problem>), Problem> {
    let (mut asked, mut unsupported) = (RouteMatch::default(), None);
    let in_any_case = object.flag("ignoreUriCase")?;
    let (line, field) = (object.line_of("uri"), object.path("uri"));
    let uri = required_pattern(&mut object, "uri", scope)?;
    if let Some(Pattern::Exact(path) | Pattern::Prefix(path)) = &uri
        && (!path.starts_with('/') || path.contains(['?', '#']))
    {
        // No path is like this, and the rule would be passed over for good.
        return Err(unfit(line, &field, path));
    }
    asked.path = uri.map(|pattern| match (pattern, in_any_case) {
        (Pattern::Exact(path), false) => PathMatch::Exact(path),
        (Pattern::Exact(path), true) => PathMatch::ExactInAnyCase(path),
        (Pattern::Prefix(path), false) => PathMatch::Prefix(path),
        (Pattern::Prefix(path), true) => PathMatch::PrefixInAnyCase(path),
        (Pattern::Regex(regex), _) => PathMatch::Regex(regex),
    });
    asked.scheme = required_pattern(&mut object, "scheme", scope)?;
    asked.method = required_pattern(&mut object, "method", scope)?;
    asked.authority = required_pattern(&mut object, "authority", scope)?;
    type OfValue = fn(Pattern) -> HeaderTest;
    let kinds: [(&str, HeaderTest, OfValue); 2] = [
        ("headers", HeaderTest::Present, HeaderTest::Is),
        ("withoutHeaders", HeaderTest::Absent, HeaderTest::IsNot),
    ];
    for (field, without_value, of_value) in kinds {
        for test in tests(&mut object, field, scope)? {
            if NO_HEADERS.contains(&test.name.as_str()) {
                let field = test.field.into();
                unsupported = unsupported.or(Some((test.line, ReadFault::Unsupported { field })));
                continue;
            }
            let name = field_name(test.line, &test.field, &test.name)?;
            let test = test.pattern.map_or_else(|| without_value.clone(), of_value);
            asked.headers.push(HeaderMatch { name, test });
        }
    }
    for test in tests(&mut object, "queryParams", scope)? {
        let (name, value) = (test.name.into(), test.pattern);
        asked.query.push(QueryMatch { name, value });
    }
    asked.port = port(&mut object)?;
    asked.source_namespace = object.text("sourceNamespace")?.map(Into::into);
    object.pass_over(&["name", "statPrefix"]);
    let refused = object.refuse(&["sourceLabels"]);
    object.finish()?;
    Ok((asked, unsupported.or(refused.err())))
}

/// What is asked of a name.
struct Test {
    line: u32,
    field: String,
    name: String,
    /// None if it is enough that there is one of this name.
    pattern: Option<Pattern>,
}

fn tests(object: &mut Object, name: &str, scope: &mut Scope) -> Result<Vec<Test>, Problem> {
    let mut tests = Vec::new();
    for (field, name, node) in object.object(name)?.into_iter().flat_map(Object::into_fields) {
        let line = node.line;
        let pattern = scope.string_match(Object::new(&field, node)?)?;
        tests.push(Test {
            line,
            field,
            name,
            pattern,
        });
    }
    Ok(tests)
}

fn required_pattern(object: &mut Object, name: &str, scope: &mut Scope) -> Result<Option<Pattern>, Problem> {
    let (line, path) = (object.line_of(name), object.path(name));
    let Some(found) = object.object(name)? else {
        return Ok(None);
    };
    match scope.string_match(found)? {
        Some(pattern) => Ok(Some(pattern)),
        None => {
            let field = format!("{path}.exact").into();
            Err((line, ReadFault::Missing { field }))
        }
    }
}

fn backends(object: &mut Object, namespace: &str) -> Result<Backends, Problem> {
    let (line, path) = (object.line_of("route"), object.path("route"));
    let mut list = Vec::new();
    for mut object in object.objects("route")? {
        let mut backend = Backend::new(destination(object.required_object("destination")?, namespace)?);
        backend.weight = object.parsed("weight")?.unwrap_or(0);
        if let Some(headers) = object.object("headers")? {
            (backend.request_headers, backend.response_headers) = header_edits(headers)?;
        }
        object.finish()?;
        list.push(backend);
    }
    if let [only] = list.as_mut_slice() {
        // One destination takes all, whatever it says.
        only.weight = 1;
    }
    if !list.is_empty() && list.iter().all(|backend| backend.weight == 0) {
        return Err(unfit(line, &format!("{path}[0].weight"), "0"));
    }
    Ok(Backends::new(list))
}

fn mirrors(object: &mut Object, namespace: &str) -> Result<Vec<Mirror>, Problem> {
    let line = object.line_of("mirror");
    let share = object.object("mirrorPercentage")?.map(percentage).transpose()?;
    let mut mirrors = Vec::new();
    for mut object in object.objects_at_most(MAX_MIRRORS, "mirrors")? {
        let target = destination(object.required_object("destination")?, namespace)?;
        let share = object.object("percentage")?.map(percentage).transpose()?;
        object.finish()?;
        mirrors.push(Mirror::new(target, share.unwrap_or(Fraction::ALL)));
    }
    if let Some(mirror) = object.object("mirror")? {
        if !mirrors.is_empty() {
            let (field, other) = (object.path("mirror").into(), object.path("mirrors").into());
            return Err((line, ReadFault::Excluded { field, other }));
        }
        mirrors.push(Mirror::new(
            destination(mirror, namespace)?,
            share.unwrap_or(Fraction::ALL),
        ));
    }
    Ok(mirrors)
}

fn retries(mut object: Object) -> Result<Retries, Problem> {
    let mut retries = Retries {
        attempts: object.parsed("attempts")?.unwrap_or(0),
        ..Retries::default()
    };
    let (line, path) = (object.line_of("retryOn"), object.path("retryOn"));
    let conditions = object.text("retryOn")?.filter(|names| !names.trim().is_empty());
    let conditions = conditions.map(|names| {
        names
            .parse()
            .map_err(|unknown: InvalidCondition| unfit(line, &path, &unknown.name))
    });
    retries.conditions = conditions.transpose()?;
    retries.attempt_timeout = object.mapped("perTryTimeout", duration::istio)?;
    retries.backoff = object.mapped("backoff", duration::istio)?.map(Backoff::from);
    // Other localities are asked as the balance has it, and not for a retry's sake.
    object.word("retryRemoteLocalities", &[("false", false)])?;
    let flags = [("true", true), ("false", false)];
    retries.ignore_previous_hosts = object.word("retryIgnorePreviousHosts", &flags)?;
    object.finish()?;
    Ok(retries)
}
