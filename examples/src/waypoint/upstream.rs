//! Requests on their way to endpoints.

mod error;

use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};

use hbone::TunnelRequest;
use hyper::client::conn::{http1, http2};
use hyper::{Request, Response, Version};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use mesh_identity::{PeerPolicy, SpiffeId};
use mesh_policy::traffic::{DestinationRule, Retries, Timeouts};
use mesh_xds::store::{self, Service, Workload};

pub(super) use self::error::SendError;
use super::body::{self, Body};
use super::snapshot::Snapshot;
use crate::proxy::stretch::{Spot, Stretch};
use crate::proxy::tunnels::Tunnels;

/// What is known about endpoints, for all threads.
pub(super) struct Endpoints {
    mesh: Mutex<Option<store::Snapshot>>,
    hbone_port: u16,
}

impl Endpoints {
    /// `hbone_port` is where nodes take tunnels.
    pub(super) fn new(hbone_port: u16) -> Self {
        Self {
            mesh: Mutex::default(),
            hbone_port,
        }
    }

    /// Takes the endpoints and rules of the moment.
    pub(super) fn update(&self, snapshot: &Snapshot) {
        *self.mesh.lock().unwrap_or_else(PoisonError::into_inner) = Some(snapshot.mesh.clone());
    }

    fn first(&self, service: &Service, port: u16) -> Option<(Arc<Workload>, u16)> {
        let mesh = self.mesh.lock().unwrap_or_else(PoisonError::into_inner);
        mesh.as_ref()?.endpoints(&service.key).visit(|endpoint| {
            let workload = endpoint.workload();
            match endpoint.target_port(service, port) {
                Some(port) if workload.is_healthy => ControlFlow::Break((Arc::clone(workload), port)),
                _ => ControlFlow::Continue(()),
            }
        })
    }
}

/// A thread's way to endpoints.
pub(super) struct Upstream {
    endpoints: Arc<Endpoints>,
    tunnels: Tunnels,
    id: SpiffeId,
}

/// What is to be done with a request.
pub(super) struct Order {
    pub(super) service: Arc<Service>,
    /// The service's port.
    pub(super) port: u16,
    pub(super) subset: Option<Box<str>>,
    /// How requests reach the service.
    pub(super) rule: Option<Arc<DestinationRule>>,
    pub(super) timeouts: Timeouts,
    pub(super) retries: Option<Retries>,
    /// Whether the request came by HTTP/2, and so goes on by it.
    pub(super) is_http2: bool,
    /// Who asks.
    pub(super) source: SpiffeId,
    /// Where from, for those that are to stay with an endpoint.
    pub(super) source_addr: Option<SocketAddr>,
}

/// An answer, and where it came from.
pub(super) struct Sent {
    pub(super) response: Response<Body>,
    pub(super) endpoint: Arc<Workload>,
    /// How often the request was sent.
    pub(super) attempts: u32,
}

impl Upstream {
    /// Sends under the identity `id`.
    pub(super) fn new(endpoints: Arc<Endpoints>, tunnels: Tunnels, id: SpiffeId) -> Self {
        Self { endpoints, tunnels, id }
    }

    /// Sends a request to a service, as often as its rules allow.
    ///
    /// The request's URI is absolute: scheme, authority, path and query. It has no line `host` and no
    /// headers of a connection, except `connection: upgrade` and `upgrade` where the client wants
    /// another protocol; the answer to that has `hyper::upgrade::OnUpgrade` among its extensions.
    pub(super) async fn send(&self, request: Request<Body>, order: &Order) -> Result<Sent, SendError> {
        let found = self.endpoints.first(&order.service, order.port);
        let (endpoint, port) = found.ok_or(SendError::NoHealthyEndpoint)?;
        let ip = *endpoint.addresses.first().ok_or(SendError::NoHealthyEndpoint)?;
        let id: SpiffeId = endpoint
            .identity
            .spiffe_id()
            .parse()
            .map_err(|_| SendError::NoHealthyEndpoint)?;
        let authority = SocketAddr::new(ip, port)
            .try_into()
            .map_err(|_| SendError::NoHealthyEndpoint)?;
        let stretch = Stretch {
            peer: Spot::Addr(SocketAddr::new(ip, self.endpoints.hbone_port)),
            authority,
            servers: PeerPolicy::one_of([id]),
        };
        let tunnel = TunnelRequest::new(stretch.authority.clone());
        let opened = self.tunnels.open(&self.id, &stretch, tunnel).await;
        let io = TokioIo::new(opened.map_err(|error| SendError::Connect(Box::new(error)))?.stream);
        let response = match order.is_http2 {
            true => {
                let mut http = http2::Builder::new(TokioExecutor::new());
                let (mut send, connection) = http
                    .timer(TokioTimer::new())
                    .handshake(io)
                    .await
                    .map_err(SendError::Reset)?;
                tokio::spawn(connection);
                send.send_request(request).await
            }
            false => {
                let (mut send, connection) = http1::handshake(io).await.map_err(SendError::Reset)?;
                tokio::spawn(connection.with_upgrades());
                send.send_request(in_origin_form(request)).await
            }
        };
        Ok(Sent {
            response: response.map_err(SendError::Reset)?.map(body::of_endpoint),
            endpoint,
            attempts: 1,
        })
    }
}

/// As HTTP/1.1 writes a request.
fn in_origin_form(mut request: Request<Body>) -> Request<Body> {
    if let Some(authority) = request.uri().authority()
        && let Ok(host) = authority.as_str().parse()
    {
        request.headers_mut().insert(hyper::header::HOST, host);
    }
    let target = request.uri().path_and_query().map(|target| target.as_str().parse());
    if let Some(Ok(target)) = target {
        *request.uri_mut() = target;
    }
    *request.version_mut() = Version::HTTP_11;
    request
}
