//! Connections to endpoints for what is no HTTP.

use std::sync::Arc;

use mesh_policy::traffic::balance::{Ask, InFlight};
use mesh_policy::traffic::breaker::{Permit, Resource};
use mesh_policy::traffic::outlier::Outcome;
use mesh_xds::store::Workload;
use tokio::time::timeout;

use super::cluster::Chosen;
use super::destination::Terms;
use super::dial::{Dial, DialError};
use super::error::{Fault, SendError};
use super::order::Order;
use super::{Upstream, before_any};

/// How many endpoints are tried.
const MOST_ATTEMPTS: u32 = 3;

/// A connection, and what it takes up.
pub(in crate::waypoint) struct Passage<Io> {
    pub(in crate::waypoint) io: Io,
    pub(in crate::waypoint) endpoint: Arc<Workload>,
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
        let endpoints = &self.inner.endpoints;
        let cluster = endpoints.cluster(order);
        let cluster = cluster.ok_or_else(|| before_any(Fault::NoCluster))?;
        let (mut attempts, mut tried) = (0, Vec::new());
        loop {
            attempts += 1;
            let state = cluster.state();
            let fail = |fault, endpoint| SendError {
                fault,
                attempts,
                endpoint,
                stop: None,
            };
            let place = state.breaker.acquire(Resource::Connections);
            let place = place.map_err(|overflow| fail(Fault::Overflow(overflow), None))?;
            let now = endpoints.clock.now();
            let chosen = state.choose(Ask::new().avoid(&tried), now, endpoints.chance.draw());
            let chosen = chosen.map_err(|reason| fail(Fault::NoHealthyEndpoint(reason), None))?;
            let Chosen {
                id, target, in_flight, ..
            } = chosen;
            let patience = Terms::of(&state.destination).connect_timeout;
            let dialled = timeout(patience, self.inner.connections.reach(&target.site)).await;
            let endpoint = Arc::clone(&target.site.workload);
            match dialled.unwrap_or(Err(DialError::Timeout)) {
                Ok(io) => {
                    return Ok(Passage {
                        io,
                        endpoint,
                        _in_flight: in_flight,
                        _place: place,
                    });
                }
                Err(error) => {
                    let now = endpoints.clock.now();
                    cluster.record(&target, Outcome::LocalFailure, now, endpoints.chance.draw());
                    if attempts >= MOST_ATTEMPTS {
                        return Err(fail(Fault::Connect(Arc::new(error)), Some(endpoint)));
                    }
                    tracing::debug!(reason = %error, "endpoint not reached");
                    tried.push(id);
                }
            }
        }
    }
}
