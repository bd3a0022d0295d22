//! Cryptography for mesh traffic, by the library of one's choice.
//!
//! Each function gives the TLS 1.3 suites with AES-GCM, AES-128 first, and the key exchanges that a
//! mesh needs, best first. A provider is always passed on by value; none is ever installed for the
//! whole process, so several can live side by side.

#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
use std::sync::Arc;

#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
use rustls::crypto::CryptoProvider;

/// aws-lc-rs: X25519MLKEM768, which holds against a quantum computer, then X25519.
#[cfg(feature = "aws-lc-rs")]
pub fn aws_lc_rs() -> Arc<CryptoProvider> {
    use rustls::crypto::aws_lc_rs::{cipher_suite, default_provider, kx_group};
    Arc::new(CryptoProvider {
        cipher_suites: vec![
            cipher_suite::TLS13_AES_128_GCM_SHA256,
            cipher_suite::TLS13_AES_256_GCM_SHA384,
        ],
        kx_groups: vec![kx_group::X25519MLKEM768, kx_group::X25519],
        ..default_provider()
    })
}

/// ring: X25519. It has no key exchange that holds against a quantum computer.
#[cfg(feature = "ring")]
pub fn ring() -> Arc<CryptoProvider> {
    use rustls::crypto::ring::{cipher_suite, default_provider, kx_group};
    Arc::new(CryptoProvider {
        cipher_suites: vec![
            cipher_suite::TLS13_AES_128_GCM_SHA256,
            cipher_suite::TLS13_AES_256_GCM_SHA384,
        ],
        kx_groups: vec![kx_group::X25519],
        ..default_provider()
    })
}
