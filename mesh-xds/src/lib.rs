#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

#[cfg(feature = "grpc")]
pub mod client;
pub mod delta;
#[doc(hidden)]
pub mod fuzzing;
#[cfg(feature = "local")]
pub mod local;
pub mod resolve;
#[cfg(feature = "grpc")]
pub mod server;
pub mod store;
