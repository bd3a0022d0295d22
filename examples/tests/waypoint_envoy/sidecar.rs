//! Envoy's tunnels to the waypoint, and what is asked in them.

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, StatusCode};
use tokio::net::TcpStream;
use tonic::transport::{Channel, Endpoint};

use crate::calls::{call_twice, converse, echo};
use crate::chat::chat;
use crate::cluster::{Cluster, get, http2, send, told, whole};
use crate::envoy::Envoy;
use crate::nodes::identity;
use crate::world::soon;

const POLICY: &str = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: cart-reads, namespace: shop}
spec:
  targetRefs: [{kind: Service, group: '', name: till}]
  rules:
  - from: [{source: {principals: [cluster.local/ns/shop/sa/cart]}}]
    to: [{operation: {methods: [GET], hosts: [till.shop.svc]}}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: no-admin, namespace: shop}
spec:
  targetRefs: [{kind: Service, group: '', name: till}]
  action: DENY
  rules: [{to: [{operation: {paths: [/admin, /admin/*]}}]}]
";

/// By which version of HTTP an Envoy asks in its tunnels.
#[derive(Clone, Copy, Debug)]
pub enum Http {
    One,
    Two,
}

/// An Envoy that asks for `till` through the waypoint, in somebody's name.
pub async fn sidecar(cluster: &Cluster, account: &str, http: Http) -> Envoy {
    let files = cluster.world.pki.issue(&identity(account));
    let http = match http {
        Http::One => "{ http_protocol_options: {} }",
        Http::Two => "{ http2_protocol_options: { allow_connect: true } }",
    };
    let config = include_str!("sidecar.yaml")
        .replace("@TARGET@", &format!("{}:80", cluster.world.vip()))
        .replace("@HTTP@", http)
        .replace("@WAYPOINT@", &identity("waypoint").to_string())
        .replace("@IP@", &cluster.addr.ip().to_string())
        .replace("@PORT@", &cluster.addr.port().to_string())
        .replace("@CERT@", files.cert.to_str().unwrap())
        .replace("@KEY@", files.key.to_str().unwrap())
        .replace("@ROOTS@", files.roots.to_str().unwrap());
    Envoy::start(&config).await
}

pub async fn connect(envoy: &Envoy) -> TcpStream {
    TcpStream::connect(envoy.addr).await.unwrap()
}

pub async fn channel(envoy: &Envoy) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{}", envoy.addr)).unwrap();
    soon("channel", endpoint.connect()).await.unwrap()
}

async fn status(envoy: &Envoy, request: Request<Full<Bytes>>) -> StatusCode {
    let answer = send(connect(envoy).await, request).await;
    if answer.status() == StatusCode::FORBIDDEN {
        assert_eq!(&answer.body()[..], b"RBAC: access denied");
    }
    answer.status()
}

#[tokio::test]
async fn requests_pass_by_both_versions_of_http() {
    let cluster = Cluster::start_with("", "shows_clients = true\n").await;
    let spoofed = (
        "x-forwarded-client-cert",
        "By=me;URI=spiffe://cluster.local/ns/shop/sa/boss",
    );
    let [own, client] = [identity("waypoint"), identity("cart")];
    for (http, version) in [(Http::One, "HTTP/1.1"), (Http::Two, "HTTP/2.0")] {
        let envoy = sidecar(&cluster, "cart", http).await;
        for number in 0..5 {
            let request = get(&format!("/{number}?a=b"), &[spoofed, ("x-status", "404")]);
            let answer = send(connect(&envoy).await, request).await;
            assert_eq!(
                (answer.status(), &answer.headers()["x-shop"]),
                (StatusCode::NOT_FOUND, &"one".parse().unwrap())
            );
            let told = told(&answer);
            assert_eq!(
                (&told["uri"], &told["version"]),
                (
                    &match http {
                        Http::One => format!("/{number}?a=b"),
                        Http::Two => format!("http://till.shop.svc/{number}?a=b"),
                    }
                    .into(),
                    &version.into()
                )
            );
            let seen = format!("By={own};URI={client}");
            assert_eq!(told["headers"]["x-forwarded-client-cert"], seen);
        }
        let post = Request::post("/").header("host", "till.shop.svc");
        let post = post.body(Full::from("hello".repeat(100_000))).unwrap();
        let answer = send(connect(&envoy).await, post).await;
        assert_eq!(told(&answer)["body"].as_str().unwrap().len(), 500_000);
        assert_eq!(envoy.stat("cluster.waypoint.upstream_cx_total").await, 1, "{http:?}");
    }
    assert_eq!(cluster.one.asked(), 12);
    let record = cluster
        .tells("a request", |record| record["http.protocol"] == "HTTP/2")
        .await;
    assert_eq!(record["src.identity"], client.to_string(), "{record}");
}

#[tokio::test]
async fn many_requests_at_a_time_are_each_answered_once() {
    let cluster = Cluster::start("").await;
    for http in [Http::One, Http::Two] {
        let before = cluster.one.asked();
        let envoy = sidecar(&cluster, "cart", http).await;
        let (client, _connection) = http2(connect(&envoy).await).await;
        let requests = (0..50).map(|number| {
            let mut client = client.clone();
            async move {
                let request = Request::post(format!("http://till.shop.svc/{number}"));
                let request = request.body(Full::from(number.to_string())).unwrap();
                let answer = soon("answer", client.send_request(request)).await.unwrap();
                (number, whole(answer).await)
            }
        });
        let mut tasks: tokio::task::JoinSet<_> = requests.collect();
        while let Some(answer) = tasks.join_next().await {
            let (number, answer) = answer.unwrap();
            assert_eq!(told(&answer)["body"], number.to_string());
        }
        assert_eq!(cluster.one.asked() - before, 50, "{http:?}");
    }
}

#[tokio::test]
async fn policies_see_who_envoy_is() {
    let cluster = Cluster::start(POLICY).await;
    for http in [Http::One, Http::Two] {
        let (cart, spy) = (
            sidecar(&cluster, "cart", http).await,
            sidecar(&cluster, "spy", http).await,
        );
        let before = cluster.one.asked();
        assert_eq!(status(&cart, get("/", &[])).await, StatusCode::OK);
        assert_eq!(status(&cart, get("/x/../admin/y", &[])).await, StatusCode::FORBIDDEN);
        let post = Request::post("/").header("host", "till.shop.svc");
        assert_eq!(
            status(&cart, post.body(Full::default()).unwrap()).await,
            StatusCode::FORBIDDEN
        );
        let other = Request::get("/").header("host", "two.shop.svc");
        assert_eq!(
            status(&cart, other.body(Full::default()).unwrap()).await,
            StatusCode::FORBIDDEN
        );
        let spoofed = ("x-forwarded-client-cert", "URI=spiffe://cluster.local/ns/shop/sa/cart");
        for lines in [&[][..], &[spoofed]] {
            assert_eq!(status(&spy, get("/", lines)).await, StatusCode::FORBIDDEN);
        }
        assert_eq!(cluster.one.asked() - before, 1, "{http:?}");
    }
    let record = cluster
        .tells("a refusal", |record| {
            record["src.identity"] == identity("spy").to_string()
        })
        .await;
    assert_eq!(record["http.status"], 403, "{record}");
}

#[tokio::test]
async fn calls_and_streams_pass_with_their_trailers() {
    let cluster = Cluster::start_before(echo).await;
    let envoy = sidecar(&cluster, "cart", Http::Two).await;
    call_twice(channel(&envoy).await).await;
    converse(channel(&envoy).await).await;
    assert_eq!(cluster.one.asked(), 3);
    cluster
        .tells("the stream", |record| record["grpc.status"] == "15")
        .await;
}

/// In HTTP/2, Envoy makes it the CONNECT of RFC 8441.
#[tokio::test]
async fn a_websocket_passes() {
    let cluster = Cluster::start("").await;
    for (http, status) in [(Http::One, 101), (Http::Two, 200)] {
        let envoy = sidecar(&cluster, "cart", http).await;
        chat(connect(&envoy).await).await;
        cluster.tells("the end", |record| record["http.status"] == status).await;
    }
    assert_eq!(cluster.one.asked(), 2);
}
