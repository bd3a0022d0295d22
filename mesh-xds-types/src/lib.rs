#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod generated;
mod type_url;

pub use generated::envoy::config::core::v3 as core;
#[cfg(feature = "rate-limit")]
pub use generated::envoy::extensions::common::ratelimit::v3 as rate_limit_descriptor;
#[cfg(feature = "ext-authz")]
pub use generated::envoy::service::auth::v3 as ext_authz;
pub use generated::envoy::service::discovery::v3 as discovery;
#[cfg(feature = "rate-limit")]
pub use generated::envoy::service::ratelimit::v3 as rate_limit;
#[cfg(any(feature = "ext-authz", feature = "rate-limit"))]
pub use generated::envoy::r#type::v3 as envoy_type;
pub use generated::google::rpc;
pub use generated::istio::v1::auth;
pub use generated::istio::{security, workload};
pub use generated::mesh::traffic::v1 as traffic;
pub use type_url::{ADDRESS_TYPE_URL, AUTHORIZATION_TYPE_URL, MANIFEST_TYPE_URL};
