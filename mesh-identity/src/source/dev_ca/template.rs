use std::{net::IpAddr, time::Duration};

use rcgen::KeyPair;
use rustls_pki_types::UnixTime;

use super::encode;
use crate::{
    der::{BOOLEAN, OBJECT_IDENTIFIER, OCTET_STRING, SEQUENCE, constructed, context, value},
    spiffe_id::SpiffeId,
    trust_domain::TrustDomain,
};

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Everything a certificate says, to be changed at will before it is signed.
///
/// The extensions that carry rules are values of their own, absent if `None`; any may be given
/// twice by way of [`more`](Self::more).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    /// The first second of validity.
    pub not_before: UnixTime,
    /// The last second of validity.
    pub not_after: UnixTime,
    /// The subject's common name. An authority without one is named after its key, because
    /// verifiers tell issuers apart by their subjects.
    pub common_name: Option<String>,
    /// The subject's organization.
    pub organization: Option<String>,
    /// The serial number, big-endian; derived from the key if `None`.
    pub serial: Option<Vec<u8>>,
    /// The kind of key that is generated.
    pub key: KeyType,
    /// SubjectAltName.
    pub names: Option<Extension>,
    /// KeyUsage.
    pub key_usage: Option<Extension>,
    /// ExtendedKeyUsage.
    pub extended_key_usage: Option<Extension>,
    /// BasicConstraints.
    pub basic_constraints: Option<Extension>,
    /// Further extensions.
    pub more: Vec<Extension>,
}

impl Template {
    /// A workload's certificate as istiod makes it: empty subject, critical SubjectAltName, both
    /// purposes, explicitly no authority; valid from two minutes before `now` for a day.
    pub fn leaf(id: &SpiffeId, now: UnixTime) -> Self {
        Self {
            not_before: before(now, Duration::from_secs(120)),
            not_after: after(now, DAY),
            common_name: None,
            organization: None,
            serial: None,
            key: KeyType::EcdsaP256,
            names: Some(Extension::names(&[Name::Uri(id.to_string())]).critical(true)),
            key_usage: Some(Extension::key_usage(
                KeyUsageBits::DIGITAL_SIGNATURE | KeyUsageBits::KEY_ENCIPHERMENT,
            )),
            extended_key_usage: Some(Extension::extended_key_usage(&[
                Extension::SERVER_AUTH,
                Extension::CLIENT_AUTH,
            ])),
            basic_constraints: Some(Extension::basic_constraints(false, None)),
            more: Vec::new(),
        }
    }

    /// An authority's certificate with the trust domain's own ID (X509-SVID §3.2); valid from an
    /// hour before `now` for ten years.
    pub fn authority(trust_domain: &TrustDomain, now: UnixTime) -> Self {
        Self {
            not_before: before(now, HOUR),
            not_after: after(now, DAY * 3650),
            common_name: None,
            organization: Some(trust_domain.to_string()),
            serial: None,
            key: KeyType::EcdsaP256,
            names: Some(Extension::names(&[Name::Uri(
                SpiffeId::from(trust_domain.clone()).to_string(),
            )])),
            key_usage: Some(Extension::key_usage(
                KeyUsageBits::KEY_CERT_SIGN | KeyUsageBits::CRL_SIGN,
            )),
            extended_key_usage: None,
            basic_constraints: Some(Extension::basic_constraints(true, None)),
            more: Vec::new(),
        }
    }

    pub(super) fn extensions(self) -> impl Iterator<Item = Extension> {
        [
            self.names,
            self.key_usage,
            self.extended_key_usage,
            self.basic_constraints,
        ]
        .into_iter()
        .flatten()
        .chain(self.more)
    }
}

/// The kind of a certificate's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KeyType {
    /// ECDSA on P-256, what meshes use.
    EcdsaP256,
    /// ECDSA on P-384.
    EcdsaP384,
    /// Ed25519.
    Ed25519,
    /// RSA with 2,048 bits, Istio's default for sidecars. Generating one takes a good part of a
    /// second.
    Rsa2048,
}

impl KeyType {
    pub(super) fn generate(self) -> Result<KeyPair, rcgen::Error> {
        KeyPair::generate_for(match self {
            Self::EcdsaP256 => &rcgen::PKCS_ECDSA_P256_SHA256,
            Self::EcdsaP384 => &rcgen::PKCS_ECDSA_P384_SHA384,
            Self::Ed25519 => &rcgen::PKCS_ED25519,
            Self::Rsa2048 => &rcgen::PKCS_RSA_SHA256,
        })
    }
}

/// One subject alternative name (RFC 5280 §4.2.1.6). The texts are not checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name {
    /// A URI: the only place where a SPIFFE ID counts.
    Uri(String),
    /// A DNS name.
    Dns(String),
    /// An email address.
    Email(String),
    /// An IP address.
    Ip(IpAddr),
    /// An otherName of this type, with a UTF-8 text.
    Other(Vec<u64>, String),
    /// A URI of any bytes.
    RawUri(Vec<u8>),
}

/// The bits of KeyUsage (RFC 5280 §4.2.1.3), to be combined with `|`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyUsageBits(u8);

impl KeyUsageBits {
    /// No bit at all.
    pub const NONE: Self = Self(0);
    /// `digitalSignature`
    pub const DIGITAL_SIGNATURE: Self = Self(0x80);
    /// `keyEncipherment`
    pub const KEY_ENCIPHERMENT: Self = Self(0x20);
    /// `keyAgreement`
    pub const KEY_AGREEMENT: Self = Self(0x08);
    /// `keyCertSign`
    pub const KEY_CERT_SIGN: Self = Self(0x04);
    /// `cRLSign`
    pub const CRL_SIGN: Self = Self(0x02);
}

impl std::ops::BitOr for KeyUsageBits {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// A certificate extension. Its value goes into the certificate as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extension {
    /// The object identifier.
    pub id: Vec<u64>,
    /// The critical flag.
    pub critical: bool,
    /// The DER that the extension's OCTET STRING holds.
    pub value: Vec<u8>,
}

impl Extension {
    /// The purpose `serverAuth`, as the contents of an object identifier.
    pub const SERVER_AUTH: &'static [u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01];
    /// The purpose `clientAuth`.
    pub const CLIENT_AUTH: &'static [u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x02];
    /// The purpose `codeSigning`.
    pub const CODE_SIGNING: &'static [u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x03];
    /// The purpose `anyExtendedKeyUsage`.
    pub const ANY_PURPOSE: &'static [u8] = &[0x55, 0x1d, 0x25, 0x00];

    /// SubjectAltName, not critical.
    pub fn names(names: &[Name]) -> Self {
        let names: Vec<u8> = names.iter().flat_map(general_name).collect();
        Self {
            id: vec![2, 5, 29, 17],
            critical: false,
            value: value(SEQUENCE, &names),
        }
    }

    /// KeyUsage, critical.
    pub fn key_usage(bits: KeyUsageBits) -> Self {
        Self {
            id: vec![2, 5, 29, 15],
            critical: true,
            value: encode::bits(bits.0),
        }
    }

    /// ExtendedKeyUsage of these purposes, not critical.
    pub fn extended_key_usage(purposes: &[&[u8]]) -> Self {
        let purposes: Vec<u8> = purposes.iter().flat_map(|id| value(OBJECT_IDENTIFIER, id)).collect();
        Self {
            id: vec![2, 5, 29, 37],
            critical: false,
            value: value(SEQUENCE, &purposes),
        }
    }

    /// BasicConstraints, critical.
    pub fn basic_constraints(authority: bool, path_length: Option<u8>) -> Self {
        let mut contents = Vec::new();
        if authority {
            contents.extend(value(BOOLEAN, &[0xff]));
        }
        if let Some(length) = path_length {
            contents.extend(encode::integer(length));
        }
        Self {
            id: vec![2, 5, 29, 19],
            critical: true,
            value: value(SEQUENCE, &contents),
        }
    }

    /// NameConstraints on the hosts of URIs, critical.
    pub fn uri_constraints(permitted: &[&str], excluded: &[&str]) -> Self {
        let subtrees = |hosts: &[&str], number| {
            let subtrees: Vec<u8> = hosts
                .iter()
                .flat_map(|host| value(SEQUENCE, &value(context(6), host.as_bytes())))
                .collect();
            if subtrees.is_empty() {
                subtrees
            } else {
                value(constructed(number), &subtrees)
            }
        };
        let contents = [subtrees(permitted, 0), subtrees(excluded, 1)].concat();
        Self {
            id: vec![2, 5, 29, 30],
            critical: true,
            value: value(SEQUENCE, &contents),
        }
    }

    pub(super) fn subject_key_identifier(identifier: &[u8]) -> Self {
        Self {
            id: vec![2, 5, 29, 14],
            critical: false,
            value: value(OCTET_STRING, identifier),
        }
    }

    /// The same extension with this critical flag.
    #[must_use]
    pub fn critical(self, critical: bool) -> Self {
        Self { critical, ..self }
    }
}

fn before(now: UnixTime, span: Duration) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(now.as_secs()).saturating_sub(span))
}

fn after(now: UnixTime, span: Duration) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(now.as_secs()).saturating_add(span))
}

fn general_name(name: &Name) -> Vec<u8> {
    match name {
        Name::Uri(uri) => value(context(6), uri.as_bytes()),
        Name::RawUri(uri) => value(context(6), uri),
        Name::Dns(name) => value(context(2), name.as_bytes()),
        Name::Email(address) => value(context(1), address.as_bytes()),
        Name::Ip(IpAddr::V4(address)) => value(context(7), &address.octets()),
        Name::Ip(IpAddr::V6(address)) => value(context(7), &address.octets()),
        Name::Other(id, text) => encode::other_name(id, text),
    }
}
