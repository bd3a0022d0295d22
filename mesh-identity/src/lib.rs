// The README's example takes these features; without them this line stands in for it.
#![cfg_attr(all(feature = "dev-ca", feature = "aws-lc-rs"), doc = include_str!("../README.md"))]
#![cfg_attr(
    not(all(feature = "dev-ca", feature = "aws-lc-rs")),
    doc = "SPIFFE identity for Rust programs in a service mesh."
)]

mod aliases;
mod authorize;
mod bundle;
mod certificate;
mod constraints;
mod date;
mod der;
#[cfg(any(feature = "istio-ca", feature = "federation"))]
mod dial;
#[cfg(feature = "federation")]
pub mod federation;
#[doc(hidden)]
pub mod fuzzing;
#[cfg(feature = "bundle-document")]
mod json;
#[cfg(feature = "bundle-document")]
mod jwk;
#[cfg(feature = "jwt")]
pub mod jws;
#[cfg(feature = "jwt")]
pub mod jwt;
mod leaf;
#[cfg(feature = "source")]
pub mod live;
#[cfg(feature = "source")]
mod outside;
pub mod pem;
mod profile;
#[cfg(feature = "tls")]
pub mod provider;
mod revocation;
pub mod source;
mod spiffe_id;
#[cfg(feature = "tls")]
mod svid;
#[cfg(feature = "tls")]
pub mod tls;
mod trust_domain;
mod verify;

pub use aliases::{AliasError, TrustDomainAliases};
pub use authorize::{Denied, DenyReason, PatternError, PeerPattern, PeerPolicy};
pub use bundle::{BundleError, MAX_ANCHORS, TrustBundle, TrustBundles};
#[cfg(feature = "bundle-document")]
pub use bundle::{
    document::{
        BundleDocument, DocumentError, JwtAuthority, JwtAuthorityError, MAX_DOCUMENT_BYTES, MAX_DOCUMENT_KEYS,
        SkipReason, SkippedKey,
    },
    map::{BundleMap, BundleMapError, MAX_MAP_BYTES},
};
#[cfg(any(feature = "istio-ca", feature = "federation"))]
pub use dial::Dialer;
#[cfg(feature = "bundle-document")]
pub use json::JsonError;
pub use leaf::{IssuerError, LeafError, Role};
pub use profile::{Profile, ProfileRule};
pub use revocation::{
    MAX_REVOCATION_LIST_BYTES, MAX_REVOCATION_LISTS, RevocationList, RevocationListError, SerialNumber,
};
pub use spiffe_id::{MAX_SPIFFE_ID_BYTES, SpiffeId, SpiffeIdError};
#[cfg(feature = "tls")]
pub use svid::{Svid, SvidError};
pub use trust_domain::{MAX_TRUST_DOMAIN_BYTES, TrustDomain, TrustDomainError};
pub use verify::{MAX_CERTIFICATE_BYTES, MAX_CHAIN_CERTIFICATES, VerifiedPeer, VerifyError, verify, verify_under};
