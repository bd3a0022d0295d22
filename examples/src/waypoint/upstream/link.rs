use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use mesh_policy::traffic::balance::{Ask, InFlight};
use mesh_policy::traffic::breaker::{Permit, Resource};
use mesh_policy::traffic::outlier::Outcome;
use mesh_xds::store::Workload;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::timeout;

use super::PENALTY;
use super::cluster::Cluster;
use super::dial::{Dial, DialError};
use super::endpoints::Endpoints;
use super::error::{Fault, SendError};
use super::state::{Chosen, State};

/// How many endpoints are tried for a connection.
const TRIES: u32 = 3;

/// A stream to an endpoint for bytes that need not be HTTP, which counts for as long as it is there.
pub(in crate::waypoint) struct Link<Io> {
    io: Io,
    pub(in crate::waypoint) endpoint: Arc<Workload>,
    _permit: Permit,
    _in_flight: InFlight,
}

/// Connects to an endpoint of a cluster, and to another if that cannot be reached.
pub(super) async fn open<D: Dial>(
    endpoints: &Endpoints,
    cluster: &Cluster,
    dial: &D,
) -> Result<Link<D::Io>, SendError> {
    let (mut tried, mut attempts) = (Vec::new(), 0);
    loop {
        attempts += 1;
        let state = cluster.state();
        let ask = Ask::new().avoid(&tried);
        let chosen = state.choose(ask, endpoints.clock.now(), endpoints.chance.draw());
        let chosen = chosen.map_err(|reason| failed(Fault::NoHealthyEndpoint(reason), attempts, None))?;
        let endpoint = Arc::clone(&chosen.target.site.workload);
        tried.push(chosen.id);
        match reach(endpoints, cluster, &state, dial, chosen).await {
            Ok(link) => return Ok(link),
            Err(Fault::Connect(reason)) if attempts < TRIES => {
                tracing::debug!(workload = %endpoint.uid, %reason, "endpoint not reached");
            }
            Err(fault) => return Err(failed(fault, attempts, Some(endpoint))),
        }
    }
}

async fn reach<D: Dial>(
    endpoints: &Endpoints,
    cluster: &Cluster,
    state: &State,
    dial: &D,
    chosen: Chosen,
) -> Result<Link<D::Io>, Fault> {
    let Chosen {
        target,
        in_flight,
        probe,
        ..
    } = chosen;
    let permit = state.breaker.acquire(Resource::Connections).map_err(Fault::Overflow)?;
    let dialled = timeout(state.settings.connect_timeout, dial.dial(&target.site)).await;
    let dialled = dialled.unwrap_or(Err(DialError::Timeout));
    let (outcome, penalty) = match dialled {
        Ok(_) => (Outcome::Success, Duration::ZERO),
        Err(_) => (Outcome::LocalFailure, PENALTY),
    };
    let now = endpoints.clock.now();
    in_flight.measure(now, penalty);
    cluster.record(&target, outcome, now, endpoints.chance.draw());
    let io = dialled.map_err(|error| Fault::Connect(Arc::new(error)))?;
    if let Some(probe) = probe {
        probe.succeed();
    }
    Ok(Link {
        io,
        endpoint: Arc::clone(&target.site.workload),
        _permit: permit,
        _in_flight: in_flight,
    })
}

fn failed(fault: Fault, attempts: u32, endpoint: Option<Arc<Workload>>) -> SendError {
    SendError {
        fault,
        attempts,
        endpoint,
        stop: None,
    }
}

impl<Io: AsyncRead + Unpin> AsyncRead for Link<Io> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<Io: AsyncWrite + Unpin> AsyncWrite for Link<Io> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
