use std::{collections::HashMap, fmt, sync::Arc};

use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use thiserror::Error;

use crate::{
    certificate::Certificate,
    leaf::{IssuerError, check_issuer},
    pem::{self, PemError},
    trust_domain::TrustDomain,
};

/// The most trust anchors in one bundle. Every one of them may cost a peer's handshake a comparison
/// of names; rotation needs two or three.
pub const MAX_ANCHORS: usize = 256;

/// The certificates that may sign for one trust domain (Trust Domain and Bundle §3).
///
/// A bundle without anchors is meaningful: nobody in that trust domain is believed.
#[derive(Clone)]
pub struct TrustBundle {
    trust_domain: TrustDomain,
    anchors: Vec<TrustAnchor<'static>>,
    /// What `anchors` does not keep of each certificate, in the same order. webpki wants its own
    /// part as a slice of nothing else.
    facts: Vec<AnchorFacts>,
}

/// What verification needs of an anchor and [`TrustAnchor`] does not hold.
#[derive(Clone)]
pub(crate) struct AnchorFacts {
    pub(crate) not_before: UnixTime,
    pub(crate) not_after: UnixTime,
    pub(crate) public_key: Arc<[u8]>,
}

impl TrustBundle {
    /// A bundle of these root certificates. Repeated ones are kept once.
    ///
    /// Whether a root is within its time is judged at each verification, because a bundle may hold
    /// the next root before its time and the last one after it.
    ///
    /// # Errors
    ///
    /// A root that is unreadable, is no authority, may not sign certificates, or carries the SPIFFE
    /// ID of a workload or of another trust domain; or more than [`MAX_ANCHORS`].
    pub fn new(
        trust_domain: TrustDomain,
        roots: impl IntoIterator<Item = CertificateDer<'static>>,
    ) -> Result<Self, BundleError> {
        let mut bundle = Self {
            trust_domain,
            anchors: Vec::new(),
            facts: Vec::new(),
        };
        let mut seen = std::collections::HashSet::new();
        for (index, root) in roots.into_iter().enumerate() {
            let (anchor, facts) = bundle.anchor(&root).map_err(|fault| BundleError::Root {
                number: index + 1,
                fault,
            })?;
            if !seen.insert(root) {
                continue;
            }
            if bundle.anchors.len() == MAX_ANCHORS {
                return Err(BundleError::TooManyRoots);
            }
            bundle.anchors.push(anchor);
            bundle.facts.push(facts);
        }
        Ok(bundle)
    }

    /// A bundle of the certificates in a PEM text.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new) and [`pem::certificates`]; so a text without any certificate is an
    /// error, and distrust has to be asked for with `new`.
    pub fn from_pem(trust_domain: TrustDomain, text: &[u8]) -> Result<Self, BundleError> {
        Self::new(trust_domain, pem::certificates(text)?)
    }

    /// Whose certificates these anchors may sign.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// How many anchors the bundle has.
    pub fn len(&self) -> usize {
        self.anchors.len()
    }

    /// Whether the bundle has no anchors, so that it distrusts everybody in its trust domain.
    pub fn is_empty(&self) -> bool {
        self.anchors.is_empty()
    }

    /// Whether an anchor has this SubjectPublicKeyInfo, as
    /// [`VerifiedPeer::anchor_public_key`](crate::VerifiedPeer::anchor_public_key) reports it.
    pub fn has_anchor(&self, public_key: &[u8]) -> bool {
        self.facts.iter().any(|facts| *facts.public_key == *public_key)
    }

    pub(crate) fn anchors(&self) -> &[TrustAnchor<'static>] {
        &self.anchors
    }

    /// The facts of one of [`anchors`](Self::anchors), told apart by its place: a root that was
    /// signed anew with the same key differs from its predecessor in the facts only.
    pub(crate) fn facts(&self, anchor: &TrustAnchor<'_>) -> Option<&AnchorFacts> {
        let place = self.anchors.iter().position(|own| std::ptr::eq(own, anchor))?;
        self.facts.get(place)
    }

    fn anchor(&self, root: &CertificateDer<'_>) -> Result<(TrustAnchor<'static>, AnchorFacts), IssuerError> {
        let certificate = Certificate::parse(root)?;
        check_issuer(&certificate, &self.trust_domain)?;
        let anchor = webpki::anchor_from_trusted_cert(root)
            .map_err(|_| IssuerError::Malformed)?
            .to_owned();
        let facts = AnchorFacts {
            not_before: certificate.not_before,
            not_after: certificate.not_after,
            public_key: certificate.public_key.into(),
        };
        Ok((anchor, facts))
    }
}

impl fmt::Debug for TrustBundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrustBundle")
            .field("trust_domain", &self.trust_domain)
            .field("anchors", &self.anchors.len())
            .finish()
    }
}

/// Bundles of several trust domains, kept apart.
///
/// They are never merged: a certificate is checked against the bundle of the trust domain that its
/// own SPIFFE ID names, and against nothing else (SPIFFE Federation §7.3).
#[derive(Clone, Debug, Default)]
pub struct TrustBundles {
    bundles: HashMap<TrustDomain, TrustBundle>,
}

impl TrustBundles {
    /// The set of these bundles. An empty set believes nobody.
    ///
    /// # Errors
    ///
    /// Two bundles of the same trust domain.
    pub fn new(bundles: impl IntoIterator<Item = TrustBundle>) -> Result<Self, BundleError> {
        let mut set = HashMap::new();
        for bundle in bundles {
            let trust_domain = bundle.trust_domain.clone();
            if set.insert(trust_domain.clone(), bundle).is_some() {
                return Err(BundleError::Repeated { trust_domain });
            }
        }
        Ok(Self { bundles: set })
    }

    /// The bundle of a trust domain. None, like an empty one, means that its members are unknown.
    pub fn get(&self, trust_domain: &TrustDomain) -> Option<&TrustBundle> {
        self.bundles.get(trust_domain)
    }

    /// The bundles, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = &TrustBundle> {
        self.bundles.values()
    }
}

impl From<TrustBundle> for TrustBundles {
    fn from(bundle: TrustBundle) -> Self {
        Self {
            bundles: HashMap::from([(bundle.trust_domain.clone(), bundle)]),
        }
    }
}

/// Why certificates do not make a bundle, or bundles no set.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum BundleError {
    /// The text holds no usable certificates.
    #[error(transparent)]
    Pem(#[from] PemError),
    /// A root may not be one.
    #[error("root {number}: {fault}")]
    Root {
        /// Which root, counting from one.
        number: usize,
        /// What is wrong with it.
        #[source]
        fault: IssuerError,
    },
    /// There are more than [`MAX_ANCHORS`] roots.
    #[error("there are more than {MAX_ANCHORS} roots")]
    TooManyRoots,
    /// A trust domain has two bundles.
    #[error("trust domain `{trust_domain}` has two bundles")]
    Repeated {
        /// The trust domain.
        trust_domain: TrustDomain,
    },
}
