use std::{fmt, str::FromStr};

use http::{Uri, uri::Scheme};
use rustls_pki_types::ServerName;
use thiserror::Error;

/// The longest URL that is taken, in bytes.
const MAX_URL_BYTES: usize = 2048;

/// The URL of a bundle endpoint (SPIFFE Federation §5.2.1): `https`, a host, and neither user
/// information nor fragment.
///
/// ```
/// use mesh_identity::federation::EndpointUrl;
///
/// let url: EndpointUrl = "https://bundles.example.org/mesh".parse()?;
/// assert_eq!((url.host(), url.port()), ("bundles.example.org", 443));
/// assert!("http://bundles.example.org/mesh".parse::<EndpointUrl>().is_err());
/// # Ok::<(), mesh_identity::federation::EndpointUrlError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct EndpointUrl {
    /// An IPv6 address is without its brackets.
    host: String,
    port: u16,
    /// Path and query.
    target: String,
}

impl EndpointUrl {
    /// The host, a DNS name or an IP address without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port; 443 if the URL names none.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Path and query, as in a request line.
    pub(crate) fn target(&self) -> &str {
        &self.target
    }

    /// Host and port, as in a `Host` header.
    pub(crate) fn authority(&self) -> String {
        let host = match self.host.contains(':') {
            true => format!("[{}]", self.host),
            false => self.host.clone(),
        };
        match self.port {
            443 => host,
            port => format!("{host}:{port}"),
        }
    }

    /// What TLS expects of the server.
    pub(crate) fn server_name(&self) -> Result<ServerName<'static>, EndpointUrlError> {
        ServerName::try_from(self.host.clone()).map_err(|_| EndpointUrlError::Host)
    }

    /// The URL that a `Location` header means: a URL, or one without scheme, or an absolute path
    /// (RFC 3986 §4.2). It has to keep the same rules.
    pub(crate) fn redirect(&self, location: &str) -> Result<Self, EndpointUrlError> {
        if location.starts_with("//") {
            return format!("https:{location}").parse();
        }
        if location.starts_with('/') {
            return format!("https://{}{location}", self.authority()).parse();
        }
        location.parse()
    }
}

impl FromStr for EndpointUrl {
    type Err = EndpointUrlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() > MAX_URL_BYTES {
            return Err(EndpointUrlError::TooLong { bytes: text.len() });
        }
        // The parser below drops fragments and takes some bytes that no URL has.
        if text.contains('#') {
            return Err(EndpointUrlError::Fragment);
        }
        if !text
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&byte))
        {
            return Err(EndpointUrlError::Malformed);
        }
        let uri: Uri = text.parse().map_err(|_| EndpointUrlError::Malformed)?;
        if uri.scheme() != Some(&Scheme::HTTPS) {
            return Err(EndpointUrlError::Scheme);
        }
        let authority = uri.authority().ok_or(EndpointUrlError::Malformed)?;
        if authority.as_str().contains('@') {
            return Err(EndpointUrlError::UserInfo);
        }
        let host = authority.host();
        let port = match authority.as_str().strip_prefix(host) {
            Some("") => 443,
            Some(_) => authority
                .port_u16()
                .filter(|port| *port != 0)
                .ok_or(EndpointUrlError::Port)?,
            None => return Err(EndpointUrlError::Malformed),
        };
        let target = uri.path_and_query().map_or("/", |target| target.as_str());
        let url = Self {
            host: host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase(),
            port,
            target: if target.starts_with('/') {
                target.to_owned()
            } else {
                format!("/{target}")
            },
        };
        url.server_name()?;
        Ok(url)
    }
}

impl fmt::Display for EndpointUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}{}", self.authority(), self.target)
    }
}

impl fmt::Debug for EndpointUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EndpointUrl({self})")
    }
}

/// Why a text is no URL of a bundle endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum EndpointUrlError {
    /// The text is longer than any URL should be.
    #[error("the url has {bytes} bytes, more than {MAX_URL_BYTES}")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// The text is no absolute URL.
    #[error("the url is malformed or not absolute")]
    Malformed,
    /// The scheme is not `https`.
    #[error("the url of a bundle endpoint begins with `https://`")]
    Scheme,
    /// There is user information before the host.
    #[error("the url of a bundle endpoint has no user information")]
    UserInfo,
    /// There is a fragment.
    #[error("the url of a bundle endpoint has no fragment")]
    Fragment,
    /// The host is neither a DNS name nor an IP address.
    #[error("the host of the url is neither a dns name nor an ip address")]
    Host,
    /// The port is no number from 1 to 65535.
    #[error("the port of the url is no number from 1 to 65535")]
    Port,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<EndpointUrl, EndpointUrlError> {
        text.parse()
    }

    #[test]
    fn takes_https_urls_and_prints_them() {
        for (text, printed) in [
            ("https://a.example", "https://a.example/"),
            ("https://a.example?x=1", "https://a.example/?x=1"),
            ("https://A.example:8443/B/%2e?q=@", "https://a.example:8443/B/%2e?q=@"),
            ("https://a.example:443/", "https://a.example/"),
            ("https://10.0.0.1:1/x", "https://10.0.0.1:1/x"),
            ("https://[fd00::1]/x", "https://[fd00::1]/x"),
            ("https://[fd00::1]:8443/x", "https://[fd00::1]:8443/x"),
        ] {
            assert_eq!(parse(text).map(|url| url.to_string()), Ok(printed.to_owned()), "{text}");
        }
    }

    #[test]
    fn refuses_what_the_standard_forbids() {
        for (text, error) in [
            ("http://a.example/", EndpointUrlError::Scheme),
            ("spiffe://a.example/", EndpointUrlError::Scheme),
            ("a.example", EndpointUrlError::Scheme),
            ("/bundle", EndpointUrlError::Scheme),
            ("https:/a.example", EndpointUrlError::Malformed),
            ("https://", EndpointUrlError::Malformed),
            ("https:///x", EndpointUrlError::Malformed),
            ("https://user@a.example/", EndpointUrlError::UserInfo),
            ("https://user:secret@a.example/", EndpointUrlError::UserInfo),
            ("https://@a.example/", EndpointUrlError::UserInfo),
            ("https://a.example/#x", EndpointUrlError::Fragment),
            ("https://a.example:/", EndpointUrlError::Port),
            ("https://a.example:0/", EndpointUrlError::Port),
            ("https://a_b..c/", EndpointUrlError::Host),
            ("https://a.example/a b", EndpointUrlError::Malformed),
            ("https://a.example/\r\nx: y", EndpointUrlError::Malformed),
            ("https://a.example\\@b.example/", EndpointUrlError::Malformed),
            ("https://\u{430}.example/", EndpointUrlError::Malformed),
        ] {
            assert_eq!(parse(text), Err(error), "{text}");
        }
        assert!(parse("https://a.example:65536/").is_err());
        let long = format!("https://a.example/{}", "x".repeat(MAX_URL_BYTES));
        assert!(matches!(parse(&long), Err(EndpointUrlError::TooLong { .. })));
    }

    #[test]
    fn redirects_lead_to_urls_of_the_same_kind() {
        let base = parse("https://a.example:8443/x/y?z").unwrap();
        for (location, target) in [
            ("https://b.example/p", "https://b.example/p"),
            ("//b.example/p", "https://b.example/p"),
            ("/p?q", "https://a.example:8443/p?q"),
        ] {
            assert_eq!(base.redirect(location).unwrap().to_string(), target);
        }
        for (location, error) in [
            ("http://a.example:8443/x", EndpointUrlError::Scheme),
            ("HTTP://a.example/", EndpointUrlError::Scheme),
            ("//user@b.example/", EndpointUrlError::UserInfo),
            ("p", EndpointUrlError::Scheme),
            ("", EndpointUrlError::Malformed),
            ("/#x", EndpointUrlError::Fragment),
        ] {
            assert_eq!(base.redirect(location), Err(error), "{location}");
        }
    }

    proptest! {
        #[test]
        fn printing_and_parsing_are_inverse(text in "(https?:)?(//)?[a-zA-Z0-9.@\\[\\]:-]{0,20}[/?#a-z0-9%.]{0,20}|\\PC{0,30}") {
            if let Ok(url) = parse(&text) {
                prop_assert_eq!(parse(&url.to_string()), Ok(url.clone()));
                if let Ok(next) = url.redirect(&text) {
                    prop_assert_eq!(next, url);
                }
            }
        }
    }
}
