//! The headers of messages that pass.

use hyper::header::{
    CONNECTION, CONTENT_TYPE, EXPECT, HOST, HeaderName, HeaderValue, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use hyper::{HeaderMap, Version};
use mesh_identity::SpiffeId;
use mesh_policy::Headers;
use mesh_policy::jwt::Changes;
use mesh_policy::traffic::{EditHeaders, FieldName, FieldValue};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");
const CLIENT_CERT: HeaderName = HeaderName::from_static("x-forwarded-client-cert");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Lines, as policies and routes read them.
pub(super) struct Lines<'a>(pub(super) &'a HeaderMap);

impl Headers for Lines<'_> {
    fn any_line(&self, name: &str, test: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        self.0
            .get_all(name)
            .iter()
            .any(|value| test(value.as_bytes().trim_ascii()))
    }
}

/// Lines, as routes change them.
pub(super) struct Edited<'a>(pub(super) &'a mut HeaderMap);

impl EditHeaders for Edited<'_> {
    fn remove(&mut self, name: &FieldName) {
        self.0.remove(name.as_str());
    }

    fn add(&mut self, name: &FieldName, value: &FieldValue) {
        let line = (
            HeaderName::from_bytes(name.as_str().as_bytes()),
            HeaderValue::from_str(value.as_str()),
        );
        if let (Ok(name), Ok(value)) = line {
            self.0.append(name, value);
        }
    }
}

/// Whether a client wants to go on by WebSocket (RFC 6455 §4.1), where its version of HTTP has that.
pub(super) fn wants_websocket(version: Version, headers: &HeaderMap) -> bool {
    let mut upgrades = headers.get_all(UPGRADE).iter();
    let is_websocket = upgrades
        .next()
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"));
    version == Version::HTTP_11
        && is_websocket
        && upgrades.next().is_none()
        && named(headers).any(|name| name == UPGRADE)
}

/// Leaves out what is between a client or endpoint and this program alone (RFC 9110 §7.6.1).
pub(super) fn end_to_end(headers: &mut HeaderMap) {
    let keeps_trailers = headers
        .get_all(TE)
        .iter()
        .any(|value| value.as_bytes().eq_ignore_ascii_case(b"trailers"));
    let named: Vec<HeaderName> = named(headers).collect();
    for name in named {
        headers.remove(name);
    }
    for name in [
        CONNECTION,
        KEEP_ALIVE,
        PROXY_CONNECTION,
        TRANSFER_ENCODING,
        UPGRADE,
        HTTP2_SETTINGS,
        TE,
        TRAILER,
    ] {
        headers.remove(name);
    }
    if keeps_trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
}

/// As [`end_to_end`], of a request: whom it is for is known, and who waits for an answer to
/// `expect` has it from here.
pub(super) fn request_end_to_end(headers: &mut HeaderMap) {
    end_to_end(headers);
    headers.remove(HOST);
    headers.remove(EXPECT);
    headers.remove(CLIENT_CERT);
}

/// Whether a message is one of gRPC.
pub(super) fn is_grpc(headers: &HeaderMap) -> bool {
    let content = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    content
        .and_then(|content| content.strip_prefix(b"application/grpc"))
        .is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// What a call of gRPC says about its end, in headers or trailers.
pub(super) fn grpc_status(headers: &HeaderMap) -> Option<u32> {
    headers.get("grpc-status")?.to_str().ok()?.parse().ok()
}

/// Says that the connection goes on by another protocol.
pub(super) fn set_websocket(headers: &mut HeaderMap) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
}

/// What an endpoint is told of how a request came.
pub(super) fn set_forwarded(headers: &mut HeaderMap, request_id: impl FnOnce() -> String) {
    headers
        .entry(FORWARDED_PROTO)
        .or_insert(HeaderValue::from_static("http"));
    if !headers.contains_key(REQUEST_ID)
        && let Ok(id) = request_id().parse()
    {
        headers.insert(REQUEST_ID, id);
    }
}

/// Who asks, as Envoy writes it.
pub(super) fn set_client(headers: &mut HeaderMap, own: &SpiffeId, client: &SpiffeId) {
    if let Ok(value) = format!("By={own};URI={client}").parse() {
        headers.insert(CLIENT_CERT, value);
    }
}

/// What becomes of a request by its token.
pub(super) fn apply(changes: &Changes, headers: &mut HeaderMap) {
    for name in changes.removed_headers() {
        headers.remove(name);
    }
    for (name, value) in changes.added_headers() {
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_bytes(value)) {
            headers.append(name, value);
        }
    }
}

/// A random identifier (RFC 9562 §5.4).
pub(super) fn uuid(mut draw: impl FnMut() -> u64) -> String {
    let bits = u128::from(draw()) << 64 | u128::from(draw());
    let bits = bits & !(0xf000_u128 << 64) & !(0xc000_u128 << 48) | 0x4000_u128 << 64 | 0x8000_u128 << 48;
    let text = format!("{bits:032x}");
    let part = |from, to| text.get(from..to).unwrap_or_default();
    [part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)].join("-")
}

/// The headers that a message says are for the connection.
fn named(headers: &HeaderMap) -> impl Iterator<Item = HeaderName> {
    let values = headers.get_all(CONNECTION).iter();
    let names = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    names.filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let lines = lines.iter();
        lines
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn what_is_for_the_connection_goes_no_further() {
        let mut lines = headers(&[
            ("connection", "close, X-Secret"),
            ("connection", "keep-alive"),
            ("keep-alive", "5"),
            ("x-secret", "1"),
            ("x-kept", "2"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("http2-settings", "AA"),
            ("host", "till.shop"),
            ("expect", "100-continue"),
            ("x-forwarded-client-cert", "By=me"),
        ]);
        request_end_to_end(&mut lines);
        let mut left: Vec<_> = lines
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_bytes()))
            .collect();
        left.sort_unstable();
        assert_eq!(left, [("te", &b"trailers"[..]), ("x-kept", b"2")]);
    }

    #[test]
    fn only_a_websocket_is_another_protocol() {
        for (version, connection, upgrade, expected) in [
            (Version::HTTP_11, "Upgrade", "websocket", true),
            (Version::HTTP_11, "keep-alive, upgrade", "WebSocket", true),
            (Version::HTTP_11, "keep-alive", "websocket", false),
            (Version::HTTP_11, "upgrade", "h2c", false),
            (Version::HTTP_2, "upgrade", "websocket", false),
        ] {
            let lines = headers(&[("connection", connection), ("upgrade", upgrade)]);
            assert_eq!(wants_websocket(version, &lines), expected, "{connection} {upgrade}");
        }
    }

    #[test]
    fn calls_are_told_by_their_content() {
        for (content, expected) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc;x=y", true),
            ("application/grpc-web", false),
            ("text/html", false),
        ] {
            assert_eq!(is_grpc(&headers(&[("content-type", content)])), expected, "{content}");
        }
    }

    #[test]
    fn identifiers_are_random_but_for_their_kind() {
        let ones = uuid(|| u64::MAX);
        assert_eq!(ones, "ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert_eq!(uuid(|| 0), "00000000-0000-4000-8000-000000000000");
    }

    #[test]
    fn a_client_is_named_after_the_waypoint() {
        let id = |account: &str| format!("spiffe://cluster.local/ns/shop/sa/{account}").parse().unwrap();
        let mut lines = HeaderMap::new();
        set_client(&mut lines, &id("waypoint"), &id("cart"));
        assert_eq!(
            lines["x-forwarded-client-cert"],
            "By=spiffe://cluster.local/ns/shop/sa/waypoint;URI=spiffe://cluster.local/ns/shop/sa/cart"
        );
    }
}
