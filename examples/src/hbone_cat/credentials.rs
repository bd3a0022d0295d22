//! Own identity and trust, from files, and what TLS makes of them.

use std::sync::Arc;

use mesh_identity::source::files::{FileError, FileProblem, load_bundle, load_svid};
use mesh_identity::tls::{BuildError, ClientTls, ServerTls};
use mesh_identity::{BundleError, PeerPattern, PeerPolicy, SpiffeId, Svid, TrustBundles, TrustDomain, provider};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::UnixTime;

use super::args::Identity;

/// Own identity, and the roots that peers are verified with.
pub(super) struct Credentials {
    provider: Arc<CryptoProvider>,
    svid: Arc<Svid>,
    trust: Arc<TrustBundles>,
}

impl Credentials {
    pub(super) fn load(files: &Identity) -> Result<Self, CredentialError> {
        let provider = provider::aws_lc_rs();
        let svid = load_svid(&files.cert, &files.key, &provider, UnixTime::now()).map_err(|error| {
            let concerns_key = match error.problem() {
                FileProblem::Svid(problem) => problem.concerns_key(),
                _ => error.path() != files.cert,
            };
            let flag = if concerns_key { "--key" } else { "--cert" };
            CredentialError::File { flag, error }
        })?;
        let mut bundles = Vec::new();
        for roots in &files.roots {
            let trust_domain = roots.trust_domain.as_ref().unwrap_or(svid.id().trust_domain());
            let bundle = load_bundle(trust_domain.clone(), &roots.file);
            bundles.push(bundle.map_err(|error| CredentialError::File { flag: "--roots", error })?);
        }
        Ok(Self {
            provider,
            svid: Arc::new(svid),
            trust: Arc::new(TrustBundles::new(bundles)?),
        })
    }

    pub(super) fn id(&self) -> &SpiffeId {
        self.svid.id()
    }

    pub(super) fn server(&self, allow: &[PeerPattern]) -> Result<ServerTls, CredentialError> {
        for pattern in allow {
            self.check_roots("--allow", pattern.trust_domain())?;
        }
        Ok(ServerTls::builder(Arc::clone(&self.provider))
            .identity(Arc::clone(&self.svid))
            .trust(Arc::clone(&self.trust))
            .authorize(PeerPolicy::matching(allow.iter().cloned()))
            .build()?)
    }

    pub(super) fn client(&self, expect: &SpiffeId) -> Result<ClientTls, CredentialError> {
        self.check_roots("--expect", expect.trust_domain())?;
        Ok(ClientTls::builder(Arc::clone(&self.provider))
            .identity(Arc::clone(&self.svid))
            .trust(Arc::clone(&self.trust))
            .authorize(PeerPolicy::exact(expect.clone()))
            .build()?)
    }

    /// Without roots nobody of the trust domain could ever be believed.
    fn check_roots(&self, flag: &'static str, trust_domain: &TrustDomain) -> Result<(), CredentialError> {
        match self.trust.get(trust_domain) {
            Some(_) => Ok(()),
            None => Err(CredentialError::NoRoots {
                flag,
                trust_domain: trust_domain.clone(),
            }),
        }
    }
}

/// What is wrong with the files or flags of an identity.
#[derive(Debug, thiserror::Error)]
pub(super) enum CredentialError {
    #[error("{flag} {error}")]
    File {
        flag: &'static str,
        #[source]
        error: FileError,
    },
    #[error("--roots: {0}")]
    Bundles(#[from] BundleError),
    #[error("{flag}: no --roots for trust domain `{trust_domain}`")]
    NoRoots {
        flag: &'static str,
        trust_domain: TrustDomain,
    },
    #[error(transparent)]
    Tls(#[from] BuildError),
}
