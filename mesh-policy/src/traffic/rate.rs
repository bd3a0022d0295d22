//! How many requests in a time are too many.
//!
//! A [`Bucket`] limits what comes to one place: a route, a service. [`KeyedBuckets`] limit each client
//! or header value by itself, in a table whose size never changes. For limits that several proxies
//! share, [`Descriptors`] say what a rate limit service (Envoy's RLS protocol) is asked about.
//!
//! A [`RateLimitPolicy`] says so for services and for rules of routes; a [`Limiter`] is what it comes
//! to for one of them, and a [`LimitTable`] finds those of a request.
//!
//! Ask the narrower limit first: a client that is over its own limit then takes nothing out of
//! everybody's.
//!
//! ```
//! use std::time::Duration;
//! use mesh_policy::traffic::rate::{KeyedBuckets, Limit};
//!
//! let second = Duration::from_secs(1);
//! let per_client = KeyedBuckets::new(Limit::new(2, second), 10_000, 0x5eed);
//! let key = per_client.key(b"spiffe://cluster.local/ns/shop/sa/cart");
//!
//! let now = 100 * second;
//! assert_eq!(per_client.check(key, 1, now)?.remaining, 1);
//! assert!(per_client.check(key, 1, now).is_ok());
//! let limited = per_client.check(key, 1, now).unwrap_err();
//! assert_eq!(limited.retry_after, Some(second / 2));
//! # Ok::<(), mesh_policy::traffic::rate::Limited>(())
//! ```

pub use self::{
    bucket::{Allowance, Bucket, Limit, Limited},
    descriptor::{Action, Clusters, Descriptors, Entry},
    keyed::{Key, KeyedBuckets},
    limiter::{LimitReached, Limiter},
    policy::{LimitKey, LimitTarget, LocalLimit, RateLimitPolicy},
    table::{LimitTable, TargetLimits},
};

mod bucket;
mod descriptor;
mod keyed;
mod limiter;
mod policy;
mod table;
