//! Whether a request that failed is tried again, when, and where not.
//!
//! A [`Policy`] decides. It never repeats what the client has already seen a part of, what cannot be
//! sent again, or what may have been done and must not be done twice. On top of that a
//! [`Budget`], or a [`Breaker`](super::breaker::Breaker)'s limit, keeps retries from becoming the load
//! that a service breaks down under.
//!
//! ```
//! use std::time::Duration;
//! use mesh_policy::traffic::retry::{Budget, Call, Decision, Failure, Outcome, Policy, Response, Stop};
//!
//! let (policy, budget) = (Policy::new(), Budget::new());
//! let now = Duration::from_secs(100);
//! budget.request(now);
//!
//! // The connection failed, so nothing was done: even a POST is safe.
//! let call = Call::new(b"POST").deadline(Some(now + Duration::from_secs(1)));
//! let outcome = Outcome::Failure(Failure::Connect);
//! let decision = policy.decide(&call, &outcome, now, 0x5eed, || budget.retry(now).then_some(()));
//! let Decision::Retry(retry) = decision else { panic!("given up") };
//! assert!(retry.after < Duration::from_millis(25) && retry.elsewhere);
//!
//! // A 503 may come from halfway through the work.
//! let outcome = Outcome::Response(Response::new(503));
//! let decision = policy.decide(&call.attempts(2), &outcome, now, 0x5eed, || Some(()));
//! assert_eq!(decision.stop(), Some(Stop::Unsafe));
//! ```

pub use self::{
    backoff::Backoff,
    budget::Budget,
    call::{Call, Failure, Outcome, Pushback, Response},
    condition::{Conditions, InvalidCondition},
    policy::{Decision, Policy, Retry, Stop},
};

mod backoff;
mod budget;
mod call;
mod condition;
mod policy;
