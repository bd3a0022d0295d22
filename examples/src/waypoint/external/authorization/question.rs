//! What a provider is asked.

use std::collections::HashMap;
use std::time::SystemTime;

use http::header::{self, HeaderMap, HeaderName};
use http::request::Parts;
use http::{HeaderValue, Version};
use mesh_xds_types::core::{Address, SocketAddress, address, socket_address};
use mesh_xds_types::ext_authz::attribute_context::{HttpRequest, Peer, Request};
use mesh_xds_types::ext_authz::{AttributeContext, CheckRequest};
use prost_types::Timestamp;

use super::super::about::{About, End};
use super::super::body::Beginning;
use super::super::config::Authorization;

/// Says whether a body was told in part.
const PARTIAL_BODY: &str = "x-envoy-auth-partial-body";

/// Tells a provider about a request, and no more than it is to be told.
pub(super) fn question(
    provider: &Authorization,
    head: &Parts,
    about: &About<'_>,
    size: Option<u64>,
    body: Option<&Beginning>,
) -> CheckRequest {
    let path = head.uri.path_and_query().map_or("", |target| target.as_str());
    let scheme = head.uri.scheme_str().unwrap_or("http");
    let mut headers = headers(provider, &head.headers);
    for (name, value) in [
        (":method", head.method.as_str()),
        (":path", path),
        (":authority", about.authority),
        (":scheme", scheme),
    ] {
        if is_told(provider, name) {
            headers.insert(name.to_owned(), value.to_owned());
        }
    }
    let mut http = HttpRequest {
        id: about.id.to_owned(),
        method: head.method.as_str().to_owned(),
        path: path.to_owned(),
        host: about.authority.to_owned(),
        scheme: scheme.to_owned(),
        size: size.and_then(|bytes| i64::try_from(bytes).ok()).unwrap_or(-1),
        protocol: protocol(head.version).to_owned(),
        ..HttpRequest::default()
    };
    if let Some(Beginning { bytes, is_partial }) = body {
        headers.insert(PARTIAL_BODY.to_owned(), is_partial.to_string());
        match provider.with_request_body {
            Some(body) if body.pack_as_bytes => http.raw_body = bytes.to_vec(),
            _ => http.body = text(bytes),
        }
    }
    http.headers = headers;
    let attributes = AttributeContext {
        source: Some(peer(about.source)),
        destination: Some(peer(about.destination)),
        request: Some(Request {
            time: timestamp(about.time),
            http: Some(http),
        }),
        context_extensions: provider.context_extensions.clone().into_iter().collect(),
        ..AttributeContext::default()
    };
    CheckRequest {
        attributes: Some(attributes),
    }
}

/// The lines that the provider is to see, those of one name in one. `host` is `:authority` there,
/// and nobody else says how much of the body is told.
fn headers(provider: &Authorization, headers: &HeaderMap) -> HashMap<String, String> {
    let told = headers
        .keys()
        .filter(|name| **name != header::HOST && *name != PARTIAL_BODY && is_told(provider, name.as_str()));
    told.map(|name| (name.as_str().to_owned(), joined(name, headers)))
        .collect()
}

fn is_told(provider: &Authorization, name: &str) -> bool {
    provider.allowed_headers.has(name) && !provider.disallowed_headers.has(name)
}

/// Lines in one (RFC 9110 §5.3), which for cookies takes another separator (RFC 9113 §8.2.3).
fn joined(name: &HeaderName, headers: &HeaderMap) -> String {
    let separator = match *name {
        header::COOKIE => "; ",
        _ => ",",
    };
    let lines = headers.get_all(name).iter().map(HeaderValue::as_bytes).map(text);
    lines.collect::<Vec<_>>().join(separator)
}

/// Bytes as protobuf can tell them: what is no UTF-8 is `!`, as with Envoy.
fn text(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| '!'));
    }
    text
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2",
        Version::HTTP_3 => "HTTP/3",
        _ => "HTTP/1.1",
    }
}

fn peer(End { address, identity }: End<'_>) -> Peer {
    let socket = SocketAddress {
        protocol: socket_address::Protocol::Tcp.into(),
        address: address.ip().to_canonical().to_string(),
        port_specifier: Some(socket_address::PortSpecifier::PortValue(address.port().into())),
    };
    Peer {
        address: Some(Address {
            address: Some(address::Address::SocketAddress(socket)),
        }),
        principal: identity.map(ToString::to_string).unwrap_or_default(),
        ..Peer::default()
    }
}

fn timestamp(time: SystemTime) -> Option<Timestamp> {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    Some(Timestamp {
        seconds: i64::try_from(since.as_secs()).ok()?,
        nanos: i32::try_from(since.subsec_nanos()).ok()?,
    })
}
