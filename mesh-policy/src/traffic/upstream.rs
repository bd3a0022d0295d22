//! How a service is reached: what was written about it, as values for the deciders.
//!
//! [`DestinationRules`] finds the rule of Istio that is about a service. [`Settings`] are what that
//! rule comes to for a port and a subset, with Istio's defaults for what it does not say: how an
//! endpoint is [chosen](super::balance), how much may be [in use](super::breaker), which endpoints
//! are [left alone](super::outlier), and how a failed request is [tried again](super::retry).
//! [`BackendTrafficPolicies`] add a budget for retries.
//!
//! ```
//! use mesh_policy::traffic::{
//!     DestinationRule, breaker::{Breaker, Resource},
//!     upstream::{DestinationRules, Settings},
//! };
//!
//! let host = "reviews.shop.svc.cluster.local";
//! let rules = DestinationRules::new("istio-system", [DestinationRule::new("shop", "all", "*".parse()?)]);
//! let rule = rules.find("front", "shop", host).ok_or("no rule")?;
//! let settings = Settings::of(rule, 9080, None)?;
//! assert_eq!(Breaker::new(settings.limits).limit(Resource::Requests), u32::MAX);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub use self::{
    lookup::DestinationRules,
    merge::UnknownSubset,
    retries::{BackendTrafficPolicies, BackendTrafficPolicy, RetryConstraint},
    settings::{Places, Settings},
};

mod lookup;
mod merge;
mod retries;
mod settings;
