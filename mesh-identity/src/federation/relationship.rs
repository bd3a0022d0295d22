use super::url::EndpointUrl;
use crate::{bundle::document::BundleDocument, spiffe_id::SpiffeId, trust_domain::TrustDomain};

/// Another trust domain whose members are to be believed, and where its bundle is published
/// (SPIFFE Federation §5.1). All three parts are given; none follows from another.
#[derive(Clone, Debug)]
pub struct Relationship {
    pub(super) trust_domain: TrustDomain,
    pub(super) url: EndpointUrl,
    pub(super) profile: EndpointProfile,
    pub(super) bootstrap: Option<BundleDocument>,
}

/// How a bundle endpoint is known (SPIFFE Federation §5.2). There is no falling back from one to the
/// other.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EndpointProfile {
    /// By its host's name, with a certificate of the public web (`https_web`).
    HttpsWeb,
    /// By its SPIFFE ID, with an X509-SVID (`https_spiffe`).
    HttpsSpiffe {
        /// Who the endpoint has to be. If it is of the trust domain whose bundle it serves, each
        /// bundle that is fetched verifies the next fetch. Otherwise there has to be a relationship
        /// with its own trust domain, too.
        endpoint: SpiffeId,
    },
}

impl Relationship {
    /// With `trust_domain`, whose bundle is published at `url` by an endpoint that is known by
    /// `profile`.
    pub fn new(trust_domain: TrustDomain, url: EndpointUrl, profile: EndpointProfile) -> Self {
        Self {
            trust_domain,
            url,
            profile,
            bootstrap: None,
        }
    }

    /// Begins with this bundle, obtained by some other way. An endpoint that serves the bundle which
    /// it is itself verified with cannot be asked without one.
    #[must_use]
    pub fn bootstrap(mut self, document: BundleDocument) -> Self {
        self.bootstrap = Some(document);
        self
    }

    /// The other trust domain.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// Where its bundle is published.
    pub fn url(&self) -> &EndpointUrl {
        &self.url
    }

    /// How the endpoint is known.
    pub fn profile(&self) -> &EndpointProfile {
        &self.profile
    }
}
