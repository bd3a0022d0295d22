//! Entries for fuzzers to what peers' bytes reach first.

#[cfg(feature = "jwt")]
use rustls_pki_types::UnixTime;

#[cfg(feature = "jwt")]
use crate::jwt::{JwtBundles, JwtValidator};
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

/// Reads a text as certificates, as revocation lists and as a key.
pub fn pem(data: &[u8]) {
    let _certificates = pem::certificates(data);
    let _lists = pem::revocation_lists(data);
    let _key = pem::private_key(data);
}
