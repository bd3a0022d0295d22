//! Traffic policy: where a request goes, and what becomes of it on the way.
//!
//! Routes are those of the Gateway API (HTTPRoute, GRPCRoute) and of Istio (VirtualService). A
//! [`RouteTable`] holds the rules of one listener or service; asked about a [`RouteRequest`], it
//! answers with the rule that takes it. What the rule does is data, for a proxy to carry out:
//! [`Choice::plan`] puts it together for one request. Which routes serve a listener or a service is
//! found out by [`attach`].

pub mod attach;
mod backend;
mod cors;
mod destination;
mod edit;
mod fault;
pub(crate) mod field;
mod filter;
mod fraction;
mod gateway;
mod host;
#[cfg(feature = "k8s")]
pub mod k8s;
mod matching;
mod model;
mod pattern;
mod plan;
mod redirect;
pub(crate) mod regex;
mod request;
mod rewrite;
mod route;
mod timeout;

pub use self::{
    backend::{Backend, Backends, Target, Unresolved},
    cors::{Cors, CorsAnswer, Listed, OriginMatch},
    destination::{
        BalanceRule, ConnectionLimits, DestinationPolicy, DestinationRule, HashKey, LocalityRule, OutlierRule,
        PlaceShares, PortPolicy, RetryBudgetRule, Subset, WarmupRule,
    },
    edit::{EditHeaders, HeaderEdits},
    fault::{Abort, Fault},
    field::{FieldError, FieldName, FieldValue},
    filter::{DirectResponse, Filters, Mirror},
    fraction::{Fraction, FractionError},
    gateway::{Gateway, Listener, Namespaces, ReferenceGrant, Referent, Referrer},
    host::{HostError, HostPattern},
    matching::{GrpcMatch, HeaderMatch, HeaderTest, PathMatch, PathMatchError, QueryMatch, RouteMatch, SegmentPrefix},
    model::{ParentRef, Retries, Route, RouteId, RouteKind, Rule, VirtualService},
    pattern::Pattern,
    plan::{AnswerEdits, Forward, NoBackend, Plan, Step},
    redirect::{Redirect, RedirectPort, Scheme},
    regex::{Regex, RegexError},
    request::RouteRequest,
    rewrite::{PathChange, Rewrite},
    route::{Choice, RouteTable},
    timeout::{Timeouts, grpc_timeout},
};
