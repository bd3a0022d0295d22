use std::fmt;
use std::str::FromStr;

use http::Uri;

/// The longest address that is taken, in bytes.
const MAX_URL_BYTES: usize = 2048;

/// Where keys, or a document that says where, are to be had by HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Url {
    pub(super) is_secure: bool,
    /// An IPv6 address is without its brackets.
    pub(super) host: String,
    pub(super) port: u16,
    /// Path and query.
    pub(super) target: String,
}

impl Url {
    /// Host and port, as in a `Host` header.
    pub(super) fn authority(&self) -> String {
        let host = match self.host.contains(':') {
            true => format!("[{}]", self.host),
            false => self.host.clone(),
        };
        match (self.is_secure, self.port) {
            (true, 443) | (false, 80) => host,
            (_, port) => format!("{host}:{port}"),
        }
    }
}

impl FromStr for Url {
    type Err = NoUrl;

    fn from_str(text: &str) -> Result<Self, NoUrl> {
        // The parser below drops fragments and takes some bytes that no URL has.
        let is_plain = |byte: u8| byte.is_ascii_graphic() && !b"\"#<>\\^`{|}".contains(&byte);
        if text.len() > MAX_URL_BYTES || !text.bytes().all(is_plain) {
            return Err(NoUrl);
        }
        let uri: Uri = text.parse().map_err(|_| NoUrl)?;
        let (is_secure, default) = match uri.scheme_str() {
            Some("https") => (true, 443),
            Some("http") => (false, 80),
            _ => return Err(NoUrl),
        };
        let authority = uri
            .authority()
            .filter(|authority| !authority.as_str().contains('@'))
            .ok_or(NoUrl)?;
        let host = authority.host();
        let port = match authority.as_str().strip_prefix(host) {
            Some("") => default,
            Some(_) => authority.port_u16().filter(|port| *port != 0).ok_or(NoUrl)?,
            None => return Err(NoUrl),
        };
        let target = uri.path_and_query().map_or("/", |target| target.as_str());
        let slash = if target.starts_with('/') { "" } else { "/" };
        let host = host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        if host.is_empty() {
            return Err(NoUrl);
        }
        Ok(Self {
            is_secure,
            host,
            port,
            target: format!("{slash}{target}"),
        })
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_secure { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority(), self.target)
    }
}

/// A text is no URL, or one that nothing is fetched from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no address of http or https with a host, without user and fragment")]
pub(super) struct NoUrl;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn addresses_name_a_server_and_nothing_else() {
        for (text, printed) in [
            ("https://a.example", "https://a.example/"),
            ("http://A.example:80/k?x=1", "http://a.example/k?x=1"),
            ("https://a.example?x", "https://a.example/?x"),
            ("http://a.example:443/", "http://a.example:443/"),
            ("https://[fd00::1]:8443/x", "https://[fd00::1]:8443/x"),
        ] {
            assert_eq!(
                text.parse::<Url>().map(|url| url.to_string()),
                Ok(printed.to_owned()),
                "{text}"
            );
        }
        for text in [
            "",
            "/keys",
            "a.example",
            "ftp://a.example/",
            "file:///etc/passwd",
            "https://",
            "https:///x",
            "https://user@a.example/",
            "https://a.example/#x",
            "https://a.example:0/",
            "https://a.example:/",
            "https://a.example/a b",
            "https://a.example/\r\nx: y",
            "https://a.example\\@b.example/",
        ] {
            assert_eq!(text.parse::<Url>(), Err(NoUrl), "{text}");
        }
        let long = format!("https://a.example/{}", "x".repeat(MAX_URL_BYTES));
        assert_eq!(long.parse::<Url>(), Err(NoUrl));
    }

    proptest! {
        #[test]
        fn printing_and_parsing_are_inverse(text in "(https?:)?(//)?[a-zA-Z0-9.@\\[\\]:-]{0,20}[/?#a-z0-9%.]{0,20}|\\PC{0,30}") {
            if let Ok(url) = text.parse::<Url>() {
                prop_assert_eq!(url.to_string().parse(), Ok(url));
            }
        }
    }
}
