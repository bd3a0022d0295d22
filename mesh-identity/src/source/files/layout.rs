use std::path::{Path, PathBuf};

use crate::{
    pem::{MAX_PEM_BYTES, MAX_REVOCATION_LIST_PEM_BYTES},
    trust_domain::TrustDomain,
};

/// Which file holds what: one trust domain's roots, and perhaps an identity of it and bundles of
/// other trust domains.
///
/// | layout | chain | key | roots |
/// |---|---|---|---|
/// | [`istio`](Self::istio) | `cert-chain.pem` | `key.pem` | `root-cert.pem` |
/// | [`gke`](Self::gke) | `certificates.pem` | `private_key.pem` | `ca_certificates.pem` |
/// | [`spiffe_helper`](Self::spiffe_helper) | `svid.pem` | `svid_key.pem` | `svid_bundle.pem` |
/// | [`kubernetes_tls`](Self::kubernetes_tls) | `tls.crt` | `tls.key` | `ca.crt` |
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileLayout {
    pub(super) identity: Option<IdentityFiles>,
    /// The own trust domain's first. Never empty.
    pub(super) own: BundleFiles,
    pub(super) others: Vec<BundleFiles>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct IdentityFiles {
    pub(super) chain: PathBuf,
    pub(super) key: PathBuf,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BundleFiles {
    pub(super) trust_domain: TrustDomain,
    pub(super) roots: PathBuf,
    pub(super) revocation_lists: Option<PathBuf>,
}

impl FileLayout {
    /// An identity of `trust_domain`, and its roots.
    pub fn new(
        trust_domain: TrustDomain,
        chain: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
        roots: impl Into<PathBuf>,
    ) -> Self {
        Self {
            identity: Some(IdentityFiles {
                chain: chain.into(),
                key: key.into(),
            }),
            ..Self::roots(trust_domain, roots)
        }
    }

    /// The roots of `trust_domain` without an identity, for a
    /// [`MergedSource`](crate::source::MergedSource) that gets its identity elsewhere.
    pub fn roots(trust_domain: TrustDomain, roots: impl Into<PathBuf>) -> Self {
        Self {
            identity: None,
            own: BundleFiles {
                trust_domain,
                roots: roots.into(),
                revocation_lists: None,
            },
            others: Vec::new(),
        }
    }

    /// A folder as Istio fills it, such as `/etc/certs` or
    /// `/var/run/secrets/workload-spiffe-credentials`.
    pub fn istio(trust_domain: TrustDomain, folder: &Path) -> Self {
        Self::in_folder(trust_domain, folder, ["cert-chain.pem", "key.pem", "root-cert.pem"])
    }

    /// A folder as Google's managed workload certificates fill it.
    pub fn gke(trust_domain: TrustDomain, folder: &Path) -> Self {
        let names = ["certificates.pem", "private_key.pem", "ca_certificates.pem"];
        Self::in_folder(trust_domain, folder, names)
    }

    /// A folder as `spiffe-helper` fills it, with the names of its own examples.
    pub fn spiffe_helper(trust_domain: TrustDomain, folder: &Path) -> Self {
        Self::in_folder(trust_domain, folder, ["svid.pem", "svid_key.pem", "svid_bundle.pem"])
    }

    /// A mounted Kubernetes secret of type `kubernetes.io/tls` with its issuer's certificate, as
    /// cert-manager makes them.
    pub fn kubernetes_tls(trust_domain: TrustDomain, folder: &Path) -> Self {
        Self::in_folder(trust_domain, folder, ["tls.crt", "tls.key", "ca.crt"])
    }

    /// The same layout with revocation lists for the own trust domain, such as Istio's
    /// `/var/run/secrets/istio/crl/ca-crl.pem`. The file has to be there and to hold a list.
    #[must_use]
    pub fn with_revocation_lists(mut self, file: impl Into<PathBuf>) -> Self {
        self.own.revocation_lists = Some(file.into());
        self
    }

    /// The same layout with the roots of another trust domain.
    #[must_use]
    pub fn with_bundle(mut self, trust_domain: TrustDomain, roots: impl Into<PathBuf>) -> Self {
        self.others.push(BundleFiles {
            trust_domain,
            roots: roots.into(),
            revocation_lists: None,
        });
        self
    }

    pub(super) fn bundles(&self) -> impl Iterator<Item = &BundleFiles> {
        std::iter::once(&self.own).chain(&self.others)
    }

    /// Every file, and how large it may be.
    pub(super) fn paths(&self) -> impl Iterator<Item = (&Path, usize)> {
        let identity = self.identity.iter().flat_map(|files| [&files.chain, &files.key]);
        let roots = self.bundles().map(|files| &files.roots);
        let lists = self.bundles().filter_map(|files| files.revocation_lists.as_ref());
        let texts = identity.chain(roots).map(|path| (path.as_path(), MAX_PEM_BYTES));
        texts.chain(lists.map(|path| (path.as_path(), MAX_REVOCATION_LIST_PEM_BYTES)))
    }

    fn in_folder(trust_domain: TrustDomain, folder: &Path, [chain, key, roots]: [&str; 3]) -> Self {
        Self::new(trust_domain, folder.join(chain), folder.join(key), folder.join(roots))
    }
}
