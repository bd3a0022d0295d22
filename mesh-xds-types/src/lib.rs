#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod generated;
mod type_url;

pub use generated::envoy::config::core::v3 as core;
pub use generated::envoy::service::discovery::v3 as discovery;
pub use generated::google::rpc;
pub use generated::istio::v1::auth;
pub use generated::istio::{security, workload};
pub use generated::mesh::traffic::v1 as traffic;
pub use type_url::{ADDRESS_TYPE_URL, AUTHORIZATION_TYPE_URL, MANIFEST_TYPE_URL};
