//! The waypoint's tunnels to an Envoy before an application.

use std::net::IpAddr;

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, StatusCode};

use crate::calls::{call_twice, converse, echo};
use crate::chat::chat;
use crate::cluster::{Cluster, get, send, told, whole};
use crate::envoy::Envoy;
use crate::nodes::{World, identity};
use crate::shop::Shop;
use crate::sidecar::{Http, channel, connect, sidecar};
use crate::world::{free_addr, soon};

/// A waypoint whose endpoint for `till` is an Envoy.
struct Pair {
    cluster: Cluster,
    envoy: Envoy,
}

async fn shop(ip: IpAddr) -> Shop {
    Shop::open(ip, "one").await
}

impl Pair {
    async fn start(open: impl AsyncFnOnce(IpAddr) -> Shop) -> Self {
        Self::start_as(open, "till", "cart").await
    }

    /// With an Envoy that shows this account's certificate, and does not let that one in.
    async fn start_as(open: impl AsyncFnOnce(IpAddr) -> Shop, account: &str, denied: &str) -> Self {
        let world = World::new();
        let one = open(world.till()).await;
        let files = world.pki.issue(&identity(account));
        let inbound = (world.till(), world.hbone_port).into();
        let envoy = Envoy::server_at(inbound, &files, one.app.addr, free_addr(), &identity(denied)).await;
        let cluster = Cluster::start_without_node(world, one, "", "").await;
        Self { cluster, envoy }
    }

    /// How many tunnels Envoy has been asked for.
    async fn tunnels(&self) -> u64 {
        self.envoy.stat("http.tunnels.downstream_rq_total").await
    }

    /// Nobody gets an answer from the application.
    async fn answers_nobody(&self) {
        let caller = self.cluster.call("cart").await;
        let (mut http2, _connection) = caller.http2().await;
        for _ in 0..3 {
            assert_eq!(caller.get("/").await.status(), StatusCode::SERVICE_UNAVAILABLE);
            let post = soon("answer", http2.send_request(post())).await.unwrap();
            assert_eq!(post.status(), StatusCode::SERVICE_UNAVAILABLE);
        }
        assert_eq!(self.cluster.one.asked(), 0);
        let record = self
            .cluster
            .tells("a failure", |record| record["http.status"] == 503)
            .await;
        assert_eq!(record["src.identity"], identity("cart").to_string(), "{record}");
    }
}

fn post() -> Request<Full<Bytes>> {
    Request::post("http://till.shop.svc/x")
        .body(Full::from("text"))
        .unwrap()
}

/// The waypoint is who asks there, and not its client, whom this Envoy would turn away.
#[tokio::test]
async fn requests_pass_in_the_name_of_the_waypoint() {
    let pair = Pair::start(shop).await;
    let caller = pair.cluster.call("cart").await;
    let (mut http2, _connection) = caller.http2().await;
    for number in 0..5 {
        let answer = caller.get(&format!("/{number}")).await;
        assert_eq!(
            (answer.status(), &told(&answer)["version"]),
            (StatusCode::OK, &"HTTP/1.1".into())
        );
        let answer = whole(soon("answer", http2.send_request(post())).await.unwrap()).await;
        let told = told(&answer);
        assert_eq!(
            (answer.status(), &told["version"], &told["body"]),
            (StatusCode::OK, &"HTTP/2.0".into(), &"text".into())
        );
    }
    assert_eq!(pair.cluster.one.asked(), 10);
    // One for each version of HTTP.
    assert_eq!(pair.tunnels().await, 2);
    pair.cluster.waypoint.terminate();
    let line = pair.envoy.says("TUNNEL").await;
    let seen = format!(
        "authority={} status=200 flags=- peer={}",
        pair.cluster.one.app.addr,
        identity("waypoint")
    );
    assert!(line.contains(&seen), "{line}");
}

#[tokio::test]
async fn an_envoy_of_another_identity_is_told_nothing() {
    let pair = Pair::start_as(shop, "impostor", "cart").await;
    pair.answers_nobody().await;
    assert_eq!(pair.tunnels().await, 0);
}

#[tokio::test]
async fn what_envoy_refuses_the_waypoint_is_unavailable() {
    let pair = Pair::start_as(shop, "till", "waypoint").await;
    pair.answers_nobody().await;
    assert!(pair.tunnels().await > 0);
}

#[tokio::test]
async fn calls_and_streams_pass_between_two_envoys() {
    let pair = Pair::start(echo).await;
    let envoy = sidecar(&pair.cluster, "cart", Http::Two).await;
    call_twice(channel(&envoy).await).await;
    converse(channel(&envoy).await).await;
    assert_eq!(pair.cluster.one.asked(), 3);
}

#[tokio::test]
async fn requests_and_websockets_pass_between_two_envoys() {
    let pair = Pair::start(shop).await;
    for (http, asked) in [(Http::One, 2), (Http::Two, 4)] {
        let envoy = sidecar(&pair.cluster, "cart", http).await;
        let answer = send(connect(&envoy).await, get("/", &[])).await;
        assert_eq!(
            (answer.status(), told(&answer)["name"].as_str()),
            (StatusCode::OK, Some("one"))
        );
        chat(connect(&envoy).await).await;
        assert_eq!(pair.cluster.one.asked(), asked, "{http:?}");
    }
}
