//! What a proxy asks of other services.

use std::collections::{BTreeMap, HashMap};

use mesh_xds_types::core::{
    Address, HeaderMap, HeaderValue, HeaderValueOption, Metadata, Pipe, QueryParameter, SocketAddress, address,
    header_value_option::HeaderAppendAction, socket_address,
};
use mesh_xds_types::envoy_type::{HttpStatus, RateLimitUnit, StatusCode};
use mesh_xds_types::ext_authz::attribute_context::{HttpRequest, Peer, Request, TlsSession};
use mesh_xds_types::ext_authz::{
    AttributeContext, CheckRequest, CheckResponse, DeniedHttpResponse, OkHttpResponse, check_response,
};
use mesh_xds_types::rate_limit::rate_limit_response::{
    self, Code, DescriptorStatus, Quota, RateLimit, quota::ExpirationSpecifier,
};
use mesh_xds_types::rate_limit::{RateLimitRequest, RateLimitResponse};
use mesh_xds_types::rate_limit_descriptor::RateLimitDescriptor;
use mesh_xds_types::rate_limit_descriptor::rate_limit_descriptor::{Entry, RateLimitOverride};
use mesh_xds_types::rpc;
use proptest::prelude::*;
use prost::Message;
use prost_types::{Duration, Struct, Timestamp};

use crate::bytes::{field, number, read};

fn pair(name: &[u8], value: &[u8]) -> Vec<u8> {
    [field(1, name), field(2, value)].concat()
}

fn nothing() -> Struct {
    Struct {
        fields: BTreeMap::new(),
    }
}

#[test]
fn check_request_fields_have_their_published_numbers() {
    let socket = [number(1, 1), field(2, b"10.0.0.7"), number(3, 80)].concat();
    let source = [
        field(1, &field(1, &socket)),
        field(2, b"service"),
        field(3, &pair(b"app", b"cart")),
        field(4, b"spiffe://td/cart"),
        field(5, b"pem"),
    ]
    .concat();
    let destination = field(1, &field(2, &[field(1, b"/run/x"), number(2, 7)].concat()));
    let http = [
        field(1, b"id"),
        field(2, b"GET"),
        field(3, &pair(b"x", b"y")),
        field(4, b"/a?b"),
        field(5, b"host"),
        field(6, b"http"),
        field(7, b"query"),
        field(8, b"fragment"),
        number(9, 5),
        field(10, b"HTTP/2"),
        field(11, b"body"),
        field(12, b"raw"),
        field(13, &field(1, &[pair(b"k", b""), field(3, b"\xff")].concat())),
    ]
    .concat();
    let attributes = [
        field(1, &source),
        field(2, &destination),
        field(4, &[field(1, &number(1, 9)), field(2, &http)].concat()),
        field(10, &pair(b"context", b"1")),
        field(11, &field(1, &pair(b"filter", b""))),
        field(12, &field(1, b"sni")),
        field(13, &field(2, &field(1, b"typed"))),
    ]
    .concat();
    let request: CheckRequest = read(&[field(1, &attributes)]).unwrap();
    assert_eq!(request, a_check_request());
}

fn a_check_request() -> CheckRequest {
    let socket = SocketAddress {
        protocol: socket_address::Protocol::Udp.into(),
        address: "10.0.0.7".into(),
        port_specifier: Some(socket_address::PortSpecifier::PortValue(80)),
    };
    let address = |address| Some(Address { address: Some(address) });
    let http = HttpRequest {
        id: "id".into(),
        method: "GET".into(),
        headers: HashMap::from([("x".into(), "y".into())]),
        header_map: Some(HeaderMap {
            headers: vec![HeaderValue {
                key: "k".into(),
                value: String::new(),
                raw_value: vec![0xff],
            }],
        }),
        path: "/a?b".into(),
        host: "host".into(),
        scheme: "http".into(),
        query: "query".into(),
        fragment: "fragment".into(),
        size: 5,
        protocol: "HTTP/2".into(),
        body: "body".into(),
        raw_body: b"raw".to_vec(),
    };
    let attributes = AttributeContext {
        source: Some(Peer {
            address: address(address::Address::SocketAddress(socket)),
            service: "service".into(),
            labels: HashMap::from([("app".into(), "cart".into())]),
            principal: "spiffe://td/cart".into(),
            certificate: "pem".into(),
        }),
        destination: Some(Peer {
            address: address(address::Address::Pipe(Pipe {
                path: "/run/x".into(),
                mode: 7,
            })),
            ..Peer::default()
        }),
        request: Some(Request {
            time: Some(Timestamp { seconds: 9, nanos: 0 }),
            http: Some(http),
        }),
        context_extensions: HashMap::from([("context".into(), "1".into())]),
        metadata_context: Some(Metadata {
            filter_metadata: HashMap::from([("filter".into(), nothing())]),
            typed_filter_metadata: HashMap::new(),
        }),
        route_metadata_context: Some(Metadata {
            filter_metadata: HashMap::new(),
            typed_filter_metadata: HashMap::from([("typed".into(), prost_types::Any::default())]),
        }),
        tls_session: Some(TlsSession { sni: "sni".into() }),
    };
    CheckRequest {
        attributes: Some(attributes),
    }
}

/// The bytes of a header line with its options, and the line.
fn a_line() -> (Vec<u8>, HeaderValueOption) {
    let bytes = [
        field(1, &pair(b"name", b"value")),
        field(2, &number(1, 1)),
        number(3, 2),
        number(4, 1),
    ]
    .concat();
    let line = HeaderValueOption {
        header: Some(HeaderValue {
            key: "name".into(),
            value: "value".into(),
            raw_value: Vec::new(),
        }),
        append: Some(true),
        append_action: HeaderAppendAction::OverwriteIfExistsOrAdd.into(),
        keep_empty_value: true,
    };
    (bytes, line)
}

#[test]
fn check_response_fields_have_their_published_numbers() {
    let (bytes, line) = a_line();
    let ok = [
        field(2, &bytes),
        field(3, b""),
        field(5, b"gone"),
        field(6, &bytes),
        field(7, &pair(b"key", b"value")),
        field(8, b"parameter"),
    ]
    .concat();
    let response: CheckResponse = read(&[field(1, &number(1, 7)), field(3, &ok), field(4, b"")]).unwrap();
    let expected = OkHttpResponse {
        headers: vec![line.clone()],
        headers_to_remove: vec!["gone".into()],
        dynamic_metadata: Some(nothing()),
        response_headers_to_add: vec![line.clone()],
        query_parameters_to_set: vec![QueryParameter {
            key: "key".into(),
            value: "value".into(),
        }],
        query_parameters_to_remove: vec!["parameter".into()],
    };
    let status = rpc::Status {
        code: 7,
        ..rpc::Status::default()
    };
    assert_eq!(response.status, Some(status));
    assert_eq!(response.dynamic_metadata, Some(nothing()));
    assert_eq!(
        response.http_response,
        Some(check_response::HttpResponse::OkResponse(expected))
    );

    let denied = [field(1, &number(1, 401)), field(2, &bytes), field(3, b"why")].concat();
    let expected = DeniedHttpResponse {
        status: Some(HttpStatus {
            code: StatusCode::Unauthorized.into(),
        }),
        headers: vec![line],
        body: "why".into(),
    };
    for (number, kind) in [
        (2, check_response::HttpResponse::DeniedResponse as fn(_) -> _),
        (5, check_response::HttpResponse::ErrorResponse),
    ] {
        let response: CheckResponse = read(&[field(number, &denied)]).unwrap();
        assert_eq!(response.http_response, Some(kind(expected.clone())), "{number}");
    }
}

#[test]
fn rate_limit_fields_have_their_published_numbers() {
    let descriptor = [
        field(1, &pair(b"path", b"/a")),
        field(2, &[number(1, 9), number(2, 5)].concat()),
        field(3, &number(1, 2)),
    ]
    .concat();
    let request: RateLimitRequest = read(&[field(1, b"domain"), field(2, &descriptor), number(3, 4)]).unwrap();
    let expected = RateLimitRequest {
        domain: "domain".into(),
        descriptors: vec![RateLimitDescriptor {
            entries: vec![Entry {
                key: "path".into(),
                value: "/a".into(),
            }],
            limit: Some(RateLimitOverride {
                requests_per_unit: 9,
                unit: RateLimitUnit::Month.into(),
            }),
            hits_addend: Some(2),
        }],
        hits_addend: 4,
    };
    assert_eq!(request, expected);

    let quota = [number(1, 3), field(2, &number(1, 8)), field(3, b"id")].concat();
    let status = [
        number(1, 2),
        field(2, &[number(1, 10), number(2, 7), field(3, b"limit")].concat()),
        number(3, 1),
        field(4, &number(1, 30)),
        field(5, &quota),
    ]
    .concat();
    let response: RateLimitResponse = read(&[
        number(1, 2),
        field(2, &status),
        field(3, &pair(b"response", b"1")),
        field(4, &pair(b"request", b"2")),
        field(5, b"body"),
        field(6, b""),
        field(7, &quota),
    ])
    .unwrap();
    assert_eq!(response, a_rate_limit_response());
}

fn a_rate_limit_response() -> RateLimitResponse {
    let line = |key: &str, value: &str| HeaderValue {
        key: key.into(),
        value: value.into(),
        raw_value: Vec::new(),
    };
    let quota = Quota {
        requests: 3,
        id: "id".into(),
        expiration_specifier: Some(ExpirationSpecifier::ValidUntil(Timestamp { seconds: 8, nanos: 0 })),
    };
    RateLimitResponse {
        overall_code: Code::OverLimit.into(),
        statuses: vec![DescriptorStatus {
            code: Code::OverLimit.into(),
            current_limit: Some(RateLimit {
                name: "limit".into(),
                requests_per_unit: 10,
                unit: rate_limit_response::rate_limit::Unit::Week.into(),
            }),
            limit_remaining: 1,
            duration_until_reset: Some(Duration { seconds: 30, nanos: 0 }),
            quota: Some(quota.clone()),
        }],
        response_headers_to_add: vec![line("response", "1")],
        request_headers_to_add: vec![line("request", "2")],
        raw_body: b"body".to_vec(),
        dynamic_metadata: Some(nothing()),
        quota: Some(quota),
    }
}

#[test]
fn enumerations_have_their_published_values() {
    for (code, value) in [
        (StatusCode::Empty, 0),
        (StatusCode::ImUsed, 226),
        (StatusCode::PermanentRedirect, 308),
        (StatusCode::MisdirectedRequest, 421),
        (StatusCode::TooManyRequests, 429),
        (StatusCode::NetworkAuthenticationRequired, 511),
    ] {
        assert_eq!(i32::from(code), value);
    }
    for (action, value) in [
        (HeaderAppendAction::AppendIfExistsOrAdd, 0),
        (HeaderAppendAction::AddIfAbsent, 1),
        (HeaderAppendAction::OverwriteIfExistsOrAdd, 2),
        (HeaderAppendAction::OverwriteIfExists, 3),
    ] {
        assert_eq!(i32::from(action), value);
    }
    let later: RateLimitResponse = read(&[number(1, 99), field(4000, b"later")]).unwrap();
    assert_eq!(later.overall_code, 99, "left to those who know what it would mean");
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _request = CheckRequest::decode(bytes.as_slice());
        let _response = CheckResponse::decode(bytes.as_slice());
        let _limit = RateLimitRequest::decode(bytes.as_slice());
        let _limited = RateLimitResponse::decode(bytes.as_slice());
    }

    #[test]
    fn what_is_written_is_read(
        headers in prop::collection::hash_map(".{0,9}", ".{0,9}", 0..4),
        size: i64,
        raw_body: Vec<u8>,
        entries in prop::collection::vec((".{0,9}", ".{0,9}"), 0..4),
        hits_addend: Option<u64>,
    ) {
        let http = HttpRequest { headers, size, raw_body, ..HttpRequest::default() };
        let attributes = AttributeContext {
            request: Some(Request { time: None, http: Some(http) }),
            ..AttributeContext::default()
        };
        let request = CheckRequest { attributes: Some(attributes) };
        prop_assert_eq!(CheckRequest::decode(request.encode_to_vec().as_slice()).unwrap(), request);

        let entries = entries.into_iter().map(|(key, value)| Entry { key, value });
        let descriptor = RateLimitDescriptor { entries: entries.collect(), limit: None, hits_addend };
        let request = RateLimitRequest { descriptors: vec![descriptor], ..RateLimitRequest::default() };
        prop_assert_eq!(RateLimitRequest::decode(request.encode_to_vec().as_slice()).unwrap(), request);
    }
}
