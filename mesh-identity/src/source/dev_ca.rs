//! A certificate authority in memory, for development and tests.
//!
//! Its leaves look like those of istiod and SPIRE. [`Template`] gives control over every field, so
//! that certificates which break one rule can be made. Keys live unprotected in memory, keeping a
//! root ([`DevCa::key_pem`], [`DevCa::from_pem`]) is its owner's business, and nobody is told of its
//! revocations: it is not for production.

mod authority;
mod encode;
mod request;
#[cfg(feature = "source")]
mod rotation;
mod template;

#[cfg(feature = "source")]
pub use self::rotation::{DevCaSource, RotationError};
pub use self::{
    authority::{DevCa, DevCaError, Issued, IssuedFiles},
    request::{CertificateRequest, CertificateRequestError},
    template::{Extension, KeyType, KeyUsageBits, Name, Template},
};
