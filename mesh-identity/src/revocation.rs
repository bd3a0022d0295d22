use std::{fmt, sync::Arc};

use thiserror::Error;
use webpki::{CertRevocationList, Error as Fault, OwnedCertRevocationList};

use crate::{
    certificate::Certificate,
    pem::{self, PemError},
};

/// The largest revocation list that is read, in bytes: room for some 100,000 entries.
pub const MAX_REVOCATION_LIST_BYTES: usize = 4 << 20;
/// The most revocation lists in one bundle.
pub const MAX_REVOCATION_LISTS: usize = 64;

/// A certificate revocation list (RFC 5280 §5) that has been read, and not yet believed.
///
/// Its signature is checked at each verification that needs it, with the key of the issuer in the
/// path at hand. Supported are complete lists of version 2, for all reasons, issued by the
/// certificates' own issuer, with `nextUpdate`. Cloning is cheap. Lists are equal whose bytes are.
#[derive(Clone)]
pub struct RevocationList {
    list: Arc<CertRevocationList<'static>>,
    der: Arc<[u8]>,
}

impl RevocationList {
    /// Reads a list in DER.
    ///
    /// # Errors
    ///
    /// A list that is too large, is malformed, or is of an unsupported kind.
    pub fn from_der(der: &[u8]) -> Result<Self, RevocationListError> {
        if der.len() > MAX_REVOCATION_LIST_BYTES {
            return Err(RevocationListError::TooLarge { bytes: der.len() });
        }
        match OwnedCertRevocationList::from_der(der) {
            Ok(list) => Ok(Self {
                list: Arc::new(list.into()),
                der: der.into(),
            }),
            Err(fault) if is_unsupported(&fault) => Err(RevocationListError::Unsupported),
            Err(_) => Err(RevocationListError::Malformed),
        }
    }

    /// Reads the lists of a PEM text, such as Istio's `ca-crl.pem`; at least one.
    ///
    /// # Errors
    ///
    /// As [`from_der`](Self::from_der) and [`pem::revocation_lists`].
    pub fn from_pem(text: &[u8]) -> Result<Vec<Self>, RevocationListError> {
        pem::revocation_lists(text)?
            .iter()
            .map(|list| Self::from_der(list))
            .collect()
    }

    pub(crate) fn as_webpki(&self) -> &CertRevocationList<'static> {
        &self.list
    }

    #[cfg(feature = "source")]
    pub(crate) fn size(&self) -> usize {
        self.der.len()
    }

    /// Whether two lists are about the same certificates, so that only one of them can count.
    pub(crate) fn rivals(&self, other: &Self) -> bool {
        self.list.issuer() == other.list.issuer()
            && self.list.issuing_distribution_point() == other.list.issuing_distribution_point()
    }

    /// Whether the list names a certificate, whatever its signature is worth.
    pub(crate) fn names(&self, certificate: &Certificate<'_>) -> bool {
        self.lists(certificate.issuer, certificate.serial)
    }

    /// The same of a certificate's issuer and serial number.
    pub(crate) fn lists(&self, issuer: &[u8], serial: &[u8]) -> bool {
        self.list.issuer() == issuer && matches!(self.list.find_serial(serial), Ok(Some(_)))
    }
}

impl PartialEq for RevocationList {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.der, &other.der) || self.der == other.der
    }
}

impl Eq for RevocationList {}

impl fmt::Debug for RevocationList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RevocationList").finish_non_exhaustive()
    }
}

/// Why bytes are no revocation list.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RevocationListError {
    /// The text is no PEM or holds no list.
    #[error(transparent)]
    Pem(#[from] PemError),
    /// The list is larger than [`MAX_REVOCATION_LIST_BYTES`].
    #[error("the revocation list has {bytes} bytes, more than {MAX_REVOCATION_LIST_BYTES}")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// The bytes are not the DER of a revocation list.
    #[error("the revocation list is malformed")]
    Malformed,
    /// The list is a delta, an indirect one, one for some reasons only, of another version than 2,
    /// without `nextUpdate`, or has an unknown critical extension.
    #[error("the revocation list is of an unsupported kind")]
    Unsupported,
}

/// The serial number of a certificate.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct SerialNumber(Box<[u8]>);

impl SerialNumber {
    pub(crate) fn of(certificate: &Certificate<'_>) -> Self {
        Self(certificate.serial.into())
    }

    /// The number, big-endian, as the certificate spells it.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for SerialNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, byte) in self.0.iter().enumerate() {
            let separator = if place == 0 { "" } else { ":" };
            write!(f, "{separator}{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for SerialNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SerialNumber({self})")
    }
}

fn is_unsupported(fault: &Fault) -> bool {
    matches!(
        fault,
        Fault::UnsupportedCrlIssuingDistributionPoint
            | Fault::UnsupportedCrlVersion
            | Fault::UnsupportedCriticalExtension
            | Fault::UnsupportedDeltaCrl
            | Fault::UnsupportedIndirectCrl
            | Fault::UnsupportedRevocationReason
            | Fault::UnsupportedRevocationReasonsPartitioning
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_are_capped_before_anything_is_read() {
        let bytes = MAX_REVOCATION_LIST_BYTES + 1;
        assert_eq!(
            RevocationList::from_der(&vec![0; bytes]).unwrap_err(),
            RevocationListError::TooLarge { bytes }
        );
    }

    #[test]
    fn a_text_without_a_list_is_no_empty_list() {
        assert_eq!(
            RevocationList::from_pem(b"").unwrap_err(),
            RevocationListError::Pem(PemError::NoRevocationList)
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            crate::fuzzing::revocation_list(&bytes);
        }
    }
}

#[cfg(test)]
#[cfg(feature = "dev-ca")]
mod partial_lists {
    use super::*;
    use crate::der::{
        BIT_STRING, BOOLEAN, INTEGER, OBJECT_IDENTIFIER, OCTET_STRING, SEQUENCE, UTC_TIME, constructed, context, value,
    };

    const SET: u8 = 0x31;
    const UTF8_STRING: u8 = 0x0c;

    /// A list without signature that counts for these reasons only, by the contents of a BIT STRING.
    fn for_some_reasons(reasons: &[u8]) -> Vec<u8> {
        let algorithm = value(
            SEQUENCE,
            &value(OBJECT_IDENTIFIER, &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2]),
        );
        let name = value(
            SET,
            &value(
                SEQUENCE,
                &[&value(OBJECT_IDENTIFIER, &[0x55, 4, 3])[..], &value(UTF8_STRING, b"a")].concat(),
            ),
        );
        let [this_update, next_update] = [&b"300101000000Z"[..], b"301231000000Z"].map(|time| value(UTC_TIME, time));
        let point = value(SEQUENCE, &value(context(3), reasons));
        let place = [
            value(OBJECT_IDENTIFIER, &[0x55, 0x1d, 28]),
            value(BOOLEAN, &[0xff]),
            value(OCTET_STRING, &point),
        ];
        let number = [
            value(OBJECT_IDENTIFIER, &[0x55, 0x1d, 20]),
            value(OCTET_STRING, &value(INTEGER, &[1])),
        ];
        let extensions = [value(SEQUENCE, &number.concat()), value(SEQUENCE, &place.concat())].concat();
        let list = [
            value(INTEGER, &[1]),
            algorithm.clone(),
            value(SEQUENCE, &name),
            this_update,
            next_update,
            value(constructed(0), &value(SEQUENCE, &extensions)),
        ];
        let signature = value(BIT_STRING, &[0, 1]);
        value(
            SEQUENCE,
            &[value(SEQUENCE, &list.concat()), algorithm, signature].concat(),
        )
    }

    #[test]
    fn reasons_of_no_bits_are_refused() {
        for (reasons, refusal) in [
            (&[][..], RevocationListError::Malformed),
            (&[8], RevocationListError::Malformed),
            (&[0], RevocationListError::Unsupported),
            (&[1, 0x40], RevocationListError::Unsupported),
        ] {
            let outcome = RevocationList::from_der(&for_some_reasons(reasons));
            assert_eq!(outcome.unwrap_err(), refusal, "{reasons:?}");
        }
    }
}
