//! HTTP for whoever operates a program: one short exchange after the other.

use std::convert::Infallible;
use std::net::IpAddr;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HOST, HeaderValue, ORIGIN};
use hyper::http::uri::Authority;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

/// Time for a request's head to arrive.
const HEAD_TIMEOUT: Duration = Duration::from_secs(2);

/// Time for a whole connection: an operator's is not kept longer.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(30);

pub(crate) const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
pub(crate) const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// What an operator is told.
pub(crate) type Answer = Response<Full<Bytes>>;

/// Answers the requests of one connection.
pub(crate) async fn converse(
    io: impl AsyncRead + AsyncWrite + Unpin,
    answer: impl Fn(&Request<Incoming>) -> Answer + Sync,
) {
    let service = service_fn(|request| {
        let answer = answer(&request);
        async { Ok::<_, Infallible>(answer) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    let served = timeout(CONNECTION_TIMEOUT, http.serve_connection(TokioIo::new(io), service)).await;
    tracing::trace!(?served, "operator's connection ended");
}

/// Whether a request asks this machine by IP address or as `localhost`. A page of somebody else's can
/// lead a name of its own here; a browser then takes all that is open to the machine for that page's.
pub(crate) fn is_of_this_machine<B>(request: &Request<B>) -> bool {
    let mut hosts = request.headers().get_all(HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return false;
    };
    let host = host.to_str().ok().and_then(|host| host.parse().ok());
    host.as_ref().is_some_and(is_own) && request.uri().authority().is_none_or(is_own)
}

fn is_own(host: &Authority) -> bool {
    let name = host.host().trim_matches(['[', ']']);
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

/// To a request by any other name.
pub(crate) fn misdirected() -> Answer {
    let advice = "ask by IP address or as localhost\n";
    respond(StatusCode::MISDIRECTED_REQUEST, TEXT, advice.to_owned())
}

/// Whether a page asks, be it whose it may: what changes something is not for browsers.
pub(crate) fn is_of_a_page<B>(request: &Request<B>) -> bool {
    request.headers().contains_key(ORIGIN)
}

/// To a request of a page.
pub(crate) fn not_from_a_page() -> Answer {
    respond(StatusCode::FORBIDDEN, TEXT, "not from a browser\n".to_owned())
}

pub(crate) fn respond(status: StatusCode, kind: HeaderValue, body: String) -> Answer {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

/// To a request by another method than this one.
pub(crate) fn not_by(method: &'static str) -> Answer {
    let mut response = respond(StatusCode::METHOD_NOT_ALLOWED, TEXT, String::new());
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(method));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_own(uri: &str, hosts: &[&str]) -> bool {
        let mut request = Request::get(uri);
        for host in hosts {
            request = request.header(HOST, *host);
        }
        is_of_this_machine(&request.body(()).unwrap())
    }

    #[test]
    fn this_machine_is_asked_by_address_or_as_localhost_and_once() {
        for own in [
            "localhost",
            "LocalHost:15014",
            "127.0.0.1",
            "127.0.0.1:1",
            "10.0.0.7:80",
            "[::1]",
            "[::1]:15014",
        ] {
            assert!(is_own("/", &[own]), "{own}");
            assert!(!is_own("/", &[own, own]), "{own}");
            assert!(!is_own("http://mesh.example/", &[own]), "{own}");
        }
        for other in [
            "mesh.example",
            "mesh.example:80",
            "127.0.0.1.mesh.example",
            "localhost.mesh.example",
            "intranet",
            "intranet:80",
            "a b",
            "",
        ] {
            assert!(!is_own("/", &[other]), "{other}");
        }
        assert!(!is_own("/", &[]));
    }
}
