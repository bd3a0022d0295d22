#[cfg(feature = "bundle-document")]
pub(crate) mod document;
#[cfg(feature = "bundle-document")]
pub(crate) mod map;

use std::{collections::HashMap, fmt, sync::Arc};

use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use thiserror::Error;

use crate::{
    aliases::{AliasError, TrustDomainAliases},
    certificate::{Certificate, KeyUsage},
    leaf::{IssuerError, check_issuer},
    pem::{self, PemError},
    revocation::{MAX_REVOCATION_LISTS, RevocationList},
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
    revocations: Vec<RevocationList>,
}

/// What verification needs of an anchor and [`TrustAnchor`] does not hold.
#[derive(Clone)]
pub(crate) struct AnchorFacts {
    pub(crate) not_before: UnixTime,
    pub(crate) not_after: UnixTime,
    pub(crate) public_key: Arc<[u8]>,
    pub(crate) key_usage: Option<KeyUsage>,
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
            revocations: Vec::new(),
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

    /// The same bundle with these revocation lists in place of those that it had.
    ///
    /// A certificate that is listed is refused, in whichever place of a path. What the lists do not
    /// cover, and whether they grow old, is for the [`Profile`](crate::Profile) to judge.
    ///
    /// # Errors
    ///
    /// Two lists of the same issuer and distribution point, or more than [`MAX_REVOCATION_LISTS`].
    pub fn with_revocation_lists(
        mut self,
        lists: impl IntoIterator<Item = RevocationList>,
    ) -> Result<Self, BundleError> {
        let mut revocations: Vec<RevocationList> = Vec::new();
        for list in lists {
            if revocations.len() == MAX_REVOCATION_LISTS {
                return Err(BundleError::TooManyRevocationLists);
            }
            if revocations.iter().any(|other| other.rivals(&list)) {
                return Err(BundleError::RivalRevocationLists {
                    number: revocations.len() + 1,
                });
            }
            revocations.push(list);
        }
        self.revocations = revocations;
        Ok(self)
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

    /// The revocation lists, in the order they were given.
    pub fn revocation_lists(&self) -> &[RevocationList] {
        &self.revocations
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
        check_issuer(&certificate, &[&self.trust_domain])?;
        let anchor = webpki::anchor_from_trusted_cert(root)
            .map_err(|_| IssuerError::Malformed)?
            .to_owned();
        let facts = AnchorFacts {
            not_before: certificate.not_before,
            not_after: certificate.not_after,
            public_key: certificate.public_key.into(),
            key_usage: certificate.key_usage,
        };
        Ok((anchor, facts))
    }
}

impl fmt::Debug for TrustBundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrustBundle")
            .field("trust_domain", &self.trust_domain)
            .field("anchors", &self.anchors.len())
            .field("revocation_lists", &self.revocations.len())
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
    aliases: TrustDomainAliases,
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
        Ok(Self {
            bundles: set,
            aliases: TrustDomainAliases::default(),
        })
    }

    /// The set of bundles that are known to be of different trust domains.
    #[cfg(feature = "bundle-document")]
    fn of_distinct(bundles: impl Iterator<Item = TrustBundle>) -> Self {
        Self {
            bundles: bundles.map(|bundle| (bundle.trust_domain.clone(), bundle)).collect(),
            aliases: TrustDomainAliases::default(),
        }
    }

    /// The same bundles with these aliases in place of those that it had.
    ///
    /// # Errors
    ///
    /// An alias that has a bundle of its own, or stands for a trust domain that has none.
    pub fn with_aliases(self, aliases: TrustDomainAliases) -> Result<Self, AliasError> {
        for (alias, target) in aliases.iter() {
            if self.bundles.contains_key(alias) {
                return Err(AliasError::OwnBundle { alias: alias.clone() });
            }
            if !self.bundles.contains_key(target) {
                return Err(AliasError::NoBundle {
                    alias: alias.clone(),
                    target: target.clone(),
                });
            }
        }
        Ok(Self { aliases, ..self })
    }

    /// The bundle that vouches for the members of a trust domain: its own, or that of the trust
    /// domain which it is an alias of.
    pub fn for_members_of(&self, trust_domain: &TrustDomain) -> Option<&TrustBundle> {
        self.get(self.aliases.resolve(trust_domain))
    }

    /// The aliases under which members of these trust domains may appear; none by default.
    pub fn aliases(&self) -> &TrustDomainAliases {
        &self.aliases
    }

    /// The bundle of a trust domain, aliases aside. None, like an empty one, means that its members are unknown.
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
            aliases: TrustDomainAliases::default(),
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
    /// There are more than [`MAX_REVOCATION_LISTS`] revocation lists.
    #[error("there are more than {MAX_REVOCATION_LISTS} revocation lists")]
    TooManyRevocationLists,
    /// A revocation list has the issuer and the distribution point of one before it, and which of
    /// them counts cannot be told.
    #[error("revocation list {number} has the issuer of another one")]
    RivalRevocationLists {
        /// Which list, counting from one.
        number: usize,
    },
    /// A trust domain has two bundles.
    #[error("trust domain `{trust_domain}` has two bundles")]
    Repeated {
        /// The trust domain.
        trust_domain: TrustDomain,
    },
}
