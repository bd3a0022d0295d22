//! Connections to endpoints for what is no HTTP.

use std::sync::Arc;
use std::time::Duration;

use mesh_policy::traffic::balance::InFlight;
use mesh_policy::traffic::breaker::{Permit, Resource};
use mesh_policy::traffic::outlier::Outcome;
use mesh_xds::store::Workload;

use super::affinity::of_connection;
use super::cluster::Cluster;
use super::connections::Connections;
use super::dial::Dial;
use super::endpoints::Endpoints;
use super::error::{Fault, SendError};
use super::order::Order;
use super::state::{Chosen, State};
use super::tried::Tried;
use super::{Inner, PENALTY, Upstream, before_any};
use crate::waypoint::lifetime::Lifetime;

/// How many endpoints are tried for a connection.
const TRIES: u32 = 3;

/// A connection, and what it takes up.
pub(in crate::waypoint) struct Passage<Io> {
    pub(in crate::waypoint) io: Io,
    pub(in crate::waypoint) endpoint: Arc<Workload>,
    pub(in crate::waypoint) lifetime: Lifetime,
    _in_flight: InFlight,
    _place: Permit,
}

impl<D: Dial> Upstream<D> {
    /// Connects to an endpoint of a service. One that cannot be reached is no reason to give up: nothing
    /// has been said to it.
    ///
    /// # Errors
    ///
    /// No endpoint is reached, and why.
    ///
    /// # Cancel safety
    ///
    /// Dropped, all places are given back.
    pub(in crate::waypoint) async fn connect(&self, order: &Order) -> Result<Passage<D::Io>, SendError> {
        let Inner {
            endpoints, connections, ..
        } = &*self.inner;
        let cluster = endpoints.cluster(order).ok_or_else(|| before_any(Fault::NoCluster))?;
        let (mut tried, mut attempts) = (Tried::default(), 0);
        loop {
            attempts += 1;
            let state = cluster.state();
            let affinity = state.settings.affinity.as_ref();
            let ask = tried.ask().hash(affinity.and_then(|key| of_connection(key, order)));
            let chosen = state.choose(ask, endpoints.clock.now(), endpoints.chance.draw());
            let chosen = chosen.map_err(|reason| failed(Fault::NoHealthyEndpoint(reason), attempts, None))?;
            let endpoint = Arc::clone(&chosen.target.site.workload);
            // Only who is not reached is avoided.
            tried.add(chosen.id, true);
            match reach(endpoints, &cluster, &state, connections, chosen).await {
                Ok(passage) => return Ok(passage),
                Err(Fault::Connect(reason)) if attempts < TRIES => {
                    tracing::debug!(workload = %endpoint.uid, %reason, "endpoint not reached");
                }
                Err(fault) => return Err(failed(fault, attempts, Some(endpoint))),
            }
        }
    }
}

async fn reach<D: Dial>(
    endpoints: &Endpoints,
    cluster: &Cluster,
    state: &State,
    connections: &Connections<D>,
    chosen: Chosen,
) -> Result<Passage<D::Io>, Fault> {
    let Chosen {
        target,
        in_flight,
        probe,
        ..
    } = chosen;
    let permit = state.breaker.acquire(Resource::Connections).map_err(Fault::Overflow)?;
    let dialled = connections.reach(&target.site, state.settings.connect_timeout).await;
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
    Ok(Passage {
        io,
        endpoint: Arc::clone(&target.site.workload),
        lifetime: Lifetime {
            age: state.settings.connection_age,
            idle: state.settings.tcp_idle_timeout,
        },
        _in_flight: in_flight,
        _place: permit,
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
