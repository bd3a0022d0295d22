//! Envoy's tunnels to a workload of a node.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::envoy::Envoy;
use crate::nodes::{Node, World, allow, identity};
use crate::world::{App, exchange, half_close_first, half_close_last, soon};

const CONFIG: &str = include_str!("../envoy/client.yaml");

/// `till` behind a node, and an Envoy that tunnels connections to it in the name of `cart`.
struct Pair {
    world: World,
    far: Node,
    envoy: Envoy,
    app: SocketAddr,
}

impl Pair {
    async fn start(world: World, app: SocketAddr, policies: &str) -> Self {
        world.write(&world.mesh(app, policies));
        let far = world.head("far", &["till"]) + &world.inbound(world.till());
        let far = world.start("far", &far).await;
        let envoy = envoy(&world, &app.to_string()).await;
        Self { world, far, envoy, app }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.envoy.addr).await.unwrap()
    }
}

/// An Envoy that asks the far node for tunnels to `target`.
async fn envoy(world: &World, target: &str) -> Envoy {
    let files = world.pki.issue(&identity("cart"));
    let [cert, key, roots] = [&files.cert, &files.key, &files.roots].map(|file| file.to_str().unwrap());
    let certificates =
        format!("[ {{ certificate_chain: {{ filename: \"{cert}\" }}, private_key: {{ filename: \"{key}\" }} }} ]");
    let peer = format!("address: {}, port_value: {}", world.till(), world.hbone_port);
    let config = CONFIG
        .replace("@TARGET@", target)
        .replace("@CERTIFICATES@", &certificates)
        .replace("@ROOTS@", roots)
        .replace("address: 127.0.0.1, port_value: @SERVER_PORT@", &peer)
        .replace(
            "spiffe://cluster.local/ns/default/sa/server",
            &identity("till").to_string(),
        );
    Envoy::start(&config).await
}

/// The connection of an application that has said something fails, without an orderly end.
async fn is_reset(mut tcp: TcpStream) {
    tcp.write_all(b"is anybody there?").await.unwrap();
    let end = soon("reset", tcp.read(&mut [0])).await;
    assert_eq!(end.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn five_megabytes_cross_each_way() {
    let world = World::new();
    let echo = App::echo_at(world.till()).await;
    let pair = Pair::start(world, echo.addr, &allow(&["cart"])).await;
    exchange(pair.connect().await, 1, 5_000_000).await;
    let line = pair.envoy.says("CONNECTION").await;
    assert!(line.contains("flags=- "), "{line}");
    let counted = format!("peer={} received=5000000 sent=5000000", identity("till"));
    assert!(line.contains(&counted), "{line}");
    let record = pair
        .far
        .tells("arrival", |record| record["direction"] == "inbound")
        .await;
    assert_eq!(
        (&record["bytes_sent"], &record["bytes_recv"]),
        (&5_000_000.into(), &5_000_000.into())
    );
    assert_eq!(record["src.identity"], identity("cart").to_string(), "{record}");
    assert_eq!(record["dst.hbone_addr"], pair.app.to_string(), "{record}");
    // It has no address that the mesh knows, so that its own words are all there is.
    assert_eq!(record["src.namespace"], "default", "{record}");
}

#[tokio::test]
async fn a_service_is_reached_by_its_name() {
    let world = World::new();
    let echo = App::echo_at(world.till()).await;
    let pair = Pair::start(world, echo.addr, "").await;
    let envoy = envoy(&pair.world, "till.shop.svc:80").await;
    exchange(TcpStream::connect(envoy.addr).await.unwrap(), 1, 10_000).await;
}

#[tokio::test]
async fn the_application_may_speak_after_the_clients_end() {
    let world = World::new();
    let app = App::listener_first_at(world.till()).await;
    let pair = Pair::start(world, app.addr, "").await;
    half_close_first(pair.connect().await).await;
    pair.far.tells("end", |record| record["level"] == "info").await;
}

#[tokio::test]
async fn the_client_may_speak_after_the_applications_end() {
    let world = World::new();
    let (app, told) = App::speechless_at(world.till()).await;
    let pair = Pair::start(world, app.addr, "").await;
    half_close_last(pair.connect().await, told).await;
    pair.far.tells("end", |record| record["level"] == "info").await;
}

#[tokio::test]
async fn whom_no_policy_allows_is_answered_401() {
    let world = World::new();
    let echo = App::echo_at(world.till()).await;
    let pair = Pair::start(world, echo.addr, &allow(&["spy"])).await;
    is_reset(pair.connect().await).await;
    let line = pair.envoy.says("CONNECTION").await;
    assert!(line.contains("tunnel_response:401"), "{line}");
    let record = pair.far.tells("refusal", |record| record["level"] == "error").await;
    assert_eq!(record["error"], "policy: no policy allows it", "{record}");
    pair.world.write(&pair.world.mesh(pair.app, &allow(&["cart"])));
    pair.far.process.says("mesh changed").await;
    exchange(pair.connect().await, 1, 10_000).await;
}

#[tokio::test]
async fn a_policy_that_changes_resets_the_tunnel() {
    let world = World::new();
    let echo = App::echo_at(world.till()).await;
    let pair = Pair::start(world, echo.addr, &allow(&["cart"])).await;
    let mut open = pair.connect().await;
    open.write_all(b"12345").await.unwrap();
    soon("echo", open.read_exact(&mut [0; 5])).await.unwrap();
    pair.world.write(&pair.world.mesh(pair.app, &allow(&["spy"])));
    soon("reset", open.read(&mut [0])).await.unwrap_err();
}

#[tokio::test]
async fn destinations_that_are_not_the_workloads_are_answered_400_and_503() {
    let world = World::new();
    let echo = App::echo_at(world.till()).await;
    let pair = Pair::start(world, echo.addr, "").await;
    for (target, status) in [
        (format!("{}:80", pair.world.cart()), 400),
        ("nobody.shop.svc:80".to_owned(), 503),
    ] {
        let envoy = envoy(&pair.world, &target).await;
        is_reset(TcpStream::connect(envoy.addr).await.unwrap()).await;
        let line = envoy.says("CONNECTION").await;
        assert!(line.contains(&format!("tunnel_response:{status}")), "{target}: {line}");
    }
}
