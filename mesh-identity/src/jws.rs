//! Signed tokens of any kind: JSON Web Signatures (RFC 7515) and the key sets that verify them
//! (RFC 7517). What a token has to say is its reader's matter; [`jwt`](crate::jwt) reads JWT-SVIDs.
//!
//! Only asymmetric algorithms are known: RS, PS and ES with 256, 384 and 512 bits, and EdDSA with
//! Ed25519. Which key verifies is said by the key set alone; keys and addresses of keys in a token's
//! header are ignored.

mod algorithm;
mod compact;
mod key_set;
mod signature;

use rustls_pki_types::SignatureVerificationAlgorithm;

pub(crate) use self::{algorithm::Algorithm, compact::Compact, signature::check_signature};
pub use self::{
    compact::{JwsError, MAX_TOKEN_BYTES},
    key_set::{KeySet, KeySetError, MAX_KEY_SET_BYTES, MAX_KEY_SET_KEYS},
    signature::{MAX_KEYS_TRIED, SignatureError},
};
pub use crate::json::{Json, JsonError, Object};

/// A well-formed token. Nothing that it says may be believed before [`verify`](Self::verify) has
/// found its signature right.
pub struct Jws<'t> {
    pub(crate) compact: Compact<'t>,
    pub(crate) algorithm: Algorithm,
    pub(crate) key_id: Option<String>,
}

impl<'t> Jws<'t> {
    /// Reads the compact serialisation: three parts in base64url without padding, and nothing
    /// before, between or behind them.
    ///
    /// # Errors
    ///
    /// A token that is too large or malformed, whose algorithm is not known here, or whose header
    /// has extensions that a reader must understand (`crit`, RFC 7515 §4.1.11).
    pub fn parse(text: &'t str) -> Result<Self, JwsError> {
        let compact = Compact::parse(text)?;
        let header = &compact.header;
        if header.contains_key("crit") {
            return Err(JwsError::Critical);
        }
        let algorithm = header
            .get("alg")
            .and_then(Json::as_text)
            .and_then(Algorithm::named)
            .ok_or(JwsError::Algorithm)?;
        let key_id = match header.get("kid") {
            None => None,
            Some(Json::Text(key_id)) => Some(key_id.clone()),
            Some(_) => return Err(JwsError::KeyId),
        };
        Ok(Self {
            compact,
            algorithm,
            key_id,
        })
    }

    /// What is signed.
    pub fn payload(&self) -> &[u8] {
        &self.compact.payload
    }

    /// What is signed, as it stands in the token: in base64url without padding.
    pub fn encoded_payload(&self) -> &'t str {
        self.compact.encoded_payload
    }

    /// Whether one of the keys made the signature. A key is tried if its ID is the token's or one of
    /// both has none or an empty one, and if it is one for the token's algorithm. `algorithms` implement the
    /// signatures, as a provider's `signature_verification_algorithms.all` does.
    ///
    /// # Errors
    ///
    /// No fitting key, too many of them, none whose signature it is, or an algorithm that is not
    /// among `algorithms`.
    pub fn verify(
        &self,
        keys: &KeySet,
        algorithms: &[&dyn SignatureVerificationAlgorithm],
    ) -> Result<(), SignatureError> {
        let key_id = self.key_id.as_deref().filter(|key_id| !key_id.is_empty());
        let candidates = keys.candidates(key_id, self.algorithm);
        check_signature(&self.compact, self.algorithm, candidates, algorithms)
    }
}
