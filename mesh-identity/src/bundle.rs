#[cfg(feature = "bundle-document")]
pub(crate) mod document;
#[cfg(feature = "bundle-document")]
pub(crate) mod map;

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::Arc,
};

use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use thiserror::Error;

use crate::{
    aliases::{AliasError, TrustDomainAliases},
    certificate::{Certificate, KeyUsage},
    constraints::UriConstraints,
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
///
/// Cloning is cheap. Bundles are equal that hold the same certificates and lists in the same order.
#[derive(Clone)]
pub struct TrustBundle {
    trust_domain: TrustDomain,
    anchors: Arc<[TrustAnchor<'static>]>,
    /// What `anchors` does not keep of each certificate, in the same order. webpki wants its own
    /// part as a slice of nothing else.
    facts: Arc<[Arc<Anchor>]>,
    revocations: Arc<[RevocationList]>,
}

/// What is to be known of an anchor and [`TrustAnchor`] does not hold.
#[derive(PartialEq, Eq, Hash)]
pub(crate) struct Anchor {
    /// Whose bundle it is in: the same root in two bundles is two anchors.
    trust_domain: TrustDomain,
    certificate: CertificateDer<'static>,
    pub(crate) not_before: UnixTime,
    pub(crate) not_after: UnixTime,
    pub(crate) public_key: Box<[u8]>,
    pub(crate) key_usage: Option<KeyUsage>,
    /// Those that its [`TrustAnchor`] does not have any more.
    pub(crate) constraints: Option<UriConstraints>,
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
        let (mut anchors, mut facts) = (Vec::new(), Vec::new());
        let mut seen = HashSet::new();
        for (index, root) in roots.into_iter().enumerate() {
            let (anchor, known) = read_anchor(&trust_domain, &root).map_err(|fault| BundleError::Root {
                number: index + 1,
                fault,
            })?;
            if !seen.insert(root) {
                continue;
            }
            if anchors.len() == MAX_ANCHORS {
                return Err(BundleError::TooManyRoots);
            }
            anchors.push(anchor);
            facts.push(Arc::new(known));
        }
        Ok(Self {
            trust_domain,
            anchors: anchors.into(),
            facts: facts.into(),
            revocations: Arc::default(),
        })
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
    /// A certificate that is listed is refused, in whichever place of a path, by whichever of the
    /// lists that cover it. What the lists do not cover, and whether they grow old, is for the
    /// [`Profile`](crate::Profile) to judge.
    ///
    /// A list belongs to the name of its issuer, whatever key has signed it. So while a root that
    /// has a list is replaced by another one of the same name, only one of them can have its list
    /// here, and members under the other one are refused. Give the next root a name of its own.
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
        self.revocations = revocations.into();
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
        self.facts.iter().any(|anchor| *anchor.public_key == *public_key)
    }

    /// The revocation lists, in the order they were given.
    pub fn revocation_lists(&self) -> &[RevocationList] {
        &self.revocations
    }

    pub(crate) fn anchors(&self) -> &[TrustAnchor<'static>] {
        &self.anchors
    }

    /// What is known of one of [`anchors`](Self::anchors), told apart by its place: a root that was
    /// signed anew with the same key differs from its predecessor in this only.
    pub(crate) fn known(&self, anchor: &TrustAnchor<'_>) -> Option<&Arc<Anchor>> {
        let place = self.anchors.iter().position(|own| std::ptr::eq(own, anchor))?;
        self.facts.get(place)
    }

    /// Whether this very certificate is an anchor here.
    #[cfg(feature = "source")]
    pub(crate) fn holds(&self, anchor: &Arc<Anchor>) -> bool {
        self.facts.iter().any(|own| Arc::ptr_eq(own, anchor) || own == anchor)
    }
}

impl PartialEq for TrustBundle {
    fn eq(&self, other: &Self) -> bool {
        self.trust_domain == other.trust_domain
            && (Arc::ptr_eq(&self.facts, &other.facts) || self.facts == other.facts)
            && (Arc::ptr_eq(&self.revocations, &other.revocations) || self.revocations == other.revocations)
    }
}

impl Eq for TrustBundle {}

impl fmt::Debug for TrustBundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrustBundle")
            .field("trust_domain", &self.trust_domain)
            .field("anchors", &self.anchors.len())
            .field("revocation_lists", &self.revocations.len())
            .finish()
    }
}

fn read_anchor(
    trust_domain: &TrustDomain,
    root: &CertificateDer<'static>,
) -> Result<(TrustAnchor<'static>, Anchor), IssuerError> {
    let certificate = Certificate::parse(root)?;
    check_issuer(&certificate, &[trust_domain])?;
    let mut anchor = webpki::anchor_from_trusted_cert(root)
        .map_err(|_| IssuerError::Malformed)?
        .to_owned();
    let constraints = anchor.name_constraints.as_deref().and_then(UriConstraints::read);
    if constraints.is_some() {
        anchor.name_constraints = None;
    }
    let known = Anchor {
        trust_domain: trust_domain.clone(),
        certificate: root.clone(),
        not_before: certificate.not_before,
        not_after: certificate.not_after,
        public_key: certificate.public_key.into(),
        key_usage: certificate.key_usage,
        constraints,
    };
    Ok((anchor, known))
}

/// Bundles of several trust domains, kept apart.
///
/// They are never merged: a certificate is checked against the bundle of the trust domain that its
/// own SPIFFE ID names, and against nothing else (SPIFFE Federation §7.3).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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

    /// The same bundles and aliases, and those of `fallback` for trust domains that are unknown
    /// here. Bundles are not merged: a trust domain that has a bundle here, be it an empty one, or
    /// is an alias here, keeps that and nothing else. An alias of `fallback` is left out if what it
    /// stands for is an alias here.
    #[must_use]
    pub fn or(&self, fallback: &Self) -> Self {
        let is_new = |name: &TrustDomain| !self.bundles.contains_key(name) && !self.aliases.contains(name);
        let mut merged = self.clone();
        let bundles = fallback.bundles.iter().filter(|(name, _)| is_new(name));
        merged
            .bundles
            .extend(bundles.map(|(name, bundle)| (name.clone(), bundle.clone())));
        let aliases = fallback.aliases.iter().filter(|(alias, _)| is_new(alias));
        merged
            .aliases
            .extend(aliases.filter(|(_, target)| merged.bundles.contains_key(*target)));
        merged
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
    /// A revocation list has the issuer's name and the distribution point of one before it, and which
    /// of them counts cannot be told.
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
