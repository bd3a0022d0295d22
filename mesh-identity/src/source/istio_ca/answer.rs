//! What an authority's answer must be before anybody sees it.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use thiserror::Error;

use crate::{
    bundle::{BundleError, TrustBundle, TrustBundles},
    leaf::Role,
    pem::{self, PemError},
    profile::Profile,
    spiffe_id::SpiffeId,
    svid::{Svid, SvidError},
    verify::{MAX_CHAIN_CERTIFICATES, VerifyError, verify_under},
};

/// The most elements of an answer: a chain, one certificate each, and the roots.
const MAX_ELEMENTS: usize = MAX_CHAIN_CERTIFICATES + 1;

/// An answer that has been checked.
pub(super) struct Issued {
    pub(super) svid: Arc<Svid>,
    /// Those that came with the certificate.
    pub(super) roots: Vec<CertificateDer<'static>>,
}

/// What an answer is held against.
pub(super) struct Expected<'a> {
    pub(super) id: &'a SpiffeId,
    /// The roots to believe; if there are none, those in the answer.
    pub(super) roots: Option<&'a TrustBundles>,
    pub(super) profile: Profile,
    pub(super) provider: &'a CryptoProvider,
    pub(super) now: UnixTime,
}

impl Expected<'_> {
    /// Reads the PEM texts of an answer: the leaf and its intermediates, and last the roots, of
    /// which there may be several in one text.
    ///
    /// The leaf has to be for the identity that was asked for and for the key that was generated,
    /// and its chain has to lead to the roots, for use as client and as server.
    pub(super) fn check(&self, elements: &[String], key: PrivateKeyDer<'static>) -> Result<Issued, AnswerError> {
        let (last, chain_texts) = match elements.split_last() {
            Some((last, chain)) if !chain.is_empty() => (last, chain),
            _ => {
                return Err(AnswerError::NoRoot {
                    elements: elements.len(),
                });
            }
        };
        if elements.len() > MAX_ELEMENTS {
            return Err(AnswerError::TooManyElements {
                elements: elements.len(),
            });
        }
        let mut chain = Vec::new();
        for (index, text) in chain_texts.iter().enumerate() {
            chain.extend(certificates(text, index + 1)?);
        }
        let roots = certificates(last, elements.len())?;
        let svid = Svid::new(chain, key, self.provider, self.now)?;
        if svid.id() != self.id {
            return Err(AnswerError::WrongIdentity {
                answered: svid.id().clone(),
            });
        }
        let theirs;
        let trust = match self.roots {
            Some(ours) => ours,
            None => {
                let bundle = TrustBundle::new(self.id.trust_domain().clone(), roots.iter().cloned())?;
                theirs = TrustBundles::from(bundle);
                &theirs
            }
        };
        let algorithms = self.provider.signature_verification_algorithms.all;
        for role in [Role::Client, Role::Server] {
            verify_under(self.profile, svid.chain(), role, trust, self.now, algorithms)?;
        }
        Ok(Issued {
            svid: Arc::new(svid),
            roots,
        })
    }
}

fn certificates(text: &str, element: usize) -> Result<Vec<CertificateDer<'static>>, AnswerError> {
    pem::certificates(text.as_bytes()).map_err(|fault| AnswerError::Pem { element, fault })
}

/// Why an authority's answer is not used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AnswerError {
    /// There are not two elements, a leaf and a root.
    #[error("the answer has {elements} elements, and a certificate and its root take two")]
    NoRoot {
        /// How many there are.
        elements: usize,
    },
    /// There are more elements than a chain and its roots can take.
    #[error("the answer has {elements} elements, more than {MAX_ELEMENTS}")]
    TooManyElements {
        /// How many there are.
        elements: usize,
    },
    /// An element is not the PEM text of certificates.
    #[error("element {element} of the answer: {fault}")]
    Pem {
        /// Which element, counting from one.
        element: usize,
        /// What is wrong with it.
        #[source]
        fault: PemError,
    },
    /// The certificate and the key that was generated for it make no identity.
    #[error(transparent)]
    Svid(#[from] SvidError),
    /// The certificate is for somebody else.
    #[error("the answer is a certificate for `{answered}`")]
    WrongIdentity {
        /// For whom.
        answered: SpiffeId,
    },
    /// The roots make no bundle.
    #[error(transparent)]
    Roots(#[from] BundleError),
    /// The chain does not lead to the roots, or breaks a rule.
    #[error(transparent)]
    Verify(#[from] VerifyError),
}
