//! Traffic policy: where a request goes, and what becomes of it on the way.
//!
//! Routes are those of the Gateway API (HTTPRoute, GRPCRoute) and of Istio (VirtualService). A
//! [`RouteTable`](route::RouteTable) holds the rules of one listener or service; asked about a
//! request, it answers with the rule that takes it. What the rule does is data, for a proxy to carry
//! out: filters, backends with their weights, timeouts.

pub mod route;
