use std::fmt;

use thiserror::Error;

use super::algorithm::Algorithm;
use crate::{
    json::{Json, JsonError, Object},
    jwk::PublicKey,
};

/// The largest key set that is read, in bytes.
pub const MAX_KEY_SET_BYTES: usize = 1 << 20;
/// The most elements of `keys`.
pub const MAX_KEY_SET_KEYS: usize = 512;

/// The public keys of an issuer of tokens: a JSON Web Key Set (RFC 7517 §5).
///
/// ```
/// use mesh_identity::jws::{KeySet, KeySetError};
///
/// let text = br#"{"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}"#;
/// assert_eq!(KeySet::parse(text), Err(KeySetError::NoUsableKey));
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct KeySet {
    keys: Vec<SetKey>,
}

#[derive(Clone, PartialEq, Eq)]
struct SetKey {
    key: PublicKey,
    key_id: Option<String>,
    /// The only algorithm that the key may be used with, if the set says so.
    algorithm: Option<Algorithm>,
}

impl KeySet {
    /// Reads a key set.
    ///
    /// Elements that verify no token are passed over (RFC 7517 §5): those of other kinds than RSA
    /// with 2,048 to 8,192 bits, P-256, P-384, P-521 and Ed25519, those for another use than
    /// signatures or for an algorithm that does not take the key, and malformed ones. Secret keys
    /// (`oct`) are among them, so that nothing is believed for having been signed with a secret.
    ///
    /// # Errors
    ///
    /// A text that is too large, is no JSON object, has a name twice in an object or has no `keys`,
    /// or of whose keys none verifies tokens.
    pub fn parse(text: &[u8]) -> Result<Self, KeySetError> {
        if text.len() > MAX_KEY_SET_BYTES {
            return Err(KeySetError::TooLarge { bytes: text.len() });
        }
        let set = Json::parse(text)?;
        let keys = set
            .as_object()
            .and_then(|set| set.get("keys"))
            .and_then(Json::as_list)
            .ok_or(KeySetError::NoKeys)?;
        if keys.len() > MAX_KEY_SET_KEYS {
            return Err(KeySetError::TooManyKeys);
        }
        let keys: Vec<_> = keys.iter().filter_map(|key| SetKey::read(key.as_object()?)).collect();
        if keys.is_empty() {
            return Err(KeySetError::NoUsableKey);
        }
        Ok(Self { keys })
    }

    /// The keys that a token with this key ID and algorithm may be signed with. A key without ID
    /// goes with every token, and a token without one with every key.
    pub(super) fn candidates(&self, key_id: Option<&str>, algorithm: Algorithm) -> impl Iterator<Item = &PublicKey> {
        let named = move |key: &&SetKey| match (key_id, &key.key_id) {
            (Some(wanted), Some(key_id)) => key_id == wanted,
            _ => true,
        };
        let permits = move |key: &&SetKey| key.algorithm.is_none_or(|only| only == algorithm);
        self.keys.iter().filter(named).filter(permits).map(|key| &key.key)
    }
}

impl SetKey {
    fn read(jwk: &Object) -> Option<Self> {
        let text = |name| match jwk.get(name) {
            None => Some(None),
            Some(Json::Text(text)) => Some(Some(text.as_str()).filter(|text| !text.is_empty())),
            Some(_) => None,
        };
        let (usage, key_id, algorithm) = (text("use")?, text("kid")?, text("alg")?);
        let verifies = match jwk.get("key_ops") {
            None => true,
            Some(operations) => operations
                .as_list()?
                .iter()
                .any(|operation| operation.as_text() == Some("verify")),
        };
        if !verifies || usage.is_some_and(|usage| usage != "sig") {
            return None;
        }
        let key = PublicKey::from_jwk(jwk).ok().filter(PublicKey::has_fit_size)?;
        let algorithm = match algorithm {
            None => None,
            Some(name) => Some(Algorithm::named(name).filter(|algorithm| algorithm.takes(&key))?),
        };
        Some(Self {
            key,
            key_id: key_id.map(str::to_owned),
            algorithm,
        })
    }
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeySet({} keys)", self.keys.len())
    }
}

/// Why a text holds no keys to verify tokens with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum KeySetError {
    /// The text is longer than [`MAX_KEY_SET_BYTES`].
    #[error("the key set has {bytes} bytes, more than {MAX_KEY_SET_BYTES}")]
    TooLarge {
        /// Its length.
        bytes: usize,
    },
    /// The text is not JSON, or has a name twice.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// The text is no JSON object with a list of `keys`.
    #[error("the key set has no list of keys")]
    NoKeys,
    /// The set has more than [`MAX_KEY_SET_KEYS`].
    #[error("the key set has more than {MAX_KEY_SET_KEYS} keys")]
    TooManyKeys,
    /// None of the keys verifies tokens.
    #[error("the key set has no key that tokens can be verified with")]
    NoUsableKey,
}
