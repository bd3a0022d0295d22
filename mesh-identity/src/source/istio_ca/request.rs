use pem::{EncodeConfig, LineEnding, Pem};
use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256, SanType};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::spiffe_id::SpiffeId;

/// A new key, and the request for a certificate of it.
pub(super) struct Request {
    key: KeyPair,
    pub(super) pem: String,
}

impl Request {
    /// A P-256 key, and a request that names `id`, though authorities go by the caller.
    pub(super) fn new(id: &SpiffeId) -> Result<Self, rcgen::Error> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = vec![SanType::URI(id.to_string().try_into()?)];
        let request = params.serialize_request(&key)?;
        let config = EncodeConfig::new().set_line_ending(LineEnding::LF);
        let pem = pem::encode_config(&Pem::new("CERTIFICATE REQUEST", request.der().as_ref()), config);
        Ok(Self { key, pem })
    }

    /// The key as PKCS#8.
    pub(super) fn into_key(self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.serialize_der()).into()
    }
}
