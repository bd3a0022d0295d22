//! Where identities and bundles come from.

#[cfg(feature = "dev-ca")]
pub mod dev_ca;
pub mod files;
