//! Certificates in a folder that goes with its owner.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use mesh_identity::SpiffeId;
use mesh_identity::source::dev_ca::Issued;
use mesh_testkit::ca::Mesh;
use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::pki_types::UnixTime;
use rustls::sign::CertifiedKey;
use tempfile::TempDir;

/// A mesh of two trust domains, and a folder.
pub struct Pki {
    pub mesh: Mesh,
    folder: TempDir,
}

/// The files of an identity.
#[derive(Clone, Debug)]
pub struct Files {
    pub cert: PathBuf,
    pub key: PathBuf,
    /// The roots of the identity's own trust domain.
    pub roots: PathBuf,
}

impl Pki {
    pub fn new() -> Self {
        Self {
            mesh: Mesh::new(),
            folder: tempfile::tempdir().unwrap(),
        }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A new certificate for `id`.
    pub fn issue(&self, id: &SpiffeId) -> Files {
        let issued = self
            .mesh
            .authority(id.trust_domain())
            .issue(id, UnixTime::now())
            .unwrap();
        self.write(id, &issued)
    }

    /// The files of a certificate, with the roots that `id` has.
    pub fn write(&self, id: &SpiffeId, issued: &Issued) -> Files {
        let folder = tempfile::tempdir_in(self.path()).unwrap().keep();
        let authority = self.mesh.authority(id.trust_domain());
        let files = issued.write(&folder, "identity").unwrap();
        Files {
            cert: files.chain,
            key: files.key,
            roots: authority.write_roots(&folder).unwrap(),
        }
    }
}

/// What a client has that shows no certificate.
#[derive(Debug)]
pub struct NoCertificate;

impl ResolvesClientCert for NoCertificate {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}
