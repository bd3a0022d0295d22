use thiserror::Error;

use super::{
    header::{HeaderMatch, HeaderTest},
    pattern::Pattern,
    query::QueryMatch,
    regex::Regex,
    request::RouteRequest,
};
use crate::facts::Facts;

/// What a rule asks of a request: all that is set here, so that the default asks for nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RouteMatch {
    /// The path, as it was normalized and without the query.
    pub path: Option<PathMatch>,
    /// The method.
    pub method: Option<Pattern>,
    /// Headers, all of them.
    pub headers: Vec<HeaderMatch>,
    /// Parameters of the query, all of them.
    pub query: Vec<QueryMatch>,
    /// The scheme.
    pub scheme: Option<Pattern>,
    /// The authority with its port, as the request has it.
    pub authority: Option<Pattern>,
    /// The port that the request was sent to.
    pub port: Option<u16>,
    /// The namespace in the peer's identity, which has to be its only one and of Istio's form.
    pub source_namespace: Option<Box<str>>,
    /// The peer's identity without `spiffe://`, under the same condition.
    pub principal: Option<Pattern>,
}

impl RouteMatch {
    /// Whether a request is what this asks for. What is not known about it is not.
    pub fn matches(&self, request: &RouteRequest<'_>) -> bool {
        let facts = &request.facts;
        let is = |pattern: &Option<Pattern>, value: Option<&[u8]>| match pattern {
            None => true,
            Some(pattern) => value.is_some_and(|value| pattern.matches(value)),
        };
        let path = || match &self.path {
            None => true,
            Some(path) => request.path().is_some_and(|value| path.matches(value)),
        };
        is(&self.method, facts.method().present())
            && path()
            && self.port.is_none_or(|port| request.known_port() == Some(port))
            && is(&self.scheme, request.known_scheme())
            && is(&self.authority, facts.authority().present())
            && self.is_from(facts)
            && self.headers.iter().all(|header| header.matches(facts))
            && (self.query.is_empty() || self.query.iter().all(|asked| asked.matches(request.query())))
    }

    /// The regular expressions in it.
    pub(super) fn expressions(&self) -> impl Iterator<Item = &Regex> {
        let headers = self.headers.iter().filter_map(|header| match &header.test {
            HeaderTest::Is(pattern) | HeaderTest::IsNot(pattern) => Some(pattern),
            HeaderTest::Present | HeaderTest::Absent => None,
        });
        let query = self.query.iter().filter_map(|parameter| parameter.value.as_ref());
        let single = [&self.method, &self.scheme, &self.authority, &self.principal];
        let (of_path, of_call) = match &self.path {
            Some(PathMatch::Regex(regex)) => (Some(regex), None),
            Some(PathMatch::Grpc(call)) => (None, Some([&call.service, &call.method])),
            _ => (None, None),
        };
        let single = single.into_iter().chain(of_call.into_iter().flatten()).flatten();
        let patterns = headers.chain(query).chain(single);
        of_path.into_iter().chain(patterns.filter_map(Pattern::expression))
    }

    fn is_from(&self, facts: &Facts<'_>) -> bool {
        if self.source_namespace.is_none() && self.principal.is_none() {
            return true;
        }
        let Some(name) = facts.peer().present().and_then(|peer| peer.sole_workload()) else {
            return false;
        };
        let namespace = |wanted: &str| {
            let workload = name.workload();
            workload.is_some_and(|(namespace, _)| namespace == wanted.as_bytes())
        };
        self.source_namespace.as_deref().is_none_or(namespace)
            && self
                .principal
                .as_ref()
                .is_none_or(|pattern| name.principal().is_some_and(|name| pattern.matches(name)))
    }
}

/// What a rule asks of a path. The case of letters counts, unless it says otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PathMatch {
    /// The path is this.
    Exact(Box<str>),
    /// The path is this or below it: `/abc` stands for `/abc`, `/abc/` and `/abc/d`, and not for
    /// `/abcd`.
    Segments(SegmentPrefix),
    /// The path begins with this, byte by byte: `/abc` stands for `/abcd`, too.
    Prefix(Box<str>),
    /// As `Exact`, and the case of ASCII letters does not count.
    ExactInAnyCase(Box<str>),
    /// As `Prefix`, and the case of ASCII letters does not count.
    PrefixInAnyCase(Box<str>),
    /// All of the path matches.
    Regex(Regex),
    /// The path is the one of a gRPC call.
    Grpc(GrpcMatch),
}

impl PathMatch {
    /// One path, as the Gateway API has it.
    ///
    /// # Errors
    ///
    /// No normalized path is equal to it: it does not begin with a slash, or has segments that
    /// normalization removes, an escaped slash, a query, a fragment, or a byte that no path has.
    pub fn exact(path: &str) -> Result<Self, PathMatchError> {
        Ok(Self::Exact(checked_path(path)?.into()))
    }

    /// Whether a path fits.
    pub fn matches(&self, path: &[u8]) -> bool {
        match self {
            Self::Exact(value) => path == value.as_bytes(),
            Self::Segments(prefix) => prefix.rest(path).is_some(),
            Self::Prefix(value) => path.starts_with(value.as_bytes()),
            Self::ExactInAnyCase(value) => path.eq_ignore_ascii_case(value.as_bytes()),
            Self::PrefixInAnyCase(value) => {
                let head = path.get(..value.len());
                head.is_some_and(|head| head.eq_ignore_ascii_case(value.as_bytes()))
            }
            Self::Regex(regex) => regex.matches(path),
            Self::Grpc(call) => call.matches(path),
        }
    }
}

/// A path that others are below of, segment by segment. A slash at its end does not count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentPrefix(Box<str>);

impl SegmentPrefix {
    /// A prefix, which begins with a slash and has no empty segments. `/` is for all paths.
    ///
    /// # Errors
    ///
    /// As for [`PathMatch::exact`].
    pub fn new(path: &str) -> Result<Self, PathMatchError> {
        let path = checked_path(path)?;
        Ok(Self(path.strip_suffix('/').unwrap_or(path).into()))
    }

    /// The prefix without a slash at its end: empty for `/`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What follows the prefix in a path that is below it: nothing, or a slash and more.
    pub fn rest<'p>(&self, path: &'p [u8]) -> Option<&'p [u8]> {
        let rest = path.strip_prefix(self.0.as_bytes())?;
        matches!(rest, [] | [b'/', ..]).then_some(rest)
    }
}

/// A path that a normalized one can be equal to or below of.
pub(super) fn checked_path(path: &str) -> Result<&str, PathMatchError> {
    let odd = ["//", "/./", "/../", "%2f", "%2F", "#", "?"];
    let is_odd = odd.iter().any(|part| path.contains(part)) || path.ends_with("/..") || path.ends_with("/.");
    let is_path = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~!$&'()*+,;=:@%".contains(&byte);
    if !path.starts_with('/') || is_odd || path.len() > MAX_PATH_BYTES || !path.bytes().all(is_path) {
        return Err(PathMatchError { path: path.into() });
    }
    Ok(path)
}

/// The longest path to be compared with, as the Gateway API has it.
const MAX_PATH_BYTES: usize = 1024;

/// A gRPC call: its path is `/SERVICE/METHOD`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct GrpcMatch {
    /// The service with its package; all if it is not there.
    pub service: Option<Pattern>,
    /// The method; all if it is not there.
    pub method: Option<Pattern>,
}

impl GrpcMatch {
    /// A call of a service, of a method, or of any.
    pub fn new(service: Option<Pattern>, method: Option<Pattern>) -> Self {
        Self { service, method }
    }

    fn matches(&self, path: &[u8]) -> bool {
        let Some([service, method]) = call(path) else {
            return false;
        };
        let is = |pattern: &Option<Pattern>, value| pattern.as_ref().is_none_or(|pattern| pattern.matches(value));
        is(&self.service, service) && is(&self.method, method)
    }

    /// Service and method, so far as there is only one.
    pub(super) fn names(&self) -> (Option<&str>, Option<&str>) {
        (exact(self.service.as_ref()), exact(self.method.as_ref()))
    }
}

fn exact(pattern: Option<&Pattern>) -> Option<&str> {
    match pattern {
        Some(Pattern::Exact(text)) => Some(text),
        _ => None,
    }
}

/// Service and method of a call.
fn call(path: &[u8]) -> Option<[&[u8]; 2]> {
    let mut segments = path.strip_prefix(b"/")?.split(|byte| *byte == b'/');
    match (segments.next(), segments.next(), segments.next()) {
        (Some(service), Some(method), None) => Some([service, method]),
        _ => None,
    }
}

/// A text is no path that requests could be compared with.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{}` is no path to compare with", .path.escape_debug())]
#[non_exhaustive]
pub struct PathMatchError {
    /// The text.
    pub path: Box<str>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        facts::{ConnectionFacts, RequestFacts},
        traffic::field::FieldName,
    };

    #[test]
    fn a_prefix_ends_with_a_segment() {
        let fits = |prefix: &str, path: &str| {
            let prefix = SegmentPrefix::new(prefix).unwrap();
            PathMatch::Segments(prefix).matches(path.as_bytes())
        };
        for prefix in ["/abc", "/abc/"] {
            for path in ["/abc", "/abc/", "/abc/d"] {
                assert!(fits(prefix, path), "{prefix} {path}");
            }
            for path in ["/abcd", "/ab", "/", "/ABC", "/x/abc"] {
                assert!(!fits(prefix, path), "{prefix} {path}");
            }
        }
        assert!(fits("/", "/") && fits("/", "/a/b"));
        for path in [
            "", "a", "//", "/a//b", "/a/../b", "/a/.", "/a#", "/a?b", "/a%2fb", "/ a", "/\u{e9}",
        ] {
            assert!(SegmentPrefix::new(path).is_err(), "{path}");
        }
    }

    #[test]
    fn a_call_has_a_service_and_a_method() {
        let exact = |text: &str| Some(Pattern::Exact(text.into()));
        let service = PathMatch::Grpc(GrpcMatch::new(exact("a.B"), None));
        assert!(service.matches(b"/a.B/Get") && service.matches(b"/a.B/"));
        assert!(!service.matches(b"/a.B") && !service.matches(b"/a.B/Get/x") && !service.matches(b"/a.BC/Get"));
        let method = PathMatch::Grpc(GrpcMatch::new(None, exact("Get")));
        assert!(method.matches(b"/x/Get") && !method.matches(b"/x/get"));
    }

    #[test]
    fn what_is_unknown_is_not_as_asked() {
        let facts = RequestFacts::without_headers(ConnectionFacts::new(), b"GET");
        let request = RouteRequest::new(&facts);
        let name = || FieldName::new("a").unwrap();
        let test = HeaderTest::Absent;
        for asked in [
            RouteMatch {
                headers: vec![HeaderMatch { name: name(), test }],
                ..RouteMatch::default()
            },
            RouteMatch {
                path: Some(PathMatch::Prefix("".into())),
                ..RouteMatch::default()
            },
            RouteMatch {
                port: Some(80),
                ..RouteMatch::default()
            },
            RouteMatch {
                source_namespace: Some("".into()),
                ..RouteMatch::default()
            },
        ] {
            assert!(!asked.matches(&request), "{asked:?}");
        }
        assert!(RouteMatch::default().matches(&request));
    }
}
