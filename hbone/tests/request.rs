//! The heads that open a tunnel: which are accepted, and that ours survive a real HTTP/2
//! connection.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::let_underscore_must_use,
    clippy::indexing_slicing,
    reason = "test code"
)]

use std::error::Error;
use std::net::SocketAddr;

use hbone::metadata::{BaggageError, HeaderError, MalformedMetadata, TraceParent};
use hbone::{
    Authority, AuthorityError, HeadFault, Metadata, Refusal, RefusalKind, Rejection, ResponseError, TunnelRequest,
    TunnelResponse,
};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri};
use proptest::prelude::*;

fn connect(authority: &str) -> Request<()> {
    Request::builder()
        .method(Method::CONNECT)
        .uri(authority)
        .body(())
        .unwrap()
}

fn with_field(name: &'static str, value: &'static str) -> Request<()> {
    let mut head = connect("10.0.0.7:80");
    head.headers_mut().append(name, HeaderValue::from_static(value));
    head
}

fn read(head: Request<()>) -> Result<TunnelRequest, Rejection> {
    TunnelRequest::from_parts(&head.into_parts().0)
}

#[test]
fn accepts_a_plain_connect() {
    for authority in ["10.0.0.7:80", "[::1]:80", "echo.default.svc:80"] {
        let request = read(connect(authority)).unwrap();
        assert_eq!(request.authority().to_string(), authority);
        assert_eq!(request.metadata(), &Metadata::new());
    }
}

#[test]
fn rejects_other_methods() {
    for method in [Method::GET, Method::POST, Method::OPTIONS] {
        let mut head = connect("10.0.0.7:80");
        *head.method_mut() = method;
        assert_eq!(read(head), Err(Rejection::NotConnect));
    }
}

#[test]
fn rejects_every_malformed_connect() {
    let no_authority = {
        let mut head = connect("10.0.0.7:80");
        *head.uri_mut() = Uri::from_parts(http::uri::Parts::default()).unwrap();
        head
    };
    let extended = {
        let mut head = connect("10.0.0.7:80");
        head.extensions_mut()
            .insert(h2::ext::Protocol::from_static("websocket"));
        head
    };
    let connection_specific = |name| {
        let name = HeaderName::from_static(name);
        Rejection::from(HeadFault::ConnectionSpecific { name })
    };
    let table = [
        (no_authority, HeadFault::AuthorityMissing.into()),
        (connect("/"), HeadFault::AuthorityMissing.into()),
        (connect("/path"), HeadFault::SchemeOrPath.into()),
        (connect("*"), HeadFault::SchemeOrPath.into()),
        (connect("http://10.0.0.7:80/"), HeadFault::SchemeOrPath.into()),
        (connect("http://10.0.0.7:80"), HeadFault::SchemeOrPath.into()),
        (extended, HeadFault::Protocol.into()),
        (connect("10.0.0.7"), AuthorityError::PortMissing.into()),
        (connect("10.0.0.7:0"), AuthorityError::PortZero.into()),
        (connect("user@10.0.0.7:80"), AuthorityError::UserInfo.into()),
        (connect("user:pass@10.0.0.7:80"), AuthorityError::UserInfo.into()),
        (connect("1.2.3:80"), AuthorityError::NumericName.into()),
        (with_field("content-length", "0"), HeadFault::ContentLength.into()),
        (with_field("content-length", "x"), HeadFault::ContentLength.into()),
        (
            with_field("transfer-encoding", "chunked"),
            connection_specific("transfer-encoding"),
        ),
        (with_field("connection", "close"), connection_specific("connection")),
        (with_field("keep-alive", "1"), connection_specific("keep-alive")),
        (
            with_field("proxy-connection", "close"),
            connection_specific("proxy-connection"),
        ),
        (with_field("upgrade", "h2c"), connection_specific("upgrade")),
        (with_field("te", "gzip"), connection_specific("te")),
        (with_field("host", "10.0.0.8:80"), HeadFault::Host.into()),
        (with_field("host", "10.0.0.7"), HeadFault::Host.into()),
        (with_field("host", ""), HeadFault::Host.into()),
        (with_field("host", "evil@10.0.0.7:80"), HeadFault::Host.into()),
    ];
    for (head, rejection) in table {
        let text = format!("{head:?}");
        assert_eq!(read(head), Err(rejection.clone()), "{text}");
        assert_eq!(rejection.status(), 400, "{text}");
        assert_grammar(&rejection);
    }
}

#[test]
fn accepts_a_host_that_agrees_and_te_trailers() {
    let head = with_field("host", "[::ffff:10.0.0.7]:80");
    assert!(read(head).unwrap().metadata().headers().is_empty());
    let head = with_field("te", "trailers");
    assert!(read(head).unwrap().metadata().headers().is_empty());
}

#[test]
fn one_host_that_disagrees_is_enough() {
    let mut head = with_field("host", "10.0.0.7:80");
    head.headers_mut()
        .append("host", HeaderValue::from_static("10.0.0.8:80"));
    assert_eq!(read(head), Err(HeadFault::Host.into()));
}

#[test]
fn heads_have_limits() {
    let mut head = connect("10.0.0.7:80");
    for _ in 0..TunnelRequest::MAX_FIELDS {
        head.headers_mut().append("x", HeaderValue::from_static(""));
    }
    assert!(read(head.clone()).is_ok());
    head.headers_mut().append("x", HeaderValue::from_static(""));
    let count = TunnelRequest::MAX_FIELDS + 1;
    let fault = HeadFault::TooManyFields {
        count,
        limit: TunnelRequest::MAX_FIELDS,
    };
    assert_eq!(read(head), Err(fault.into()));

    let filled = |len| {
        let mut head = connect("10.0.0.7:80");
        let value = HeaderValue::try_from("v".repeat(len)).unwrap();
        head.headers_mut().insert("x", value);
        head
    };
    let room = TunnelRequest::MAX_FIELD_BYTES - "x".len() - 32;
    assert!(read(filled(room)).is_ok());
    let bytes = TunnelRequest::MAX_FIELD_BYTES + 1;
    let fault = HeadFault::TooLarge {
        bytes,
        limit: TunnelRequest::MAX_FIELD_BYTES,
    };
    assert_eq!(read(filled(room + 1)), Err(fault.into()));
}

#[test]
fn the_largest_head_of_our_own_is_within_the_limits() {
    let largest = largest_metadata();
    let authority = format!("{}:65535", ["a".repeat(62).as_str(); 4].join("."));
    let request = TunnelRequest::new(authority.parse().unwrap()).with_metadata(largest);
    assert_eq!(read(request.to_head()), Ok(request));
}

#[test]
fn malformed_metadata_does_not_reject_the_tunnel() {
    let request = read(with_field("baggage", "oops")).unwrap();
    let fault = MalformedMetadata::Baggage(BaggageError::NoValue);
    assert_eq!(request.metadata().malformed(), [fault]);
}

#[test]
fn a_response_survives_its_head() {
    let name = HeaderName::from_static("x-a");
    let response = TunnelResponse::new()
        .with_baggage("service.name=echo".parse().unwrap())
        .with_header(name, HeaderValue::from_static("1"))
        .unwrap();
    let (head, ()) = response.to_head().into_parts();
    assert_eq!(head.status, StatusCode::OK);
    assert_eq!(head.headers["baggage"], "service.name=echo");
    assert_eq!(head.headers.len(), 2);
    assert_eq!(TunnelResponse::from_parts(&head), Ok(response));
}

#[test]
fn every_success_opens_a_tunnel_whatever_its_content_length() {
    for status in [200, 201, 204, 299] {
        let head = Response::builder()
            .status(status)
            .header("content-length", "17")
            .body(())
            .unwrap();
        let response = TunnelResponse::from_parts(&head.into_parts().0).unwrap();
        assert_eq!(response.status(), status);
        assert!(response.headers().is_empty());
    }
}

#[test]
fn no_other_status_opens_a_tunnel() {
    for status in (100..200).chain(300..600) {
        let head = Response::builder().status(status).body(()).unwrap();
        let read = TunnelResponse::from_parts(&head.into_parts().0);
        let status = StatusCode::from_u16(status).unwrap();
        assert_eq!(read, Err(ResponseError::Refused(Refusal::from(status))));
    }
}

#[test]
fn a_refused_client_reads_the_kind_of_the_rejection() {
    let (head, ()) = Rejection::Draining.to_response().into_parts();
    let Err(ResponseError::Refused(refusal)) = TunnelResponse::from_parts(&head) else {
        unreachable!("503 is no success");
    };
    assert_eq!(refusal.kind(), RefusalKind::Unavailable);
    assert_grammar(&ResponseError::Refused(refusal));
}

#[test]
fn a_malformed_successful_response_opens_no_tunnel() {
    let mut head = Response::new(());
    head.headers_mut()
        .insert("connection", HeaderValue::from_static("close"));
    let name = HeaderName::from_static("connection");
    let fault = HeadFault::ConnectionSpecific { name };
    let error = TunnelResponse::from_parts(&head.into_parts().0).unwrap_err();
    assert_eq!(error, ResponseError::Malformed(fault));
    assert_grammar(&error);

    let mut head = Response::new(());
    let value = HeaderValue::try_from("v".repeat(TunnelRequest::MAX_FIELD_BYTES)).unwrap();
    head.headers_mut().insert("x", value);
    let error = TunnelResponse::from_parts(&head.into_parts().0).unwrap_err();
    assert!(matches!(error, ResponseError::Malformed(HeadFault::TooLarge { .. })));
}

#[test]
fn malformed_response_baggage_counts_as_absent_and_is_noted() {
    let head = Response::builder().header("baggage", "oops").body(()).unwrap();
    let response = TunnelResponse::from_parts(&head.into_parts().0).unwrap();
    assert_eq!(response.baggage(), None);
    let fault = MalformedMetadata::Baggage(BaggageError::NoValue);
    assert_eq!(response.malformed(), Some(fault));
}

#[test]
fn a_response_keeps_the_protocol_to_itself_and_tokens_out_of_debug() {
    let name = HeaderName::from_static("content-length");
    let refused = TunnelResponse::new().with_header(name.clone(), HeaderValue::from_static("1"));
    assert_eq!(refused, Err(HeaderError::Reserved { name }));

    let name = HeaderName::from_static("set-cookie");
    let response = TunnelResponse::new().with_header(name, HeaderValue::from_static("s3cret"));
    let text = format!("{:?}", response.unwrap());
    assert!(text.contains("set-cookie") && !text.contains("s3cret"), "{text}");
}

#[tokio::test]
async fn heads_survive_a_real_http2_connection() {
    let request = TunnelRequest::new("[2001:db8::7]:8080".parse().unwrap()).with_metadata(largest_metadata());
    let name = HeaderName::from_static("x-a");
    let response = TunnelResponse::new()
        .with_baggage("service.name=echo".parse().unwrap())
        .with_header(name, HeaderValue::from_static("1"))
        .unwrap();

    let (near, far) = tokio::io::duplex(64 * 1024);
    let server = async {
        let mut connection = h2::server::handshake(far).await.unwrap();
        let (head, mut respond) = connection.accept().await.unwrap().unwrap();
        let (head, _body) = head.into_parts();
        respond.send_response(response.to_head(), true).unwrap();
        while connection.accept().await.is_some() {}
        TunnelRequest::from_parts(&head)
    };
    let client = async {
        let (mut sender, connection) = h2::client::handshake(near).await.unwrap();
        let (reply, _stream) = sender.send_request(request.to_head(), true).unwrap();
        let reply = tokio::select! {
            reply = reply => reply.unwrap(),
            closed = connection => unreachable!("connection ended first: {closed:?}"),
        };
        TunnelResponse::from_parts(&reply.into_parts().0)
    };
    let (arrived, answered) = tokio::join!(server, client);
    assert_eq!(arrived, Ok(request));
    assert_eq!(answered, Ok(response));
}

proptest! {
    #[test]
    fn request_survives_its_head(addr: SocketAddr, trace in 1_u128.., network in "[!-~]{1,255}") {
        let Ok(authority) = Authority::try_from(addr) else {
            return Ok(());
        };
        let metadata = Metadata::new()
            .with_traceparent(TraceParent::new(trace, 1).unwrap())
            .with_forwarded_network(&network)
            .unwrap();
        let request = TunnelRequest::new(authority).with_metadata(metadata);
        prop_assert_eq!(read(request.to_head()), Ok(request));
    }

    #[test]
    fn every_authority_is_a_uri(text in "[a-z0-9_.:\\[\\]-]{1,16}:[1-9][0-9]{0,3}") {
        if let Ok(authority) = text.parse::<Authority>() {
            let request = TunnelRequest::new(authority);
            prop_assert_eq!(read(request.to_head()), Ok(request));
        }
    }

    #[test]
    fn no_uri_or_fields_panic(uri: Vec<u8>, fields: Vec<(String, Vec<u8>)>) {
        let mut head = connect("10.0.0.7:80");
        if let Ok(uri) = Uri::try_from(uri) {
            *head.uri_mut() = uri;
        }
        for (name, value) in fields {
            if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
                head.headers_mut().append(name, value);
            }
        }
        let _: Result<_, _> = read(head);
    }
}

/// Every field as large as its setter takes it.
fn largest_metadata() -> Metadata {
    let baggage = format!("a={}", "b".repeat(8190));
    let forwarded = format!("x={}", "a".repeat(2046));
    Metadata::new()
        .with_baggage(baggage.parse().unwrap())
        .with_forwarded(forwarded.parse().unwrap())
        .with_traceparent(TraceParent::new(u128::MAX, u64::MAX).unwrap())
        .with_forwarded_network(&"n".repeat(255))
        .unwrap()
        .with_header(
            HeaderName::from_static("x-a"),
            HeaderValue::try_from("v".repeat(4096 - 32 - 3)).unwrap(),
        )
        .unwrap()
}

fn assert_grammar(error: &dyn Error) {
    let text = error.to_string();
    assert!(
        text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '`'),
        "{text}"
    );
    assert!(!text.ends_with('.') && !text.contains('\n'), "{text}");
}
