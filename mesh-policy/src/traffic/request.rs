use super::{header::first_line, query::query};
use crate::facts::{Facts, Known};

/// A request as routes see it: what policies know about it, and what only routes ask for.
///
/// What nobody set is unavailable, and a rule that asks for it does not take the request.
///
/// ```
/// use mesh_policy::{ConnectionFacts, Known, PathNormalization, RequestFacts, traffic::RouteRequest};
///
/// let mut buffer = Vec::new();
/// let path = PathNormalization::Base.normalize(b"/cart?sort=age", &mut buffer)?;
/// let headers = [("x-tier", "gold")];
/// let facts = RequestFacts::new(ConnectionFacts::new(), b"GET", &headers)
///     .authority(Known::Present(b"shop.example.com:8080"))
///     .path(Known::Present(path));
/// let request = RouteRequest::new(&facts).port(8080).scheme(b"http");
/// assert_eq!(request.host(), Some(&b"shop.example.com"[..]));
/// assert_eq!(request.query(), Some(&b"sort=age"[..]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy)]
pub struct RouteRequest<'a> {
    pub(super) facts: Facts<'a>,
    port: Known<u16>,
    scheme: Known<&'a [u8]>,
}

impl<'a> RouteRequest<'a> {
    /// A request by what is known about it.
    pub fn new(facts: impl Into<Facts<'a>>) -> Self {
        Self {
            facts: facts.into(),
            port: Known::Unavailable,
            scheme: Known::Unavailable,
        }
    }

    /// The port that the request was sent to: the listener's or the service's, not the workload's.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.port = Known::Present(port);
        self
    }

    /// The scheme of the request's target, in lower case.
    #[must_use]
    pub fn scheme(mut self, scheme: &'a [u8]) -> Self {
        self.scheme = Known::Present(scheme);
        self
    }

    /// The authority without its port: names are compared without it.
    pub fn host(&self) -> Option<&'a [u8]> {
        self.facts.authority().present().map(without_port)
    }

    /// The path without the query.
    pub fn path(&self) -> Option<&'a [u8]> {
        Some(self.facts.path().present()?.path())
    }

    /// What follows the path and `?`, if there is one.
    pub fn query(&self) -> Option<&'a [u8]> {
        query(&self.facts.path().present()?)
    }

    pub(super) fn known_port(&self) -> Option<u16> {
        self.port.present()
    }

    pub(super) fn known_scheme(&self) -> Option<&'a [u8]> {
        self.scheme.present()
    }

    /// The port in the authority.
    pub(super) fn authority_port(&self) -> Option<u16> {
        let authority = self.facts.authority().present()?;
        let port = authority.get(without_port(authority).len() + 1..)?;
        std::str::from_utf8(port).ok()?.parse().ok()
    }

    /// What is made of the first line of a header, whose name is in lower case.
    pub(super) fn first_line<T>(&self, name: &str, make: impl FnOnce(&[u8]) -> T) -> Option<T> {
        first_line(&self.facts, name, make)
    }
}

fn without_port(authority: &[u8]) -> &[u8] {
    let Some(colon) = authority.iter().rposition(|byte| *byte == b':') else {
        return authority;
    };
    let (host, port) = authority.split_at(colon);
    // Without brackets it is no address of IPv6, so that what follows the last colon is a port.
    let is_port = port.iter().skip(1).all(u8::is_ascii_digit);
    if is_port { host } else { authority }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_not_part_of_the_host() {
        for (authority, host) in [
            ("a.b", "a.b"),
            ("a.b:80", "a.b"),
            ("[::1]:80", "[::1]"),
            ("[::1]", "[::1]"),
            ("a:", "a"),
            ("a:b", "a:b"),
            ("", ""),
        ] {
            assert_eq!(without_port(authority.as_bytes()), host.as_bytes(), "{authority}");
        }
    }
}
