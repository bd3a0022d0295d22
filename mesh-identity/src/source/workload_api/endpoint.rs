use std::{env, fmt, net::SocketAddr, path::PathBuf, str::FromStr};

use percent_encoding::percent_decode_str;
use thiserror::Error;

/// The environment variable that names the endpoint (SPIFFE Workload Endpoint §4).
pub const ENDPOINT_VARIABLE: &str = "SPIFFE_ENDPOINT_SOCKET";

/// Where a Workload API is served: `unix:///run/spire/agent.sock` or `tcp://127.0.0.1:8081`
/// (SPIFFE Workload Endpoint §4).
///
/// A `unix` URI has an absolute path and nothing else; percent-encoding in it stands for the bytes
/// that it encodes. A `tcp` URI has an IP address and a port and nothing else. The API has no
/// client authentication of its own, so a TCP endpoint is for networks that tell one workload from
/// another by themselves (§3), which loopback does not.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Endpoint(Place);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Place {
    Unix(PathBuf),
    Tcp(SocketAddr),
}

impl Endpoint {
    /// The socket with this path, which is absolute or starts in the working folder.
    ///
    /// # Errors
    ///
    /// An empty path.
    pub fn unix(path: impl Into<PathBuf>) -> Result<Self, EndpointError> {
        let path = path.into();
        if path.as_os_str().is_empty() {
            return Err(EndpointError::Path);
        }
        Ok(Self(Place::Unix(path)))
    }

    /// The endpoint that the process's environment names in [`ENDPOINT_VARIABLE`].
    ///
    /// # Errors
    ///
    /// The variable is not set, or holds no endpoint.
    pub fn from_env() -> Result<Self, EndpointError> {
        match env::var(ENDPOINT_VARIABLE) {
            Ok(text) => text.parse(),
            Err(env::VarError::NotPresent) => Err(EndpointError::NotSet),
            Err(env::VarError::NotUnicode(_)) => Err(EndpointError::Encoding),
        }
    }

    pub(super) fn place(&self) -> &Place {
        &self.0
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(uri: &str) -> Result<Self, Self::Err> {
        let (scheme, rest) = uri.split_once(':').ok_or(EndpointError::Scheme)?;
        if rest.contains(['?', '#']) {
            return Err(EndpointError::Extra);
        }
        match scheme {
            "unix" => unix(rest),
            "tcp" => tcp(rest),
            _ => Err(EndpointError::Scheme),
        }
    }
}

/// `unix:/path` and `unix:///path` are two spellings of a URI without authority (RFC 3986 §3).
fn unix(rest: &str) -> Result<Endpoint, EndpointError> {
    let path = match rest.strip_prefix("//") {
        Some(after) if !after.starts_with('/') => return Err(EndpointError::Authority),
        Some(path) => path,
        None => rest,
    };
    let bytes = decode(path)?;
    let names_a_file = path.starts_with('/') && !path.ends_with('/') && !bytes.contains('\0');
    if !names_a_file {
        return Err(EndpointError::Path);
    }
    Endpoint::unix(bytes)
}

fn tcp(rest: &str) -> Result<Endpoint, EndpointError> {
    let authority = rest.strip_prefix("//").ok_or(EndpointError::Address)?;
    let address: SocketAddr = authority.parse().map_err(|_| EndpointError::Address)?;
    // The parser of the standard library also takes port zero, which nobody listens on.
    if address.port() == 0 {
        return Err(EndpointError::Address);
    }
    Ok(Endpoint(Place::Tcp(address)))
}

fn decode(path: &str) -> Result<String, EndpointError> {
    let complete = |escape: &str| escape.bytes().take(2).filter(u8::is_ascii_hexdigit).count() == 2;
    if !path.split('%').skip(1).all(complete) {
        return Err(EndpointError::Encoding);
    }
    let decoded = percent_decode_str(path).decode_utf8();
    decoded.map(Into::into).map_err(|_| EndpointError::Encoding)
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Place::Unix(path) => write!(f, "{}", path.display()),
            Place::Tcp(address) => write!(f, "tcp://{address}"),
        }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({self})")
    }
}

/// Why a text names no endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum EndpointError {
    /// The environment does not say.
    #[error("`{ENDPOINT_VARIABLE}` is not set")]
    NotSet,
    /// The scheme is missing, or neither `unix` nor `tcp`.
    #[error("the endpoint's scheme is neither `unix` nor `tcp`")]
    Scheme,
    /// There is a query or a fragment.
    #[error("the endpoint has a query or a fragment")]
    Extra,
    /// A `unix` URI has an authority.
    #[error("the endpoint has an authority before its path")]
    Authority,
    /// A `unix` URI has no absolute path, or one that no socket can have.
    #[error("the endpoint's path is no absolute path of a socket")]
    Path,
    /// A `tcp` URI is not an IP address with a port.
    #[error("the endpoint is no ip address with a port")]
    Address,
    /// The text is not Unicode, or its percent-encoding is malformed.
    #[error("the endpoint is not encoded as a uri")]
    Encoding,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn takes_what_the_standard_describes() {
        for (text, place) in [
            ("unix:///run/a.sock", Place::Unix("/run/a.sock".into())),
            ("unix:/run/a.sock", Place::Unix("/run/a.sock".into())),
            ("unix:///run/a%20b%2Fc", Place::Unix("/run/a b/c".into())),
            ("tcp://127.0.0.1:80", Place::Tcp("127.0.0.1:80".parse().unwrap())),
            ("tcp://[::1]:80", Place::Tcp("[::1]:80".parse().unwrap())),
        ] {
            assert_eq!(text.parse::<Endpoint>().unwrap().place(), &place, "{text}");
        }
    }

    #[test]
    fn refuses_everything_else() {
        use EndpointError::*;
        for (text, error) in [
            ("", Scheme),
            ("/run/a.sock", Scheme),
            ("UNIX:///a", Scheme),
            ("https://127.0.0.1:80", Scheme),
            ("unix://host/a", Authority),
            ("unix://", Authority),
            ("unix:", Path),
            ("unix:a.sock", Path),
            ("unix:///", Path),
            ("unix:///a/", Path),
            ("unix:///a%00b", Path),
            ("unix:///a?b", Extra),
            ("unix:///a#", Extra),
            ("unix:///a%2", Encoding),
            ("unix:///a%zz", Encoding),
            ("unix:///a%+1", Encoding),
            ("unix:///a%ff", Encoding),
            ("tcp:127.0.0.1:80", Address),
            ("tcp://127.0.0.1", Address),
            ("tcp://127.0.0.1:0", Address),
            ("tcp://127.0.0.1:80/", Address),
            ("tcp://name:80", Address),
            ("tcp://u@127.0.0.1:80", Address),
            ("tcp://127.0.0.1:80?a", Extra),
        ] {
            assert_eq!(text.parse::<Endpoint>(), Err(error), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "(unix|tcp)?:?/{0,3}[%0-9a-f.:/\\[\\]?# ]{0,20}") {
            if let Ok(endpoint) = text.parse::<Endpoint>() {
                prop_assert!(!endpoint.to_string().is_empty());
            }
        }
    }
}
