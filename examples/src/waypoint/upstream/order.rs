use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::Response;
use mesh_policy::traffic::upstream::{BackendTrafficPolicy, Settings, UnknownSubset};
use mesh_policy::traffic::{DestinationRule, HostPattern, Retries, Timeouts};
use mesh_xds::store::Workload;

use super::error::Flags;
use crate::waypoint::addressee::Addressee;
use crate::waypoint::body::Body;

/// What is to be done with a request.
#[derive(Clone, Debug)]
pub(in crate::waypoint) struct Order {
    pub(in crate::waypoint) to: Addressee,
    /// The port of whom it is for.
    pub(in crate::waypoint) port: u16,
    pub(in crate::waypoint) subset: Option<Box<str>>,
    /// How requests reach the service.
    pub(in crate::waypoint) rule: Option<Arc<DestinationRule>>,
    /// What the service's own policy says, beside that.
    pub(in crate::waypoint) policy: Option<Arc<BackendTrafficPolicy>>,
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
    pub(in crate::waypoint) to: Addressee,
    pub(in crate::waypoint) port: u16,
    pub(in crate::waypoint) subset: Option<Box<str>>,
    pub(in crate::waypoint) rule: Option<Arc<DestinationRule>>,
    /// As for an [`Order`]: what is written about a service is the same for its copies, or what is
    /// known of its endpoints would change with each of them.
    pub(in crate::waypoint) policy: Option<Arc<BackendTrafficPolicy>>,
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

/// What was written about a service.
#[derive(Clone, Debug)]
pub(super) struct Words {
    rule: Option<Arc<DestinationRule>>,
    policy: Option<Arc<BackendTrafficPolicy>>,
}

impl Order {
    pub(super) fn words(&self) -> Words {
        Words {
            rule: self.rule.clone(),
            policy: self.policy.clone(),
        }
    }

    /// Whether these are the words of this order: the same ones, not alike.
    pub(super) fn is_by(&self, words: &Words) -> bool {
        let rules = (&self.rule, &words.rule);
        let policies = (&self.policy, &words.policy);
        rules.0.as_ref().map(Arc::as_ptr) == rules.1.as_ref().map(Arc::as_ptr)
            && policies.0.as_ref().map(Arc::as_ptr) == policies.1.as_ref().map(Arc::as_ptr)
    }
}

impl Words {
    /// What they come to for a port and a subset; without any it is what holds for all.
    pub(super) fn settings(&self, port: u16, subset: Option<&str>) -> Result<Settings, UnknownSubset> {
        let nothing = DestinationRule::new("", "", HostPattern::ANY);
        let settings = Settings::of(self.rule.as_deref().unwrap_or(&nothing), port, subset)?;
        Ok(match &self.policy {
            Some(policy) => settings.with_policy(policy),
            None => settings,
        })
    }
}

impl From<Shadow> for Order {
    /// Once, and for no longer than others wait by default.
    fn from(shadow: Shadow) -> Self {
        Self {
            to: shadow.to,
            port: shadow.port,
            subset: shadow.subset,
            rule: shadow.rule,
            policy: shadow.policy,
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
