//! Connections that go on by WebSocket.

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::ext::Protocol;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::chat::{chat, talk};
use crate::cluster::{Caller, Cluster, get, whole};
use crate::world::soon;

/// Denies every GET but one.
const POLICY: &str = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: no-chat, namespace: shop}
spec:
  targetRefs: [{kind: Service, group: '', name: till}]
  action: DENY
  rules: [{to: [{operation: {methods: [GET], notPaths: [/]}}]}]
";

const ROUTE: &str = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: till, namespace: shop}
spec:
  hosts: [till.shop.svc]
  http:
  - match: [{uri: {prefix: /direct}}]
    directResponse: {status: 202, body: {string: told}}
  - route: [{destination: {host: till.shop.svc}}]
";

/// Asks by HTTP/2 for a protocol, on a connection of its own (RFC 8441), once the waypoint has said that
/// it knows such requests.
async fn connect(
    caller: &Caller,
    path: &str,
    protocol: &'static str,
    lines: &[(&str, &str)],
) -> (Response<Incoming>, impl Sized) {
    let (mut client, connection) = caller.http2().await;
    whole(soon("answer", client.send_request(get_http2())).await.unwrap()).await;
    let mut request = Request::connect(format!("http://till.shop.svc{path}"));
    for (name, value) in lines {
        request = request.header(*name, *value);
    }
    let request = request.extension(Protocol::from_static(protocol));
    let request = request.header("sec-websocket-version", "13");
    let request = request.body(Full::default()).unwrap();
    let response = soon("answer", client.send_request(request)).await.unwrap();
    (response, (client, connection))
}

fn get_http2() -> Request<Full<Bytes>> {
    Request::get("http://till.shop.svc/").body(Full::default()).unwrap()
}

#[tokio::test]
async fn a_websocket_is_joined_both_ways() {
    let cluster = Cluster::start("").await;
    let caller = cluster.call("cart").await;
    chat(caller.open().await.unwrap()).await;
    let record = cluster.tells("the end", |record| record["http.status"] == 101).await;
    assert_eq!((&record["bytes_recv"], &record["bytes_sent"]), (&6.into(), &6.into()));
}

#[tokio::test]
async fn other_protocols_are_not_gone_on_by() {
    let cluster = Cluster::start("").await;
    let lines = [
        ("connection", "upgrade, http2-settings"),
        ("upgrade", "h2c"),
        ("http2-settings", "AA"),
    ];
    let answer = cluster.call("cart").await.send(get("/", &lines)).await;
    assert_eq!(answer.status(), 200);
    let told = crate::cluster::told(&answer);
    assert!(told["headers"].get("upgrade").is_none(), "{told}");
}

#[tokio::test]
async fn a_websocket_is_opened_by_http2_too() {
    let cluster = Cluster::start("").await;
    let caller = cluster.call("cart").await;
    let (mut response, _connection) = connect(&caller, "/chat", "websocket", &[]).await;
    assert_eq!(response.status(), StatusCode::OK);
    for name in ["sec-websocket-accept", "content-length", "upgrade", "connection"] {
        assert!(response.headers().get(name).is_none(), "{name}");
    }
    let mut io = TokioIo::new(soon("stream", hyper::upgrade::on(&mut response)).await.unwrap());
    talk(&mut io).await;
    io.shutdown().await.unwrap();
    assert_eq!(soon("end", io.read_to_end(&mut Vec::new())).await.unwrap(), 0);
    let record = cluster.tells("the end", |record| record["http.path"] == "/chat").await;
    assert_eq!(
        (&record["http.status"], &record["bytes_recv"], &record["bytes_sent"]),
        (&200.into(), &6.into(), &6.into())
    );
}

#[tokio::test]
async fn a_websocket_by_http2_is_to_policies_what_it_is_by_http1() {
    let cluster = Cluster::start(POLICY).await;
    let caller = cluster.call("cart").await;
    for lines in [&[][..], &[("content-type", "application/grpc")]] {
        let (response, _connection) = connect(&caller, "/chat", "websocket", lines).await;
        assert_eq!(response.status(), StatusCode::FORBIDDEN, "{lines:?}");
    }
    assert_eq!(cluster.one.asked(), 2);
}

#[tokio::test]
async fn only_a_websocket_is_told_to_be_one() {
    let cluster = Cluster::start(ROUTE).await;
    let caller = cluster.call("cart").await;
    for (path, protocol, lines, status) in [
        // Other protocols are not known.
        ("/chat", "connect-udp", &[][..], StatusCode::NOT_IMPLEMENTED),
        // The endpoint answers as if it were any request.
        ("/chat", "websocket", &[("x-status", "200")], StatusCode::BAD_GATEWAY),
        ("/chat", "websocket", &[("x-status", "404")], StatusCode::NOT_FOUND),
        // It has not understood what it was asked.
        (
            "/chat",
            "websocket",
            &[("x-accept", "AAAAAAAAAAAAAAAAAAAAAAAAAAA=")],
            StatusCode::BAD_GATEWAY,
        ),
        // A route answers.
        ("/direct", "websocket", &[], StatusCode::BAD_GATEWAY),
    ] {
        let (response, _connection) = connect(&caller, path, protocol, lines).await;
        assert_eq!(response.status(), status, "{path} {protocol} {lines:?}");
    }
}

#[tokio::test]
async fn a_websocket_by_http2_ends_when_policies_do_not_let_it_any_more() {
    let cluster = Cluster::start("").await;
    let caller = cluster.call("cart").await;
    let (mut response, _connection) = connect(&caller, "/chat", "websocket", &[]).await;
    let mut io = TokioIo::new(soon("stream", hyper::upgrade::on(&mut response)).await.unwrap());
    talk(&mut io).await;
    cluster.change(POLICY, 1).await;
    drop(soon("end", io.read_to_end(&mut Vec::new())).await);
    let record = cluster.tells("the end", |record| record["http.path"] == "/chat").await;
    assert!(record["error"].to_string().contains("no-chat"), "{record}");
    assert_eq!((&record["bytes_recv"], &record["bytes_sent"]), (&6.into(), &6.into()));
}
