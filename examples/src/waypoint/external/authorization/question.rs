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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use http::Request;
    use mesh_identity::SpiffeId;

    use super::*;

    fn provider(more: &str) -> Authorization {
        toml::from_str(&format!("name = 'opa'\nserver = {{ address = 'opa:9191' }}\n{more}")).unwrap()
    }

    fn head(build: impl FnOnce(http::request::Builder) -> http::request::Builder) -> Parts {
        build(Request::builder()).body(()).unwrap().into_parts().0
    }

    fn ask(provider: &Authorization, head: &Parts, size: Option<u64>, body: Option<&Beginning>) -> AttributeContext {
        let client: SpiffeId = "spiffe://cluster.local/ns/shop/sa/cart".parse().unwrap();
        let about = About {
            source: End {
                address: "[::ffff:10.0.0.7]:4711".parse().unwrap(),
                identity: Some(&client),
            },
            destination: End {
                address: "10.96.0.1:80".parse().unwrap(),
                identity: None,
            },
            authority: "items.shop:80",
            id: "7",
            time: SystemTime::UNIX_EPOCH + Duration::from_millis(1500),
        };
        question(provider, head, &about, size, body).attributes.unwrap()
    }

    fn http(attributes: AttributeContext) -> HttpRequest {
        attributes.request.unwrap().http.unwrap()
    }

    #[test]
    fn a_request_is_told_with_both_ends() {
        let head = head(|head| {
            let head = head.method("PUT").uri("/a%20b?c=d").version(Version::HTTP_2);
            head.header("host", "other").header("x-a", "1").header("X-A", "2")
        });
        let attributes = ask(&provider("context_extensions = { k = 'v' }"), &head, None, None);
        let ends = [&attributes.source, &attributes.destination].map(|end| {
            let end = end.as_ref().unwrap();
            let Some(Address {
                address: Some(address::Address::SocketAddress(socket)),
            }) = &end.address
            else {
                panic!()
            };
            let Some(socket_address::PortSpecifier::PortValue(port)) = socket.port_specifier else {
                panic!()
            };
            (socket.address.as_str(), port, end.principal.as_str())
        });
        assert_eq!(
            ends,
            [
                ("10.0.0.7", 4711, "spiffe://cluster.local/ns/shop/sa/cart"),
                ("10.96.0.1", 80, "")
            ]
        );
        assert_eq!(attributes.context_extensions, HashMap::from([("k".into(), "v".into())]));
        let time = attributes.request.as_ref().unwrap().time;
        assert_eq!(time.map(|time| (time.seconds, time.nanos)), Some((1, 500_000_000)));
        let headers = [
            (":method", "PUT"),
            (":path", "/a%20b?c=d"),
            (":authority", "items.shop:80"),
            (":scheme", "http"),
            ("x-a", "1,2"),
        ];
        assert_eq!(
            http(attributes),
            HttpRequest {
                id: "7".into(),
                method: "PUT".into(),
                headers: headers.map(|(name, value)| (name.into(), value.into())).into(),
                path: "/a%20b?c=d".into(),
                host: "items.shop:80".into(),
                scheme: "http".into(),
                size: -1,
                protocol: "HTTP/2".into(),
                ..HttpRequest::default()
            }
        );
    }

    #[test]
    fn only_headers_that_are_to_be_told_are() {
        let head = head(|head| {
            head.header("authorization", "secret")
                .header("x-a", "1")
                .header("x-b", "2")
        });
        for (more, expected) in [
            ("allowed_headers = ['x-*']", "x-a x-b"),
            (
                "allowed_headers = ['x-*', ':path']\ndisallowed_headers = ['X-B']",
                ":path x-a",
            ),
            ("disallowed_headers = ['authorization', ':*']", "x-a x-b"),
            ("allowed_headers = []", ""),
        ] {
            let told = http(ask(&provider(more), &head, None, None)).headers;
            let mut told: Vec<_> = told.keys().map(String::as_str).collect();
            told.sort_unstable();
            assert_eq!(told.join(" "), expected, "{more}");
        }
    }

    #[test]
    fn lines_of_a_name_are_one_and_text() {
        let head = head(|head| {
            let head = head.header("cookie", "a=1").header("cookie", "b=2");
            head.header("x-raw", &b"a\xff\xe4b"[..])
                .header("x-envoy-auth-partial-body", "forged")
        });
        let told = http(ask(&provider(""), &head, None, None)).headers;
        assert_eq!((told["cookie"].as_str(), told["x-raw"].as_str()), ("a=1; b=2", "a!!b"));
        assert!(!told.contains_key("x-envoy-auth-partial-body"));
    }

    #[test]
    fn a_body_is_told_as_text_or_as_bytes() {
        let head = head(|head| head.header("x-envoy-auth-partial-body", "forged"));
        for (pack, is_partial, text, bytes) in [(false, true, "a!", &b""[..]), (true, false, "", b"a\xff")] {
            let provider = provider(&format!(
                "[with_request_body]\nmax_request_bytes = 2\npack_as_bytes = {pack}"
            ));
            let body = Beginning {
                bytes: Bytes::from_static(b"a\xff"),
                is_partial,
            };
            let told = http(ask(&provider, &head, Some(9), Some(&body)));
            assert_eq!(
                (told.body.as_str(), told.raw_body.as_slice(), told.size),
                (text, bytes, 9)
            );
            assert_eq!(told.headers["x-envoy-auth-partial-body"], is_partial.to_string());
        }
    }

    #[test]
    fn versions_are_named_as_envoy_names_them() {
        for (version, name) in [
            (Version::HTTP_10, "HTTP/1.0"),
            (Version::HTTP_11, "HTTP/1.1"),
            (Version::HTTP_2, "HTTP/2"),
        ] {
            let head = head(|head| head.version(version));
            assert_eq!(http(ask(&provider(""), &head, None, None)).protocol, name);
        }
    }
}
