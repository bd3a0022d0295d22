//! Routes, decided by comparing each rule with each request.

use std::{cmp::Ordering, sync::Arc};

use mesh_policy::{
    ConnectionFacts, Known, PathNormalization, Peer, RequestFacts,
    traffic::{
        HeaderMatch, HeaderTest, PathMatch, Pattern, QueryMatch, Route, RouteId, RouteKind, RouteMatch, RouteRequest,
        RouteTable,
    },
};

/// The route that takes a request, the number of the rule, and what that asks for.
pub type Found = (RouteId, usize, RouteMatch);

/// A request that holds its parts.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The method.
    pub method: String,
    /// The authority.
    pub host: String,
    /// Path and query, which can be normalized.
    pub target: String,
    /// The header lines.
    pub headers: Vec<(String, String)>,
    /// The namespace of the client.
    pub namespace: Option<String>,
    /// The port that the request was sent to.
    pub port: u16,
}

impl Asked {
    /// Puts the request to a question.
    pub fn with<T>(&self, ask: impl FnOnce(&RouteRequest<'_>) -> T) -> T {
        let namespace = self.namespace.as_ref();
        let id = namespace.map(|namespace| format!("spiffe://t/ns/{namespace}/sa/s"));
        let peer = id.map(|id| Peer::from(&id.parse().unwrap()));
        let mut buffer = Vec::new();
        let path = PathNormalization::Base
            .normalize(self.target.as_bytes(), &mut buffer)
            .unwrap();
        let connection = ConnectionFacts::new().peer(peer.as_ref().into());
        let facts = RequestFacts::new(connection, self.method.as_bytes(), &self.headers)
            .authority(Known::Present(self.host.as_bytes()))
            .path(Known::Present(path));
        ask(&RouteRequest::new(&facts).port(self.port).scheme(b"http"))
    }

    /// What a table decides.
    pub fn decide(&self, table: &RouteTable) -> Option<Found> {
        self.with(|request| {
            let choice = table.decide(request)?;
            let matched = choice.matched().clone();
            Some((choice.route().id.clone(), choice.rule_index(), matched))
        })
    }

    /// Path and query as they were normalized.
    fn path(&self) -> (String, String) {
        let text = |bytes: Option<&[u8]>| String::from_utf8(bytes.unwrap_or_default().to_vec()).unwrap();
        self.with(|request| (text(request.path()), text(request.query())))
    }
}

/// Finds the rule by comparing each with each.
pub fn find(routes: &[Arc<Route>], asked: &Asked) -> Option<Found> {
    let (host, port) = asked.host.rsplit_once(':').unwrap_or((&asked.host, ""));
    let is_port = port.bytes().all(|byte| byte.is_ascii_digit());
    let host = if is_port { host } else { &asked.host }.to_ascii_lowercase();
    let mut hosts: Vec<String> = routes.iter().flat_map(|route| hosts_of(route)).collect();
    hosts.retain(|pattern| match pattern.strip_prefix('*') {
        Some(suffix) => host.len() > suffix.len() && host.ends_with(suffix) || suffix.is_empty(),
        None => *pattern == host,
    });
    hosts.sort_by_key(|pattern| (pattern.starts_with('*'), std::cmp::Reverse(pattern.len())));
    hosts.dedup();
    for pattern in hosts {
        let mut rules = Vec::new();
        let mut has_virtual_service = false;
        for route in routes.iter().filter(|route| hosts_of(route).contains(&pattern)) {
            has_virtual_service |= route.id.kind == RouteKind::VirtualService;
            for (at, rule) in route.rules.iter().enumerate() {
                let all = vec![RouteMatch::default()];
                let matches = if rule.matches.is_empty() { &all } else { &rule.matches };
                rules.extend(matches.iter().map(|one| (route, at, one.clone())));
            }
        }
        // Stable, so that what is alike stays in the order of rules.
        rules.sort_by(|one, other| order((one.0, &one.2), (other.0, &other.2)));
        if let Some((route, at, one)) = rules.into_iter().find(|(_, _, one)| matches(one, asked)) {
            return Some((route.id.clone(), at, one));
        }
        if has_virtual_service {
            return None;
        }
    }
    None
}

fn hosts_of(route: &Route) -> Vec<String> {
    let hosts: Vec<String> = route.hosts.iter().map(ToString::to_string).collect();
    if hosts.is_empty() { vec!["*".to_owned()] } else { hosts }
}

fn order(one: (&Arc<Route>, &RouteMatch), other: (&Arc<Route>, &RouteMatch)) -> Ordering {
    let kinds = [RouteKind::Grpc, RouteKind::Http, RouteKind::VirtualService];
    let kind = |route: &Route| kinds.iter().position(|kind| *kind == route.id.kind).unwrap();
    let by_kind = kind(one.0).cmp(&kind(other.0));
    let scores = |(route, asked): (&Arc<Route>, &RouteMatch)| -> Vec<usize> {
        let length = |pattern: &Option<Pattern>| match pattern {
            None => 0,
            Some(Pattern::Exact(text) | Pattern::Prefix(text)) => text.chars().count(),
            Some(Pattern::Regex(regex)) => regex.as_str().chars().count(),
            Some(_) => unreachable!(),
        };
        match (route.id.kind, &asked.path) {
            (RouteKind::VirtualService, _) => vec![],
            (RouteKind::Grpc, Some(PathMatch::Grpc(call))) => {
                vec![length(&call.service), length(&call.method), asked.headers.len()]
            }
            (RouteKind::Grpc, _) => vec![0, 0, asked.headers.len()],
            (RouteKind::Http, path) => {
                let (class, length) = match path {
                    Some(PathMatch::Exact(_)) => (3, 0),
                    Some(PathMatch::Segments(prefix)) => (2, prefix.as_str().len()),
                    None => (2, 0),
                    Some(PathMatch::Regex(regex)) => (1, regex.as_str().chars().count()),
                    Some(_) => unreachable!(),
                };
                vec![
                    class,
                    length,
                    asked.method.is_some().into(),
                    asked.headers.len(),
                    asked.query.len(),
                ]
            }
        }
    };
    let age = |route: &Route| (route.created.is_none(), route.created.clone());
    let name = |route: &Route| format!("{}/{}", route.id.namespace, route.id.name);
    by_kind
        .then_with(|| scores(other).cmp(&scores(one)))
        .then_with(|| age(one.0).cmp(&age(other.0)))
        .then_with(|| name(one.0).cmp(&name(other.0)))
}

fn matches(one: &RouteMatch, asked: &Asked) -> bool {
    let (path, query) = asked.path();
    let is_path = match &one.path {
        None => true,
        Some(PathMatch::Exact(value)) => **value == *path,
        Some(PathMatch::Segments(prefix)) => format!("{path}/").starts_with(&format!("{}/", prefix.as_str())),
        Some(PathMatch::Prefix(value)) => path.starts_with(&**value),
        Some(PathMatch::ExactInAnyCase(value)) => value.to_ascii_lowercase() == path.to_ascii_lowercase(),
        Some(PathMatch::PrefixInAnyCase(value)) => path.to_ascii_lowercase().starts_with(&value.to_ascii_lowercase()),
        Some(PathMatch::Regex(regex)) => regex.matches(path.as_bytes()),
        Some(PathMatch::Grpc(call)) => match path.split('/').collect::<Vec<_>>()[..] {
            ["", service, method] => {
                let is = |pattern: &Option<Pattern>, text| pattern.as_ref().is_none_or(|one| fits(one, text));
                is(&call.service, service) && is(&call.method, method)
            }
            _ => false,
        },
        Some(_) => unreachable!(),
    };
    let is_header = |header: &HeaderMatch| {
        let lines = asked
            .headers
            .iter()
            .filter(|(name, _)| name.eq_ignore_ascii_case(header.name.as_str()));
        let lines = lines.map(|(_, value)| value.trim_matches([' ', '\t']));
        let lines: Vec<&str> = if header.name.as_str() == "host" {
            vec![&asked.host]
        } else {
            lines.collect()
        };
        match &header.test {
            HeaderTest::Present => !lines.is_empty(),
            HeaderTest::Absent => lines.is_empty(),
            HeaderTest::Is(pattern) => !lines.is_empty() && fits(pattern, &lines.join(",")),
            HeaderTest::IsNot(pattern) => !fits(pattern, &lines.join(",")),
            _ => unreachable!(),
        }
    };
    let is_parameter = |parameter: &QueryMatch| {
        let parameters = query.split('&').map(|text| text.split_once('=').unwrap_or((text, "")));
        let first = parameters.into_iter().find(|(name, _)| **name == *parameter.name);
        first.is_some_and(|(_, value)| parameter.value.as_ref().is_none_or(|one| fits(one, value)))
    };
    is_path
        && one.method.as_ref().is_none_or(|pattern| fits(pattern, &asked.method))
        && one.headers.iter().all(is_header)
        && one.query.iter().all(is_parameter)
        && one.scheme.as_ref().is_none_or(|pattern| fits(pattern, "http"))
        && one.authority.as_ref().is_none_or(|pattern| fits(pattern, &asked.host))
        && one.port.is_none_or(|port| port == asked.port)
        && one
            .source_namespace
            .as_ref()
            .is_none_or(|wanted| asked.namespace.as_deref() == Some(wanted))
}

fn fits(pattern: &Pattern, text: &str) -> bool {
    match pattern {
        Pattern::Exact(value) => **value == *text,
        Pattern::Prefix(value) => text.starts_with(&**value),
        Pattern::Regex(regex) => regex.matches(text.as_bytes()),
        _ => unreachable!(),
    }
}
