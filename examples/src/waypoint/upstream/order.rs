use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::Response;
use mesh_policy::traffic::{DestinationRule, Retries, Timeouts};
use mesh_xds::store::{Service, Workload};

use super::error::Flags;
use crate::waypoint::body::Body;

/// What is to be done with a request.
#[derive(Clone, Debug)]
pub(in crate::waypoint) struct Order {
    pub(in crate::waypoint) service: Arc<Service>,
    /// The service's port.
    pub(in crate::waypoint) port: u16,
    pub(in crate::waypoint) subset: Option<Box<str>>,
    /// How requests reach the service.
    pub(in crate::waypoint) rule: Option<Arc<DestinationRule>>,
    pub(in crate::waypoint) timeouts: Timeouts,
    /// `None` is Istio's default.
    pub(in crate::waypoint) retries: Option<Retries>,
    /// Whether it goes by HTTP/2.
    pub(in crate::waypoint) is_http2: bool,
    /// Where it comes from, for those that are to stay with an endpoint.
    pub(in crate::waypoint) source_addr: Option<SocketAddr>,
    /// Who gets copies.
    pub(in crate::waypoint) shadows: Vec<Shadow>,
}

/// Where a copy of a request goes. Its answer is ignored.
#[derive(Clone, Debug)]
pub(in crate::waypoint) struct Shadow {
    pub(in crate::waypoint) service: Arc<Service>,
    pub(in crate::waypoint) port: u16,
    pub(in crate::waypoint) subset: Option<Box<str>>,
    pub(in crate::waypoint) rule: Option<Arc<DestinationRule>>,
    pub(in crate::waypoint) is_http2: bool,
}

/// An endpoint's answer.
#[derive(Debug)]
pub(in crate::waypoint) struct Sent {
    /// Its body holds what the request takes up until it ends. If the connection becomes another
    /// protocol's, its end does.
    pub(in crate::waypoint) response: Response<Body>,
    pub(in crate::waypoint) endpoint: Arc<Workload>,
    /// How often the request was tried.
    pub(in crate::waypoint) attempts: u32,
    /// What the access log says of retries that were not made.
    pub(in crate::waypoint) flags: Flags,
}

impl From<Shadow> for Order {
    /// Once, and for no longer than others wait by default.
    fn from(shadow: Shadow) -> Self {
        Self {
            service: shadow.service,
            port: shadow.port,
            subset: shadow.subset,
            rule: shadow.rule,
            timeouts: Timeouts::new(Some(SHADOW_TIMEOUT), None),
            retries: Some(Retries::default()),
            is_http2: shadow.is_http2,
            source_addr: None,
            shadows: Vec::new(),
        }
    }
}

/// Envoy's default for a request.
const SHADOW_TIMEOUT: Duration = Duration::from_secs(15);
