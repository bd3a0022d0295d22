use std::{fmt, str::FromStr};

use spiffe::SpiffeIdError as Refusal;
use thiserror::Error;

use crate::trust_domain::{TrustDomain, TrustDomainError, check_name};

/// The longest SPIFFE ID, in bytes (SPIFFE-ID §2.3).
pub const MAX_SPIFFE_ID_BYTES: usize = 2048;

const SCHEME: &str = "spiffe://";

/// A SPIFFE ID: a trust domain and a path, such as `spiffe://cluster.local/ns/shop/sa/cart`
/// (SPIFFE-ID §2).
///
/// Parsing is strict and total, and the text is never rewritten: no URL normalisation takes place,
/// so printing an ID gives back exactly the text it was parsed from. Refused are, among others,
/// upper case in scheme or trust domain, a query, a fragment, user information, a port, percent
/// encoding, an empty, `.` or `..` segment, a final `/`, and anything past
/// [`MAX_SPIFFE_ID_BYTES`]. Paths are case-sensitive.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpiffeId {
    trust_domain: TrustDomain,
    path: Box<str>,
}

impl SpiffeId {
    /// The ID of these path segments in `trust_domain`; no segment at all gives the trust domain's
    /// own ID.
    ///
    /// # Errors
    ///
    /// A segment that is empty, `.` or `..`, or that holds a byte no segment may hold, and an ID
    /// longer than [`MAX_SPIFFE_ID_BYTES`].
    pub fn from_segments(trust_domain: &TrustDomain, segments: &[&str]) -> Result<Self, SpiffeIdError> {
        let id = spiffe::SpiffeId::from_segments(trust_domain.as_spiffe().clone(), segments).map_err(|refusal| {
            let path = segments.iter().map(|segment| segment.len() + 1).sum::<usize>();
            SpiffeIdError::of(&refusal, SCHEME.len() + trust_domain.as_str().len() + path)
        })?;
        Ok(Self {
            trust_domain: trust_domain.clone(),
            path: id.path().into(),
        })
    }

    /// The ID that Istio gives a Kubernetes service account: `/ns/<namespace>/sa/<service account>`.
    ///
    /// # Errors
    ///
    /// As [`from_segments`](Self::from_segments).
    pub fn for_service_account(
        trust_domain: &TrustDomain,
        namespace: &str,
        service_account: &str,
    ) -> Result<Self, SpiffeIdError> {
        Self::from_segments(trust_domain, &["ns", namespace, "sa", service_account])
    }

    /// The trust domain that vouches for this ID.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The path with its leading `/`, or the empty text for a trust domain's own ID.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The segments of the path, in order.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.path().split('/').skip(1)
    }

    /// The Kubernetes namespace, if the path has Istio's form `/ns/<namespace>/sa/<service account>`.
    pub fn namespace(&self) -> Option<&str> {
        self.istio_names().map(|(namespace, _)| namespace)
    }

    /// The Kubernetes service account, if the path has Istio's form.
    pub fn service_account(&self) -> Option<&str> {
        self.istio_names().map(|(_, service_account)| service_account)
    }

    /// The same path in another trust domain, which may make it longer than an ID can be: it is for
    /// comparisons.
    pub(crate) fn moved_to(&self, trust_domain: TrustDomain) -> Self {
        Self {
            trust_domain,
            path: self.path.clone(),
        }
    }

    fn istio_names(&self) -> Option<(&str, &str)> {
        let mut segments = self.segments();
        match (
            segments.next(),
            segments.next(),
            segments.next(),
            segments.next(),
            segments.next(),
        ) {
            (Some("ns"), Some(namespace), Some("sa"), Some(service_account), None) => {
                Some((namespace, service_account))
            }
            _ => None,
        }
    }
}

impl FromStr for SpiffeId {
    type Err = SpiffeIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() > MAX_SPIFFE_ID_BYTES {
            return Err(SpiffeIdError::TooLong { bytes: text.len() });
        }
        let rest = text.strip_prefix(SCHEME).ok_or(SpiffeIdError::Scheme)?;
        let name = rest.split_once('/').map_or(rest, |(name, _)| name);
        check_name(name)?;
        let id = spiffe::SpiffeId::new(text).map_err(|refusal| SpiffeIdError::of(&refusal, text.len()))?;
        Ok(Self {
            trust_domain: TrustDomain::from_canonical(id.trust_domain().clone()),
            path: id.path().into(),
        })
    }
}

impl TryFrom<&str> for SpiffeId {
    type Error = SpiffeIdError;

    fn try_from(text: &str) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<TrustDomain> for SpiffeId {
    /// The trust domain's own ID, which has no path. Signing authorities carry it; no workload may.
    fn from(trust_domain: TrustDomain) -> Self {
        Self {
            trust_domain,
            path: Box::default(),
        }
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}{}", self.trust_domain, self.path())
    }
}

impl fmt::Debug for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SpiffeId({self})")
    }
}

/// Why a text is not a SPIFFE ID.
///
/// The text itself is left out: in a certificate it is the peer's, of any length and content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SpiffeIdError {
    /// The ID is longer than [`MAX_SPIFFE_ID_BYTES`].
    #[error("the spiffe id has {bytes} bytes, more than {MAX_SPIFFE_ID_BYTES}")]
    TooLong {
        /// The length of the ID.
        bytes: usize,
    },
    /// The text does not begin with `spiffe://` in lower case.
    #[error("a spiffe id begins with `spiffe://`")]
    Scheme,
    /// The part between the scheme and the path is no trust domain.
    #[error(transparent)]
    TrustDomain(#[from] TrustDomainError),
    /// The path has an empty segment.
    #[error("the path has an empty segment")]
    EmptySegment,
    /// A segment of the path is `.` or `..`.
    #[error("a path segment is `.` or `..`")]
    DotSegment,
    /// The path ends with `/`.
    #[error("the path ends with `/`")]
    TrailingSlash,
    /// The path holds something other than `A-Z`, `a-z`, `0-9`, `.`, `-`, `_` and `/`.
    #[error("a path segment holds only `A-Z`, `a-z`, `0-9`, `.`, `-` and `_`")]
    Character,
}

impl SpiffeIdError {
    fn of(refusal: &Refusal, bytes: usize) -> Self {
        match refusal {
            Refusal::EmptySegment => Self::EmptySegment,
            Refusal::DotSegment => Self::DotSegment,
            Refusal::TrailingSlash => Self::TrailingSlash,
            Refusal::WrongScheme => Self::Scheme,
            Refusal::SpiffeIdTooLong { .. } => Self::TooLong { bytes },
            // Trust domains were checked before, and what a newer release may add concerns bytes.
            _ => Self::Character,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<SpiffeId, SpiffeIdError> {
        text.parse()
    }

    #[test]
    fn rejects_every_scheme_but_its_own() {
        for text in [
            "http://td/a",
            "://td",
            "spiffe:td/a",
            "spiffe:/td/a",
            " spiffe://td/a",
            "SPIFFE://td/a",
            "",
        ] {
            assert_eq!(parse(text), Err(SpiffeIdError::Scheme), "{text}");
        }
    }

    #[test]
    fn rejects_an_empty_trust_domain() {
        for text in ["spiffe://", "spiffe:///a", "spiffe:///ns//sa/"] {
            assert_eq!(parse(text), Err(TrustDomainError::Empty.into()), "{text}");
        }
    }

    #[test]
    fn rejects_authorities_that_are_more_than_a_name() {
        for text in [
            "spiffe://u@td",
            "spiffe://u:p@td/a",
            "spiffe://td:80",
            "spiffe://td:",
            "spiffe://td?q",
            "spiffe://td#f",
            "spiffe://td?",
            "spiffe://td#",
            "spiffe://TD/a",
            "spiffe://%74d/a",
            "spiffe://[fe80::1%25.td]/x",
            "spiffe://t\u{0441}d/a",
            "spiffe://td\\a",
            "spiffe://td\0/a",
        ] {
            assert_eq!(parse(text), Err(TrustDomainError::Character.into()), "{text}");
        }
    }

    #[test]
    fn rejects_paths_that_some_parser_would_rewrite() {
        for (text, error) in [
            ("spiffe://td/", SpiffeIdError::TrailingSlash),
            ("spiffe://td/a/", SpiffeIdError::TrailingSlash),
            ("spiffe://td//", SpiffeIdError::EmptySegment),
            ("spiffe://td//a", SpiffeIdError::EmptySegment),
            ("spiffe://td/./a", SpiffeIdError::DotSegment),
            ("spiffe://td/ns/a/../b", SpiffeIdError::DotSegment),
            ("spiffe://td/..", SpiffeIdError::DotSegment),
            ("spiffe://td/%2e%2e", SpiffeIdError::Character),
            ("spiffe://td/a b", SpiffeIdError::Character),
            ("spiffe://td/a\tb", SpiffeIdError::Character),
            ("spiffe://td/a\nb", SpiffeIdError::Character),
            ("spiffe://td/a?q", SpiffeIdError::Character),
            ("spiffe://td/a#f", SpiffeIdError::Character),
            ("spiffe://td/~a", SpiffeIdError::Character),
            ("spiffe://td/a:b", SpiffeIdError::Character),
            ("spiffe://td/a@b", SpiffeIdError::Character),
            ("spiffe://td/\u{e9}", SpiffeIdError::Character),
        ] {
            assert_eq!(parse(text), Err(error), "{text}");
        }
    }

    #[test]
    fn takes_dots_that_mean_nothing_and_keeps_case() {
        for text in [
            "spiffe://td",
            "spiffe://td/...",
            "spiffe://td/.a",
            "spiffe://td/..a",
            "spiffe://td/A-b_1",
        ] {
            assert_eq!(parse(text).unwrap().to_string(), text);
        }
        assert_ne!(parse("spiffe://td/A"), parse("spiffe://td/a"));
    }

    #[test]
    fn permits_exactly_the_path_bytes_of_the_standard() {
        for b in 0..=255u8 {
            let text = format!("spiffe://td/a{}b", char::from(b));
            let permitted = b.is_ascii_alphanumeric() || b".-_/".contains(&b);
            assert_eq!(parse(&text).is_ok(), permitted, "byte {b}");
        }
    }

    #[test]
    fn bounds_the_length_on_parsing_and_on_building() {
        let trust_domain: TrustDomain = "td".parse().unwrap();
        let fits = MAX_SPIFFE_ID_BYTES - "spiffe://td/".len();
        let longest = "a".repeat(fits);
        assert!(parse(&format!("spiffe://td/{longest}")).is_ok());
        assert!(SpiffeId::from_segments(&trust_domain, &[&longest]).is_ok());
        let error = Err(SpiffeIdError::TooLong {
            bytes: MAX_SPIFFE_ID_BYTES + 1,
        });
        assert_eq!(parse(&format!("spiffe://td/{longest}a")), error);
        assert_eq!(
            SpiffeId::from_segments(&trust_domain, &[&longest, ""]),
            Err(SpiffeIdError::EmptySegment)
        );
        assert_eq!(SpiffeId::from_segments(&trust_domain, &[&format!("{longest}a")]), error);
        let name = "a".repeat(256);
        assert_eq!(
            parse(&format!("spiffe://{name}/a")),
            Err(TrustDomainError::TooLong { bytes: 256 }.into())
        );
    }

    #[test]
    fn reads_istio_names_only_from_istio_paths() {
        let id = parse("spiffe://cluster.local/ns/shop/sa/cart").unwrap();
        assert_eq!((id.namespace(), id.service_account()), (Some("shop"), Some("cart")));
        for path in [
            "",
            "/ns/shop",
            "/ns/shop/sa",
            "/ns/shop/sa/cart/x",
            "/x/shop/sa/cart",
            "/ns/shop/SA/cart",
        ] {
            let id = parse(&format!("spiffe://td{path}")).unwrap();
            assert_eq!((id.namespace(), id.service_account()), (None, None), "{path}");
        }
    }

    proptest! {
        #[test]
        fn printing_gives_back_what_was_parsed(text in "spiffe://[a-z0-9._-]{1,20}(/[A-Za-z0-9_-][A-Za-z0-9._-]{0,8}){0,5}") {
            let id = parse(&text).unwrap();
            prop_assert_eq!(id.to_string(), text);
            prop_assert_eq!(parse(&id.to_string()), Ok(id));
        }

        #[test]
        fn anything_parsed_is_printed_unchanged(text in "(spiffe://)?[a-zA-Z0-9./%:@_?#-]{0,40}|\\PC{0,40}") {
            if let Ok(id) = parse(&text) {
                prop_assert_eq!(id.to_string(), text);
            }
        }

        #[test]
        fn building_agrees_with_parsing(segments in proptest::collection::vec("[A-Za-z./~_-]{0,3}", 0..4)) {
            let trust_domain: TrustDomain = "td".parse().unwrap();
            let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
            let text: String = segments.iter().map(|segment| format!("/{segment}")).collect();
            let built = SpiffeId::from_segments(&trust_domain, &segments);
            if segments.iter().any(|segment| segment.contains('/')) {
                prop_assert!(built.is_err());
            } else {
                prop_assert_eq!(built.ok(), parse(&format!("spiffe://td{text}")).ok());
            }
        }
    }
}
