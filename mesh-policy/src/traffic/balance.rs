//! Which endpoint gets a request.
//!
//! An [`EndpointSet`] is built of endpoints and a [`Balance`], and never changes: membership and
//! health make a [new set](EndpointSet::with_endpoints) that shares what was measured about the
//! endpoints that stay. A pick reads atomics and takes no lock, whatever the number of endpoints.
//!
//! A pick has two parts. First a *level*: endpoints of the best [priority](Endpoint::priority) get
//! all requests until so many of them are unhealthy that the next must help out, by Envoy's rules
//! for priority levels, overprovisioning and panic. Then an endpoint of that level, by the
//! [`Balance`]'s [`Algorithm`].
//!
//! ```
//! use std::time::Duration;
//! use mesh_policy::traffic::balance::{Ask, Balance, Endpoint, EndpointSet, Health};
//!
//! let endpoints = ["10.0.0.1:80", "10.0.0.2:80"].map(|address| Endpoint::new(address, ()));
//! let set = EndpointSet::new(Balance::new(), endpoints)?;
//! let (now, random) = (Duration::from_secs(1), 0x5eed);
//!
//! let picked = set.pick(Ask::new(), now, random)?;
//! let request = picked.begin(now);
//! request.measure(now + Duration::from_millis(3), Duration::ZERO);
//! drop(request);
//!
//! // A retry goes elsewhere.
//! let first = [picked.id()];
//! assert_ne!(set.pick(Ask::new().avoid(&first), now, random)?.id(), first[0]);
//!
//! // An endpoint that was found to be ill gets nothing, what was measured stays.
//! let set = set.with_health(|endpoint| match endpoint.key() {
//!     "10.0.0.1:80" => Health::Unhealthy,
//!     _ => Health::Healthy,
//! });
//! assert_eq!(set.pick(Ask::new(), now, random)?.endpoint().key(), "10.0.0.2:80");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub use self::{
    affinity::{AffinityKey, Cookie},
    algorithm::{Algorithm, Balance},
    endpoint::{Endpoint, EndpointId, Health},
    load::InFlight,
    locality::{Distribution, Failover, InvalidLocality, LabelOrder, Locality, LocalityPattern, common_labels},
    pick::{Ask, NoEndpoint, Picked},
    set::{EndpointSet, InvalidSet},
    warmup::Warmup,
};

mod affinity;
mod algorithm;
mod endpoint;
mod level;
mod load;
mod locality;
mod lots;
mod member;
mod pick;
mod pool;
mod rendezvous;
mod set;
mod turns;
mod warmup;
