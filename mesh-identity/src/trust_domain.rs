use std::{fmt, str::FromStr};

use thiserror::Error;

/// The longest trust domain name, in bytes (SPIFFE-ID §2.3).
pub const MAX_TRUST_DOMAIN_BYTES: usize = 255;

/// The name of a trust domain, such as `cluster.local` (SPIFFE-ID §2.1).
///
/// One to [`MAX_TRUST_DOMAIN_BYTES`] bytes out of `a-z`, `0-9`, `.`, `-` and `_`. A name is an opaque
/// label, whatever it looks like: `1.2.3.4`, `-a-` and `a.` are names, and `a.` is not `a`. The
/// standard calls names case-insensitive and also requires them in lower case; upper case is
/// refused here rather than folded, so that two spellings never have to be compared.
///
/// A SPIFFE ID is not a trust domain name. Parse it as a [`SpiffeId`](crate::SpiffeId), which
/// checks its path too, and ask that for its trust domain.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrustDomain(spiffe::TrustDomain);

impl TrustDomain {
    /// The name, without a scheme.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    pub(crate) fn as_spiffe(&self) -> &spiffe::TrustDomain {
        &self.0
    }

    /// Takes what the `spiffe` crate has accepted as part of an ID in canonical spelling.
    pub(crate) fn from_canonical(name: spiffe::TrustDomain) -> Self {
        Self(name)
    }
}

impl FromStr for TrustDomain {
    type Err = TrustDomainError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        check_name(name)?;
        spiffe::TrustDomain::new(name)
            .map(Self)
            .map_err(|_| TrustDomainError::Character)
    }
}

impl TryFrom<&str> for TrustDomain {
    type Error = TrustDomainError;

    fn try_from(name: &str) -> Result<Self, Self::Error> {
        name.parse()
    }
}

impl AsRef<str> for TrustDomain {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TrustDomain({self})")
    }
}

/// Why a text is not a trust domain name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TrustDomainError {
    /// There is no name.
    #[error("the trust domain is empty")]
    Empty,
    /// The name is longer than [`MAX_TRUST_DOMAIN_BYTES`].
    #[error("the trust domain has {bytes} bytes, more than {MAX_TRUST_DOMAIN_BYTES}")]
    TooLong {
        /// The length of the name.
        bytes: usize,
    },
    /// The name holds something other than `a-z`, `0-9`, `.`, `-` and `_`.
    #[error("a trust domain holds only `a-z`, `0-9`, `.`, `-` and `_`")]
    Character,
}

/// The rules in our own terms, because the `spiffe` crate folds case and takes whole URIs.
pub(crate) fn check_name(name: &str) -> Result<(), TrustDomainError> {
    if name.is_empty() {
        return Err(TrustDomainError::Empty);
    }
    if name.len() > MAX_TRUST_DOMAIN_BYTES {
        return Err(TrustDomainError::TooLong { bytes: name.len() });
    }
    let permitted = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_');
    if !name.bytes().all(permitted) {
        return Err(TrustDomainError::Character);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_names_that_look_like_something_else() {
        for name in ["cluster.local", "1.2.3.4", "a_b", "-a-", "..", "a.", "x"] {
            assert_eq!(name.parse::<TrustDomain>().unwrap().as_str(), name);
        }
        assert_ne!("a.".parse::<TrustDomain>(), "a".parse::<TrustDomain>());
    }

    #[test]
    fn permits_exactly_the_bytes_of_the_standard() {
        for b in 0..=255u8 {
            let name = format!("a{}b", char::from(b));
            let permitted = b.is_ascii_lowercase() || b.is_ascii_digit() || b".-_".contains(&b);
            assert_eq!(name.parse::<TrustDomain>().is_ok(), permitted, "byte {b}");
        }
    }

    #[test]
    fn rejects_whole_uris_whatever_their_path() {
        for uri in [
            "spiffe://td",
            "spiffe://td/a",
            "spiffe://td//x%",
            "td/a",
            "td:80",
            "u@td",
        ] {
            assert_eq!(uri.parse::<TrustDomain>(), Err(TrustDomainError::Character), "{uri}");
        }
    }

    #[test]
    fn rejects_case_encoding_and_lookalikes() {
        for name in [
            "TD",
            "%74d",
            "t\u{2024}d",
            "\u{0441}luster",
            "*",
            "[::1]",
            "a\\b",
            "a\0",
            "a b",
        ] {
            assert_eq!(name.parse::<TrustDomain>(), Err(TrustDomainError::Character), "{name}");
        }
        assert_eq!("".parse::<TrustDomain>(), Err(TrustDomainError::Empty));
    }

    #[test]
    fn bounds_the_length() {
        assert!("a".repeat(255).parse::<TrustDomain>().is_ok());
        assert_eq!(
            "a".repeat(256).parse::<TrustDomain>(),
            Err(TrustDomainError::TooLong { bytes: 256 })
        );
    }
}
