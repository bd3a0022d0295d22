//! Which requests are not ambiguous: what one program could take for another request than the next is
//! not sent on.
//!
//! Hyper has parsed the request and refused what is malformed by itself: bad chunks, folded lines,
//! blanks before colons, lengths that are none or differ, transfer codings that do not end in
//! `chunked`. What it sends on is framed anew. A length beside chunks never gets here: hyper drops it, and
//! ends the connection with the answer (RFC 9112 §6.3), so that nothing behind such a request is taken
//! for another one.

use hyper::ext::Protocol;
use hyper::header::{CONTENT_LENGTH, EXPECT, HOST, TRANSFER_ENCODING};
use hyper::http::request::Parts;
use hyper::http::uri::{Authority, Scheme};
use hyper::{HeaderMap, Method, StatusCode, Version};

use super::config::Underscores;

/// Whom a request is for, if there can be no two opinions about it.
pub(super) fn check(head: &Parts, underscores: Underscores) -> Result<Authority, Fault> {
    match head.version {
        Version::HTTP_11 | Version::HTTP_2 => {}
        version => return Err(Fault::Version(version)),
    }
    // TRACE would send back what only the next is to see.
    match head.method {
        Method::TRACE => return Err(Fault::Method),
        Method::CONNECT => protocol(head)?,
        _ => {}
    }
    if head
        .uri
        .scheme()
        .is_some_and(|scheme| *scheme != Scheme::HTTP && !is_http2(head))
    {
        return Err(Fault::Scheme);
    }
    framing(&head.headers)?;
    let is_named_so = |name: &hyper::header::HeaderName| name.as_str().contains('_');
    if underscores == Underscores::Reject && head.headers.keys().any(is_named_so) {
        return Err(Fault::Underscore);
    }
    let mut expects = head.headers.get_all(EXPECT).iter();
    if expects.any(|value| !value.as_bytes().eq_ignore_ascii_case(b"100-continue")) {
        return Err(Fault::Expectation);
    }
    authority(head)
}

/// Nothing listens there for CONNECT, unless that is to open a WebSocket (RFC 8441).
fn protocol(head: &Parts) -> Result<(), Fault> {
    match head.extensions.get::<Protocol>().map(Protocol::as_str) {
        Some("websocket") => Ok(()),
        Some(_) => Err(Fault::Protocol),
        None => Err(Fault::Method),
    }
}

fn is_http2(head: &Parts) -> bool {
    head.version == Version::HTTP_2
}

/// RFC 9112 §6.1 and §6.3.
fn framing(headers: &HeaderMap) -> Result<(), Fault> {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let Some(coding) = codings.next() else {
        return match headers.get_all(CONTENT_LENGTH).iter().count() {
            0 | 1 => Ok(()),
            _ => Err(Fault::Length),
        };
    };
    if headers.contains_key(CONTENT_LENGTH) {
        return Err(Fault::Length);
    }
    let is_chunked = coding.as_bytes().eq_ignore_ascii_case(b"chunked");
    (is_chunked && codings.next().is_none())
        .then_some(())
        .ok_or(Fault::Coding)
}

/// RFC 9112 §3.2 and RFC 9113 §8.3.1: one line at most, which says what the target says.
fn authority(head: &Parts) -> Result<Authority, Fault> {
    let mut lines = head.headers.get_all(HOST).iter();
    let (line, more) = (lines.next(), lines.next());
    if more.is_some() {
        return Err(Fault::Hosts);
    }
    let line = line
        .map(|line| Authority::try_from(line.as_bytes()).map_err(|_| Fault::Host))
        .transpose()?;
    let authority = match (head.uri.authority(), line) {
        (Some(target), Some(line)) if !is_same(target, &line) => return Err(Fault::Hosts),
        (Some(target), _) => target.clone(),
        (None, Some(line)) => line,
        (None, None) => return Err(Fault::Host),
    };
    let is_plain = !authority.host().is_empty() && !authority.as_str().contains('@');
    let has_port = !authority.as_str().ends_with(':') && authority.port().is_none_or(|port| port.as_u16() != 0);
    (is_plain && has_port).then_some(authority).ok_or(Fault::Host)
}

/// Names are compared without their case.
fn is_same(one: &Authority, other: &Authority) -> bool {
    one.as_str().eq_ignore_ascii_case(other.as_str())
}

/// Why a request is not sent on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    #[error("version {0:?}")]
    Version(Version),
    #[error("method that is not sent on")]
    Method,
    #[error("protocol that is not `websocket`")]
    Protocol,
    #[error("scheme that is not `http`")]
    Scheme,
    #[error("length of the content said in two ways")]
    Length,
    #[error("transfer coding that is not `chunked`")]
    Coding,
    #[error("header with `_` in its name")]
    Underscore,
    #[error("expectation that cannot be met")]
    Expectation,
    #[error("no host, or none that could be one")]
    Host,
    #[error("two hosts")]
    Hosts,
    #[error("path: {0}")]
    Path(#[from] mesh_policy::PathError),
}

impl Fault {
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::Version(_) => StatusCode::UPGRADE_REQUIRED,
            Self::Method | Self::Protocol | Self::Coding => StatusCode::NOT_IMPLEMENTED,
            Self::Expectation => StatusCode::EXPECTATION_FAILED,
            Self::Scheme | Self::Length | Self::Underscore | Self::Host | Self::Hosts | Self::Path(_) => {
                StatusCode::BAD_REQUEST
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use hyper::Request;

    use super::*;

    fn judge(version: Version, method: &str, uri: &str, lines: &[(&str, &str)]) -> Result<String, Fault> {
        let mut request = Request::builder().version(version).method(method).uri(uri);
        for (name, value) in lines {
            request = request.header(*name, *value);
        }
        let head = request.body(()).unwrap().into_parts().0;
        check(&head, Underscores::Reject).map(|authority| authority.to_string())
    }

    const HOST_LINE: (&str, &str) = ("host", "till.shop");

    #[test]
    fn only_what_is_not_ambiguous_passes_by_http1() {
        for (method, uri, lines, expected) in [
            ("GET", "/", vec![HOST_LINE], Ok("till.shop")),
            ("GET", "/", vec![("host", "till.shop:80")], Ok("till.shop:80")),
            ("GET", "/", vec![("host", "[::1]:80")], Ok("[::1]:80")),
            ("GET", "http://till.shop/", vec![("host", "TILL.shop")], Ok("till.shop")),
            ("GET", "http://till.shop/", vec![], Ok("till.shop")),
            (
                "GET",
                "http://till.shop/",
                vec![("host", "safe.shop")],
                Err(Fault::Hosts),
            ),
            (
                "GET",
                "http://till.shop/",
                vec![("host", "till.shop:80")],
                Err(Fault::Hosts),
            ),
            ("GET", "https://till.shop/", vec![HOST_LINE], Err(Fault::Scheme)),
            ("GET", "/", vec![], Err(Fault::Host)),
            ("GET", "/", vec![("host", "")], Err(Fault::Host)),
            ("GET", "/", vec![("host", "a b")], Err(Fault::Host)),
            ("GET", "/", vec![("host", "a/b")], Err(Fault::Host)),
            ("GET", "/", vec![("host", "me@till.shop")], Err(Fault::Host)),
            ("GET", "/", vec![("host", "till.shop:")], Err(Fault::Host)),
            ("GET", "/", vec![("host", "till.shop:0")], Err(Fault::Host)),
            ("GET", "/", vec![HOST_LINE, HOST_LINE], Err(Fault::Hosts)),
            ("CONNECT", "till.shop:80", vec![HOST_LINE], Err(Fault::Method)),
            ("TRACE", "/", vec![HOST_LINE], Err(Fault::Method)),
            (
                "POST",
                "/",
                vec![HOST_LINE, ("transfer-encoding", "chunked")],
                Ok("till.shop"),
            ),
            (
                "POST",
                "/",
                vec![HOST_LINE, ("transfer-encoding", "gzip, chunked")],
                Err(Fault::Coding),
            ),
            (
                "POST",
                "/",
                vec![
                    HOST_LINE,
                    ("transfer-encoding", "chunked"),
                    ("transfer-encoding", "chunked"),
                ],
                Err(Fault::Coding),
            ),
            (
                "POST",
                "/",
                vec![HOST_LINE, ("transfer-encoding", "chunked"), ("content-length", "3")],
                Err(Fault::Length),
            ),
            (
                "POST",
                "/",
                vec![HOST_LINE, ("content-length", "3"), ("content-length", "4")],
                Err(Fault::Length),
            ),
            ("GET", "/", vec![HOST_LINE, ("x_user", "me")], Err(Fault::Underscore)),
            ("GET", "/", vec![HOST_LINE, ("expect", "100-Continue")], Ok("till.shop")),
            ("GET", "/", vec![HOST_LINE, ("expect", "tea")], Err(Fault::Expectation)),
        ] {
            let judged = judge(Version::HTTP_11, method, uri, &lines);
            assert_eq!(
                judged.as_deref(),
                expected.as_ref().copied(),
                "{method} {uri} {lines:?}"
            );
        }
        let old = judge(Version::HTTP_10, "GET", "/", &[HOST_LINE]);
        assert_eq!(old, Err(Fault::Version(Version::HTTP_10)));
    }

    #[test]
    fn the_authority_of_http2_is_the_host() {
        for (lines, expected) in [
            (vec![], Ok("till.shop")),
            (vec![HOST_LINE], Ok("till.shop")),
            (vec![("host", "safe.shop")], Err(Fault::Hosts)),
        ] {
            let judged = judge(Version::HTTP_2, "GET", "https://till.shop/", &lines);
            assert_eq!(judged.as_deref(), expected.as_ref().copied(), "{lines:?}");
        }
    }

    #[test]
    fn connect_opens_websockets_and_nothing_else() {
        for (protocol, expected) in [
            (Some("websocket"), Ok("till.shop")),
            (Some("connect-udp"), Err(Fault::Protocol)),
            (None, Err(Fault::Method)),
        ] {
            let request = Request::builder().version(Version::HTTP_2).method("CONNECT");
            let mut head = request.uri("http://till.shop/chat").body(()).unwrap().into_parts().0;
            if let Some(protocol) = protocol {
                head.extensions.insert(Protocol::from_static(protocol));
            }
            let judged = check(&head, Underscores::Reject).map(|authority| authority.to_string());
            assert_eq!(judged.as_deref(), expected.as_ref().copied(), "{protocol:?}");
        }
    }

    #[test]
    fn underscores_pass_where_that_is_wanted() {
        let request = Request::get("/").header("host", "a").header("x_user", "me");
        let head = request.body(()).unwrap().into_parts().0;
        assert!(check(&head, Underscores::Allow).is_ok());
    }
}
