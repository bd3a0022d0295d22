//! What may be shared between threads.
#![allow(missing_docs, reason = "test code")]

use mesh_policy::{
    ConnectionFacts, Peer,
    authz::{AuthorizationPolicy, Decision, Permit, PolicySet},
};

fn is_shared<T: Send + Sync + 'static>() {}

#[test]
fn sets_and_their_decisions_are_shared() {
    is_shared::<PolicySet>();
    is_shared::<AuthorizationPolicy>();
    is_shared::<Decision>();
    is_shared::<Permit>();
    is_shared::<Peer>();
}

#[cfg(feature = "traffic")]
#[test]
fn what_requests_share_is_shared() {
    use mesh_policy::traffic::{balance, breaker, outlier, rate, retry};
    is_shared::<balance::EndpointSet<String>>();
    is_shared::<balance::InFlight>();
    is_shared::<breaker::Breaker>();
    is_shared::<breaker::Permit>();
    is_shared::<outlier::Detector>();
    is_shared::<outlier::Monitor>();
    is_shared::<outlier::Admission>();
    is_shared::<rate::Bucket>();
    is_shared::<rate::KeyedBuckets>();
    is_shared::<retry::Budget>();
    is_shared::<retry::Policy>();
}

#[cfg(feature = "traffic")]
#[test]
fn tables_of_routes_are_shared() {
    use mesh_policy::traffic::{Choice, Plan, Route, RouteTable};
    is_shared::<RouteTable>();
    is_shared::<Route>();
    is_shared::<Choice<'static>>();
    is_shared::<Plan<'static>>();
}

#[cfg(feature = "jwt")]
#[test]
fn authenticators_are_shared() {
    use mesh_policy::jwt::{Authentication, Authenticator, Rejection};
    is_shared::<Authenticator>();
    is_shared::<Authentication>();
    is_shared::<Rejection>();
}

#[test]
fn decisions_are_small() {
    assert!(size_of::<Decision>() <= 64, "{}", size_of::<Decision>());
    assert!(
        size_of::<ConnectionFacts<'_>>() <= 160,
        "{}",
        size_of::<ConnectionFacts<'_>>()
    );
}
