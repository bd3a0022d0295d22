//! Whose revocation lists are whose.
//!
//! The Workload API sends lists without saying which trust domain they are about, and bundles keep
//! theirs apart. Names do not tell either, since the authorities of many trust domains bear the
//! same one; only a signature does.

use prost::bytes::Bytes;
use rustls::crypto::CryptoProvider;
use rustls_pki_types::{SignatureVerificationAlgorithm, TrustAnchor};

use thiserror::Error;

use crate::{
    bundle::{BundleError, TrustBundle},
    der::{BIT_STRING, INTEGER, Malformed, Reader, SEQUENCE},
    revocation::{MAX_REVOCATION_LISTS, RevocationList, RevocationListError},
    trust_domain::TrustDomain,
};

/// Gives each list to the bundles with an anchor that signed it, and a list that no anchor signed,
/// which is an intermediate authority's, to all: verification has the intermediate at hand.
///
/// A list that cannot be read refuses the message. Going without it would believe what it revokes.
pub(super) fn distribute(
    bundles: Vec<TrustBundle>,
    lists: &[Bytes],
    provider: &CryptoProvider,
) -> Result<Vec<TrustBundle>, RevocationsError> {
    if lists.len() > MAX_REVOCATION_LISTS {
        return Err(RevocationsError::TooMany);
    }
    let mut parts: Vec<Vec<RevocationList>> = vec![Vec::new(); bundles.len()];
    for (index, der) in lists.iter().enumerate() {
        let list = RevocationList::from_der(der).map_err(|fault| RevocationsError::List {
            number: index + 1,
            fault,
        })?;
        // What could be read as a list is signed data as well.
        let signed = Signed::read(der).ok();
        let is_signer = |bundle: &TrustBundle| {
            let mut anchors = bundle.anchors().iter();
            signed
                .as_ref()
                .is_some_and(|signed| anchors.any(|anchor| signed.is_by(anchor, provider)))
        };
        let signers: Vec<bool> = bundles.iter().map(is_signer).collect();
        let nobody = !signers.contains(&true);
        for (part, is_signer) in parts.iter_mut().zip(signers) {
            if is_signer || nobody {
                part.push(list.clone());
            }
        }
    }
    bundles
        .into_iter()
        .zip(parts)
        .map(|(bundle, lists)| {
            let trust_domain = bundle.trust_domain().clone();
            bundle
                .with_revocation_lists(lists)
                .map_err(|fault| RevocationsError::Bundle { trust_domain, fault })
        })
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

    fn is_by(&self, anchor: &TrustAnchor<'_>, provider: &CryptoProvider) -> bool {
        if *anchor.subject != *self.issuer {
            return false;
        }
        let mut key = Reader::new(&anchor.subject_public_key_info);
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
