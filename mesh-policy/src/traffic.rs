//! What becomes of a request that may pass: which endpoint gets it, how often it is tried, and when
//! it is turned away.
//!
//! Time comes in as `now`, a [`Duration`](std::time::Duration) since an epoch of the caller's
//! choice: of a clock that never runs backwards, and the same one for all calls to a value.
//! Randomness comes in as a number that should be uniform in all of its 64 bits. What many threads
//! share is made of atomics, takes `&self`, and allocates nothing on the way of a request.

pub mod balance;
pub mod breaker;
mod chance;
mod moment;
pub mod outlier;
pub mod rate;
pub mod retry;
