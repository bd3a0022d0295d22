//! Identities and bundles from PEM files, read once or followed.

#[cfg(feature = "source")]
mod contents;
#[cfg(feature = "source")]
mod follow;
#[cfg(feature = "source")]
mod layout;
mod read;
#[cfg(feature = "source")]
mod settle;

use std::path::Path;

#[cfg(feature = "tls")]
use rustls::crypto::CryptoProvider;
#[cfg(feature = "tls")]
use rustls_pki_types::UnixTime;

use self::read::read;
#[cfg(feature = "istio-ca")]
pub(super) use self::read::read_at_most;
pub use self::read::{FileError, FileProblem};
#[cfg(feature = "source")]
pub use self::{
    follow::{FileSource, FileSourceBuilder, NoClock},
    layout::FileLayout,
};
#[cfg(feature = "tls")]
use crate::svid::Svid;
use crate::{bundle::TrustBundle, pem::MAX_PEM_BYTES, trust_domain::TrustDomain};

/// Reads an identity from a file with its chain and a file with its key.
///
/// # Errors
///
/// The file that is to blame and what is wrong with it, in one line.
#[cfg(feature = "tls")]
pub fn load_svid(chain: &Path, key: &Path, provider: &CryptoProvider, now: UnixTime) -> Result<Svid, FileError> {
    let text = |path| read(path, MAX_PEM_BYTES).map_err(|problem| FileError::new(path, problem));
    let (chain_text, key_text) = (text(chain)?, text(key)?);
    Svid::from_pem(&chain_text, &key_text, provider, now).map_err(|error| {
        let path = if error.concerns_key() { key } else { chain };
        FileError::new(path, FileProblem::Svid(error))
    })
}

/// Reads the bundle of a trust domain from a file with its roots.
///
/// # Errors
///
/// The file and what is wrong with it, in one line.
pub fn load_bundle(trust_domain: TrustDomain, roots: &Path) -> Result<TrustBundle, FileError> {
    let bundle = read(roots, MAX_PEM_BYTES)
        .and_then(|text| TrustBundle::from_pem(trust_domain, &text).map_err(FileProblem::Bundle));
    bundle.map_err(|problem| FileError::new(roots, problem))
}
