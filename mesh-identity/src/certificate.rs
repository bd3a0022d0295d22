//! What SPIFFE's rules need to know of an X.509 certificate, read from the bytes that get verified.
//!
//! rustls-webpki validates paths but exposes none of these fields, and passes over KeyUsage.

use rustls_pki_types::UnixTime;

use crate::{
    date,
    der::{
        BIT_STRING, BOOLEAN, INTEGER, Malformed, OBJECT_IDENTIFIER, OCTET_STRING, Reader, SEQUENCE, bits, boolean,
        constructed, context,
    },
};

/// The most subject alternative names that are read. Certificates in use have one to a dozen.
pub(crate) const MAX_NAMES: usize = 64;

const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];
const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x13];
const KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x0f];
const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25];
const SERVER_AUTH: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01];
const CLIENT_AUTH: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x02];

/// The fields of one version 3 certificate (RFC 5280 §4.1).
pub(crate) struct Certificate<'a> {
    /// The contents of the serial number's INTEGER.
    pub(crate) serial: &'a [u8],
    /// The contents of the issuer's Name.
    pub(crate) issuer: &'a [u8],
    pub(crate) not_before: UnixTime,
    pub(crate) not_after: UnixTime,
    /// Whether the subject's Name is an empty SEQUENCE.
    pub(crate) subject_is_empty: bool,
    /// The whole SubjectPublicKeyInfo.
    pub(crate) public_key: &'a [u8],
    /// The URI names, in order and unchecked.
    pub(crate) uris: Vec<&'a [u8]>,
    /// The critical flag of SubjectAltName.
    pub(crate) names_are_critical: bool,
    /// Whether there are BasicConstraints.
    pub(crate) has_constraints: bool,
    /// `cA` of BasicConstraints; absent means false (RFC 5280 §4.2.1.9).
    pub(crate) is_authority: bool,
    pub(crate) key_usage: Option<KeyUsage>,
    pub(crate) purposes: Option<Purposes>,
}

impl<'a> Certificate<'a> {
    /// Reads a certificate, without judging anything but its encoding.
    pub(crate) fn parse(der: &'a [u8]) -> Result<Self, Unreadable> {
        let mut file = Reader::new(der);
        let mut certificate = file.enter(SEQUENCE)?;
        file.end()?;
        let mut body = certificate.enter(SEQUENCE)?;
        certificate.read(SEQUENCE)?;
        certificate.read(BIT_STRING)?;
        certificate.end()?;

        let mut version = body.enter(constructed(0))?;
        if version.read(INTEGER)? != [2] {
            return Err(Unreadable::Malformed);
        }
        version.end()?;
        let serial = body.read(INTEGER)?;
        body.read(SEQUENCE)?;
        let issuer = body.read(SEQUENCE)?;
        let mut validity = body.enter(SEQUENCE)?;
        let (not_before, not_after) = (date::time(&mut validity)?, date::time(&mut validity)?);
        validity.end()?;
        let subject_is_empty = body.read(SEQUENCE)?.is_empty();
        let public_key = body.whole(SEQUENCE)?;
        let mut key = Reader::new(public_key).enter(SEQUENCE)?;
        key.read(SEQUENCE)?;
        key.read(BIT_STRING)?;
        key.end()?;
        body.optional(context(1))?;
        body.optional(context(2))?;

        let mut read = Self {
            serial,
            issuer,
            not_before,
            not_after,
            subject_is_empty,
            public_key,
            uris: Vec::new(),
            names_are_critical: false,
            has_constraints: false,
            is_authority: false,
            key_usage: None,
            purposes: None,
        };
        if let Some(extensions) = body.optional(constructed(3))? {
            read.extensions(extensions)?;
        }
        body.end()?;
        Ok(read)
    }

    fn extensions(&mut self, extensions: &'a [u8]) -> Result<(), Unreadable> {
        let mut outer = Reader::new(extensions);
        let mut list = outer.enter(SEQUENCE)?;
        outer.end()?;
        let mut seen = Seen::default();
        while !list.is_empty() {
            let mut extension = list.enter(SEQUENCE)?;
            let id = object_identifier(extension.read(OBJECT_IDENTIFIER)?)?;
            let critical = extension.optional(BOOLEAN)?.map_or(Ok(false), boolean)?;
            let mut value = Reader::new(extension.read(OCTET_STRING)?);
            extension.end()?;
            match id {
                SUBJECT_ALT_NAME => {
                    first(&mut seen.names)?;
                    self.uris = uris(value.enter(SEQUENCE)?)?;
                    self.names_are_critical = critical;
                }
                BASIC_CONSTRAINTS => {
                    first(&mut seen.constraints)?;
                    self.is_authority = is_authority(value.enter(SEQUENCE)?)?;
                    self.has_constraints = true;
                }
                KEY_USAGE => {
                    first(&mut seen.usage)?;
                    self.key_usage = Some(KeyUsage {
                        bits: bits(value.read(BIT_STRING)?)?,
                        critical,
                    });
                }
                EXTENDED_KEY_USAGE => {
                    first(&mut seen.purposes)?;
                    self.purposes = Some(purposes(value.enter(SEQUENCE)?)?);
                }
                _ => continue,
            }
            value.end()?;
        }
        Ok(())
    }
}

/// The KeyUsage extension (RFC 5280 §4.2.1.3).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct KeyUsage {
    bits: u16,
    pub(crate) critical: bool,
}

impl KeyUsage {
    pub(crate) fn digital_signature(self) -> bool {
        self.bits & 0x8000 != 0
    }

    pub(crate) fn key_cert_sign(self) -> bool {
        self.bits & 0x0400 != 0
    }

    pub(crate) fn crl_sign(self) -> bool {
        self.bits & 0x0200 != 0
    }
}

/// The ExtendedKeyUsage extension (RFC 5280 §4.2.1.12). `anyExtendedKeyUsage` names no purpose.
#[derive(Clone, Copy, Default)]
pub(crate) struct Purposes {
    pub(crate) server_auth: bool,
    pub(crate) client_auth: bool,
}

/// Why a certificate could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// Not the DER of a version 3 certificate.
    Malformed,
    /// More than [`MAX_NAMES`] subject alternative names.
    TooManyNames,
}

impl From<Malformed> for Unreadable {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

/// The extensions that were met: a second of its kind could contradict the first.
#[derive(Default)]
struct Seen {
    names: bool,
    constraints: bool,
    usage: bool,
    purposes: bool,
}

fn first(seen: &mut bool) -> Result<(), Malformed> {
    if std::mem::replace(seen, true) {
        Err(Malformed)
    } else {
        Ok(())
    }
}

/// Refuses the long spellings of an identifier, which could hide an extension from a comparison.
fn object_identifier(id: &[u8]) -> Result<&[u8], Malformed> {
    let mut starts = true;
    for &byte in id {
        if starts && byte == 0x80 {
            return Err(Malformed);
        }
        starts = byte & 0x80 == 0;
    }
    if id.is_empty() || !starts {
        return Err(Malformed);
    }
    Ok(id)
}

fn uris(mut names: Reader<'_>) -> Result<Vec<&[u8]>, Unreadable> {
    let mut uris = Vec::new();
    let mut count = 0;
    while !names.is_empty() {
        let (tag, name) = names.any()?;
        count += 1;
        if count > MAX_NAMES {
            return Err(Unreadable::TooManyNames);
        }
        if tag == context(6) {
            uris.push(name);
        } else if tag == constructed(6) {
            return Err(Unreadable::Malformed);
        }
    }
    Ok(uris)
}

fn is_authority(mut constraints: Reader<'_>) -> Result<bool, Malformed> {
    let authority = constraints.optional(BOOLEAN)?.map_or(Ok(false), boolean)?;
    constraints.optional(INTEGER)?;
    constraints.end()?;
    Ok(authority)
}

fn purposes(mut list: Reader<'_>) -> Result<Purposes, Malformed> {
    let mut purposes = Purposes::default();
    if list.is_empty() {
        return Err(Malformed);
    }
    while !list.is_empty() {
        match object_identifier(list.read(OBJECT_IDENTIFIER)?)? {
            SERVER_AUTH => purposes.server_auth = true,
            CLIENT_AUTH => purposes.client_auth = true,
            _ => {}
        }
    }
    Ok(purposes)
}

#[cfg(test)]
#[cfg(feature = "dev-ca")]
mod tests {
    use proptest::prelude::*;
    use x509_parser::{
        extensions::GeneralName,
        prelude::{FromDer, X509Certificate},
    };

    use super::*;
    use crate::source::dev_ca::{DevCa, Extension, Name, Template};

    /// Certificates with every extension that is read.
    fn samples() -> Vec<Vec<u8>> {
        let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(1_900_000_000));
        let id = "spiffe://td/ns/n/sa/s".parse().unwrap();
        let ca = DevCa::new("td".parse().unwrap(), now).unwrap();
        let names = [
            Name::Dns("a.b".into()),
            Name::Uri("spiffe://td/x".into()),
            Name::Uri("urn:x".into()),
        ];
        let several = Template {
            names: Some(Extension::names(&names)),
            ..Template::leaf(&id, now)
        };
        let bare = Template {
            basic_constraints: None,
            extended_key_usage: None,
            ..Template::leaf(&id, now)
        };
        let mut samples = vec![ca.root_certificate().to_vec()];
        for template in [Template::leaf(&id, now), several, bare] {
            samples.push(ca.issue_with(template).unwrap().chain()[0].to_vec());
        }
        samples
    }

    /// Asserts that x509-parser reads what we read, if both can read it.
    fn compare(der: &[u8]) {
        let (Ok(ours), Ok((rest, theirs))) = (Certificate::parse(der), X509Certificate::from_der(der)) else {
            return;
        };
        assert!(rest.is_empty());
        let seconds = |time: x509_parser::time::ASN1Time| u64::try_from(time.timestamp()).unwrap_or(0);
        assert_eq!(ours.not_before.as_secs(), seconds(theirs.validity().not_before));
        assert_eq!(ours.not_after.as_secs(), seconds(theirs.validity().not_after));
        assert_eq!(ours.public_key, theirs.public_key().raw);
        assert_eq!(ours.serial, theirs.raw_serial());
        assert_eq!(ours.subject_is_empty, theirs.subject().as_raw() == [0x30, 0]);
        if let Ok(names) = theirs.subject_alternative_name() {
            let uris: Vec<&[u8]> = names
                .iter()
                .flat_map(|names| &names.value.general_names)
                .filter_map(|name| match name {
                    GeneralName::URI(uri) => Some(uri.as_bytes()),
                    GeneralName::Invalid(tag, bytes) if tag.0 == 6 => Some(*bytes),
                    _ => None,
                })
                .collect();
            assert_eq!(ours.uris, uris);
        }
        assert_eq!(ours.is_authority, theirs.is_ca());
        if let Ok(names) = theirs.subject_alternative_name() {
            assert_eq!(ours.names_are_critical, names.is_some_and(|names| names.critical));
        }
        if let Ok(constraints) = theirs.basic_constraints() {
            assert_eq!(ours.has_constraints, constraints.is_some());
        }
        if let Ok(usage) = theirs.key_usage() {
            let read = |usage: KeyUsage| {
                (
                    usage.critical,
                    usage.digital_signature(),
                    usage.key_cert_sign(),
                    usage.crl_sign(),
                )
            };
            let usage = usage.map(|usage| {
                (
                    usage.critical,
                    usage.value.digital_signature(),
                    usage.value.key_cert_sign(),
                    usage.value.crl_sign(),
                )
            });
            assert_eq!(ours.key_usage.map(read), usage);
        }
        if let Ok(purposes) = theirs.extended_key_usage() {
            let purposes = purposes.map(|purposes| (purposes.value.server_auth, purposes.value.client_auth));
            assert_eq!(ours.purposes.map(|ours| (ours.server_auth, ours.client_auth)), purposes);
        }
    }

    #[test]
    fn reads_what_x509_parser_reads() {
        for der in samples() {
            assert!(Certificate::parse(&der).is_ok());
            assert!(X509Certificate::from_der(&der).is_ok());
            compare(&der);
        }
    }

    #[test]
    fn reads_what_x509_parser_reads_whatever_byte_is_changed() {
        for der in samples() {
            for place in 0..der.len() {
                for value in [0x00, 0x01, 0x04, 0x30, 0x7f, 0x80, 0x81, 0x86, 0xff] {
                    let mut changed = der.clone();
                    changed[place] = value;
                    compare(&changed);
                }
            }
        }
    }

    #[test]
    fn refuses_what_is_cut_short_or_followed_by_more() {
        for der in samples() {
            for length in 0..der.len() {
                assert!(Certificate::parse(&der[..length]).is_err());
            }
            let more = [der.as_slice(), &[0]].concat();
            assert!(Certificate::parse(&more).is_err());
        }
    }

    #[test]
    fn refuses_long_spellings_of_identifiers() {
        assert_eq!(object_identifier(KEY_USAGE), Ok(KEY_USAGE));
        for id in [
            &[][..],
            &[0x80, 0x55, 0x1d, 0x0f],
            &[0x55, 0x80, 0x1d, 0x0f],
            &[0x55, 0x1d, 0x8f],
        ] {
            assert_eq!(object_identifier(id), Err(Malformed), "{id:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            compare(&bytes);
        }

        #[test]
        fn any_two_bytes_may_change(sample in 0..4usize, places in any::<[proptest::sample::Index; 2]>(), values in any::<[u8; 2]>()) {
            let mut der = samples().swap_remove(sample);
            for (place, value) in places.into_iter().zip(values) {
                let place = place.index(der.len());
                der[place] = value;
            }
            compare(&der);
            crate::fuzzing::leaf(&der);
        }
    }
}
