//! The application, behind HBONE.

use std::convert::Infallible;
use std::future::pending;
use std::io;

use bytes::Bytes;
use hbone::{Config, IncomingTunnel, Listener, TunnelResponse};
use http_body_util::Full;
use hyper::Response;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use super::world::{WAYPOINT, World};

/// What every request is answered with.
pub static ANSWER: [u8; 1024] = [b'.'; 1024];

/// Serves the first service's endpoint to the waypoint, until dropped.
pub async fn serve(world: &World) -> io::Result<Infallible> {
    let tls = world.pki.server_tls("server", WAYPOINT)?;
    let listener = TcpListener::bind(world.endpoint()).await?;
    Listener::new(tls, Config::default())
        .serve(listener, answer, pending())
        .await;
    Err(io::Error::other("the endpoint ended"))
}

async fn answer(tunnel: IncomingTunnel) {
    let stream = TokioIo::new(tunnel.accept(TunnelResponse::new()));
    let answer = service_fn(async |_| Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(&ANSWER)))));
    // Whoever called knows how it went.
    drop(http1::Builder::new().serve_connection(stream, answer).await);
}
