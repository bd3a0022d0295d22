use rustls_pki_types::{AlgorithmIdentifier, SignatureVerificationAlgorithm, alg_id};

use crate::{
    der::{INTEGER, SEQUENCE, value},
    jwk::{KeyKind, PublicKey},
};

/// The asymmetric signature algorithms (RFC 7518 §3.1, RFC 8037 §3.1). `none` is none of them, nor
/// are those with a secret: a public key must not pass for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Algorithm {
    Rs256,
    Rs384,
    Rs512,
    Es256,
    Es384,
    Es512,
    Ps256,
    Ps384,
    Ps512,
    EdDsa,
}

/// Why a signature was not found to be right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unverified {
    /// None of the given implementations is one of the algorithm.
    NotImplemented,
    BadSignature,
}

impl Algorithm {
    pub(crate) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "RS256" => Self::Rs256,
            "RS384" => Self::Rs384,
            "RS512" => Self::Rs512,
            "ES256" => Self::Es256,
            "ES384" => Self::Es384,
            "ES512" => Self::Es512,
            "PS256" => Self::Ps256,
            "PS384" => Self::Ps384,
            "PS512" => Self::Ps512,
            "EdDSA" => Self::EdDsa,
            _ => return None,
        })
    }

    /// Whether a key is of the kind that the algorithm takes.
    pub(crate) fn takes(self, key: &PublicKey) -> bool {
        key.kind() == self.parameters().0
    }

    /// Checks a signature in the form that tokens have it (RFC 7518 §3.3 to §3.5).
    pub(crate) fn verify(
        self,
        key: &PublicKey,
        message: &[u8],
        signature: &[u8],
        algorithms: &[&dyn SignatureVerificationAlgorithm],
    ) -> Result<(), Unverified> {
        let (_, key_id, signature_id) = self.parameters();
        let algorithm = algorithms
            .iter()
            .find(|algorithm| algorithm.public_key_alg_id() == key_id && algorithm.signature_alg_id() == signature_id)
            .ok_or(Unverified::NotImplemented)?;
        let converted = match self {
            Self::Es256 => Some(ecdsa(signature, 32)),
            Self::Es384 => Some(ecdsa(signature, 48)),
            Self::Es512 => Some(ecdsa(signature, 66)),
            _ => None,
        };
        let signature = match &converted {
            Some(converted) => converted.as_deref().ok_or(Unverified::BadSignature)?,
            None => signature,
        };
        algorithm
            .verify_signature(key.bits(), message, signature)
            .map_err(|_| Unverified::BadSignature)
    }

    /// The kind of key, and what X.509 calls the key and the signature.
    fn parameters(self) -> (KeyKind, AlgorithmIdentifier, AlgorithmIdentifier) {
        match self {
            Self::Rs256 => (KeyKind::Rsa, alg_id::RSA_ENCRYPTION, alg_id::RSA_PKCS1_SHA256),
            Self::Rs384 => (KeyKind::Rsa, alg_id::RSA_ENCRYPTION, alg_id::RSA_PKCS1_SHA384),
            Self::Rs512 => (KeyKind::Rsa, alg_id::RSA_ENCRYPTION, alg_id::RSA_PKCS1_SHA512),
            Self::Es256 => (KeyKind::P256, alg_id::ECDSA_P256, alg_id::ECDSA_SHA256),
            Self::Es384 => (KeyKind::P384, alg_id::ECDSA_P384, alg_id::ECDSA_SHA384),
            Self::Es512 => (KeyKind::P521, alg_id::ECDSA_P521, alg_id::ECDSA_SHA512),
            Self::Ps256 => (KeyKind::Rsa, alg_id::RSA_ENCRYPTION, alg_id::RSA_PSS_SHA256),
            Self::Ps384 => (KeyKind::Rsa, alg_id::RSA_ENCRYPTION, alg_id::RSA_PSS_SHA384),
            Self::Ps512 => (KeyKind::Rsa, alg_id::RSA_ENCRYPTION, alg_id::RSA_PSS_SHA512),
            Self::EdDsa => (KeyKind::Ed25519, alg_id::ED25519, alg_id::ED25519),
        }
    }
}

/// The two numbers of a signature as X.509 has them; in a token they stand side by side, each with
/// `size` bytes.
fn ecdsa(signature: &[u8], size: usize) -> Option<Vec<u8>> {
    if signature.len() != 2 * size {
        return None;
    }
    let (r, s) = signature.split_at_checked(size)?;
    Some(value(SEQUENCE, &[integer(r), integer(s)].concat()))
}

fn integer(number: &[u8]) -> Vec<u8> {
    let significant: Vec<u8> = number.iter().copied().skip_while(|byte| *byte == 0).collect();
    match significant.first() {
        Some(1..=0x7f) => value(INTEGER, &significant),
        _ => value(INTEGER, &[&[0], significant.as_slice()].concat()),
    }
}
