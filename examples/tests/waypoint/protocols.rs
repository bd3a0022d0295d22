//! Ports whose protocol is declared.

use std::fs;
use std::sync::Arc;

use hyper::Version;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Duration, Instant};

use crate::bytes::{LIMIT, ROUTE, is_carried};
use crate::cluster::{Cluster, get, told, whole};
use crate::shop::Shop;
use crate::world::{App, soon};

/// Declares the protocol of `till`'s port.
async fn declare(cluster: &Cluster, protocol: &str) {
    let mesh = fs::read_to_string(&cluster.world.mesh_file).unwrap();
    let port = "ports: {80: 80}, ";
    let mesh = mesh.replacen(port, &format!("{port}appProtocols: {{80: {protocol}}}, "), 1);
    cluster.world.write(&mesh);
    cluster.waypoint.says("mesh changed").await;
}

#[tokio::test]
async fn a_server_that_speaks_first_is_not_kept_waiting_on_a_port_for_tcp() {
    let cluster = Cluster::start_before(async |ip| Shop {
        app: App::start_at(ip, async |mut tcp| tcp.write_all(b"hello\n").await.unwrap()).await,
        asked: Arc::default(),
    })
    .await;
    declare(&cluster, "TCP").await;
    let caller = cluster.call("cart").await;
    let began = Instant::now();
    let mut tunnel = caller.open().await.unwrap();
    let mut answer = String::new();
    soon("answer", tunnel.read_to_string(&mut answer)).await.unwrap();
    assert_eq!(answer, "hello\n");
    // Before anybody would have given up looking for HTTP.
    assert!(began.elapsed() < Duration::from_secs(4));
}

#[tokio::test]
async fn what_is_said_about_requests_is_not_about_a_port_for_tcp() {
    let cluster = Cluster::start_with(&format!("{LIMIT}---{ROUTE}"), "shows_clients = true\n").await;
    assert!(!is_carried(&cluster, "cart").await);
    declare(&cluster, "TCP").await;
    assert!(is_carried(&cluster, "cart").await);
}

#[tokio::test]
async fn what_is_no_http_is_refused_on_a_port_for_http() {
    let cluster = Cluster::start("").await;
    declare(&cluster, "HTTP11").await;
    let caller = cluster.call("cart").await;
    for bytes in [
        &b"hello, no HTTP\r\n\r\n"[..],
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"\x00\x00\x00\x00",
    ] {
        let answer = caller.raw(bytes).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{answer:?}");
    }
    assert_eq!(cluster.one.asked(), 0);
    assert_eq!(caller.get("/").await.status(), 200);
}

#[tokio::test]
async fn requests_reach_an_application_by_the_version_that_is_declared() {
    for (protocol, version) in [("HTTP11", "HTTP/1.1"), ("HTTP2", "HTTP/2.0"), ("gRPC", "HTTP/2.0")] {
        let cluster = Cluster::start("").await;
        declare(&cluster, protocol).await;
        let caller = cluster.call("cart").await;
        let answer = caller.send(get("/a", &[])).await;
        assert_eq!(
            (answer.version(), &told(&answer)["version"]),
            (Version::HTTP_11, &version.into())
        );
        let (mut http2, _tasks) = caller.http2().await;
        let request = get("http://till.shop.svc/a", &[]);
        let answer = whole(soon("answer", http2.send_request(request)).await.unwrap()).await;
        assert_eq!(
            (answer.version(), &told(&answer)["version"]),
            (Version::HTTP_2, &version.into())
        );
    }
}
