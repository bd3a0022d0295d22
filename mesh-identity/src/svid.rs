use std::{fmt, sync::Arc};

use rustls::{CertificateError, InconsistentKeys, crypto::CryptoProvider, sign::CertifiedKey};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use thiserror::Error;

use crate::{
    certificate::Certificate,
    date::Rfc3339,
    leaf::{LeafError, Role, check_leaf},
    pem::{self, PemError},
    spiffe_id::SpiffeId,
    verify::{MAX_CERTIFICATE_BYTES, MAX_CHAIN_CERTIFICATES},
};

/// One's own identity: an X509-SVID with its private key.
///
/// That the key belongs to the certificate and that the certificate keeps the rules for leaves is
/// checked when it is made. The key sits inside the provider's signer; nothing here gives it back
/// or prints it.
pub struct Svid {
    id: SpiffeId,
    not_before: UnixTime,
    not_after: UnixTime,
    certified: Arc<CertifiedKey>,
}

impl Svid {
    /// An identity of a chain, the leaf first, and the leaf's private key, to be used at `now`.
    ///
    /// # Errors
    ///
    /// A chain that is empty, too large or breaks a rule for leaves, that is not valid at `now`,
    /// or whose leaf's key is another one; a key that `provider` cannot use. An ExtendedKeyUsage
    /// has to name both `clientAuth` and `serverAuth` (X509-SVID §4.4).
    pub fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        provider: &CryptoProvider,
        now: UnixTime,
    ) -> Result<Self, SvidError> {
        let leaf = chain.first().ok_or(SvidError::EmptyChain)?;
        if chain.len() > MAX_CHAIN_CERTIFICATES {
            return Err(SvidError::ChainTooLong {
                certificates: chain.len(),
            });
        }
        if chain
            .iter()
            .any(|certificate| certificate.len() > MAX_CERTIFICATE_BYTES)
        {
            return Err(SvidError::CertificateTooLarge);
        }
        let facts = Certificate::parse(leaf).map_err(LeafError::from)?;
        let id = check_leaf(&facts, &[Role::Client, Role::Server])?;
        let (not_before, not_after) = (facts.not_before, facts.not_after);
        if now < not_before {
            return Err(SvidError::NotYetValid { not_before });
        }
        if now > not_after {
            return Err(SvidError::Expired { not_after });
        }
        let key = provider
            .key_provider
            .load_private_key(key)
            .map_err(|_| SvidError::UnusableKey)?;
        let certified = CertifiedKey::new(chain, key);
        match certified.keys_match() {
            Ok(()) => {}
            Err(rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
                return Err(SvidError::KeyMismatch);
            }
            Err(rustls::Error::InvalidCertificate(CertificateError::UnhandledCriticalExtension)) => {
                return Err(SvidError::CriticalExtension);
            }
            Err(rustls::Error::InvalidCertificate(_)) => return Err(LeafError::Malformed.into()),
            // A signer that does not tell its public key proves nothing.
            Err(_) => return Err(SvidError::UnusableKey),
        }
        Ok(Self {
            id,
            not_before,
            not_after,
            certified: Arc::new(certified),
        })
    }

    /// An identity of two PEM texts: the chain, and its leaf's key.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new), [`pem::certificates`] and [`pem::private_key`].
    pub fn from_pem(chain: &[u8], key: &[u8], provider: &CryptoProvider, now: UnixTime) -> Result<Self, SvidError> {
        let chain = pem::certificates(chain).map_err(SvidError::ChainPem)?;
        let key = pem::private_key(key).map_err(SvidError::KeyPem)?;
        Self::new(chain, key, provider, now)
    }

    /// Who this is.
    pub fn id(&self) -> &SpiffeId {
        &self.id
    }

    /// The chain that is presented to peers, the leaf first.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.certified.cert
    }

    /// The first second in which the leaf is valid.
    pub fn not_before(&self) -> UnixTime {
        self.not_before
    }

    /// The last second in which the leaf is valid.
    pub fn not_after(&self) -> UnixTime {
        self.not_after
    }

    pub(crate) fn certified(&self) -> &Arc<CertifiedKey> {
        &self.certified
    }
}

impl fmt::Debug for Svid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Svid")
            .field("id", &self.id)
            .field("not_before", &format_args!("{}", Rfc3339(self.not_before)))
            .field("not_after", &format_args!("{}", Rfc3339(self.not_after)))
            .finish_non_exhaustive()
    }
}

/// Why a chain and a key do not make an [`Svid`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SvidError {
    /// The text of the chain holds no usable certificates.
    #[error(transparent)]
    ChainPem(PemError),
    /// The text of the key holds no usable key.
    #[error(transparent)]
    KeyPem(PemError),
    /// There is no certificate.
    #[error("the certificate chain is empty")]
    EmptyChain,
    /// There are more than [`MAX_CHAIN_CERTIFICATES`], which no peer would accept.
    #[error("the chain has {certificates} certificates, more than {MAX_CHAIN_CERTIFICATES}")]
    ChainTooLong {
        /// How many there are.
        certificates: usize,
    },
    /// A certificate has more than [`MAX_CERTIFICATE_BYTES`], which no peer would accept.
    #[error("a certificate has more than {MAX_CERTIFICATE_BYTES} bytes")]
    CertificateTooLarge,
    /// The leaf breaks a rule.
    #[error(transparent)]
    Leaf(#[from] LeafError),
    /// The leaf has a critical extension that peers would not know.
    #[error("the certificate has an unknown critical extension")]
    CriticalExtension,
    /// The leaf is past its time.
    #[error("the certificate expired at {}", Rfc3339(*not_after))]
    Expired {
        /// The last second of its validity.
        not_after: UnixTime,
    },
    /// The leaf is ahead of its time.
    #[error("the certificate is not valid before {}", Rfc3339(*not_before))]
    NotYetValid {
        /// The first second of its validity.
        not_before: UnixTime,
    },
    /// The provider cannot sign with the key: it is malformed, or of an unsupported kind.
    #[error("the private key is malformed or of an unsupported kind")]
    UnusableKey,
    /// The key is not the one that the leaf was issued for.
    #[error("the key does not match the certificate")]
    KeyMismatch,
}

impl SvidError {
    /// Whether the key is what is wrong, rather than the chain.
    pub fn concerns_key(&self) -> bool {
        matches!(self, Self::KeyPem(_) | Self::UnusableKey | Self::KeyMismatch)
    }
}
