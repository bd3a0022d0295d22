//! What X509-SVID asks of a certificate that identifies a workload, and of one that signs others.

use thiserror::Error;

use crate::{
    certificate::{Certificate, KeyUsage, MAX_NAMES, Purposes, Unreadable},
    profile::{Profile, ProfileRule},
    spiffe_id::{SpiffeId, SpiffeIdError},
    trust_domain::TrustDomain,
};

/// What a certificate is presented for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// The peer opened the connection: it is a TLS client.
    Client,
    /// The peer accepted the connection: it is a TLS server.
    Server,
}

/// The leaf rules of X509-SVID §2 to §4 that need no signature and no clock.
///
/// An ExtendedKeyUsage that is present has to name every role in `roles`. The rules that a profile
/// may relax are left to [`check_leaf_profile`].
pub(crate) fn check_leaf(leaf: &Certificate<'_>, roles: &[Role]) -> Result<SpiffeId, LeafError> {
    let id = leaf_id(leaf)?;
    if leaf.is_authority {
        return Err(LeafError::Authority);
    }
    let usage = leaf.key_usage.ok_or(LeafError::NoKeyUsage)?;
    if !usage.digital_signature() {
        return Err(LeafError::NoDigitalSignature);
    }
    if usage.key_cert_sign() {
        return Err(LeafError::SignsCertificates);
    }
    if usage.crl_sign() {
        return Err(LeafError::SignsRevocations);
    }
    if let Some(purposes) = leaf.purposes {
        for &role in roles {
            check_purpose(purposes, role)?;
        }
    }
    Ok(id)
}

/// The rules for leaves that `profile` does not relax, on top of [`check_leaf`].
pub(crate) fn check_leaf_profile(leaf: &Certificate<'_>, profile: Profile) -> Result<(), LeafError> {
    if leaf.subject_is_empty && !leaf.names_are_critical && profile.enforces(ProfileRule::CriticalNames) {
        return Err(LeafError::NamesNotCritical);
    }
    if !leaf.has_constraints && profile.enforces(ProfileRule::LeafConstraints) {
        return Err(LeafError::NoBasicConstraints);
    }
    let critical = leaf.key_usage.is_some_and(|usage| usage.critical);
    if !critical && profile.enforces(ProfileRule::CriticalKeyUsage) {
        return Err(LeafError::KeyUsageNotCritical);
    }
    if let Some(purposes) = leaf.purposes
        && profile.enforces(ProfileRule::BothPurposes)
    {
        check_purpose(purposes, Role::Client)?;
        check_purpose(purposes, Role::Server)?;
    }
    Ok(())
}

/// The rules for a certificate that signs others on behalf of the first of `trust_domains`, at
/// whichever place of the path. An issuer needs no SPIFFE ID, but one that it has must be one of
/// the trust domains' own. KeyUsage may be absent as far as this goes: common tools make roots
/// without it, and a root is trusted by configuration.
pub(crate) fn check_issuer(issuer: &Certificate<'_>, trust_domains: &[&TrustDomain]) -> Result<(), IssuerError> {
    if !issuer.is_authority {
        return Err(IssuerError::NotAuthority);
    }
    if issuer.key_usage.is_some_and(|usage| !usage.key_cert_sign()) {
        return Err(IssuerError::NoCertificateSigning);
    }
    for uri in &issuer.uris {
        // Other schemes are no claim to a SPIFFE identity, so they are not for these rules.
        if !has_spiffe_scheme(uri) {
            continue;
        }
        let id = parse_id(uri).map_err(IssuerError::InvalidSpiffeId)?;
        if !id.path().is_empty() {
            return Err(IssuerError::WorkloadId);
        }
        if !trust_domains.contains(&id.trust_domain()) {
            return Err(IssuerError::ForeignTrustDomain {
                trust_domain: id.trust_domain().clone(),
            });
        }
    }
    Ok(())
}

/// The rules about an issuer's KeyUsage that `profile` does not relax, on top of [`check_issuer`].
pub(crate) fn check_issuer_profile(usage: Option<KeyUsage>, profile: Profile) -> Result<(), IssuerError> {
    match usage {
        None if profile.enforces(ProfileRule::AnchorKeyUsage) => Err(IssuerError::NoKeyUsage),
        Some(usage) if !usage.critical && profile.enforces(ProfileRule::CriticalKeyUsage) => {
            Err(IssuerError::KeyUsageNotCritical)
        }
        _ => Ok(()),
    }
}

fn leaf_id(leaf: &Certificate<'_>) -> Result<SpiffeId, LeafError> {
    let uri = match leaf.uris.as_slice() {
        [uri] => uri,
        [] => return Err(LeafError::NoUriName),
        several => return Err(LeafError::SeveralUriNames { count: several.len() }),
    };
    let id = parse_id(uri).map_err(LeafError::InvalidSpiffeId)?;
    if id.path().is_empty() {
        return Err(LeafError::RootPath);
    }
    Ok(id)
}

fn check_purpose(purposes: Purposes, role: Role) -> Result<(), LeafError> {
    let named = match role {
        Role::Client => purposes.client_auth,
        Role::Server => purposes.server_auth,
    };
    if named {
        Ok(())
    } else {
        Err(LeafError::Purpose { missing: role })
    }
}

fn parse_id(uri: &[u8]) -> Result<SpiffeId, SpiffeIdError> {
    std::str::from_utf8(uri).map_err(|_| SpiffeIdError::Character)?.parse()
}

fn has_spiffe_scheme(uri: &[u8]) -> bool {
    uri.split(|&b| b == b':')
        .next()
        .is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"spiffe"))
}

/// Which rule of X509-SVID a workload's certificate breaks.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum LeafError {
    /// The bytes are not the DER of a version 3 certificate, or an extension occurs twice.
    #[error("the certificate is not valid DER of an X.509 version 3 certificate")]
    Malformed,
    /// The certificate has more names than any in use, and they were not read.
    #[error("the certificate has more than {MAX_NAMES} subject alternative names")]
    TooManyNames,
    /// There is no URI name, so there is no SPIFFE ID (X509-SVID §2).
    #[error("the certificate has no URI name")]
    NoUriName,
    /// There are several URI names, of whatever scheme (X509-SVID §2).
    #[error("the certificate has {count} URI names, not one")]
    SeveralUriNames {
        /// How many there are.
        count: usize,
    },
    /// The URI name is not a SPIFFE ID (X509-SVID §2).
    #[error("the URI name of the certificate is no spiffe id: {0}")]
    InvalidSpiffeId(#[source] SpiffeIdError),
    /// The SPIFFE ID has no path: it names a trust domain, not a workload (X509-SVID §3.1).
    #[error("the spiffe id of the certificate has no path")]
    RootPath,
    /// The certificate belongs to a certificate authority (X509-SVID §4.1).
    #[error("the certificate belongs to a certificate authority")]
    Authority,
    /// KeyUsage is missing (X509-SVID §4.3).
    #[error("the certificate has no key usage")]
    NoKeyUsage,
    /// KeyUsage lacks `digitalSignature` (X509-SVID §4.3).
    #[error("the key usage lacks digitalSignature")]
    NoDigitalSignature,
    /// KeyUsage has `keyCertSign` (X509-SVID §4.3).
    #[error("the key usage has keyCertSign")]
    SignsCertificates,
    /// KeyUsage has `cRLSign` (X509-SVID §4.3).
    #[error("the key usage has cRLSign")]
    SignsRevocations,
    /// KeyUsage is not critical (X509-SVID §4.3), which [`ProfileRule::CriticalKeyUsage`] asks for.
    #[error("the key usage is not critical")]
    KeyUsageNotCritical,
    /// The subject is empty and SubjectAltName is not critical (RFC 5280 §4.2.1.6), which
    /// [`ProfileRule::CriticalNames`] asks for.
    #[error("the subject is empty and the subject alternative names are not critical")]
    NamesNotCritical,
    /// BasicConstraints are missing (X509-SVID §4.1), which [`ProfileRule::LeafConstraints`] asks
    /// for.
    #[error("the certificate has no basic constraints")]
    NoBasicConstraints,
    /// ExtendedKeyUsage is present and lacks the use that is made of the certificate
    /// (X509-SVID §4.4), or one of the two under [`ProfileRule::BothPurposes`].
    #[error("the extended key usage lacks {}", purpose_name(*missing))]
    Purpose {
        /// The role whose purpose is missing.
        missing: Role,
    },
}

impl LeafError {
    /// A short name of the rule, fit for a metric's label. It does not change between releases.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Malformed => "leaf_malformed",
            Self::TooManyNames => "leaf_too_many_names",
            Self::NoUriName => "leaf_no_uri_name",
            Self::SeveralUriNames { .. } => "leaf_several_uri_names",
            Self::InvalidSpiffeId(_) => "leaf_invalid_spiffe_id",
            Self::RootPath => "leaf_root_path",
            Self::Authority => "leaf_is_authority",
            Self::NoKeyUsage => "leaf_no_key_usage",
            Self::NoDigitalSignature => "leaf_no_digital_signature",
            Self::SignsCertificates => "leaf_key_cert_sign",
            Self::SignsRevocations => "leaf_crl_sign",
            Self::KeyUsageNotCritical => "leaf_key_usage_not_critical",
            Self::NamesNotCritical => "leaf_names_not_critical",
            Self::NoBasicConstraints => "leaf_no_basic_constraints",
            Self::Purpose { .. } => "leaf_purpose",
        }
    }
}

impl From<Unreadable> for LeafError {
    fn from(unreadable: Unreadable) -> Self {
        match unreadable {
            Unreadable::Malformed => Self::Malformed,
            Unreadable::TooManyNames => Self::TooManyNames,
        }
    }
}

/// Which rule of X509-SVID a signing certificate breaks.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum IssuerError {
    /// The bytes are not the DER of a version 3 certificate, or an extension occurs twice.
    #[error("the issuer's certificate is not valid DER of an X.509 version 3 certificate")]
    Malformed,
    /// The certificate has more names than any in use, and they were not read.
    #[error("the issuer's certificate has more than {MAX_NAMES} subject alternative names")]
    TooManyNames,
    /// BasicConstraints do not say that this is an authority (X509-SVID §4.1).
    #[error("the issuer's certificate is not a certificate authority's")]
    NotAuthority,
    /// KeyUsage is missing from an intermediate (X509-SVID §4.3), or from an anchor under
    /// [`ProfileRule::AnchorKeyUsage`].
    #[error("the issuer's certificate has no key usage")]
    NoKeyUsage,
    /// KeyUsage lacks `keyCertSign` (X509-SVID §4.3).
    #[error("the issuer's key usage lacks keyCertSign")]
    NoCertificateSigning,
    /// KeyUsage is not critical (X509-SVID §4.3), which [`ProfileRule::CriticalKeyUsage`] asks for.
    #[error("the issuer's key usage is not critical")]
    KeyUsageNotCritical,
    /// A URI name claims the scheme `spiffe` and is no SPIFFE ID (X509-SVID §2).
    #[error("a URI name of the issuer is no spiffe id: {0}")]
    InvalidSpiffeId(#[source] SpiffeIdError),
    /// The SPIFFE ID has a path, so the certificate is a workload's (X509-SVID §3.2).
    #[error("the spiffe id of the issuer has a path")]
    WorkloadId,
    /// The SPIFFE ID is of another trust domain than the certificates it signs (X509-SVID §3.2).
    #[error("the issuer belongs to trust domain `{trust_domain}`")]
    ForeignTrustDomain {
        /// The issuer's trust domain.
        trust_domain: TrustDomain,
    },
}

impl IssuerError {
    /// A short name of the rule, fit for a metric's label. It does not change between releases.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Malformed => "issuer_malformed",
            Self::TooManyNames => "issuer_too_many_names",
            Self::NotAuthority => "issuer_not_authority",
            Self::NoKeyUsage => "issuer_no_key_usage",
            Self::NoCertificateSigning => "issuer_no_key_cert_sign",
            Self::KeyUsageNotCritical => "issuer_key_usage_not_critical",
            Self::InvalidSpiffeId(_) => "issuer_invalid_spiffe_id",
            Self::WorkloadId => "issuer_workload_id",
            Self::ForeignTrustDomain { .. } => "issuer_foreign_trust_domain",
        }
    }
}

impl From<Unreadable> for IssuerError {
    fn from(unreadable: Unreadable) -> Self {
        match unreadable {
            Unreadable::Malformed => Self::Malformed,
            Unreadable::TooManyNames => Self::TooManyNames,
        }
    }
}

fn purpose_name(role: Role) -> &'static str {
    match role {
        Role::Client => "clientAuth",
        Role::Server => "serverAuth",
    }
}
