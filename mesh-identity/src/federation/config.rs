use std::{fmt, sync::Arc, time::Duration};

use rustls::time_provider::{DefaultTimeProvider, TimeProvider};
use rustls_pki_types::CertificateDer;

use super::{relationship::Relationship, store::BundleStore};
use crate::{dial::Dialer, profile::Profile, trust_domain::TrustDomain};

/// Which trust domains to federate with, and how.
#[derive(Clone)]
pub struct FederationConfig {
    pub(super) own: TrustDomain,
    pub(super) relationships: Vec<Relationship>,
    pub(super) web_roots: Vec<CertificateDer<'static>>,
    pub(super) store: Option<Arc<dyn BundleStore>>,
    pub(super) profile: Profile,
    pub(super) deadline: Duration,
    pub(super) dialer: Dialer,
    pub(super) clock: Arc<dyn TimeProvider>,
}

impl FederationConfig {
    /// Nobody yet, for a process of trust domain `own`, whose own bundle comes from elsewhere.
    pub fn new(own: TrustDomain) -> Self {
        Self {
            own,
            relationships: Vec::new(),
            web_roots: Vec::new(),
            store: None,
            profile: Profile::default(),
            deadline: Duration::from_secs(30),
            dialer: Dialer::default(),
            clock: Arc::new(DefaultTimeProvider),
        }
    }

    /// Federates with one trust domain more.
    #[must_use]
    pub fn relate(mut self, relationship: Relationship) -> Self {
        self.relationships.push(relationship);
        self
    }

    /// Believes these roots about endpoints of profile
    /// [`HttpsWeb`](super::EndpointProfile::HttpsWeb), and about nothing else. The default is none.
    #[must_use]
    pub fn web_roots(mut self, roots: impl IntoIterator<Item = CertificateDer<'static>>) -> Self {
        self.web_roots.extend(roots);
        self
    }

    /// Keeps fetched bundles in a store. By default a restart forgets them.
    #[must_use]
    pub fn store(mut self, store: Arc<dyn BundleStore>) -> Self {
        self.store = Some(store);
        self
    }

    /// Holds endpoints of profile [`HttpsSpiffe`](super::EndpointProfile::HttpsSpiffe) to this
    /// profile. The default is [`Profile::istio`].
    #[must_use]
    pub fn profile(mut self, profile: Profile) -> Self {
        self.profile = profile;
        self
    }

    /// Gives up a fetch after this time, redirects included. The default is 30 s.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
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

impl fmt::Debug for FederationConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FederationConfig")
            .field("own", &self.own)
            .field("relationships", &self.relationships)
            .finish_non_exhaustive()
    }
}
