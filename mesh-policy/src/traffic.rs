//! Traffic policy: where a request goes, and what becomes of it on the way.
//!
//! Routes are those of the Gateway API (HTTPRoute, GRPCRoute) and of Istio (VirtualService). A
//! [`RouteTable`] holds the rules of one listener or service; asked about a [`RouteRequest`], it
//! answers with the rule that takes it. What the rule does is data, for a proxy to carry out:
//! [`Filters`], [`Backends`] with their weights, [`Timeouts`].

mod backend;
mod cors;
mod edit;
mod fault;
mod field;
mod filter;
mod fraction;
mod host;
mod matching;
mod model;
mod pattern;
mod redirect;
mod regex;
mod request;
mod rewrite;
mod route;
mod timeout;

pub use self::{
    backend::{Backend, Backends, Target, Unresolved},
    cors::{Cors, CorsAnswer, Listed, OriginMatch},
    edit::{EditHeaders, HeaderEdits},
    fault::{Abort, Fault},
    field::{FieldError, FieldName, FieldValue},
    filter::{DirectResponse, Filters, Mirror},
    fraction::{Fraction, FractionError},
    host::{HostError, HostPattern},
    matching::{
        GrpcMatch, HeaderMatch, HeaderTest, PathMatch, PathMatchError, QueryMatch, RouteMatch, SegmentPrefix,
        checked_path,
    },
    model::{Retries, Route, RouteId, RouteKind, Rule},
    pattern::Pattern,
    redirect::{Redirect, RedirectPort, Scheme},
    regex::{Regex, RegexError},
    request::RouteRequest,
    rewrite::{PathChange, Rewrite},
    route::{Choice, RouteTable},
    timeout::{Timeouts, grpc_timeout},
};
