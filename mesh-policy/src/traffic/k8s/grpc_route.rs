use super::{
    backend::backends,
    filter,
    http_route::{MAX_RULES, headers},
    metadata::Metadata,
    reference::{Claimed, parents},
    scope::{Scope, hosts},
};
use crate::{
    manifest::{Object, Problem, ReadFault, object::unfit},
    traffic::{
        matching::{GrpcMatch, PathMatch, RouteMatch},
        model::{Route, RouteKind, Rule},
        pattern::Pattern,
    },
};

/// Kinds of requests in a rule.
const MAX_MATCHES: usize = 64;

pub(super) fn read(
    metadata: Metadata,
    mut spec: Object,
    scope: &mut Scope,
    claimed: &mut Option<Claimed>,
) -> Result<Route, Problem> {
    let namespace = metadata.namespace.clone();
    let mut route = metadata.route(RouteKind::Grpc, &scope.file);
    route.parents = parents(&mut spec, &namespace)?;
    route.hosts = hosts(&mut spec, "hostnames")?;
    *claimed = Some(Claimed::of(&route));
    let list = spec.objects_at_most(MAX_RULES, "rules")?;
    spec.refuse(&["useDefaultGateways"])?;
    spec.finish()?;
    for object in list {
        route.rules.push(rule(object, &namespace, scope)?);
    }
    Ok(route.shrunk())
}

fn rule(mut object: Object, namespace: &str, scope: &mut Scope) -> Result<Rule, Problem> {
    let mut rule = Rule {
        name: object.text("name")?.map(Into::into),
        ..Rule::default()
    };
    let list = object.objects_at_most(MAX_MATCHES, "matches")?;
    for mut object in list {
        let call = object.object("method")?;
        let asked = RouteMatch {
            path: call.map(|call| call_match(call, scope)).transpose()?,
            headers: headers(&mut object, scope)?,
            ..RouteMatch::default()
        };
        object.finish()?;
        rule.matches.push(asked);
    }
    Ok(scope.rule(rule, |rule, scope| {
        rule.filters = filter::read(&mut object, RouteKind::Grpc, namespace)?;
        rule.backends = backends(&mut object, RouteKind::Grpc, namespace, scope)?;
        object.refuse(&["sessionPersistence"])?;
        object.finish()
    }))
}

fn call_match(mut object: Object, scope: &mut Scope) -> Result<PathMatch, Problem> {
    let line = object.line();
    let types = [("Exact", false), ("RegularExpression", true)];
    let is_regex = object.word("type", &types)?.unwrap_or(false);
    let mut part = |name: &str, is_fit: fn(&str) -> bool| {
        let (line, field) = (object.line_of(name), object.path(name));
        Ok(match object.text(name)?.filter(|text| !text.is_empty()) {
            None => None,
            Some(text) if is_regex => Some(Pattern::Regex(scope.regex(line, &field, &text)?)),
            Some(text) if is_fit(&text) => Some(Pattern::Exact(text.into())),
            Some(text) => return Err(unfit(line, &field, &text)),
        })
    };
    let service = part("service", |text| text.split('.').all(is_word))?;
    let method = part("method", is_word)?;
    if service.is_none() && method.is_none() {
        let field = object.path("service").into();
        return Err((line, ReadFault::Missing { field }));
    }
    object.finish()?;
    Ok(PathMatch::Grpc(GrpcMatch::new(service, method)))
}

/// A word of the protobuf language.
fn is_word(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    text.bytes().all(inner) && !text.starts_with(|sign: char| sign.is_ascii_digit()) && !text.is_empty()
}
