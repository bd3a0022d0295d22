use super::{request::RouteRequest, rewrite::PathChange};
use crate::traffic::matching::PathMatch;

/// An answer that sends the client elsewhere. What is not set stays as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Redirect {
    /// The scheme.
    pub scheme: Option<Scheme>,
    /// The host.
    pub host: Option<Box<str>>,
    /// The port. Default: that of the scheme, if it changes, and else the listener's.
    pub port: RedirectPort,
    /// The path. The query stays.
    pub path: Option<PathChange>,
    /// The status: 301, 302, 303, 307 or 308. Default: 302.
    pub status: u16,
}

/// The schemes that a redirect knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// `http`
    Http,
    /// `https`
    Https,
}

/// The port that a redirect leads to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RedirectPort {
    /// That of the scheme, if it changes, and else the listener's: the Gateway API's.
    #[default]
    Derived,
    /// That of the request's authority, if the scheme does not change: Istio's default.
    Request,
    /// That of the scheme.
    OfScheme,
    /// This.
    Is(u16),
}

impl Default for Redirect {
    fn default() -> Self {
        Self {
            scheme: None,
            host: None,
            port: RedirectPort::Derived,
            path: None,
            status: 302,
        }
    }
}

impl Redirect {
    /// The statuses that a redirect can have.
    pub const STATUSES: [u16; 5] = [301, 302, 303, 307, 308];

    /// The value of `location`, for a request that a rule has matched so. The port of the listener
    /// is the request's.
    pub fn location(&self, request: &RouteRequest<'_>, matched: Option<&PathMatch>) -> Vec<u8> {
        let own = match request.known_scheme() {
            Some(b"https") => Scheme::Https,
            _ => Scheme::Http,
        };
        let scheme = self.scheme.unwrap_or(own);
        let mut location = scheme.as_str().as_bytes().to_vec();
        location.extend_from_slice(b"://");
        match &self.host {
            Some(host) => location.extend_from_slice(host.as_bytes()),
            None => location.extend_from_slice(request.host().unwrap_or_default()),
        }
        let derived = match self.port {
            RedirectPort::Is(port) => Some(port),
            RedirectPort::OfScheme => None,
            _ if self.scheme.is_some() => None,
            RedirectPort::Derived => request.known_port(),
            RedirectPort::Request => request.authority_port(),
        };
        if let Some(port) = derived.filter(|port| *port != scheme.port()) {
            location.extend_from_slice(format!(":{port}").as_bytes());
        }
        let path = request.path().unwrap_or(b"/");
        match &self.path {
            Some(change) => location.extend_from_slice(&change.apply(matched, path)),
            None => location.extend_from_slice(path),
        }
        if let Some(query) = request.query() {
            location.push(b'?');
            location.extend_from_slice(query);
        }
        location
    }
}

impl Scheme {
    /// The scheme as it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    fn port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        facts::{ConnectionFacts, Known, RequestFacts},
        normalize::PathNormalization,
    };

    fn location(redirect: &Redirect, scheme: &str, port: u16, authority: &str) -> String {
        let mut buffer = Vec::new();
        let path = PathNormalization::Base.normalize(b"/a?q=/..", &mut buffer).unwrap();
        let facts = RequestFacts::without_headers(ConnectionFacts::new(), b"GET")
            .authority(Known::Present(authority.as_bytes()))
            .path(Known::Present(path));
        let request = RouteRequest::new(&facts).port(port).scheme(scheme.as_bytes());
        String::from_utf8(redirect.location(&request, None)).unwrap()
    }

    #[test]
    fn a_port_is_named_where_the_scheme_has_another() {
        let redirect = |scheme, port| Redirect {
            scheme,
            port,
            ..Redirect::default()
        };
        use RedirectPort::{Derived, Is, Request};
        use Scheme::{Http, Https};
        for (scheme, port, listener, expected) in [
            (None, Derived, ("http", 80), "http://h/a?q=/.."),
            (None, Derived, ("http", 8080), "http://h:8080/a?q=/.."),
            (None, Derived, ("https", 443), "https://h/a?q=/.."),
            (None, Derived, ("https", 8443), "https://h:8443/a?q=/.."),
            (Some(Https), Derived, ("http", 8080), "https://h/a?q=/.."),
            (Some(Http), Derived, ("https", 8443), "http://h/a?q=/.."),
            (Some(Https), Is(443), ("http", 8080), "https://h/a?q=/.."),
            (Some(Https), Is(8443), ("http", 80), "https://h:8443/a?q=/.."),
            (None, Is(80), ("http", 8080), "http://h/a?q=/.."),
            (None, Is(8083), ("http", 80), "http://h:8083/a?q=/.."),
            (None, Request, ("http", 80), "http://h:9090/a?q=/.."),
            (Some(Https), Request, ("http", 80), "https://h/a?q=/.."),
        ] {
            let found = location(&redirect(scheme, port), listener.0, listener.1, "h:9090");
            assert_eq!(found, expected, "{scheme:?} {port:?} {listener:?}");
        }
    }

    #[test]
    fn what_is_set_takes_the_place_of_what_was() {
        let redirect = Redirect {
            host: Some("example.org".into()),
            path: Some(PathChange::full("/new").unwrap()),
            ..Redirect::default()
        };
        assert_eq!(location(&redirect, "http", 80, "h"), "http://example.org/new?q=/..");
    }
}
