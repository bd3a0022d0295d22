// The README's example takes these features; without them this line stands in for it.
#![cfg_attr(all(feature = "dev-ca", feature = "aws-lc-rs"), doc = include_str!("../README.md"))]
#![cfg_attr(
    not(all(feature = "dev-ca", feature = "aws-lc-rs")),
    doc = "SPIFFE identity for Rust programs in a service mesh."
)]

mod authorize;
mod bundle;
mod certificate;
mod date;
mod der;
#[doc(hidden)]
pub mod fuzzing;
mod leaf;
pub mod pem;
#[cfg(feature = "tls")]
pub mod provider;
pub mod source;
mod spiffe_id;
#[cfg(feature = "tls")]
mod svid;
#[cfg(feature = "tls")]
pub mod tls;
mod trust_domain;
mod verify;

pub use authorize::{Denied, DenyReason, PatternError, PeerPattern, PeerPolicy};
pub use bundle::{BundleError, MAX_ANCHORS, TrustBundle, TrustBundles};
pub use leaf::{IssuerError, LeafError, Role};
pub use spiffe_id::{MAX_SPIFFE_ID_BYTES, SpiffeId, SpiffeIdError};
#[cfg(feature = "tls")]
pub use svid::{Svid, SvidError};
pub use trust_domain::{MAX_TRUST_DOMAIN_BYTES, TrustDomain, TrustDomainError};
pub use verify::{MAX_CERTIFICATE_BYTES, MAX_CHAIN_CERTIFICATES, VerifiedPeer, VerifyError, verify};
