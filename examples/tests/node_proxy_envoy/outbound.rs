//! A node's tunnels to an Envoy before an application.

use std::net::{IpAddr, SocketAddr};

use tokio::net::TcpStream;

use crate::envoy::Envoy;
use crate::nodes::{Node, World, identity};
use crate::socks::{self, HOST_UNREACHABLE, NOT_ALLOWED};
use crate::world::{App, exchange, free_addr, half_close_first, receive_last_words};

/// `cart` and `spy` on a node, and `till` behind an Envoy that does not let `spy` in.
struct Pair {
    world: World,
    near: Node,
    envoy: Envoy,
    app: SocketAddr,
}

impl Pair {
    async fn start(world: World, app: SocketAddr) -> Self {
        Self::start_as(world, app, "till").await
    }

    /// With an Envoy that shows the certificate of another account.
    async fn start_as(world: World, app: SocketAddr, account: &str) -> Self {
        world.write(&world.mesh(app, ""));
        let files = world.pki.issue(&identity(account));
        let inbound = (world.till(), world.hbone_port).into();
        let envoy = Envoy::server_at(inbound, &files, app, free_addr(), &identity("spy")).await;
        let head = world.head("near", &["cart", "spy"]) + "[[socks5]]\nbind = \"127.0.0.1:0\"\n";
        let near = world.start("near", &head).await;
        Self {
            world,
            near,
            envoy,
            app,
        }
    }

    async fn connect(&self, from: IpAddr) -> Result<TcpStream, u8> {
        let till = self.world.till().to_string();
        socks::connect(self.near.socks5.unwrap(), from, (&till, self.app.port())).await
    }

    async fn cart(&self) -> TcpStream {
        self.connect(self.world.cart()).await.unwrap()
    }
}

#[tokio::test]
async fn five_megabytes_cross_each_way() {
    let world = World::new();
    let echo = App::echo_at(world.till()).await;
    let pair = Pair::start(world, echo.addr).await;
    exchange(pair.cart().await, 1, 5_000_000).await;
    let line = pair.envoy.says("TUNNEL").await;
    let seen = format!("authority={} status=200 flags=- peer={}", pair.app, identity("cart"));
    assert!(
        line.contains(&seen) && line.contains("received=5000000 sent=5000000"),
        "{line}"
    );
    let record = pair.near.tells("departure", |record| record["level"] == "info").await;
    assert_eq!(
        (&record["bytes_sent"], &record["bytes_recv"]),
        (&5_000_000.into(), &5_000_000.into())
    );
    assert_eq!(record["dst.identity"], identity("till").to_string(), "{record}");
}

#[tokio::test]
async fn connections_of_a_workload_share_one_to_envoy() {
    let world = World::new();
    let echo = App::echo_at(world.till()).await;
    let pair = Pair::start(world, echo.addr).await;
    for seed in 0..10 {
        exchange(pair.cart().await, seed, 10_000).await;
    }
    assert_eq!(pair.envoy.stat("http.tunnels.downstream_rq_total").await, 10);
    assert_eq!(pair.envoy.stat("http.tunnels.downstream_cx_total").await, 1);
}

#[tokio::test]
async fn the_application_may_speak_after_the_clients_end() {
    let world = World::new();
    let app = App::listener_first_at(world.till()).await;
    let pair = Pair::start(world, app.addr).await;
    half_close_first(pair.cart().await).await;
    pair.near.tells("end", |record| record["level"] == "info").await;
}

/// Envoy's server gives a tunnel up once the application has ended its side, which takes nothing away
/// from what was sent.
#[tokio::test]
async fn the_applications_end_comes_after_all_its_bytes() {
    let world = World::new();
    let app = App::talkative_at(world.till()).await;
    let pair = Pair::start(world, app.addr).await;
    receive_last_words(pair.cart().await).await;
    let record = pair.near.tells("end", |_| true).await;
    assert_eq!(record["level"], "info", "{record}");
}

#[tokio::test]
async fn a_denial_of_envoys_is_one_to_the_workload() {
    let world = World::new();
    let echo = App::echo_at(world.till()).await;
    let pair = Pair::start(world, echo.addr).await;
    assert_eq!(pair.connect(pair.world.spy()).await.unwrap_err(), NOT_ALLOWED);
    let record = pair.near.tells("refusal", |record| record["level"] == "error").await;
    assert!(record["error"].as_str().unwrap().contains("403"), "{record}");
    exchange(pair.cart().await, 1, 10_000).await;
}

#[tokio::test]
async fn an_envoy_of_another_identity_is_not_believed() {
    let world = World::new();
    let echo = App::echo_at(world.till()).await;
    let pair = Pair::start_as(world, echo.addr, "impostor").await;
    assert_eq!(pair.connect(pair.world.cart()).await.unwrap_err(), HOST_UNREACHABLE);
    assert_eq!(pair.envoy.stat("http.tunnels.downstream_rq_total").await, 0);
}
