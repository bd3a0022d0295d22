//! Entries for fuzzers to what clients and operators say.

use std::net::SocketAddr;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use hbone::{Authority, Host};
use mesh_identity::SpiffeId;
use tokio::io::{join, sink};

use super::config::Config;
use super::{proxy_protocol, socks5};
use crate::proxy::config::parse;

/// A client of SOCKS5 says something. What is understood of it can be said again.
///
/// # Panics
///
/// It cannot.
pub fn socks5(data: &[u8]) {
    if let Some((target, _)) = heard(data) {
        let again = [&request(&target)[..], b"rest"].concat();
        assert_eq!(heard(&again), Some((target, &b"rest"[..])));
    }
}

/// A configuration in TOML.
///
/// # Panics
///
/// A mistake in it is told with no line of it, or with more than one.
pub fn config(text: &str) {
    if let Err((line, problem)) = parse::<Config>(text) {
        assert!(!problem.contains('\n'), "{problem}");
        assert!((1..=text.lines().count() + 1).contains(&line), "{line}");
    }
}

/// The header that tells a workload who speaks.
#[must_use]
pub fn proxy_header(source: SocketAddr, destination: SocketAddr, identity: Option<&SpiffeId>) -> Option<Vec<u8>> {
    proxy_protocol::header(source, destination, identity)
}

/// What a client wants, and what comes after that.
fn heard(mut data: &[u8]) -> Option<(Authority, &[u8])> {
    let mut io = join(&mut data, sink());
    let target = match pin!(socks5::negotiate(&mut io)).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(heard) => heard.ok()?,
        Poll::Pending => return None,
    };
    Some((target, data))
}

fn request(target: &Authority) -> Vec<u8> {
    let mut request = vec![5, 1, 0, 5, 1, 0];
    match target.host() {
        Host::Ip(std::net::IpAddr::V4(ip)) => {
            request.push(1);
            request.extend(ip.octets());
        }
        Host::Ip(std::net::IpAddr::V6(ip)) => {
            request.push(4);
            request.extend(ip.octets());
        }
        Host::Name(name) => {
            request.push(3);
            request.extend(u8::try_from(name.len()));
            request.extend(name.as_bytes());
        }
    }
    request.extend(target.port().to_be_bytes());
    request
}
