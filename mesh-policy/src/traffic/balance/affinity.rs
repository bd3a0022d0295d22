//! By what requests belong together.

use std::{net::IpAddr, time::Duration};

use crate::{
    chance::mix,
    facts::{Facts, Headers},
    fingerprint,
    traffic::{
        header::each_line,
        query::{first_value, query},
    },
};

/// What of a request decides where it goes, for [`Algorithm::Affinity`](super::Algorithm::Affinity):
/// a hash policy of Istio and Envoy.
///
/// A request that lacks it has no hash and goes by chance, as in Istio. Hashes are the same in every
/// process, and no secret: whoever chooses the header chooses the endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AffinityKey {
    /// The values of a header's lines, in whatever order; the name in lower case
    /// (`httpHeaderName`). `host` is the authority.
    Header(Box<str>),
    /// A cookie's value (`httpCookie`).
    Cookie(Cookie),
    /// A query parameter's first value, as it is written (`httpQueryParameterName`).
    QueryParameter(Box<str>),
    /// The client's address, the original one where that is known (`useSourceIp`).
    SourceIp,
}

impl AffinityKey {
    /// A header by its name, in whatever case. `host` is the authority.
    pub fn header(name: &str) -> Self {
        Self::Header(name.to_ascii_lowercase().into())
    }

    /// The request's hash, if it has what decides.
    pub fn hash<'a>(&self, facts: impl Into<Facts<'a>>) -> Option<u64> {
        let facts = facts.into();
        match self {
            Self::Header(name) => of_lines(&facts, name),
            Self::Cookie(cookie) => of_cookie(facts.headers().present()?, &cookie.name),
            Self::QueryParameter(name) => {
                let query = query(&facts.path().present()?)?;
                first_value(query, name.as_bytes()).map(of_bytes)
            }
            Self::SourceIp => {
                let address = facts.remote_ip().present().or(facts.source_ip().present())?;
                Some(of_address(address))
            }
        }
    }
}

/// A cookie that keeps a client at its endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cookie {
    name: Box<str>,
    path: Option<Box<str>>,
    ttl: Option<Duration>,
}

impl Cookie {
    /// A cookie that clients bring of themselves: it is read and never set.
    pub fn new(name: impl Into<Box<str>>) -> Self {
        Self {
            name: name.into(),
            path: None,
            ttl: None,
        }
    }

    /// Whoever comes without the cookie is to be given one that lives this long, in whole seconds;
    /// zero is the client's session (`ttl`).
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// For which paths the client is to bring it (`path`).
    #[must_use]
    pub fn path(mut self, path: impl Into<Box<str>>) -> Self {
        self.path = Some(path.into());
        self
    }

    /// For a request without the cookie: its hash, and the value of the `set-cookie` line for the
    /// response, which brings later requests to the same endpoint. `None` if there is none to
    /// give. Allocates.
    pub fn give(&self, random: u64) -> Option<(u64, String)> {
        let ttl = self.ttl?;
        let value = format!("{:016x}", mix(random));
        let mut line = format!("{}={value}", self.name);
        if !ttl.is_zero() {
            line.push_str(&format!("; Max-Age={}", ttl.as_secs()));
        }
        if let Some(path) = &self.path {
            line.push_str("; Path=");
            line.push_str(path);
        }
        line.push_str("; HttpOnly");
        Some((of_bytes(value.as_bytes()), line))
    }
}

fn of_bytes(value: &[u8]) -> u64 {
    mix(fingerprint::of(value))
}

fn of_address(address: IpAddr) -> u64 {
    match address {
        IpAddr::V4(address) => of_bytes(&address.octets()),
        IpAddr::V6(address) => of_bytes(&address.octets()),
    }
}

/// The lines in another order are the same to Envoy.
fn of_lines(facts: &Facts<'_>, name: &str) -> Option<u64> {
    let mut hash: Option<u64> = None;
    each_line(facts, name, &mut |line| {
        let line = of_bytes(line);
        hash = Some(hash.map_or(line, |hash| hash.wrapping_add(line)));
    });
    hash
}

fn of_cookie(headers: &dyn Headers, name: &str) -> Option<u64> {
    let mut hash = None;
    headers.any_line("cookie", &mut |line| {
        let values = line.split(|byte| *byte == b';').filter_map(|pair| {
            let value = pair.trim_ascii().strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
            (!value.is_empty()).then_some(value)
        });
        hash = values.map(of_bytes).next();
        hash.is_some()
    });
    hash
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ConnectionFacts, Known, PathNormalization, RequestFacts};

    fn hash(key: &AffinityKey, target: &str, lines: &[(&str, &str)]) -> Option<u64> {
        let lines = lines.to_vec();
        let mut buffer = Vec::new();
        let path = PathNormalization::None
            .normalize(target.as_bytes(), &mut buffer)
            .unwrap();
        let connection = ConnectionFacts::new().source_ip("10.0.0.1".parse().unwrap());
        let request = RequestFacts::new(connection, b"GET", &lines).path(Known::Present(path));
        key.hash(&request)
    }

    #[test]
    fn what_is_the_same_has_the_same_hash() {
        let user = AffinityKey::header("X-User");
        assert_eq!(
            hash(&user, "/", &[("x-user", "a")]),
            hash(&user, "/b", &[("X-USER", "a"), ("y", "z")])
        );
        assert_ne!(
            hash(&user, "/", &[("x-user", "a")]),
            hash(&user, "/", &[("x-user", "b")])
        );
        assert_eq!(
            hash(&user, "/", &[("x-user", "a"), ("x-user", "b")]),
            hash(&user, "/", &[("x-user", "b"), ("x-user", "a")])
        );
        assert_ne!(
            hash(&user, "/", &[("x-user", "a"), ("x-user", "b")]),
            hash(&user, "/", &[("x-user", "a")])
        );
        assert_eq!(hash(&user, "/", &[("x", "a")]), None);
        assert!(hash(&AffinityKey::SourceIp, "/", &[]).is_some());
        let connection = ConnectionFacts::new();
        assert_eq!(AffinityKey::SourceIp.hash(&connection), None);
    }

    #[test]
    fn cookies_and_parameters_are_found_by_their_whole_name() {
        let cookie = AffinityKey::Cookie(Cookie::new("id"));
        let one = hash(&cookie, "/", &[("cookie", "xid=2; id=1; a=b")]);
        assert!(one.is_some());
        assert_eq!(one, hash(&cookie, "/", &[("cookie", "a=b"), ("cookie", "id=1")]));
        assert_eq!(hash(&cookie, "/", &[("cookie", "xid=2; id=; idx=1; id")]), None);
        let parameter = AffinityKey::QueryParameter("id".into());
        assert_eq!(one, hash(&parameter, "/?xid=2&id=1&id=3", &[]));
        assert_eq!(hash(&parameter, "/id=1", &[]), None);
        assert!(hash(&parameter, "/?a=b&id", &[]).is_some());
    }

    #[test]
    fn a_cookie_that_is_given_leads_to_the_same_place() {
        assert_eq!(Cookie::new("id").give(1), None);
        let cookie = Cookie::new("id").ttl(Duration::from_secs(60)).path("/shop");
        let (given, line) = cookie.give(1).unwrap();
        let (pair, attributes) = line.split_once("; ").unwrap();
        assert_eq!(attributes, "Max-Age=60; Path=/shop; HttpOnly");
        assert_eq!(
            hash(&AffinityKey::Cookie(cookie), "/", &[("cookie", pair)]),
            Some(given)
        );
        let (_, session) = Cookie::new("id").ttl(Duration::ZERO).give(1).unwrap();
        assert!(session.ends_with("; HttpOnly") && !session.contains("Max-Age"));
    }
}
