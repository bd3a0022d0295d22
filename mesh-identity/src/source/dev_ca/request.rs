use rcgen::{PublicKeyData, SignatureAlgorithm};
use rustls_pki_types::{SignatureVerificationAlgorithm, alg_id};
use thiserror::Error;

use crate::der::{BIT_STRING, INTEGER, Malformed, Reader, SEQUENCE, constructed, octets};

/// The largest request that is read, in bytes.
const MAX_BYTES: usize = 16 * 1024;

/// A certificate signing request (RFC 2986), of which nothing counts but the key: whoever asks does
/// not get to say who it is.
#[derive(Clone, Debug)]
pub struct CertificateRequest {
    /// The contents of the BIT STRING.
    key: Vec<u8>,
    algorithm: &'static SignatureAlgorithm,
}

impl CertificateRequest {
    /// Reads a request, and checks by its signature that whoever made it has the key.
    /// `algorithms` are those that it may be signed with.
    ///
    /// # Errors
    ///
    /// A request that is too large or malformed, whose signature is wrong or by another algorithm,
    /// or whose key is none of P-256, P-384, Ed25519 and RSA.
    pub fn from_der(
        der: &[u8],
        algorithms: &[&dyn SignatureVerificationAlgorithm],
    ) -> Result<Self, CertificateRequestError> {
        if der.len() > MAX_BYTES {
            return Err(CertificateRequestError::TooLarge { bytes: der.len() });
        }
        let parts = Parts::read(der).map_err(|Malformed| CertificateRequestError::Malformed)?;
        let algorithm = parts.generator_algorithm().ok_or(CertificateRequestError::KeyType)?;
        let mut supported = algorithms
            .iter()
            .filter(|algorithm| {
                algorithm.public_key_alg_id().as_ref() == parts.key_algorithm
                    && algorithm.signature_alg_id().as_ref() == parts.signature_algorithm
            })
            .peekable();
        if supported.peek().is_none() {
            return Err(CertificateRequestError::SignatureAlgorithm);
        }
        if !supported.any(|algorithm| {
            algorithm
                .verify_signature(parts.key, parts.signed, parts.signature)
                .is_ok()
        }) {
            return Err(CertificateRequestError::Signature);
        }
        Ok(Self {
            key: parts.key.to_vec(),
            algorithm,
        })
    }
}

impl PublicKeyData for CertificateRequest {
    fn der_bytes(&self) -> &[u8] {
        &self.key
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.algorithm
    }
}

struct Parts<'a> {
    signed: &'a [u8],
    key_algorithm: &'a [u8],
    key: &'a [u8],
    signature_algorithm: &'a [u8],
    signature: &'a [u8],
}

impl<'a> Parts<'a> {
    fn read(der: &'a [u8]) -> Result<Self, Malformed> {
        let mut file = Reader::new(der);
        let mut request = file.enter(SEQUENCE)?;
        file.end()?;
        let signed = request.whole(SEQUENCE)?;
        let signature_algorithm = request.read(SEQUENCE)?;
        let signature = octets(request.read(BIT_STRING)?)?;
        request.end()?;
        let mut info = Reader::new(signed).enter(SEQUENCE)?;
        if info.read(INTEGER)? != [0] {
            return Err(Malformed);
        }
        info.read(SEQUENCE)?;
        let mut key_info = info.enter(SEQUENCE)?;
        info.optional(constructed(0))?;
        info.end()?;
        let key_algorithm = key_info.read(SEQUENCE)?;
        let key = octets(key_info.read(BIT_STRING)?)?;
        key_info.end()?;
        Ok(Self {
            signed,
            key_algorithm,
            key,
            signature_algorithm,
            signature,
        })
    }

    fn generator_algorithm(&self) -> Option<&'static SignatureAlgorithm> {
        [
            (alg_id::ECDSA_P256, &rcgen::PKCS_ECDSA_P256_SHA256),
            (alg_id::ECDSA_P384, &rcgen::PKCS_ECDSA_P384_SHA384),
            (alg_id::ED25519, &rcgen::PKCS_ED25519),
            (alg_id::RSA_ENCRYPTION, &rcgen::PKCS_RSA_SHA256),
        ]
        .into_iter()
        .find(|(id, _)| id.as_ref() == self.key_algorithm)
        .map(|(_, algorithm)| algorithm)
    }
}

/// Why a certificate signing request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CertificateRequestError {
    /// The request is larger than any honest one.
    #[error("the certificate request has {bytes} bytes, more than {MAX_BYTES}")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// The bytes are not the DER of a request.
    #[error("the certificate request is malformed")]
    Malformed,
    /// The key is of an unsupported kind.
    #[error("the key of the certificate request is of an unsupported kind")]
    KeyType,
    /// The signature is by an algorithm that is not among the given ones.
    #[error("the certificate request is signed with an unsupported algorithm")]
    SignatureAlgorithm,
    /// The signature is wrong: whoever asks may not have the key.
    #[error("the signature of the certificate request is wrong")]
    Signature,
}

#[cfg(test)]
#[cfg(feature = "aws-lc-rs")]
mod tests {
    use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType};
    use rustls_pki_types::UnixTime;

    use super::*;
    use crate::{
        certificate::Certificate,
        source::dev_ca::{DevCa, Template},
    };

    fn request() -> Vec<u8> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let params = CertificateParams::new(["a.example".to_owned()]).unwrap();
        params.serialize_request(&key).unwrap().der().to_vec()
    }

    fn read(der: &[u8]) -> Result<CertificateRequest, CertificateRequestError> {
        let algorithms = crate::provider::aws_lc_rs().signature_verification_algorithms;
        CertificateRequest::from_der(der, algorithms.all)
    }

    #[test]
    fn a_changed_byte_anywhere_is_noticed() {
        let der = request();
        assert!(read(&der).is_ok());
        for place in 0..der.len() {
            let mut changed = der.clone();
            changed[place] ^= 1;
            assert!(read(&changed).is_err(), "byte {place}");
        }
    }

    #[test]
    fn a_certificate_has_nothing_of_its_request_but_the_key() {
        let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(1_900_000_000));
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let mut params = CertificateParams::new(["a.example".to_owned()]).unwrap();
        let wanted = SanType::URI("spiffe://td/admin".try_into().unwrap());
        params.subject_alt_names.push(wanted);
        let request = read(params.serialize_request(&key).unwrap().der()).unwrap();
        let ca = DevCa::new("td".parse().unwrap(), now).unwrap();
        let template = Template::leaf(&"spiffe://td/workload".parse().unwrap(), now);
        let chain = ca.certify(&request, template).unwrap();
        let leaf = Certificate::parse(&chain[0]).unwrap();
        assert_eq!(leaf.uris, [b"spiffe://td/workload"]);
        assert_eq!(leaf.public_key, key.subject_public_key_info());
        for text in [&b"a.example"[..], b"admin"] {
            assert!(!chain[0].windows(text.len()).any(|part| part == text));
        }
    }

    #[test]
    fn what_is_cut_or_lengthened_is_no_request() {
        let mut der = request();
        for length in 0..der.len() {
            assert_eq!(
                read(&der[..length]).unwrap_err(),
                CertificateRequestError::Malformed,
                "{length}"
            );
        }
        der.push(0);
        assert_eq!(read(&der).unwrap_err(), CertificateRequestError::Malformed);
        let bytes = MAX_BYTES + 1;
        assert_eq!(
            read(&vec![0x30; bytes]).unwrap_err(),
            CertificateRequestError::TooLarge { bytes }
        );
    }

    #[test]
    fn only_given_algorithms_count() {
        assert_eq!(
            CertificateRequest::from_der(&request(), &[]).unwrap_err(),
            CertificateRequestError::SignatureAlgorithm
        );
    }
}
