//! Traffic policy: where a request goes, how often it is tried, when it is turned away, and what
//! becomes of it on the way.
//!
//! Routes are those of the Gateway API (HTTPRoute, GRPCRoute) and of Istio (VirtualService). A
//! [`RouteTable`] holds the rules of one listener or service; asked about a [`RouteRequest`], it
//! answers with the rule that takes it. What the rule does is data, for a proxy to carry out:
//! [`Choice::plan`] puts it together for one request. Which routes serve a listener or a service is
//! found out by [`attach`]. Which endpoint gets the request is for [`balance`] to say, whether it
//! may be sent at all for [`rate`], [`breaker`] and [`outlier`], and whether once more for [`retry`]. What
//! Istio's DestinationRules say about all that is put together by [`upstream`].
//!
//! Time comes in as `now`, a [`Duration`](std::time::Duration) since an epoch of the caller's
//! choice: of a clock that never runs backwards, and the same one for all calls to a value.
//! Randomness comes in as a number that should be uniform in all of its 64 bits. What many threads
//! share is made of atomics, takes `&self`, and allocates nothing on the way of a request.

pub mod attach;
mod backend;
pub mod balance;
pub mod breaker;
mod by_host;
mod cors;
mod destination;
mod edit;
mod fault;
pub(crate) mod field;
mod filter;
mod fraction;
mod gateway;
mod grpc;
mod header;
mod host;
#[cfg(feature = "k8s")]
pub mod k8s;
mod matching;
mod model;
mod moment;
pub mod outlier;
mod pattern;
mod plan;
mod query;
pub mod rate;
mod redirect;
pub(crate) mod regex;
mod request;
pub mod retry;
mod rewrite;
mod route;
mod timeout;
pub mod upstream;

pub use self::{
    backend::{Backend, Backends, Invalid, Looked, Target, Unresolved},
    cors::{Cors, CorsAnswer, Listed, OriginMatch},
    destination::{
        BalanceRule, BalancerRule, ConnectionLimits, DestinationPolicy, DestinationRule, HashKey, LocalityRule,
        OutlierRule, PortPolicy, RetryBudgetRule, Subset, WarmupRule,
    },
    edit::{EditHeaders, HeaderEdits},
    fault::{Abort, Fault},
    field::{FieldError, FieldName, FieldValue},
    filter::{DirectResponse, Filters, Mirror},
    fraction::{Fraction, FractionError},
    gateway::{Gateway, Listener, Namespaces, ReferenceGrant, Referent, Referrer},
    header::{HeaderMatch, HeaderTest},
    host::{HostError, HostPattern},
    matching::{GrpcMatch, PathMatch, PathMatchError, RouteMatch, SegmentPrefix},
    model::{ParentRef, Retries, Route, RouteId, RouteKind, Rule, VirtualService},
    pattern::Pattern,
    plan::{AnswerEdits, Failed, FailureCause, Forward, Mirrors, Plan, Step},
    query::QueryMatch,
    redirect::{Redirect, RedirectPort, Scheme},
    regex::{Regex, RegexError},
    request::RouteRequest,
    rewrite::{PathChange, Rewrite},
    route::{Choice, Refused, RouteTable},
    timeout::{Timeouts, grpc_timeout},
};
