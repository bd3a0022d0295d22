use std::time::Duration;

use super::{
    edit::EditHeaders,
    field::{FieldName, FieldValue},
    pattern::Pattern,
    regex::Regex,
    request::RouteRequest,
};
use crate::facts::header::is_token;

/// Which pages of other origins may ask what (the Fetch standard's CORS protocol).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Cors {
    /// The origins that may ask.
    pub origins: Vec<OriginMatch>,
    /// The methods that they may use beside those that need no permission.
    pub methods: Listed,
    /// The headers that they may send.
    pub request_headers: Listed,
    /// The headers of answers that they may read.
    pub exposed_headers: Listed,
    /// Whether they may send credentials. Default: no.
    pub credentials: bool,
    /// How long a browser may remember the answer. `None` leaves it to the browser, which means 5
    /// seconds.
    pub max_age: Option<Duration>,
    /// Whether a preflight of an origin that may not ask goes on to the backend (Istio's default) or
    /// is answered here, without permission (the Gateway API's).
    pub forwards_unmatched: bool,
}

/// An origin, or several.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OriginMatch {
    /// All of them.
    Any,
    /// Those that fit, where the case of ASCII letters counts.
    Text(Pattern),
    /// Those of a scheme and below a name: `https://*.example.com`.
    Below {
        /// The scheme with `://`.
        scheme: Box<str>,
        /// What follows the star: the name with its dot, and the port if there is one.
        suffix: Box<str>,
    },
}

/// Names, or all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listed {
    /// All that are asked for.
    All,
    /// These.
    Names(Vec<Box<str>>),
}

/// What a request means to the protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CorsAnswer {
    /// The request asks for permission, and is answered with status 204 (or 200) and these headers.
    Preflight(Vec<(FieldName, FieldValue)>),
    /// The request goes on, and its answer gets these headers in place of others of their names.
    Passes(Vec<(FieldName, FieldValue)>),
}

impl Cors {
    /// The default for an origin list.
    pub fn new(origins: Vec<OriginMatch>) -> Self {
        Self {
            origins,
            methods: Listed::Names(Vec::new()),
            request_headers: Listed::Names(Vec::new()),
            exposed_headers: Listed::Names(Vec::new()),
            credentials: false,
            max_age: None,
            forwards_unmatched: false,
        }
    }

    /// What a request is to be answered with, or its answer to be given.
    pub fn decide(&self, request: &RouteRequest<'_>) -> CorsAnswer {
        let Some(origin) = request.first_line("origin", text).flatten() else {
            return CorsAnswer::Passes(Vec::new());
        };
        let asked = request.first_line("access-control-request-method", text).flatten();
        let is_options = request.facts.method().present() == Some(b"OPTIONS");
        let is_allowed = self.origins.iter().any(|allowed| allowed.matches(&origin));
        match asked.filter(|_| is_options) {
            Some(_) if !is_allowed && self.forwards_unmatched => CorsAnswer::Passes(Vec::new()),
            Some(_) if !is_allowed => CorsAnswer::Preflight(Vec::new()),
            Some(method) => {
                let headers = request.first_line("access-control-request-headers", text).flatten();
                CorsAnswer::Preflight(self.preflight(&origin, &method, headers.as_deref()))
            }
            None if !is_allowed => CorsAnswer::Passes(Vec::new()),
            None => CorsAnswer::Passes(self.actual(&origin)),
        }
    }

    /// The regular expressions in it.
    pub(super) fn expressions(&self) -> impl Iterator<Item = &Regex> {
        self.origins.iter().filter_map(|origin| match origin {
            OriginMatch::Text(pattern) => pattern.expression(),
            OriginMatch::Any | OriginMatch::Below { .. } => None,
        })
    }

    fn preflight(&self, origin: &str, method: &str, headers: Option<&str>) -> Vec<(FieldName, FieldValue)> {
        let mut answer = self.permission(origin);
        push(
            &mut answer,
            "access-control-allow-methods",
            self.listed(&self.methods, Some(method)),
        );
        if headers.is_some() {
            push(
                &mut answer,
                "access-control-allow-headers",
                self.listed(&self.request_headers, headers),
            );
        }
        // Only answers to other requests need it, but the Gateway API's tests want it here, too.
        push(&mut answer, "access-control-expose-headers", self.exposed());
        let age = self.max_age.map(|age| age.as_secs().to_string());
        push(&mut answer, "access-control-max-age", age);
        answer
    }

    fn actual(&self, origin: &str) -> Vec<(FieldName, FieldValue)> {
        let mut answer = self.permission(origin);
        push(&mut answer, "access-control-expose-headers", self.exposed());
        answer
    }

    fn exposed(&self) -> Option<String> {
        match &self.exposed_headers {
            // With credentials a star would be the name of a header, and which there are is not
            // known here.
            Listed::All if self.credentials => None,
            listed => self.listed(listed, Some("*")),
        }
    }

    /// A star is only for those who send no credentials, and an answer to one origin must not be
    /// given to another.
    fn permission(&self, origin: &str) -> Vec<(FieldName, FieldValue)> {
        let mut answer = Vec::new();
        if self.origins.contains(&OriginMatch::Any) && !self.credentials {
            push(&mut answer, "access-control-allow-origin", Some("*".to_owned()));
        } else {
            push(&mut answer, "access-control-allow-origin", Some(origin.to_owned()));
            push(&mut answer, "vary", Some("Origin".to_owned()));
        }
        if self.credentials {
            push(&mut answer, "access-control-allow-credentials", Some("true".to_owned()));
        }
        answer
    }

    /// Names as an answer has them: all, with credentials, are those that were asked for.
    fn listed(&self, listed: &Listed, asked: Option<&str>) -> Option<String> {
        match listed {
            Listed::All if !self.credentials => Some("*".to_owned()),
            Listed::All => asked.map(str::to_owned),
            Listed::Names(names) if names.is_empty() => None,
            Listed::Names(names) => Some(names.join(", ")),
        }
    }
}

impl CorsAnswer {
    /// Puts the headers of a request that passes into its answer.
    pub fn apply(&self, headers: &mut impl EditHeaders) {
        let (Self::Preflight(lines) | Self::Passes(lines)) = self;
        for (name, value) in lines {
            // What an answer varies by, it may vary by for other reasons, too.
            if name.as_str() != "vary" {
                headers.remove(name);
            }
            headers.add(name, value);
        }
    }
}

impl OriginMatch {
    /// An origin as the Gateway API has it: `*`, or a scheme and a host that may begin with `*.`, and
    /// a port. None, if it is not.
    pub fn parse(origin: &str) -> Option<Self> {
        if origin == "*" {
            return Some(Self::Any);
        }
        let (scheme, host) = origin.split_once("://")?;
        let is_scheme = !scheme.is_empty() && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let is_host = |host: &str| {
            !host.is_empty()
                && host
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte))
        };
        match host.strip_prefix('*') {
            Some(suffix) => (is_scheme && suffix.starts_with('.') && is_host(suffix)).then(|| Self::Below {
                scheme: format!("{scheme}://").into(),
                suffix: suffix.into(),
            }),
            None => (is_scheme && is_host(host)).then(|| Self::Text(Pattern::Exact(origin.into()))),
        }
    }

    fn matches(&self, origin: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Text(pattern) => pattern.matches(origin.as_bytes()),
            Self::Below { scheme, suffix } => origin
                .strip_prefix(&**scheme)
                .and_then(|host| host.strip_suffix(&**suffix))
                .is_some_and(|labels| !labels.is_empty() && !labels.contains('/')),
        }
    }
}

/// A header whose value is text of a form that can be given back.
fn text(value: &[u8]) -> Option<String> {
    let value = std::str::from_utf8(value).ok()?;
    let is_plain = |byte: u8| is_token(byte) || b":/[], ".contains(&byte);
    value.bytes().all(is_plain).then(|| value.to_owned())
}

fn push(answer: &mut Vec<(FieldName, FieldValue)>, name: &str, value: Option<String>) {
    let line = value.and_then(|value| Some((FieldName::new(name).ok()?, FieldValue::new(&value).ok()?)));
    answer.extend(line);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::{ConnectionFacts, RequestFacts};

    fn decide(cors: &Cors, method: &str, lines: &[(&str, &str)]) -> (bool, String) {
        let lines = lines.to_vec();
        let facts = RequestFacts::new(ConnectionFacts::new(), method.as_bytes(), &lines);
        let answer = cors.decide(&RouteRequest::new(&facts));
        let is_preflight = matches!(answer, CorsAnswer::Preflight(_));
        let mut headers: Vec<(String, String)> = Vec::new();
        answer.apply(&mut headers);
        let lines = headers.iter().map(|(name, value)| {
            let short = name.strip_prefix("access-control-allow-").unwrap_or(name);
            format!("{short}={value}")
        });
        (is_preflight, lines.collect::<Vec<_>>().join(" "))
    }

    fn names(names: &[&str]) -> Listed {
        Listed::Names(names.iter().copied().map(Into::into).collect())
    }

    const ORIGIN: (&str, &str) = ("origin", "https://a.example.com");
    const ASKS: (&str, &str) = ("access-control-request-method", "PUT");
    const SENDS: (&str, &str) = ("access-control-request-headers", "x-a, x-b");

    #[test]
    fn a_preflight_is_answered_and_others_pass() {
        let mut cors = Cors::new(vec![OriginMatch::parse("https://*.example.com").unwrap()]);
        cors.methods = names(&["GET", "PUT"]);
        cors.request_headers = names(&["x-a"]);
        cors.exposed_headers = names(&["x-c", "x-d"]);
        cors.max_age = Some(Duration::from_secs(5));
        let origin = "origin=https://a.example.com vary=Origin";
        for (method, lines, expected) in [
            (
                "OPTIONS",
                vec![ORIGIN, ASKS, SENDS],
                (
                    true,
                    format!(
                        "{origin} methods=GET, PUT headers=x-a access-control-expose-headers=x-c, x-d \
                         access-control-max-age=5"
                    ),
                ),
            ),
            (
                "OPTIONS",
                vec![ORIGIN, ASKS],
                (
                    true,
                    format!(
                        "{origin} methods=GET, PUT access-control-expose-headers=x-c, x-d access-control-max-age=5"
                    ),
                ),
            ),
            (
                "OPTIONS",
                vec![ORIGIN],
                (false, format!("{origin} access-control-expose-headers=x-c, x-d")),
            ),
            (
                "GET",
                vec![ORIGIN],
                (false, format!("{origin} access-control-expose-headers=x-c, x-d")),
            ),
            ("GET", vec![("origin", "https://example.com")], (false, String::new())),
            ("GET", vec![("origin", "http://a.example.com")], (false, String::new())),
            (
                "GET",
                vec![("origin", "https://evil/.example.com")],
                (false, String::new()),
            ),
            (
                "OPTIONS",
                vec![("origin", "https://b.org"), ASKS],
                (true, String::new()),
            ),
            ("GET", vec![], (false, String::new())),
        ] {
            assert_eq!(decide(&cors, method, &lines), expected, "{method} {lines:?}");
        }
        cors.forwards_unmatched = true;
        assert_eq!(
            decide(&cors, "OPTIONS", &[("origin", "https://b.org"), ASKS]),
            (false, String::new())
        );
    }

    #[test]
    fn a_star_is_never_given_to_those_with_credentials() {
        let mut cors = Cors::new(vec![OriginMatch::Any]);
        cors.methods = Listed::All;
        cors.request_headers = Listed::All;
        cors.exposed_headers = Listed::All;
        assert_eq!(
            decide(&cors, "OPTIONS", &[ORIGIN, ASKS, SENDS]),
            (
                true,
                "origin=* methods=* headers=* access-control-expose-headers=*".to_owned()
            )
        );
        assert_eq!(
            decide(&cors, "GET", &[ORIGIN]),
            (false, "origin=* access-control-expose-headers=*".to_owned())
        );
        cors.credentials = true;
        assert_eq!(
            decide(&cors, "OPTIONS", &[ORIGIN, ASKS, SENDS]),
            (
                true,
                "origin=https://a.example.com vary=Origin credentials=true methods=PUT headers=x-a, x-b".to_owned()
            )
        );
        let (_, actual) = decide(&cors, "GET", &[ORIGIN]);
        assert!(!actual.contains('*'), "{actual}");
    }
}
