//! Answers of the waypoint's own.

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, Response};

use crate::cluster::{Cluster, get, whole};
use crate::policy::DENY_ADMIN;
use crate::world::soon;

const ROUTES: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: till, namespace: shop}
spec:
  parentRefs: [{group: '', kind: Service, name: till, port: 80}]
  rules:
  - matches: [{path: {type: PathPrefix, value: /nobody}}]
    filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {add: [{name: x-added, value: by-route}]}}]
    backendRefs: [{name: waypoint, port: 15008}]
  - filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {add: [{name: x-added, value: by-route}]}}]
    backendRefs: [{name: till, port: 80}]
";

const FAULTS: &str = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: till, namespace: shop}
spec:
  hosts: [till.shop.svc]
  http:
  - match: [{uri: {prefix: /teapot}}]
    fault: {abort: {httpStatus: 503, percentage: {value: 100}}}
    route: [{destination: {host: till.shop.svc}}]
  - match: [{uri: {prefix: /call}}]
    fault: {abort: {grpcStatus: RESOURCE_EXHAUSTED, percentage: {value: 100}}}
    route: [{destination: {host: till.shop.svc}}]
  - match: [{uri: {prefix: /direct}}]
    directResponse: {status: 202, body: {string: told}}
  - match: [{uri: {prefix: /nothing}}]
    directResponse: {status: 204, body: {string: told}}
  - match: [{uri: {prefix: /moved}}]
    redirect: {uri: /elsewhere, redirectCode: 302}
  - route: [{destination: {host: till.shop.svc}}]
";

fn head(path: &str) -> Request<Full<Bytes>> {
    let uri = format!("http://till.shop.svc{path}");
    Request::head(uri).body(Full::default()).unwrap()
}

#[tokio::test]
async fn a_denied_request_for_a_head_alone_is_told_as_that() {
    let cluster = Cluster::start(DENY_ADMIN).await;
    let caller = cluster.call("cart").await;
    let raw = caller
        .raw(b"HEAD /admin HTTP/1.1\r\nhost: till.shop.svc\r\nconnection: close\r\n\r\n")
        .await;
    assert!(raw.starts_with("HTTP/1.1 403") && raw.ends_with("\r\n\r\n"), "{raw}");
    assert!(raw.contains("content-length: 19\r\n"), "{raw}");
    let (mut http2, _tasks) = caller.http2().await;
    let answer = whole(soon("answer", http2.send_request(head("/admin"))).await.unwrap()).await;
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["content-length"]),
        (403, &"19".parse().unwrap())
    );
    for version in ["HTTP/1.1", "HTTP/2"] {
        let record = cluster
            .tells("a denial", |record| {
                record["http.method"] == "HEAD" && record["http.protocol"] == version
            })
            .await;
        assert!(record["error"].to_string().contains("no-admin"), "{record}");
        assert_eq!((&record["flags"], &record["bytes_sent"]), (&"-".into(), &0.into()));
    }
}

#[tokio::test]
async fn the_log_names_requests_as_endpoints_know_them() {
    let cluster = Cluster::start("").await;
    let caller = cluster.call("cart").await;
    let told = crate::cluster::told(&caller.get("/given").await);
    let of = |path: &'static str| cluster.tells("a request", move |record| record["http.path"] == path);
    let given = &told["headers"]["x-request-id"];
    assert_eq!(of("/given").await["http.request_id"], *given);
    caller.send(get("/own", &[("x-request-id", "mine")])).await;
    assert_eq!(of("/own").await["http.request_id"], "mine");
}

#[tokio::test]
async fn faults_are_answered_in_the_way_of_calls() {
    let cluster = Cluster::start(FAULTS).await;
    let caller = cluster.call("cart").await;
    let of = async |path: &str, kind: &str| caller.send(get(path, &[("content-type", kind)])).await;
    let status = |answer: &Response<Bytes>| {
        let call = answer
            .headers()
            .get("grpc-status")
            .map(|status| status.to_str().unwrap().to_owned());
        (answer.status().as_u16(), call)
    };
    let call = "application/grpc";
    assert_eq!(status(&of("/teapot", "text/plain").await), (503, None));
    assert_eq!(status(&of("/teapot", call).await), (200, Some("14".to_owned())));
    assert_eq!(status(&of("/call", call).await), (200, Some("8".to_owned())));
    assert_eq!(status(&of("/call", "text/plain").await), (200, None));
    cluster.tells("a fault", |record| record["flags"] == "FI").await;
    assert_eq!(status(&of("/moved", "text/plain").await), (302, None));
    let moved = of("/moved", call).await;
    assert_eq!(status(&moved), (200, Some("2".to_owned())));
    assert_eq!(moved.headers()["location"], "http://till.shop.svc/elsewhere");
    let direct = of("/direct", call).await;
    assert_eq!(status(&direct), (200, Some("2".to_owned())));
    assert_eq!(
        (&direct.headers()["grpc-message"], &direct.body()[..]),
        (&"told".parse().unwrap(), &b""[..])
    );
    assert_eq!(cluster.one.asked(), 0);
}

#[tokio::test]
async fn what_never_has_content_is_sent_without() {
    let cluster = Cluster::start(FAULTS).await;
    let caller = cluster.call("cart").await;
    let (mut http2, _tasks) = caller.http2().await;
    for (request, status) in [(head("/direct"), 202), (head("/nothing"), 204)] {
        let answer = whole(soon("answer", http2.send_request(request)).await.unwrap()).await;
        assert_eq!((answer.status().as_u16(), answer.body().len()), (status, 0));
    }
    let uri = "http://till.shop.svc/nothing";
    let nothing = Request::get(uri).body(Full::default()).unwrap();
    let answer = whole(soon("answer", http2.send_request(nothing)).await.unwrap()).await;
    assert_eq!((answer.status().as_u16(), answer.body().len()), (204, 0));
    let record = cluster.tells("an answer", |record| record["http.status"] == 202).await;
    assert_eq!(record["flags"], "-");
}

#[tokio::test]
async fn routes_change_what_is_answered_in_an_endpoints_place() {
    let cluster = Cluster::start(ROUTES).await;
    let caller = cluster.call("cart").await;
    for (path, lines, status) in [
        ("/nobody", &[][..], 503),
        ("/", &[("connection", "upgrade"), ("upgrade", "websocket")], 101),
    ] {
        let answer = caller.send(get(path, lines)).await;
        assert_eq!(answer.status().as_u16(), status);
        assert_eq!(answer.headers()["x-added"], "by-route", "{path}");
    }
    let record = cluster.tells("a refusal", |record| record["http.status"] == 503).await;
    assert_eq!(record["flags"], "UH");
}
