#[cfg(test)]
mod tests;

use std::{cell::Cell, fmt, sync::Arc};

use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm, UnixTime};
use thiserror::Error;
use webpki::{
    CertRevocationList, EndEntityCert, Error as Fault, ExpirationPolicy, KeyUsage, RevocationOptions,
    RevocationOptionsBuilder, UnknownStatusPolicy, VerifiedPath,
};

use crate::{
    bundle::{Anchor, TrustBundle, TrustBundles},
    certificate::Certificate,
    date::Rfc3339,
    leaf::{IssuerError, LeafError, Role, check_issuer, check_issuer_profile, check_leaf, check_leaf_profile},
    profile::{Profile, ProfileRule},
    revocation::SerialNumber,
    spiffe_id::SpiffeId,
    trust_domain::TrustDomain,
};

/// The most certificates in a presented chain: the leaf, the six intermediates that rustls-webpki
/// follows at most, and a root that need not have been sent.
pub const MAX_CHAIN_CERTIFICATES: usize = 8;
/// The largest certificate in a presented chain, in bytes. An SVID has about 600, an RSA one 1,500.
pub const MAX_CERTIFICATE_BYTES: usize = 16 * 1024;

/// Verifies a presented certificate chain at the moment `now` under the default [`Profile`], and
/// says who its leaf identifies.
///
/// # Errors
///
/// As [`verify_under`].
pub fn verify(
    chain: &[CertificateDer<'_>],
    role: Role,
    trust: &TrustBundles,
    now: UnixTime,
    algorithms: &[&dyn SignatureVerificationAlgorithm],
) -> Result<VerifiedPeer, VerifyError> {
    verify_under(Profile::default(), chain, role, trust, now, algorithms)
}

/// Verifies a presented certificate chain at the moment `now`, and says who its leaf identifies.
///
/// `chain` is the leaf and then its intermediates, in any order; `role` is what the peer acts as;
/// `algorithms` are those that certificates may be signed with. Checked are X509-SVID §5.2 in full,
/// RFC 5280 path validation by rustls-webpki, and what that leaves to its caller: `keyCertSign` on
/// every intermediate, the SPIFFE IDs of intermediates, and the validity of the anchor, whose other
/// rules its [`TrustBundle`] has checked. The path must end at an anchor of the trust domain that
/// the leaf names, or is an alias of; other bundles are not looked at. The rules that `profile`
/// relaxes are left out. If the bundle has revocation lists, none may list a certificate of the
/// path.
///
/// No clock is read and nothing is remembered. The caps on the chain's size are applied before any
/// of it is parsed, and the parsing before any signature is checked.
///
/// URI name constraints are implemented for roots that have no others. A path that meets one anywhere
/// else is refused.
///
/// # Errors
///
/// The first rule that is broken.
pub fn verify_under(
    profile: Profile,
    chain: &[CertificateDer<'_>],
    role: Role,
    trust: &TrustBundles,
    now: UnixTime,
    algorithms: &[&dyn SignatureVerificationAlgorithm],
) -> Result<VerifiedPeer, VerifyError> {
    verify_as_of(profile, chain, role, trust, Moment { now, as_of: now }, algorithms)
}

/// The moment at which a chain is verified.
#[derive(Clone, Copy)]
pub(crate) struct Moment {
    pub(crate) now: UnixTime,
    /// What expired after this has not expired. It may lie before the time of a root that was put
    /// in place since, so roots begin by `now`.
    pub(crate) as_of: UnixTime,
}

/// As [`verify_under`], but what has expired lately may count.
pub(crate) fn verify_as_of(
    profile: Profile,
    chain: &[CertificateDer<'_>],
    role: Role,
    trust: &TrustBundles,
    moment: Moment,
    algorithms: &[&dyn SignatureVerificationAlgorithm],
) -> Result<VerifiedPeer, VerifyError> {
    let (leaf, intermediates) = chain.split_first().ok_or(VerifyError::EmptyChain)?;
    check_sizes(chain)?;
    let facts = Certificate::parse(leaf).map_err(LeafError::from)?;
    let id = check_leaf(&facts, &[role])?;
    check_leaf_profile(&facts, profile)?;
    let bundle = trusted(trust, id.trust_domain())?;

    let end_entity = EndEntityCert::try_from(leaf).map_err(|fault| VerifyError::of(&fault, id.trust_domain()))?;
    let usage = match role {
        Role::Client => KeyUsage::client_auth(),
        Role::Server => KeyUsage::server_auth(),
    };
    let outcome = Cell::new(None);
    let judge = |path: &VerifiedPath<'_>| {
        let judged = judge_path(path, bundle, id.trust_domain(), profile, moment)
            .and_then(|anchor| ask_every_list(path, bundle, moment, usage, algorithms).map(|()| anchor));
        let refused = judged.is_err();
        outcome.set(Some(match outcome.take() {
            Some(Err(before @ VerifyError::Revoked { .. })) if refused => Err(before),
            _ => judged,
        }));
        // The kind is of no account: `outcome` holds the reason.
        if refused { Err(Fault::UnknownIssuer) } else { Ok(()) }
    };
    let lists: Vec<_> = bundle.revocation_lists().iter().map(|list| list.as_webpki()).collect();
    let found = end_entity.verify_for_usage(
        algorithms,
        bundle.anchors(),
        intermediates,
        moment.as_of,
        usage,
        revocation(&lists, profile),
        Some(&judge),
    );
    let anchor = match (found, outcome.into_inner()) {
        (Ok(_), Some(Ok(anchor))) => anchor,
        // Of the reasons of several paths, this one is the most urgent.
        (Err(Fault::CertRevoked), _) => return Err(revoked(chain, &facts, bundle)),
        (Err(_), Some(Err(refusal))) => return Err(refusal),
        (Err(fault), _) => return Err(VerifyError::of(&fault, id.trust_domain())),
        // webpki asks about each path before it answers with it.
        (Ok(_), _) => return Err(unknown_issuer(id.trust_domain())),
    };
    Ok(VerifiedPeer {
        facts: Arc::new(PeerFacts {
            not_after: facts.not_after.min(anchor.not_after),
            anchor: anchor.anchor,
            role,
            chain: chain
                .iter()
                .map(|certificate| certificate.clone().into_owned())
                .collect(),
            id,
        }),
    })
}

/// A peer whose certificate chain has been verified.
///
/// Only [`verify`] makes one, so holding it proves that the verification took place. What it does
/// not prove is that the peer holds the leaf's key, which is for the TLS handshake to show, nor
/// that the peer may speak, which is for a [`PeerPolicy`](crate::PeerPolicy) to say. A
/// `VerifiedPeer` that comes from [`tls`](crate::tls) has passed all three.
///
/// Cloning is cheap.
#[derive(Clone, PartialEq, Eq)]
pub struct VerifiedPeer {
    facts: Arc<PeerFacts>,
}

#[derive(PartialEq, Eq)]
struct PeerFacts {
    id: SpiffeId,
    chain: Box<[CertificateDer<'static>]>,
    not_after: UnixTime,
    anchor: Arc<Anchor>,
    role: Role,
}

impl VerifiedPeer {
    /// Who the peer is.
    pub fn id(&self) -> &SpiffeId {
        &self.facts.id
    }

    /// The last second in which every certificate of the path, anchor included, is valid.
    pub fn not_after(&self) -> UnixTime {
        self.facts.not_after
    }

    /// The chain as it was presented, the leaf first.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.facts.chain
    }

    /// The SubjectPublicKeyInfo of the anchor at which the path ended. If the trust domain's next
    /// bundle lacks it, the peer is no longer believed for the reason it was.
    pub fn anchor_public_key(&self) -> &[u8] {
        &self.facts.anchor.public_key
    }

    /// What the peer acted as.
    pub fn role(&self) -> Role {
        self.facts.role
    }

    #[cfg(feature = "source")]
    pub(crate) fn anchor(&self) -> &Arc<Anchor> {
        &self.facts.anchor
    }
}

impl fmt::Debug for VerifiedPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifiedPeer")
            .field("id", self.id())
            .field("not_after", &format_args!("{}", Rfc3339(self.not_after())))
            .finish_non_exhaustive()
    }
}

/// Why a certificate chain identifies nobody.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// There is no certificate.
    #[error("the certificate chain is empty")]
    EmptyChain,
    /// There are more than [`MAX_CHAIN_CERTIFICATES`].
    #[error("the chain has {certificates} certificates, more than {MAX_CHAIN_CERTIFICATES}")]
    ChainTooLong {
        /// How many there are.
        certificates: usize,
    },
    /// A certificate is larger than [`MAX_CERTIFICATE_BYTES`].
    #[error("a certificate has {bytes} bytes, more than {MAX_CERTIFICATE_BYTES}")]
    CertificateTooLarge {
        /// Its size.
        bytes: usize,
    },
    /// The leaf breaks a rule.
    #[error(transparent)]
    Leaf(#[from] LeafError),
    /// A certificate between the leaf and the anchor breaks a rule.
    #[error(transparent)]
    Issuer(#[from] IssuerError),
    /// There is no bundle for the leaf's trust domain.
    #[error("trust domain `{trust_domain}` is not trusted here")]
    UnknownTrustDomain {
        /// The leaf's trust domain.
        trust_domain: TrustDomain,
    },
    /// The bundle of the leaf's trust domain is empty: all of its members are distrusted.
    #[error("the bundle of trust domain `{trust_domain}` is empty")]
    EmptyBundle {
        /// The leaf's trust domain.
        trust_domain: TrustDomain,
    },
    /// No path leads to an anchor of the leaf's own trust domain.
    #[error("the certificate was not issued by a root of trust domain `{trust_domain}`")]
    UnknownIssuer {
        /// The leaf's trust domain.
        trust_domain: TrustDomain,
    },
    /// A certificate of the path is past its time.
    #[error("a certificate of the chain expired at {}", Rfc3339(*not_after))]
    Expired {
        /// The last second of its validity.
        not_after: UnixTime,
    },
    /// A certificate of the path is ahead of its time.
    #[error("a certificate of the chain is not valid before {}", Rfc3339(*not_before))]
    NotYetValid {
        /// The first second of its validity.
        not_before: UnixTime,
    },
    /// The anchor is past its time.
    #[error("the trusted root expired at {}", Rfc3339(*not_after))]
    AnchorExpired {
        /// The last second of its validity.
        not_after: UnixTime,
    },
    /// The anchor is ahead of its time.
    #[error("the trusted root is not valid before {}", Rfc3339(*not_before))]
    AnchorNotYetValid {
        /// The first second of its validity.
        not_before: UnixTime,
    },
    /// A signature of the chain is wrong.
    #[error("a signature of the chain is wrong")]
    BadSignature,
    /// A certificate is signed with an algorithm that is not among the given ones.
    #[error("a certificate of the chain is signed with an unsupported algorithm")]
    UnsupportedAlgorithm,
    /// An issuer's `pathLenConstraint` is exceeded.
    #[error("the chain is longer than one of its issuers permits")]
    PathLength,
    /// A name constraint is violated, or concerns URIs and is not a root's.
    #[error("the chain has a name constraint that the certificate does not meet")]
    NameConstraint,
    /// An issuer's ExtendedKeyUsage is present and lacks the use made of the leaf.
    #[error("an issuer of the chain may not sign for this use")]
    IssuerPurpose,
    /// An extension is critical and unknown.
    #[error("a certificate of the chain has an unknown critical extension")]
    CriticalExtension,
    /// A revocation list names a certificate of the path.
    #[error("a certificate of the chain is revoked, the one with serial number {serial}")]
    Revoked {
        /// The revoked certificate's serial number.
        serial: SerialNumber,
    },
    /// No revocation list covers a certificate of the path, which [`ProfileRule::KnownRevocation`]
    /// asks for.
    #[error("no revocation list covers a certificate of the chain")]
    RevocationUnknown,
    /// A revocation list is past its `nextUpdate`, which [`ProfileRule::FreshRevocation`] asks
    /// about.
    #[error("a revocation list was to be replaced by {}", Rfc3339(*next_update))]
    RevocationListExpired {
        /// When the next list was due.
        next_update: UnixTime,
    },
    /// A revocation list is not signed by the issuer that it names, or with an algorithm that is
    /// not among the given ones.
    #[error("a revocation list is not signed by its issuer")]
    RevocationListSignature,
    /// An intermediate has a revocation list and its KeyUsage lacks `cRLSign`. Anchors are exempt:
    /// they are trusted by configuration, and those of Istio lack it.
    #[error("an issuer of the chain may not sign revocation lists")]
    RevocationListIssuer,
    /// A certificate of the chain is malformed in a way that its own parsing did not show.
    #[error("a certificate of the chain is malformed")]
    Malformed,
    /// So many paths were tried that the search was given up.
    #[error("the chain has too many possible paths")]
    TooManyPaths,
    /// Path validation refuses the chain on grounds that cannot arise from the checks asked of it.
    #[error("path validation refuses the chain")]
    Path,
}

impl VerifyError {
    /// A short name of the rule, fit for a metric's label. It does not change between releases.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::EmptyChain => "empty_chain",
            Self::ChainTooLong { .. } => "chain_too_long",
            Self::CertificateTooLarge { .. } => "certificate_too_large",
            Self::Leaf(fault) => fault.reason(),
            Self::Issuer(fault) => fault.reason(),
            Self::UnknownTrustDomain { .. } => "unknown_trust_domain",
            Self::EmptyBundle { .. } => "empty_bundle",
            Self::UnknownIssuer { .. } => "unknown_issuer",
            Self::Expired { .. } => "expired",
            Self::NotYetValid { .. } => "not_yet_valid",
            Self::AnchorExpired { .. } => "anchor_expired",
            Self::AnchorNotYetValid { .. } => "anchor_not_yet_valid",
            Self::BadSignature => "bad_signature",
            Self::UnsupportedAlgorithm => "unsupported_algorithm",
            Self::PathLength => "path_length",
            Self::NameConstraint => "name_constraint",
            Self::IssuerPurpose => "issuer_purpose",
            Self::CriticalExtension => "critical_extension",
            Self::Revoked { .. } => "revoked",
            Self::RevocationUnknown => "revocation_unknown",
            Self::RevocationListExpired { .. } => "revocation_list_expired",
            Self::RevocationListSignature => "revocation_list_signature",
            Self::RevocationListIssuer => "revocation_list_issuer",
            Self::Malformed => "malformed",
            Self::TooManyPaths => "too_many_paths",
            Self::Path => "path",
        }
    }

    fn of(fault: &Fault, trust_domain: &TrustDomain) -> Self {
        match fault {
            Fault::CertExpired { not_after, .. } => Self::Expired { not_after: *not_after },
            Fault::CertNotValidYet { not_before, .. } => Self::NotYetValid {
                not_before: *not_before,
            },
            Fault::UnknownIssuer => unknown_issuer(trust_domain),
            Fault::InvalidSignatureForPublicKey => Self::BadSignature,
            Fault::SignatureAlgorithmMismatch
            | Fault::UnsupportedSignatureAlgorithmContext(_)
            | Fault::UnsupportedSignatureAlgorithmForPublicKeyContext(_) => Self::UnsupportedAlgorithm,
            Fault::EndEntityUsedAsCa => IssuerError::NotAuthority.into(),
            Fault::CaUsedAsEndEntity => LeafError::Authority.into(),
            Fault::PathLenConstraintViolated => Self::PathLength,
            Fault::NameConstraintViolation | Fault::MalformedNameConstraint | Fault::InvalidNetworkMaskConstraint => {
                Self::NameConstraint
            }
            Fault::RequiredEkuNotFoundContext(_) | Fault::EmptyEkuExtension => Self::IssuerPurpose,
            Fault::UnsupportedCriticalExtension => Self::CriticalExtension,
            Fault::UnknownRevocationStatus => Self::RevocationUnknown,
            Fault::CrlExpired { next_update, .. } => Self::RevocationListExpired {
                next_update: *next_update,
            },
            Fault::InvalidCrlSignatureForPublicKey
            | Fault::UnsupportedCrlSignatureAlgorithmContext(_)
            | Fault::UnsupportedCrlSignatureAlgorithmForPublicKeyContext(_) => Self::RevocationListSignature,
            Fault::IssuerNotCrlSigner => Self::RevocationListIssuer,
            Fault::MaximumNameConstraintComparisonsExceeded
            | Fault::MaximumPathBuildCallsExceeded
            | Fault::MaximumPathDepthExceeded
            | Fault::MaximumSignatureChecksExceeded => Self::TooManyPaths,
            Fault::BadDer
            | Fault::BadDerTime
            | Fault::ExtensionValueInvalid
            | Fault::InvalidCertValidity
            | Fault::InvalidSerialNumber
            | Fault::MalformedExtensions
            | Fault::TrailingData(_)
            | Fault::UnsupportedCertVersion => Self::Malformed,
            _ => Self::Path,
        }
    }
}

/// What one accepted path adds to the leaf's facts.
struct AnchorOfPath {
    anchor: Arc<Anchor>,
    /// The least of the anchor's and the intermediates'.
    not_after: UnixTime,
}

fn check_sizes(chain: &[CertificateDer<'_>]) -> Result<(), VerifyError> {
    if chain.len() > MAX_CHAIN_CERTIFICATES {
        return Err(VerifyError::ChainTooLong {
            certificates: chain.len(),
        });
    }
    match chain
        .iter()
        .map(|certificate| certificate.len())
        .find(|bytes| *bytes > MAX_CERTIFICATE_BYTES)
    {
        Some(bytes) => Err(VerifyError::CertificateTooLarge { bytes }),
        None => Ok(()),
    }
}

fn trusted<'t>(trust: &'t TrustBundles, trust_domain: &TrustDomain) -> Result<&'t TrustBundle, VerifyError> {
    match trust.for_members_of(trust_domain) {
        None => Err(VerifyError::UnknownTrustDomain {
            trust_domain: trust_domain.clone(),
        }),
        Some(bundle) if bundle.is_empty() => Err(VerifyError::EmptyBundle {
            trust_domain: trust_domain.clone(),
        }),
        Some(bundle) => Ok(bundle),
    }
}

fn revocation<'l>(lists: &'l [&'l CertRevocationList<'l>], profile: Profile) -> Option<RevocationOptions<'l>> {
    let unknown = if profile.enforces(ProfileRule::KnownRevocation) {
        UnknownStatusPolicy::Deny
    } else {
        UnknownStatusPolicy::Allow
    };
    let expiration = if profile.enforces(ProfileRule::FreshRevocation) {
        ExpirationPolicy::Enforce
    } else {
        ExpirationPolicy::Ignore
    };
    // An empty slice is no error here: without lists there is nothing to ask.
    let builder = RevocationOptionsBuilder::new(lists).ok()?;
    Some(
        builder
            .with_status_policy(unknown)
            .with_expiration_policy(expiration)
            .build(),
    )
}

/// Which certificate it was that webpki found revoked: it does not say.
fn revoked(chain: &[CertificateDer<'_>], leaf: &Certificate<'_>, bundle: &TrustBundle) -> VerifyError {
    let serial = chain
        .iter()
        .filter_map(|der| Certificate::parse(der).ok())
        .find(|certificate| bundle.revocation_lists().iter().any(|list| list.names(certificate)))
        .map_or_else(|| SerialNumber::of(leaf), |certificate| SerialNumber::of(&certificate));
    VerifyError::Revoked { serial }
}

/// Applies the rules that webpki does not know to a path that it would accept.
fn judge_path(
    path: &VerifiedPath<'_>,
    bundle: &TrustBundle,
    trust_domain: &TrustDomain,
    profile: Profile,
    moment: Moment,
) -> Result<AnchorOfPath, VerifyError> {
    let anchor = bundle
        .known(path.anchor())
        .ok_or_else(|| unknown_issuer(bundle.trust_domain()))?;
    if moment.now < anchor.not_before {
        return Err(VerifyError::AnchorNotYetValid {
            not_before: anchor.not_before,
        });
    }
    if moment.as_of > anchor.not_after {
        return Err(VerifyError::AnchorExpired {
            not_after: anchor.not_after,
        });
    }
    check_issuer_profile(anchor.key_usage, profile)?;
    let constraints = anchor.constraints.as_ref();
    if constraints.is_some_and(|constraints| !constraints.permit(trust_domain)) {
        return Err(VerifyError::NameConstraint);
    }
    let mut not_after = anchor.not_after;
    for intermediate in path.intermediate_certificates() {
        let der = intermediate.der();
        let facts = Certificate::parse(&der).map_err(IssuerError::from)?;
        if facts.key_usage.is_none() {
            return Err(IssuerError::NoKeyUsage.into());
        }
        check_issuer(&facts, &[bundle.trust_domain(), trust_domain])?;
        check_issuer_profile(facts.key_usage, profile)?;
        if constraints.is_some_and(|constraints| !facts.uris.iter().all(|uri| constraints.permit_uri(uri))) {
            return Err(VerifyError::NameConstraint);
        }
        not_after = not_after.min(facts.not_after);
    }
    Ok(AnchorOfPath {
        anchor: Arc::clone(anchor),
        not_after,
    })
}

/// Asks each revocation list that names a certificate of the path about the path, as if there were
/// no other.
///
/// Of the lists that cover a certificate, webpki asks the first one and no more. It has not asked
/// those here, or the path would not have come so far, unless they cover something else.
fn ask_every_list(
    path: &VerifiedPath<'_>,
    bundle: &TrustBundle,
    moment: Moment,
    usage: KeyUsage,
    algorithms: &[&dyn SignatureVerificationAlgorithm],
) -> Result<(), VerifyError> {
    let leaf = path.end_entity();
    let intermediates: Vec<_> = path.intermediate_certificates().map(|known| known.der()).collect();
    for der in std::iter::once(leaf.der()).chain(intermediates.iter().cloned()) {
        let certificate = Certificate::parse(&der).map_err(LeafError::from)?;
        let naming = bundle.revocation_lists().iter().filter(|list| list.names(&certificate));
        for list in naming {
            let alone = [list.as_webpki()];
            let found = leaf.verify_for_usage(
                algorithms,
                std::slice::from_ref(path.anchor()),
                &intermediates,
                moment.as_of,
                usage,
                // What the list does not cover was judged with all lists at hand.
                revocation(&alone, Profile::istio()),
                None,
            );
            match found {
                Ok(_) => {}
                Err(Fault::CertRevoked) => {
                    let serial = SerialNumber::of(&certificate);
                    return Err(VerifyError::Revoked { serial });
                }
                Err(fault) => return Err(VerifyError::of(&fault, bundle.trust_domain())),
            }
        }
    }
    Ok(())
}

fn unknown_issuer(trust_domain: &TrustDomain) -> VerifyError {
    VerifyError::UnknownIssuer {
        trust_domain: trust_domain.clone(),
    }
}
