//! Certificates, revocation lists and private keys as PEM text (RFC 7468).
//!
//! Other sections, and text before and between sections, are passed over, because common tools
//! write both. What would make part of a file vanish unnoticed is an error: a boundary in the
//! middle of a line, a section that does not end or does not begin, anything but white space after
//! the last section.

use rustls_pki_types::{
    CertificateDer, CertificateRevocationListDer, PrivateKeyDer,
    pem::{Error as Fault, PemObject, SectionKind},
};
use thiserror::Error;

/// The largest text of certificates and keys that is read, in bytes.
pub const MAX_PEM_BYTES: usize = 1 << 20;
/// The largest text of revocation lists that is read, in bytes: room for one of
/// [`MAX_REVOCATION_LIST_BYTES`](crate::MAX_REVOCATION_LIST_BYTES), which base64 makes a third
/// larger, and for others beside it.
pub const MAX_REVOCATION_LIST_PEM_BYTES: usize = 8 << 20;
/// The most sections in a text.
pub const MAX_PEM_SECTIONS: usize = 512;

const BEGIN: &[u8] = b"-----BEGIN ";
const END: &[u8] = b"-----END ";

/// The certificates in `text`, in order; at least one.
///
/// # Errors
///
/// A text that is too large, is malformed, or holds no certificate.
pub fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let certificates: Vec<_> = sections(text, MAX_PEM_BYTES)?
        .into_iter()
        .filter(|(kind, _)| *kind == SectionKind::Certificate)
        .map(|(_, der)| CertificateDer::from(der))
        .collect();
    if certificates.is_empty() {
        return Err(PemError::NoCertificate);
    }
    Ok(certificates)
}

/// The certificate revocation lists in `text`, in order; at least one.
///
/// # Errors
///
/// A text that is too large, is malformed, or holds no revocation list.
pub fn revocation_lists(text: &[u8]) -> Result<Vec<CertificateRevocationListDer<'static>>, PemError> {
    let lists: Vec<_> = sections(text, MAX_REVOCATION_LIST_PEM_BYTES)?
        .into_iter()
        .filter(|(kind, _)| *kind == SectionKind::Crl)
        .map(|(_, der)| CertificateRevocationListDer::from(der))
        .collect();
    if lists.is_empty() {
        return Err(PemError::NoRevocationList);
    }
    Ok(lists)
}

/// The one private key in `text`: PKCS#8, PKCS#1 (RSA) or SEC1 (elliptic curves).
///
/// # Errors
///
/// A text that is too large, is malformed, or holds no key, several keys or an encrypted one.
pub fn private_key(text: &[u8]) -> Result<PrivateKeyDer<'static>, PemError> {
    check_size(text, MAX_PEM_BYTES)?;
    if is_encrypted(text) {
        return Err(PemError::EncryptedKey);
    }
    let mut keys = sections(text, MAX_PEM_BYTES)?
        .into_iter()
        .filter_map(|(kind, der)| PrivateKeyDer::from_pem(kind, der));
    match (keys.next(), keys.next()) {
        (Some(key), None) => Ok(key),
        (Some(_), Some(_)) => Err(PemError::SeveralKeys),
        (None, _) => Err(PemError::NoKey),
    }
}

fn sections(text: &[u8], limit: usize) -> Result<Vec<(SectionKind, Vec<u8>)>, PemError> {
    check_size(text, limit)?;
    check_boundaries(text)?;
    let mut sections = Vec::new();
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(text) {
        if sections.len() == MAX_PEM_SECTIONS {
            return Err(PemError::TooManySections);
        }
        sections.push(section?);
    }
    Ok(sections)
}

fn check_size(text: &[u8], limit: usize) -> Result<(), PemError> {
    if text.len() > limit {
        return Err(PemError::TooLarge { limit });
    }
    Ok(())
}

/// The reader looks for boundaries at the start of lines only and does not look behind the last
/// one, so a file joined or cut by hand would lose certificates without a word.
fn check_boundaries(text: &[u8]) -> Result<(), PemError> {
    let mut open = false;
    let mut ended = false;
    let mut after_end = false;
    for line in text.split(|&b| b == b'\n' || b == b'\r') {
        if line.starts_with(BEGIN) {
            if open {
                return Err(PemError::Unended);
            }
            open = true;
            after_end = false;
        } else if line.starts_with(END) {
            // Without a beginning the section would be passed over as text.
            if !open || !line.trim_ascii_end().ends_with(b"-----") || find(line, BEGIN) {
                return Err(PemError::Boundary);
            }
            open = false;
            ended = true;
            after_end = false;
        } else if find(line, BEGIN) || find(line, END) {
            return Err(PemError::Boundary);
        } else if !open && !line.trim_ascii().is_empty() {
            after_end = ended;
        }
    }
    match (open, after_end) {
        (true, _) => Err(PemError::Unended),
        (_, true) => Err(PemError::TrailingText),
        _ => Ok(()),
    }
}

fn is_encrypted(text: &[u8]) -> bool {
    find(text, b"-----BEGIN ENCRYPTED PRIVATE KEY-----") || find(text, b"Proc-Type: 4,ENCRYPTED")
}

fn find(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

/// Why a text does not give certificates, revocation lists or a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PemError {
    /// The text is larger than [`MAX_PEM_BYTES`], or [`MAX_REVOCATION_LIST_PEM_BYTES`] where
    /// revocation lists are read.
    #[error("larger than {limit} bytes")]
    TooLarge {
        /// The most bytes that are read.
        limit: usize,
    },
    /// There are more than [`MAX_PEM_SECTIONS`] sections.
    #[error("more than {MAX_PEM_SECTIONS} PEM sections")]
    TooManySections,
    /// There is no `CERTIFICATE` section.
    #[error("no certificate found")]
    NoCertificate,
    /// There is no `X509 CRL` section.
    #[error("no revocation list found")]
    NoRevocationList,
    /// There is no private key.
    #[error("no private key found")]
    NoKey,
    /// There is more than one private key.
    #[error("more than one private key found")]
    SeveralKeys,
    /// The private key is encrypted, and there is no way to give a passphrase.
    #[error("the private key is encrypted")]
    EncryptedKey,
    /// A `BEGIN` or `END` boundary is misspelt, does not stand on a line of its own, or ends what
    /// has not begun.
    #[error("a PEM boundary is misspelt or misplaced")]
    Boundary,
    /// A section has no `END` boundary: the text was cut short.
    #[error("a PEM section does not end")]
    Unended,
    /// Text follows the last section.
    #[error("text after the last PEM section")]
    TrailingText,
    /// A section is not base64.
    #[error("a PEM section is not base64")]
    Base64,
}

impl From<Fault> for PemError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::MissingSectionEnd { .. } => Self::Unended,
            Fault::IllegalSectionStart { .. } => Self::Boundary,
            Fault::SectionTooLarge => Self::TooLarge { limit: MAX_PEM_BYTES },
            Fault::NoItemsFound => Self::NoCertificate,
            // The only fault that is left for a text in memory.
            _ => Self::Base64,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            crate::fuzzing::pem(&bytes);
        }

        #[test]
        fn any_lines_are_read_or_refused(lines in proptest::collection::vec(line(), 0..8), end in "\r\n|\n|\r| ") {
            crate::fuzzing::pem(lines.join(&end).as_bytes());
        }
    }

    fn line() -> impl Strategy<Value = String> {
        "(-----(BEGIN|END) ?(CERTIFICATE|PRIVATE KEY|X)?-{0,6})|[A-Za-z0-9+/=]{0,8}|-{0,11}"
    }
}
