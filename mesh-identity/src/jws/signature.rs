use rustls_pki_types::SignatureVerificationAlgorithm;
use thiserror::Error;

use super::{
    algorithm::{Algorithm, Unverified},
    compact::Compact,
};
use crate::jwk::PublicKey;

/// The most keys that a signature is tried with.
pub const MAX_KEYS_TRIED: usize = 8;

/// Why no key vouches for a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SignatureError {
    /// No key has the token's key ID and is one for its algorithm.
    #[error("no key fits the token")]
    UnknownKey,
    /// More than [`MAX_KEYS_TRIED`] keys fit the token.
    #[error("more than {MAX_KEYS_TRIED} keys fit the token")]
    TooManyKeys,
    /// The given algorithms lack the one that the token is signed with.
    #[error("the token's algorithm is not supported here")]
    UnsupportedAlgorithm,
    /// The signature is wrong.
    #[error("the token's signature is wrong")]
    BadSignature,
}

impl SignatureError {
    /// A short name of the rule, fit for a metric's label. It does not change between releases.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::UnknownKey => "jwt_unknown_key",
            Self::TooManyKeys => "jwt_too_many_keys",
            Self::UnsupportedAlgorithm => "jwt_unsupported_algorithm",
            Self::BadSignature => "jwt_bad_signature",
        }
    }
}

/// Whether one of the keys, as far as the algorithm takes them, made the signature.
pub(crate) fn check_signature<'k>(
    token: &Compact<'_>,
    algorithm: Algorithm,
    keys: impl Iterator<Item = &'k PublicKey>,
    algorithms: &[&dyn SignatureVerificationAlgorithm],
) -> Result<(), SignatureError> {
    let keys: Vec<_> = keys.filter(|key| algorithm.takes(key)).collect();
    if keys.is_empty() {
        return Err(SignatureError::UnknownKey);
    }
    if keys.len() > MAX_KEYS_TRIED {
        return Err(SignatureError::TooManyKeys);
    }
    for key in keys {
        match algorithm.verify(key, token.signed, &token.signature, algorithms) {
            Ok(()) => return Ok(()),
            Err(Unverified::NotImplemented) => return Err(SignatureError::UnsupportedAlgorithm),
            Err(Unverified::BadSignature) => {}
        }
    }
    Err(SignatureError::BadSignature)
}
