//! Own identity and trust, from files or from an agent, and what TLS makes of them.

use std::io;
use std::sync::Arc;

use mesh_identity::live::{ClosePolicy, Live};
use mesh_identity::source::files::{FileError, FileLayout, FileProblem, load_bundle, load_svid};
use mesh_identity::tls::{ClientTls, Identities, IdentityUnavailable, ServerTls};
use mesh_identity::{BundleError, PeerPattern, PeerPolicy, SpiffeId, TrustBundles, TrustDomain, provider};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::UnixTime;
use tokio::runtime::Builder;

use super::args::{Files, Identity};
use super::origin::{Origin, OriginError};
use crate::workers::Keepers;

/// Own identity, and the roots that peers are verified with.
pub(super) struct Credentials {
    origin: Origin,
    identities: Arc<Identities>,
    live: Live,
}

impl Credentials {
    pub(super) fn load(identity: &Identity, keepers: &Keepers) -> Result<Self, CredentialError> {
        let provider = provider::aws_lc_rs();
        let origin = match (&identity.workload_api, &identity.files) {
            (Some(socket), _) => {
                Origin::agent(&socket.0, Arc::clone(&provider), keepers).map_err(|error| CredentialError::Agent {
                    endpoint: socket.0.to_string(),
                    error,
                })?
            }
            (None, Some(files)) => Origin::files(layout(files, &provider)?, Arc::clone(&provider), keepers)
                .map_err(CredentialError::Files)?,
            (None, None) => return Err(CredentialError::Nothing),
        };
        // A tunnel may outlive the certificates that it began with: short ones are renewed all the
        // time, and nothing in HTTP/2 could show a peer the next.
        let closing = ClosePolicy::default().keep_expired();
        let live = Live::builder(origin.follower().clone(), Arc::clone(&provider)).close_policy(closing);
        let (live, driver) = live.build();
        let runtime = Builder::new_current_thread().enable_time().build()?;
        keepers.start("trust", move || runtime.block_on(driver))?;
        Ok(Self {
            identities: Arc::new(Identities::new(origin.follower().clone(), provider)),
            origin,
            live,
        })
    }

    pub(super) fn id(&self) -> &SpiffeId {
        self.origin.svid().id()
    }

    /// What open connections are held to.
    pub(super) fn live(&self) -> &Live {
        &self.live
    }

    /// TLS of the moment for whoever `allow` matches.
    pub(super) fn server(
        &self,
        allow: &[PeerPattern],
    ) -> Result<(PeerPolicy, impl Fn() -> Result<ServerTls, IdentityUnavailable> + use<>), CredentialError> {
        for pattern in allow {
            self.check_roots("--allow", pattern.trust_domain())?;
        }
        let policy = PeerPolicy::matching(allow.iter().cloned());
        let (id, identities) = (self.id().clone(), Arc::clone(&self.identities));
        let permitted = policy.clone();
        Ok((policy, move || identities.server(Some(&id), &permitted)))
    }

    /// TLS of the moment towards the one that is expected.
    pub(super) fn client(
        &self,
        expect: &SpiffeId,
    ) -> Result<impl Fn() -> Result<ClientTls, IdentityUnavailable> + Clone + use<>, CredentialError> {
        self.check_roots("--expect", expect.trust_domain())?;
        let policy = PeerPolicy::exact(expect.clone());
        let (id, identities) = (self.id().clone(), Arc::clone(&self.identities));
        Ok(move || identities.client(Some(&id), &policy))
    }

    /// Without roots nobody of the trust domain could ever be believed.
    fn check_roots(&self, flag: &'static str, trust_domain: &TrustDomain) -> Result<(), CredentialError> {
        let known = self.origin.follower().snapshot().trust().get(trust_domain).is_some();
        if known || self.origin.may_learn_roots() {
            return Ok(());
        }
        Err(CredentialError::NoRoots {
            flag,
            trust_domain: trust_domain.clone(),
        })
    }
}

/// Which file holds what. All are read once, so that what is wrong with one is said of its flag.
fn layout(files: &Files, provider: &CryptoProvider) -> Result<FileLayout, CredentialError> {
    let svid = load_svid(&files.cert, &files.key, provider, UnixTime::now()).map_err(|error| {
        let concerns_key = match error.problem() {
            FileProblem::Svid(problem) => problem.concerns_key(),
            _ => error.path() != files.cert,
        };
        let flag = if concerns_key { "--key" } else { "--cert" };
        CredentialError::File { flag, error }
    })?;
    let home = svid.id().trust_domain();
    let roots = files.roots.iter().map(|roots| {
        let trust_domain = roots.trust_domain.as_ref().unwrap_or(home);
        (trust_domain, &roots.file)
    });
    let mut bundles = Vec::new();
    for (trust_domain, file) in roots.clone() {
        let bundle = load_bundle(trust_domain.clone(), file);
        bundles.push(bundle.map_err(|error| CredentialError::File { flag: "--roots", error })?);
    }
    TrustBundles::new(bundles)?;
    let (own, others): (Vec<_>, Vec<_>) = roots.partition(|(trust_domain, _)| *trust_domain == home);
    let Some((_, own)) = own.first() else {
        return Err(CredentialError::NoRoots {
            flag: "--cert",
            trust_domain: home.clone(),
        });
    };
    let layout = FileLayout::new(home.clone(), &files.cert, &files.key, *own);
    Ok(others.into_iter().fold(layout, |layout, (trust_domain, file)| {
        layout.with_bundle(trust_domain.clone(), file)
    }))
}

/// What is wrong with the files, the agent or the flags of an identity.
#[derive(Debug, thiserror::Error)]
pub(super) enum CredentialError {
    #[error("{flag} {error}")]
    File {
        flag: &'static str,
        #[source]
        error: FileError,
    },
    #[error("--workload-api {endpoint}: {error}")]
    Agent {
        endpoint: String,
        #[source]
        error: OriginError,
    },
    #[error("--cert {0}")]
    Files(#[source] OriginError),
    #[error("--roots: {0}")]
    Bundles(#[from] BundleError),
    #[error("{flag}: no --roots for trust domain `{trust_domain}`")]
    NoRoots {
        flag: &'static str,
        trust_domain: TrustDomain,
    },
    #[error("operating system: {0}")]
    System(#[from] io::Error),
    #[error("neither --workload-api nor --cert, --key and --roots")]
    Nothing,
}
