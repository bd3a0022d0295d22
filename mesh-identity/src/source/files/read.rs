use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use thiserror::Error;

#[cfg(feature = "tls")]
use crate::svid::SvidError;
use crate::{bundle::BundleError, pem::PemError};
#[cfg(feature = "source")]
use crate::{revocation::RevocationListError, spiffe_id::SpiffeId, trust_domain::TrustDomain, verify::VerifyError};

pub(super) fn read(path: &Path, limit: usize) -> Result<Vec<u8>, FileProblem> {
    let text = read_at_most(path, limit).map_err(FileProblem::Io)?;
    if text.len() > limit {
        return Err(FileProblem::Pem(PemError::TooLarge { limit }));
    }
    Ok(text)
}

/// Reads at most one byte more than `limit`, so that a special file cannot fill the memory.
pub(in crate::source) fn read_at_most(path: &Path, limit: usize) -> io::Result<Vec<u8>> {
    let limit = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    let mut text = Vec::new();
    File::open(path)?.take(limit).read_to_end(&mut text)?;
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
    pub(super) fn new(path: &Path, problem: FileProblem) -> Self {
        Self {
            path: path.to_owned(),
            problem,
        }
    }

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
    /// It holds no usable revocation lists.
    #[cfg(feature = "source")]
    #[error(transparent)]
    RevocationList(RevocationListError),
    /// Its chain is one that peers with the same roots would not believe.
    #[cfg(feature = "source")]
    #[error("peers would not believe this chain: {0}")]
    Chain(#[source] VerifyError),
    /// Its identity is of another trust domain than the roots beside it.
    #[cfg(feature = "source")]
    #[error("`{id}` is no member of trust domain `{trust_domain}`")]
    OtherTrustDomain {
        /// The identity.
        id: SpiffeId,
        /// The trust domain of the roots.
        trust_domain: TrustDomain,
    },
    /// Its identity is another one than before. A process keeps its name; what is given another
    /// one is probably a mistake.
    #[cfg(feature = "source")]
    #[error("the identity was `{before}` and is now `{now}`")]
    OtherIdentity {
        /// Who it was.
        before: SpiffeId,
        /// Who it would be.
        now: SpiffeId,
    },
}
