//! Whose revocation lists are whose.
//!
//! The Workload API sends lists without saying which trust domain they are about, and bundles keep
//! theirs apart. Names do not tell either, since the authorities of many trust domains bear the
//! same one; only a signature does.

use std::collections::HashSet;

use prost::bytes::Bytes;
use rustls::crypto::CryptoProvider;
use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm, TrustAnchor};
use thiserror::Error;

use crate::{
    bundle::{BundleError, TrustBundle},
    der::{BIT_STRING, INTEGER, Malformed, Reader, SEQUENCE, octets},
    revocation::{MAX_REVOCATION_LISTS, RevocationList, RevocationListError},
    trust_domain::TrustDomain,
};

/// The most signatures that are checked for one message, each with the key of an authority that has the
/// name and the kind of key of a list's issuer. They take about a tenth of a second, in one go; and do
/// for four lists where 256 trust domains have one root each, all of one name.
const MAX_CANDIDATES: usize = 1024;

/// Gives each list to the bundles in which it may count; `chains` are those of one's own SVIDs.
///
/// It counts where an anchor signed it, or an intermediate of one's own chains in their trust domain.
/// An issuer that is known in one place may be an unknown intermediate in another, so that a list is
/// kept from those bundles only in which an anchor of its issuer's name did not sign it.
///
/// Of lists with one issuer's name a bundle gets those that are best known to be its own. That loses
/// nothing: verification checks a list by the key of the issuer at hand, so that whoever is under
/// another authority of that name is refused. Of equally good ones none is chosen, and the message
/// is refused.
///
/// A list that cannot be read refuses the message. Going without it would believe what it revokes.
pub(super) fn distribute<'c>(
    bundles: Vec<TrustBundle>,
    chains: impl IntoIterator<Item = (&'c TrustDomain, &'c [CertificateDer<'static>])>,
    lists: &[Bytes],
    provider: &CryptoProvider,
) -> Result<Vec<TrustBundle>, RevocationsError> {
    if lists.len() > MAX_REVOCATION_LISTS {
        return Err(RevocationsError::TooMany);
    }
    let intermediates = intermediates(chains);
    let mut candidates = 0;
    let mut parts: Vec<Vec<(Claim, RevocationList)>> = vec![Vec::new(); bundles.len()];
    for (index, der) in lists.iter().enumerate() {
        let list = RevocationList::from_der(der).map_err(|fault| RevocationsError::List {
            number: index + 1,
            fault,
        })?;
        let signed = Signed::read(der).map_err(|Malformed| RevocationsError::List {
            number: index + 1,
            fault: RevocationListError::Malformed,
        })?;
        let mut is_signer = |bundle: &TrustBundle| {
            let own = intermediates
                .iter()
                .filter(|(trust_domain, _)| *trust_domain == bundle.trust_domain());
            let authorities = bundle.anchors().iter().chain(own.map(|(_, authority)| authority));
            for check in authorities.flat_map(|authority| signed.checks(authority, provider)) {
                candidates += 1;
                if candidates > MAX_CANDIDATES {
                    return Err(RevocationsError::TooManyCandidates);
                }
                if check.holds() {
                    return Ok(true);
                }
            }
            Ok(false)
        };
        let signers: Vec<bool> = bundles.iter().map(&mut is_signer).collect::<Result<_, _>>()?;
        let is_known = signers.contains(&true);
        for ((part, bundle), is_signer) in parts.iter_mut().zip(&bundles).zip(signers) {
            let mut anchors = bundle.anchors().iter();
            let claim = match (is_signer, is_known) {
                (true, _) => Claim::Signed,
                (false, false) => Claim::Unknown,
                (false, true) if anchors.any(|anchor| signed.names(anchor)) => continue,
                (false, true) => Claim::SignedElsewhere,
            };
            part.push((claim, list.clone()));
        }
    }
    bundles
        .into_iter()
        .zip(parts)
        .map(|(bundle, claims)| {
            let trust_domain = bundle.trust_domain().clone();
            bundle
                .with_revocation_lists(best(claims))
                .map_err(|fault| RevocationsError::Bundle { trust_domain, fault })
        })
        .collect()
}

/// How well a list is known to be about a bundle's certificates, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Claim {
    Signed,
    /// No authority that is known here signed it: an intermediate's, which verification has at hand.
    Unknown,
    SignedElsewhere,
}

/// The lists without those that have a rival with a better claim. Rivals that were all signed
/// elsewhere are of different authorities, or refused where they were signed; so one of them does.
fn best(mut claims: Vec<(Claim, RevocationList)>) -> Vec<RevocationList> {
    claims.sort_by_key(|(claim, _)| *claim);
    let mut kept: Vec<(Claim, RevocationList)> = Vec::new();
    for (claim, list) in claims {
        let is_beaten = |(other, rival): &(Claim, RevocationList)| {
            rival.rivals(&list) && (*other < claim || claim == Claim::SignedElsewhere)
        };
        if !kept.iter().any(is_beaten) {
            kept.push((claim, list));
        }
    }
    kept.into_iter().map(|(_, list)| list).collect()
}

/// The intermediates of one's own chains, each with the trust domain it signs for. One that cannot be
/// read is none, for verification neither.
fn intermediates<'c>(
    chains: impl IntoIterator<Item = (&'c TrustDomain, &'c [CertificateDer<'static>])>,
) -> Vec<(&'c TrustDomain, TrustAnchor<'c>)> {
    let mut seen = HashSet::new();
    chains
        .into_iter()
        .flat_map(|(trust_domain, chain)| chain.iter().skip(1).map(move |one| (trust_domain, one)))
        .filter(|intermediate| seen.insert(*intermediate))
        .filter_map(|(trust_domain, one)| Some((trust_domain, webpki::anchor_from_trusted_cert(one).ok()?)))
        .collect()
}

/// A CertificateList as signed data (RFC 5280 §5.1).
struct Signed<'a> {
    message: &'a [u8],
    issuer: &'a [u8],
    algorithm: &'a [u8],
    signature: &'a [u8],
}

impl<'a> Signed<'a> {
    fn read(der: &'a [u8]) -> Result<Self, Malformed> {
        let mut list = Reader::new(der).enter(SEQUENCE)?;
        let message = list.whole(SEQUENCE)?;
        let algorithm = list.read(SEQUENCE)?;
        let signature = octets(list.read(BIT_STRING)?)?;
        let mut body = Reader::new(message).enter(SEQUENCE)?;
        body.optional(INTEGER)?;
        body.read(SEQUENCE)?;
        let issuer = body.read(SEQUENCE)?;
        Ok(Self {
            message,
            issuer,
            algorithm,
            signature,
        })
    }

    /// Whether the list says that it is by an authority of this name.
    fn names(&self, authority: &TrustAnchor<'_>) -> bool {
        *authority.subject == *self.issuer
    }

    /// The checks of whether this authority signed the list; none if its name or its kind of key shows
    /// that it did not.
    fn checks<'s>(
        &'s self,
        authority: &'s TrustAnchor<'_>,
        provider: &'s CryptoProvider,
    ) -> impl Iterator<Item = Check<'s>> {
        let mut info = Reader::new(&authority.subject_public_key_info);
        let parts = (info.read(SEQUENCE), info.read(BIT_STRING).and_then(octets));
        let key = match parts {
            (Ok(kind), Ok(key)) if self.names(authority) => Some((kind, key)),
            _ => None,
        };
        key.into_iter().flat_map(move |(kind, key)| {
            let algorithms = provider.signature_verification_algorithms.all.iter().copied();
            let fitting = algorithms.filter(move |algorithm| {
                *algorithm.public_key_alg_id() == *kind && *algorithm.signature_alg_id() == *self.algorithm
            });
            fitting.map(move |algorithm| Check {
                signed: self,
                key,
                algorithm,
            })
        })
    }
}

/// A signature that takes an authority's key to check.
struct Check<'s> {
    signed: &'s Signed<'s>,
    key: &'s [u8],
    algorithm: &'s dyn SignatureVerificationAlgorithm,
}

impl Check<'_> {
    fn holds(&self) -> bool {
        let Signed { message, signature, .. } = self.signed;
        self.algorithm.verify_signature(self.key, message, signature).is_ok()
    }
}

/// Why the revocation lists of a message were not taken.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RevocationsError {
    /// There are more than [`MAX_REVOCATION_LISTS`].
    #[error("the message has more than {MAX_REVOCATION_LISTS} revocation lists")]
    TooMany,
    /// A list cannot be read.
    #[error("revocation list {number}: {fault}")]
    List {
        /// Which one, counting from one.
        number: usize,
        /// What is wrong with it.
        #[source]
        fault: RevocationListError,
    },
    /// Too many authorities have the name and the kind of key of a list's issuer, so that it would take
    /// too many signatures to find out whose the lists are.
    #[error("the revocation lists may be of more than {MAX_CANDIDATES} authorities in all")]
    TooManyCandidates,
    /// The lists of a trust domain do not go together.
    #[error("the bundle of `{trust_domain}`: {fault}")]
    Bundle {
        /// The trust domain.
        trust_domain: TrustDomain,
        /// Why not.
        #[source]
        fault: BundleError,
    },
}
