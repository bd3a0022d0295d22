//! Entries for fuzzers to what peers' bytes reach first.

use crate::{
    certificate::Certificate,
    leaf::{Role, check_leaf},
    pem,
};

/// Reads a certificate and applies the rules for leaves.
pub fn leaf(data: &[u8]) {
    if let Ok(certificate) = Certificate::parse(data) {
        let _id = check_leaf(&certificate, &[Role::Client, Role::Server]);
    }
}

/// Reads a text as certificates and as a key.
pub fn pem(data: &[u8]) {
    let _certificates = pem::certificates(data);
    let _key = pem::private_key(data);
}
