use std::{
    collections::BTreeMap,
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::crypto::CryptoProvider;
use rustls_pki_types::UnixTime;

use super::{
    layout::{BundleFiles, FileLayout, IdentityFiles},
    read::{FileError, FileProblem},
};
use crate::{
    bundle::{TrustBundle, TrustBundles},
    leaf::Role,
    pem::PemError,
    profile::Profile,
    revocation::RevocationList,
    source::snapshot::Snapshot,
    svid::Svid,
    verify::verify_under,
};

/// What every file of a layout held when it was read. Keys are among it.
#[derive(PartialEq, Eq)]
pub(super) struct Contents(BTreeMap<PathBuf, Held>);

/// One file.
#[derive(PartialEq, Eq)]
enum Held {
    Text(Vec<u8>),
    Unreadable(io::ErrorKind),
    NoText(PemError),
}

/// What sets of files are judged by.
pub(super) struct Judge<'a> {
    pub(super) layout: &'a FileLayout,
    pub(super) provider: &'a CryptoProvider,
    pub(super) profile: Profile,
    /// The identity that the files gave last, if they did.
    pub(super) before: Option<&'a Arc<Svid>>,
}

/// What a set of files is good for.
pub(super) struct Verdict {
    pub(super) snapshot: Snapshot,
    /// What is wrong with the identity in the files, in whose place is the one before, or none.
    pub(super) fault: Option<FileError>,
}

impl Contents {
    pub(super) fn new(files: impl Iterator<Item = (PathBuf, Result<Vec<u8>, FileProblem>)>) -> Self {
        let held = |read| match read {
            Ok(text) => Held::Text(text),
            Err(FileProblem::Io(error)) => Held::Unreadable(error.kind()),
            Err(FileProblem::Pem(error)) => Held::NoText(error),
            Err(_) => Held::Unreadable(io::ErrorKind::InvalidData),
        };
        Self(files.map(|(path, read)| (path, held(read))).collect())
    }

    fn text(&self, path: &Path) -> Result<&[u8], FileError> {
        let problem = match self.0.get(path) {
            Some(Held::Text(text)) => return Ok(text),
            Some(Held::NoText(error)) => FileProblem::Pem(*error),
            Some(Held::Unreadable(kind)) => FileProblem::Io((*kind).into()),
            None => FileProblem::Io(io::ErrorKind::NotFound.into()),
        };
        Err(FileError::new(path, problem))
    }
}

impl fmt::Debug for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Judge<'_> {
    /// What all files say together at `now`, or the first of them that fits not.
    ///
    /// Bundles do not wait for the identity, since whom a list revokes is not to be believed. Half of
    /// a new set is not taken for that: if the identity before is not good under its roots, the whole
    /// set before stays.
    pub(super) fn verdict(&self, contents: &Contents, now: UnixTime) -> Result<Verdict, FileError> {
        let (mut bundles, mut without_lists) = (Vec::new(), Vec::new());
        for files in self.layout.bundles() {
            let bundle = bundle(files, contents)?;
            bundles.push(lists(files, contents, bundle.clone())?);
            without_lists.push(bundle);
        }
        let (trust, without_lists) = (self.trust(bundles)?, self.trust(without_lists)?);
        let (svid, fault) = match &self.layout.identity {
            None => (None, None),
            Some(files) => match self.svid(files, contents, &without_lists, now) {
                Ok(svid) => (Some(Arc::new(svid)), None),
                Err(fault) => match self.before {
                    Some(before) if now > before.not_after() => (None, Some(fault)),
                    Some(before) if self.check(before, &without_lists, now).is_ok() => {
                        (Some(Arc::clone(before)), Some(fault))
                    }
                    _ => return Err(fault),
                },
            },
        };
        Ok(Verdict {
            snapshot: Snapshot::new(svid, Arc::new(trust)),
            fault,
        })
    }

    fn trust(&self, bundles: Vec<TrustBundle>) -> Result<TrustBundles, FileError> {
        TrustBundles::new(bundles).map_err(|error| FileError::new(&self.layout.own.roots, FileProblem::Bundle(error)))
    }

    /// The identity, if peers that have the same roots would believe it. Revocation lists have no
    /// say: were they to refuse the own certificate, they would never be used against others.
    fn svid(
        &self,
        files: &IdentityFiles,
        contents: &Contents,
        trust: &TrustBundles,
        now: UnixTime,
    ) -> Result<Svid, FileError> {
        let (chain, key) = (contents.text(&files.chain)?, contents.text(&files.key)?);
        let svid = Svid::from_pem(chain, key, self.provider, now).map_err(|error| {
            let path = if error.concerns_key() { &files.key } else { &files.chain };
            FileError::new(path, FileProblem::Svid(error))
        })?;
        self.check(&svid, trust, now)
            .map_err(|problem| FileError::new(&files.chain, problem))?;
        Ok(svid)
    }

    fn check(&self, svid: &Svid, trust: &TrustBundles, now: UnixTime) -> Result<(), FileProblem> {
        let trust_domain = &self.layout.own.trust_domain;
        if svid.id().trust_domain() != trust_domain {
            return Err(FileProblem::OtherTrustDomain {
                id: svid.id().clone(),
                trust_domain: trust_domain.clone(),
            });
        }
        match self.before {
            Some(before) if before.id() != svid.id() => {
                return Err(FileProblem::OtherIdentity {
                    before: before.id().clone(),
                    now: svid.id().clone(),
                });
            }
            _ => {}
        }
        let algorithms = self.provider.signature_verification_algorithms.all;
        for role in [Role::Client, Role::Server] {
            verify_under(self.profile, svid.chain(), role, trust, now, algorithms).map_err(FileProblem::Chain)?;
        }
        Ok(())
    }
}

fn bundle(files: &BundleFiles, contents: &Contents) -> Result<TrustBundle, FileError> {
    TrustBundle::from_pem(files.trust_domain.clone(), contents.text(&files.roots)?)
        .map_err(|error| FileError::new(&files.roots, FileProblem::Bundle(error)))
}

fn lists(files: &BundleFiles, contents: &Contents, bundle: TrustBundle) -> Result<TrustBundle, FileError> {
    let Some(path) = &files.revocation_lists else {
        return Ok(bundle);
    };
    let lists = RevocationList::from_pem(contents.text(path)?)
        .map_err(|error| FileError::new(path, FileProblem::RevocationList(error)))?;
    bundle
        .with_revocation_lists(lists)
        .map_err(|error| FileError::new(path, FileProblem::Bundle(error)))
}
