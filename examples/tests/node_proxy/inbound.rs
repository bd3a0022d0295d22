//! Tunnels that other nodes ask for.

use std::net::{IpAddr, SocketAddr};

use hbone::{Authority, Client, Config, Lost, OpenError, TunnelRequest};
use mesh_identity::{PeerPolicy, SpiffeId};
use mesh_testkit::ca::stranger;
use mesh_testkit::frames::Reason;
use mesh_testkit::peer::RawClient;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::nodes::{Node, World, identity};
use crate::world::{App, soon};

/// A far node, and where it takes tunnels for `till`.
async fn far(world: &World, echo: SocketAddr) -> (Node, SocketAddr) {
    world.write(&world.mesh(echo, ""));
    let node = world
        .start("far", &(world.head("far", &["till"]) + &world.inbound(world.till())))
        .await;
    (node, SocketAddr::new(world.till(), world.hbone_port))
}

/// A connection to a node, of somebody who means to reach `till`.
pub async fn dial(
    world: &World,
    addr: SocketAddr,
    as_whom: &SpiffeId,
) -> Result<(Client, JoinSet<Result<(), Lost>>), String> {
    let tls = world.pki.mesh.client_tls(as_whom, PeerPolicy::exact(identity("till")));
    let dialled = soon("connection", hbone::tls::dial(addr, &tls, &Config::default())).await;
    let (client, connection) = dialled.map_err(|error| error.to_string())?;
    let mut task = JoinSet::new();
    task.spawn(connection);
    Ok((client, task))
}

#[tokio::test]
async fn destinations_that_are_not_the_workloads_are_refused() {
    let world = World::new();
    let echo = App::echo_at(world.till()).await;
    let (node, addr) = far(&world, echo.addr).await;
    let (client, _task) = dial(&world, addr, &identity("cart")).await.unwrap();
    for (authority, status) in [
        (format!("{}:{}", world.cart(), echo.addr.port()), 400),
        (format!("127.0.0.1:{}", echo.addr.port()), 400),
        (format!("{}:{}", world.till(), world.hbone_port), 503),
        ("nobody.shop.svc:80".to_owned(), 503),
        ("till.shop.svc:81".to_owned(), 503),
        (format!("{}:1", world.till()), 503),
    ] {
        let target: Authority = authority.parse().unwrap();
        let error = soon("answer", client.open(TunnelRequest::new(target)))
            .await
            .unwrap_err();
        let OpenError::Refused(refusal) = error else {
            panic!("{authority}: {error}")
        };
        assert_eq!(refusal.status().as_u16(), status, "{authority}");
    }
    node.process.says("destination is not served here").await;
    let by_name: Authority = "till.shop.svc:80".parse().unwrap();
    let tunnel = soon("tunnel", client.open(TunnelRequest::new(by_name))).await.unwrap();
    let baggage = tunnel.response().baggage().unwrap().to_string();
    assert!(baggage.contains("k8s.namespace.name=shop"), "{baggage}");
}

#[tokio::test]
async fn another_trust_domain_does_not_get_a_connection() {
    let world = World::new();
    let echo = App::echo_at(world.till()).await;
    let (node, addr) = far(&world, echo.addr).await;
    let refused = dial(&world, addr, &stranger()).await;
    assert!(refused.is_err());
    node.process.says("connection refused").await;
}

#[tokio::test]
async fn addresses_of_nobody_on_the_node_get_no_connection() {
    let world = World::new();
    let echo = App::echo_at(world.till()).await;
    world.write(&world.mesh(echo.addr, ""));
    let node = world
        .start("far", &(world.head("far", &["till"]) + &world.inbound(world.ip(9))))
        .await;
    let refused = dial(
        &world,
        SocketAddr::new(world.ip(9), world.hbone_port),
        &identity("cart"),
    )
    .await;
    assert!(refused.is_err());
    node.process.says("no workload of this node").await;
}

/// A sandboxed waypoint learns what was asked for and by whom before the first byte.
#[tokio::test]
async fn a_workload_that_asks_for_it_is_told_who_speaks() {
    let world = World::new();
    let app = App::echo_at(world.till()).await;
    let tunnel = format!(
        "applicationTunnel: {{protocol: PROXY, port: {}}}, services:",
        app.addr.port()
    );
    world.write(
        &world
            .mesh(app.addr, "")
            .replace("services: {shop", &format!("{tunnel} {{shop")),
    );
    let _node = world
        .start("far", &(world.head("far", &["till"]) + &world.inbound(world.till())))
        .await;
    let addr = SocketAddr::new(world.till(), world.hbone_port);
    let (client, _task) = dial(&world, addr, &identity("cart")).await.unwrap();
    let vip = SocketAddr::new(world.vip(), 80);
    let id = identity("cart").to_string();
    for authority in [vip.to_string(), "till.shop.svc:80".to_owned()] {
        let target: Authority = authority.parse().unwrap();
        let mut tunnel = soon("tunnel", client.open(TunnelRequest::new(target))).await.unwrap();
        let mut header = vec![0; 31 + id.len()];
        soon("header", tunnel.read_exact(&mut header)).await.unwrap();
        assert_eq!(header[..14], *b"\r\n\r\n\0\r\nQUIT\n\x21\x11");
        assert_eq!(header[16..20], [127, 0, 0, 1]);
        let IpAddr::V4(ip) = vip.ip() else { panic!() };
        assert_eq!(header[20..24], ip.octets());
        assert_eq!(header[26..28], vip.port().to_be_bytes());
        assert_eq!(header[28], 0xd0);
        assert_eq!(header[31..], *id.as_bytes());
        tunnel.write_all(b"after").await.unwrap();
        let mut after = [0; 5];
        soon("echo", tunnel.read_exact(&mut after)).await.unwrap();
        assert_eq!(&after, b"after");
    }
}

/// Whoever has its old address by now is another.
#[tokio::test]
async fn tunnels_on_an_old_connection_do_not_follow_a_workload_that_moved() {
    let world = World::new();
    let echo = App::echo_at(world.till()).await;
    let (node, addr) = far(&world, echo.addr).await;
    let tls = world
        .pki
        .mesh
        .client_tls(&identity("cart"), PeerPolicy::exact(identity("till")));
    let tcp = TcpStream::connect(addr).await.unwrap();
    let (stream, _) = hbone::tls::connect(tcp, &tls, &Config::default()).await.unwrap();
    // The connection drains for as long as the peer says nothing to its goodbye.
    let mut client = RawClient::new(stream).without_ping_acks();
    client.handshake().await;
    let authority = echo.addr.to_string();
    let first = client.connect(&authority).await;
    assert_eq!(client.expect_headers(first).await.fields.status(), 200);
    let [before, after] = [world.till(), world.ip(4)].map(|ip| format!("workloadIps: [{ip}]"));
    world.write(&world.mesh(echo.addr, "").replace(&before, &after));
    client.expect_goaway(Reason::NO_ERROR).await;
    let second = client.connect(&authority).await;
    assert_eq!(client.expect_headers(second).await.fields.status(), 401);
    let record = node.tells("refusal", |record| record["level"] == "error").await;
    assert_eq!(
        record["error"], "policy: the workload is gone from this node",
        "{record}"
    );
}
