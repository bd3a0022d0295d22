use std::{
    fmt,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use http::HeaderValue;
use rustls::time_provider::{DefaultTimeProvider, TimeProvider};
use thiserror::Error;

use super::address::CaAddress;
use crate::{
    bundle::{TrustBundle, TrustBundles},
    dial::Dialer,
    profile::Profile,
    spiffe_id::SpiffeId,
    trust_domain::TrustDomain,
};

const CONCURRENT: NonZeroUsize = NonZeroUsize::MIN.saturating_add(7);

/// Whose certificates are asked for, of whom, and how.
#[derive(Clone)]
pub struct CaConfig {
    pub(super) address: CaAddress,
    pub(super) token: PathBuf,
    pub(super) subject: Subject,
    pub(super) cluster: HeaderValue,
    pub(super) signer: Option<String>,
    pub(super) roots: Option<Arc<TrustBundles>>,
    pub(super) profile: Profile,
    pub(super) lifetime: Duration,
    pub(super) deadline: Duration,
    pub(super) concurrent: NonZeroUsize,
    pub(super) identities: usize,
    pub(super) dialer: Dialer,
    pub(super) clock: Arc<dyn TimeProvider>,
}

/// Whose certificates.
#[derive(Clone, Debug)]
pub(super) enum Subject {
    Own(SpiffeId),
    MembersOf(TrustDomain),
}

impl CaConfig {
    /// For a workload that wants a certificate of its own: `id` is who the authority will say it is.
    /// The bearer token in the file `token` shows it; Istio mounts one at
    /// `/var/run/secrets/tokens/istio-token`.
    pub fn workload(address: CaAddress, token: impl Into<PathBuf>, id: SpiffeId) -> Self {
        Self::new(address, token.into(), Subject::Own(id))
    }

    /// For a node agent that wants certificates in the names of the workloads of its node, all of
    /// one trust domain. Each call names its identity as `ImpersonatedIdentity`, to which the bearer
    /// of the token in the file `token` must be entitled.
    pub fn node_agent(address: CaAddress, token: impl Into<PathBuf>, trust_domain: TrustDomain) -> Self {
        Self::new(address, token.into(), Subject::MembersOf(trust_domain))
    }

    fn new(address: CaAddress, token: PathBuf, subject: Subject) -> Self {
        Self {
            address,
            token,
            subject,
            cluster: HeaderValue::from_static("Kubernetes"),
            signer: None,
            roots: None,
            profile: Profile::default(),
            lifetime: Duration::from_secs(24 * 3600),
            deadline: Duration::from_secs(10),
            concurrent: CONCURRENT,
            identities: 1024,
            dialer: Dialer::default(),
            clock: Arc::new(DefaultTimeProvider),
        }
    }

    /// The cluster that the token is of, for authorities that serve several. The default is Istio's,
    /// `Kubernetes`.
    ///
    /// # Errors
    ///
    /// The name does not fit into a header.
    pub fn cluster(mut self, name: &str) -> Result<Self, ClusterNameError> {
        self.cluster = HeaderValue::from_str(name).map_err(|_| ClusterNameError)?;
        Ok(self)
    }

    /// Has certificates signed by this signer of those that the authority has (`CertSigner`). The
    /// default is the authority's choice.
    #[must_use]
    pub fn signer(mut self, name: impl Into<String>) -> Self {
        self.signer = Some(name.into());
        self
    }

    /// Believes these roots, and not those that come with an answer. By default an answer's own
    /// roots are published as the bundle of the trust domain: all that came with a certificate which
    /// is still in use.
    #[must_use]
    pub fn roots(mut self, roots: TrustBundle) -> Self {
        self.roots = Some(Arc::new(roots.into()));
        self
    }

    /// Holds certificates to this profile. The default is [`Profile::istio`].
    #[must_use]
    pub fn profile(mut self, profile: Profile) -> Self {
        self.profile = profile;
        self
    }

    /// Asks for certificates that live this long, in whole seconds. Authorities may give less. The
    /// default is 24 hours, Istio's own.
    #[must_use]
    pub fn lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = lifetime;
        self
    }

    /// Gives up a call after this time, from dialling to the answer. The default is 10 s.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Makes at most so many calls at a time. The default is 8, as in ztunnel: an authority that
    /// has just started is asked by every node at once.
    #[must_use]
    pub fn concurrent(mut self, calls: NonZeroUsize) -> Self {
        self.concurrent = calls;
        self
    }

    /// Holds at most so many identities. The default is 1,024, some times as many as a node of
    /// Kubernetes runs.
    #[must_use]
    pub fn identities(mut self, identities: usize) -> Self {
        self.identities = identities;
        self
    }

    /// Makes connections by this dialer. The default is TCP.
    #[must_use]
    pub fn dialer(mut self, dialer: Dialer) -> Self {
        self.dialer = dialer;
        self
    }

    /// Judges the validity of certificates by this clock. The default is the system's.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn TimeProvider>) -> Self {
        self.clock = clock;
        self
    }
}

impl fmt::Debug for CaConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CaConfig")
            .field("address", &self.address)
            .field("token", &Path::display(&self.token))
            .field("subject", &self.subject)
            .finish_non_exhaustive()
    }
}

/// A cluster's name that does not fit into a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the name of the cluster has characters that no header may have")]
pub struct ClusterNameError;
