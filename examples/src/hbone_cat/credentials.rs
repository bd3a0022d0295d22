//! Own identity and trust, from files or from an agent, and what TLS makes of them.

use std::sync::Arc;
use std::{io, thread};

use mesh_identity::live::Live;
use mesh_identity::source::files::{FileError, FileProblem, load_bundle, load_svid};
use mesh_identity::source::{FixedSource, Follower, Snapshot, Source};
use mesh_identity::tls::{ClientTls, Identities, IdentityUnavailable, ServerTls};
use mesh_identity::{BundleError, PeerPattern, PeerPolicy, SpiffeId, TrustBundles, TrustDomain, provider};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::UnixTime;
use tokio::runtime::Builder;

use super::agent::{Agent, AgentError};
use super::args::{Files, Identity};

/// Own identity, and the roots that peers are verified with.
pub(super) struct Credentials {
    id: SpiffeId,
    follower: Follower,
    identities: Arc<Identities>,
    live: Live,
    /// Asked for as long as it is kept here; none if all came from files.
    agent: Option<Agent>,
}

impl Credentials {
    pub(super) fn load(identity: &Identity) -> Result<Self, CredentialError> {
        let provider = provider::aws_lc_rs();
        match (&identity.workload_api, &identity.files) {
            (Some(socket), _) => {
                let agent =
                    Agent::connect(&socket.0, Arc::clone(&provider)).map_err(|error| CredentialError::Agent {
                        endpoint: socket.0.to_string(),
                        error,
                    })?;
                Self::new(agent.id().clone(), agent.follower(), Some(agent), provider)
            }
            (None, Some(files)) => Self::of_files(files, provider),
            (None, None) => Err(CredentialError::Nothing),
        }
    }

    fn new(
        id: SpiffeId,
        follower: Follower,
        agent: Option<Agent>,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, CredentialError> {
        let (live, driver) = Live::builder(follower.clone(), Arc::clone(&provider)).build();
        let runtime = Builder::new_current_thread().enable_time().build()?;
        thread::Builder::new()
            .name("trust".to_owned())
            .spawn(move || runtime.block_on(driver))?;
        Ok(Self {
            id,
            identities: Arc::new(Identities::new(follower.clone(), provider)),
            follower,
            live,
            agent,
        })
    }

    fn of_files(files: &Files, provider: Arc<CryptoProvider>) -> Result<Self, CredentialError> {
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
        let id = svid.id().clone();
        let snapshot = Snapshot::new([Arc::new(svid)], Arc::new(TrustBundles::new(bundles)?));
        Self::new(id, FixedSource::new(snapshot).follow(), None, provider)
    }

    pub(super) fn id(&self) -> &SpiffeId {
        &self.id
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
        let (id, identities) = (self.id.clone(), Arc::clone(&self.identities));
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
        let (id, identities) = (self.id.clone(), Arc::clone(&self.identities));
        Ok(move || identities.client(Some(&id), &policy))
    }

    /// Without roots nobody of the trust domain could ever be believed. An agent may send them yet.
    fn check_roots(&self, flag: &'static str, trust_domain: &TrustDomain) -> Result<(), CredentialError> {
        let known = self.follower.snapshot().trust().get(trust_domain).is_some();
        if known || self.agent.is_some() {
            return Ok(());
        }
        Err(CredentialError::NoRoots {
            flag,
            trust_domain: trust_domain.clone(),
        })
    }
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
        error: AgentError,
    },
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
