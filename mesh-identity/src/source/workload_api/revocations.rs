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
    der::{BIT_STRING, INTEGER, Malformed, Reader, SEQUENCE},
    revocation::{MAX_REVOCATION_LISTS, RevocationList, RevocationListError},
    trust_domain::TrustDomain,
};

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
        let is_signer = |bundle: &TrustBundle| {
            let own = intermediates
                .iter()
                .filter(|(trust_domain, _)| *trust_domain == bundle.trust_domain());
            let mut authorities = bundle.anchors().iter().chain(own.map(|(_, authority)| authority));
            authorities.any(|authority| signed.is_by(authority, provider))
        };
        let signers: Vec<bool> = bundles.iter().map(is_signer).collect();
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

    fn is_by(&self, authority: &TrustAnchor<'_>, provider: &CryptoProvider) -> bool {
        if !self.names(authority) {
            return false;
        }
        let mut key = Reader::new(&authority.subject_public_key_info);
        let (Ok(kind), Ok(key)) = (key.read(SEQUENCE), key.read(BIT_STRING).and_then(octets)) else {
            return false;
        };
        let fits = |algorithm: &&dyn SignatureVerificationAlgorithm| {
            *algorithm.public_key_alg_id() == *kind && *algorithm.signature_alg_id() == *self.algorithm
        };
        let algorithms = provider.signature_verification_algorithms.all;
        let mut fitting = algorithms.iter().copied().filter(fits);
        fitting.any(|algorithm| algorithm.verify_signature(key, self.message, self.signature).is_ok())
    }
}

/// The contents of a BIT STRING of whole octets.
fn octets(contents: &[u8]) -> Result<&[u8], Malformed> {
    match contents.split_first() {
        Some((0, octets)) => Ok(octets),
        _ => Err(Malformed),
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
