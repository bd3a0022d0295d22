//! Policies as istiod sends them to ztunnel: `istio.security.Authorization`.
//!
//! What is read is meant for [`Dialect::Ztunnel`](super::Dialect::Ztunnel): a control plane has
//! already taken out what that plane does not know. [`write()`] does the same as istiod, for control
//! planes written with this crate.
//!
//! ```
//! use mesh_policy::authz::{AuthorizationPolicy, Compiler, Dialect, model::Rule, xds};
//!
//! let policy = AuthorizationPolicy::deny("shop", "closed").rule(Rule::new());
//! let message = xds::write(&policy, "istio-system").expect("ztunnel knows DENY");
//! let read = xds::read(message)?;
//! assert_eq!((&read.policy, read.scope), (&policy, xds::Scope::Namespace));
//! let set = Compiler::new(Dialect::Ztunnel).compile([read.policy])?;
//! # let _ = set;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub use self::{
    read::{ReadError, Wrong, read},
    received::{Received, Scope},
    write::write,
};

mod field;
mod read;
mod received;
mod write;
