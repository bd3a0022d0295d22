//! Tunnels for what is reached by way of the waypoint.

use std::net::SocketAddr;
use std::sync::Arc;

use hbone::{Handler, IncomingTunnel, Listener, TunnelResponse};
use tokio::net::TcpStream;

use super::client::Client;
use super::external::External;
use super::gateway::Gateway;
use super::http::Conversation;
use super::prefixed::Prefixed;
use super::sniff::{Protocol, sniff};
use super::tcp;
use super::upstream::Upstream;
use crate::proxy::plain;
use crate::workers::Stop;

/// A thread's way from clients to endpoints.
#[derive(Clone)]
pub(super) struct Worker {
    pub(super) gateway: Arc<Gateway>,
    pub(super) upstream: Arc<Upstream>,
    pub(super) external: Arc<External>,
}

/// Serves one connection until it ends.
pub(super) async fn serve(worker: Worker, tcp: TcpStream, from: SocketAddr, stop: Stop) {
    plain::reset(&tcp);
    if let Err(reason) = hbone::tls::prepare(&tcp) {
        return tracing::debug!(%from, %reason, "connection gone");
    }
    let gateway = Arc::clone(&worker.gateway);
    gateway.credentials.wait_for(&gateway.id).await;
    plain::settle(&tcp);
    let (credentials, id) = (Arc::clone(&gateway.credentials), gateway.id.clone());
    let mut listener = Listener::with_identity(move || credentials.server(&id), gateway.tunnels.clone());
    listener.set_scope(gateway.credentials.scope());
    let drain = stop.clone();
    let tunnels = Arc::new(Inbound { worker, stop });
    if let Err(reason) = listener.serve_connection(tcp, from, tunnels, drain.draining()).await {
        tracing::debug!(%from, %reason, "connection ended");
    }
}

/// The tunnels of one connection.
struct Inbound {
    worker: Worker,
    stop: Stop,
}

impl Handler for Inbound {
    async fn handle(&self, tunnel: IncomingTunnel) {
        let snapshot = self.worker.gateway.snapshot();
        let client = match Client::new(&self.worker, &snapshot, &tunnel) {
            Ok(client) => client,
            Err(rejection) => return tunnel.reject(rejection),
        };
        drop(snapshot);
        let mut stream = tunnel.accept(TunnelResponse::new());
        let (protocol, read) = match sniff(&mut stream, client.protocol).await {
            Ok(sniffed) => sniffed,
            Err(reason) => return tracing::debug!(%reason, "tunnel ended"),
        };
        let stream = Prefixed::new(read, stream);
        match protocol {
            Protocol::Http1 => Conversation::new(client).serve(stream, false, self.stop.clone()).await,
            Protocol::Http2 => Conversation::new(client).serve(stream, true, self.stop.clone()).await,
            Protocol::Bytes => tcp::carry(&client, stream).await,
        }
    }
}
