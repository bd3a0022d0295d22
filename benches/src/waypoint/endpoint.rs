//! The application, behind HBONE.

use std::convert::Infallible;
use std::future::pending;
use std::io;

use hbone::{Config, IncomingTunnel, Listener, TunnelResponse};
use tokio::net::TcpListener;

use super::world::{WAYPOINT, World};
use crate::http;

/// Serves the first service's endpoint to the waypoint, until dropped.
pub async fn serve(world: &World) -> io::Result<Infallible> {
    let tls = world.pki.server_tls("server", WAYPOINT)?;
    let listener = TcpListener::bind(world.endpoint()).await?;
    let answer = |tunnel: IncomingTunnel| http::answer(tunnel.accept(TunnelResponse::new()));
    Listener::new(tls, Config::default())
        .serve(listener, answer, pending())
        .await;
    Err(io::Error::other("the endpoint ended"))
}
