#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod delta;
pub mod resolve;
pub mod store;
