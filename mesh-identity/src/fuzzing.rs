//! Entries for fuzzers to what peers' bytes reach first.

#[cfg(feature = "jwt")]
use rustls_pki_types::UnixTime;

#[cfg(feature = "federation")]
use crate::federation::EndpointUrl;
#[cfg(feature = "jwt")]
use crate::jwt::{JwtBundles, JwtValidator};
#[cfg(feature = "dev-ca")]
use crate::source::dev_ca::CertificateRequest;
#[cfg(feature = "bundle-document")]
use crate::{
    bundle::{document::BundleDocument, map::BundleMap},
    trust_domain::TrustDomain,
};
use crate::{
    certificate::Certificate,
    leaf::{Role, check_leaf, check_leaf_profile},
    pem,
    profile::Profile,
    revocation::RevocationList,
};

/// Reads a certificate and applies the rules for leaves.
pub fn leaf(data: &[u8]) {
    if let Ok(certificate) = Certificate::parse(data) {
        let _id = check_leaf(&certificate, &[Role::Client, Role::Server]);
        let _verdict = check_leaf_profile(&certificate, Profile::spiffe());
    }
}

/// Reads a revocation list.
pub fn revocation_list(data: &[u8]) {
    let _list = RevocationList::from_der(data);
}

/// Reads a SPIFFE bundle, a bundle map, and writes what was read.
#[cfg(feature = "bundle-document")]
pub fn bundle(data: &[u8]) {
    if let Ok(trust_domain) = TrustDomain::try_from("example.org")
        && let Ok(document) = BundleDocument::parse(trust_domain, data)
    {
        let _text = document.to_json();
    }
    if let Ok(map) = BundleMap::parse(data) {
        let _text = map.to_json();
    }
}

/// Judges a token as far as that goes without keys.
#[cfg(feature = "jwt")]
pub fn jwt(data: &[u8]) {
    if let Ok(token) = std::str::from_utf8(data) {
        let now = UnixTime::since_unix_epoch(std::time::Duration::ZERO);
        let _verdict = JwtValidator::new("a").validate(token, &JwtBundles::default(), now, &[]);
    }
}

/// Reads a certificate signing request as far as that goes without algorithms to verify it with.
#[cfg(feature = "dev-ca")]
pub fn certificate_request(data: &[u8]) {
    let _request = CertificateRequest::from_der(data, &[]);
}

/// Reads a URL of a bundle endpoint, and the same text as where one leads to.
#[cfg(feature = "federation")]
pub fn endpoint_url(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(url) = text.parse::<EndpointUrl>() {
        assert_eq!(url.to_string().parse(), Ok(url));
    }
    if let Ok(base) = "https://[fd00::1]:8443/x?y".parse::<EndpointUrl>()
        && let Ok(next) = base.redirect(&text)
    {
        assert_eq!(next.to_string().parse(), Ok(next));
    }
}

/// Reads a text as certificates, as revocation lists and as a key.
pub fn pem(data: &[u8]) {
    let _certificates = pem::certificates(data);
    let _lists = pem::revocation_lists(data);
    let _key = pem::private_key(data);
}
