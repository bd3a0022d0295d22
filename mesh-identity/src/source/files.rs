//! Identities and bundles from PEM files, read once.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

#[cfg(feature = "tls")]
use rustls::crypto::CryptoProvider;
#[cfg(feature = "tls")]
use rustls_pki_types::UnixTime;
use thiserror::Error;

#[cfg(feature = "tls")]
use crate::svid::{Svid, SvidError};
use crate::{
    bundle::{BundleError, TrustBundle},
    pem::{MAX_PEM_BYTES, PemError},
    trust_domain::TrustDomain,
};

/// Reads an identity from a file with its chain and a file with its key.
///
/// # Errors
///
/// The file that is to blame and what is wrong with it, in one line.
#[cfg(feature = "tls")]
pub fn load_svid(chain: &Path, key: &Path, provider: &CryptoProvider, now: UnixTime) -> Result<Svid, FileError> {
    let (chain_text, key_text) = (read(chain)?, read(key)?);
    Svid::from_pem(&chain_text, &key_text, provider, now).map_err(|error| {
        let path = if error.concerns_key() { key } else { chain };
        FileError {
            path: path.to_owned(),
            problem: FileProblem::Svid(error),
        }
    })
}

/// Reads the bundle of a trust domain from a file with its roots.
///
/// # Errors
///
/// The file and what is wrong with it, in one line.
pub fn load_bundle(trust_domain: TrustDomain, roots: &Path) -> Result<TrustBundle, FileError> {
    TrustBundle::from_pem(trust_domain, &read(roots)?).map_err(|error| FileError {
        path: roots.to_owned(),
        problem: FileProblem::Bundle(error),
    })
}

/// Reads at most one byte more than is permitted, so that a special file cannot fill the memory.
fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    let fail = |problem| FileError {
        path: path.to_owned(),
        problem,
    };
    let mut text = Vec::new();
    let limit = u64::try_from(MAX_PEM_BYTES).unwrap_or(u64::MAX).saturating_add(1);
    File::open(path)
        .and_then(|file| file.take(limit).read_to_end(&mut text))
        .map_err(|error| fail(FileProblem::Io(error)))?;
    if text.len() > MAX_PEM_BYTES {
        return Err(fail(FileProblem::Pem(PemError::TooLarge)));
    }
    Ok(text)
}

/// A file that does not give what it should.
#[derive(Debug, Error)]
#[error("{}: {problem}", path.display())]
pub struct FileError {
    path: PathBuf,
    #[source]
    problem: FileProblem,
}

impl FileError {
    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is wrong with it.
    pub fn problem(&self) -> &FileProblem {
        &self.problem
    }
}

/// What is wrong with a file.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FileProblem {
    /// It cannot be read.
    #[error(transparent)]
    Io(io::Error),
    /// It is no PEM text.
    #[error(transparent)]
    Pem(PemError),
    /// Its certificates or its key make no identity.
    #[cfg(feature = "tls")]
    #[error(transparent)]
    Svid(SvidError),
    /// Its certificates make no bundle.
    #[error(transparent)]
    Bundle(BundleError),
}
