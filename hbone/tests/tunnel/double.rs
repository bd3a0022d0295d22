//! HBONE within HBONE: the gateway carries what it cannot read.

use std::sync::Arc;

use hbone::tls::{DialError, TlsStream};
use hbone::{
    Client, Connection, DoubleError, IncomingTunnel, TunnelRequest, TunnelResponse, TunnelStream, connect_through,
    server,
};
use mesh_identity::PeerPolicy;
use mesh_identity::tls::ServerTls;
use mesh_testkit::ca::{Mesh, client, server, waypoint};
use mesh_testkit::payload::Payload;
use mesh_testkit::pipe::{self, Cut, PipeControl};
use tokio::io::AsyncReadExt;

use crate::pair::{Pair, background, echo, over, request, send_all};

/// A gateway, behind which `inner` answers whatever a tunnel carries.
async fn gateway(mesh: &Mesh, inner: ServerTls) -> (Pair, PipeControl) {
    let config = crate::engine::config();
    let outer_client = mesh.client_tls(&client(), PeerPolicy::exact(waypoint()));
    let outer_server = mesh.server_tls(&waypoint(), PeerPolicy::exact(client()));
    let (near, far) = pipe::pair();
    let control = near.control();
    let (near, far) = tokio::join!(
        hbone::tls::connect(near, &outer_client, &config),
        hbone::tls::accept(far, &outer_server, &config)
    );
    let pair = over(
        near.unwrap().0,
        far.unwrap().0,
        &config,
        move |tunnel: IncomingTunnel| {
            let inner = inner.clone();
            async move {
                let stream = tunnel.accept(TunnelResponse::new());
                // What stands behind the gateway; that it is in the same process changes nothing.
                let config = crate::engine::config();
                let Ok((stream, peer)) = hbone::tls::accept(stream, &inner, &config).await else {
                    return;
                };
                assert_eq!(peer.identity().unwrap().id(), &client());
                server::serve(stream, peer, &config, Arc::new(echo), std::future::pending())
                    .await
                    .ok();
            }
        },
    )
    .await;
    (pair, control)
}

type Inner = (Client, Connection<TlsStream<TunnelStream>>);

async fn through(mesh: &Mesh, gateway: &Client) -> Result<Inner, DoubleError> {
    let tls = mesh.client_tls(&client(), PeerPolicy::exact(server()));
    connect_through(gateway, request(), &tls, &crate::engine::config()).await
}

#[tokio::test]
async fn several_tunnels_share_one_inner_connection() {
    let mesh = Mesh::new();
    let inner = mesh.server_tls(&server(), PeerPolicy::exact(client()));
    let (outer, _control) = gateway(&mesh, inner).await;
    let (inner, connection) = through(&mesh, &outer.client).await.unwrap();
    let driven = background(connection);
    assert_eq!(inner.peer().identity().unwrap().id(), &server());
    let mut streams = Vec::new();
    for seed in 0..5 {
        let stream = inner.open(request()).await.unwrap();
        assert_eq!(stream.peer().identity().unwrap().id(), &server());
        streams.push(background(async move {
            let mut payload = Payload::new(seed);
            let sent = payload.take(300_000);
            let (mut read, mut write) = stream.into_split();
            let mut got = Vec::new();
            let writing = async {
                write.write_chunk(sent.clone()).await.unwrap();
                write.finish().await.unwrap();
            };
            let (read, ()) = tokio::join!(read.read_to_end(&mut got), writing);
            read.unwrap();
            assert!(got == sent);
        }));
    }
    for stream in streams {
        stream.await.unwrap();
    }
    assert_eq!(outer.client.status().tunnels, 1);
    drop(inner);
    driven.await.unwrap().unwrap();
    outer.client.wait_for(|status| status.tunnels == 0).await;
}

#[tokio::test]
async fn a_gateway_cannot_pose_as_who_is_behind_it() {
    let mesh = Mesh::new();
    let posing = mesh.server_tls(&waypoint(), PeerPolicy::exact(client()));
    let (outer, _control) = gateway(&mesh, posing).await;
    let made = through(&mesh, &outer.client).await;
    assert!(matches!(made, Err(DoubleError::Inner(DialError::Tls(_)))), "{made:?}");
    outer.client.wait_for(|status| status.tunnels == 0).await;
}

#[tokio::test]
async fn a_lost_outer_connection_fails_the_inner_tunnels() {
    for cut in [Cut::Reset, Cut::Eof] {
        let mesh = Mesh::new();
        let inner = mesh.server_tls(&server(), PeerPolicy::exact(client()));
        let (outer, control) = gateway(&mesh, inner).await;
        let (inner, connection) = through(&mesh, &outer.client).await.unwrap();
        let driven = background(connection);
        let mut stream = inner.open(request()).await.unwrap();
        stream.write_chunk("x".into()).await.unwrap();
        assert_eq!(stream.read_chunk().await.unwrap().unwrap(), "x");
        control.cut(cut);
        stream
            .read_chunk()
            .await
            .expect_err("an abort must not look like an end");
        assert!(driven.await.unwrap().is_err());
    }
}

#[tokio::test]
async fn a_gateway_that_refuses_is_named() {
    let mesh = Mesh::new();
    let (near, far) = pipe::pair();
    let refusing = |tunnel: IncomingTunnel| async move { tunnel.reject(hbone::Rejection::UnknownDestination) };
    let outer = over(near, far, &crate::engine::config(), refusing).await;
    let made = through(&mesh, &outer.client).await;
    assert!(matches!(made, Err(DoubleError::Outer(_))), "{made:?}");
}

#[tokio::test]
async fn an_inner_end_is_orderly_through_both_layers() {
    let mesh = Mesh::new();
    let inner = mesh.server_tls(&server(), PeerPolicy::exact(client()));
    let (outer, _control) = gateway(&mesh, inner).await;
    let (inner, connection) = through(&mesh, &outer.client).await.unwrap();
    let driven = background(connection);
    let mut stream = inner.open(TunnelRequest::new("b:1".parse().unwrap())).await.unwrap();
    send_all(&mut stream, b"hello").await;
    let mut got = Vec::new();
    stream.read_to_end(&mut got).await.unwrap();
    assert_eq!(got, b"hello");
    drop((stream, inner));
    driven.await.unwrap().unwrap();
    drop(outer.client);
    assert_eq!(outer.client_end.await.unwrap(), Ok(()));
    assert_eq!(outer.server_end.await.unwrap(), Ok(()));
}
