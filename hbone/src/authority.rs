//! The destination of a tunnel: what the `:authority` of a CONNECT request may say.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU16;
use std::str::FromStr;
use std::sync::Arc;

/// The destination of a tunnel: an IP address or a host name, always with a port.
///
/// One destination has one value and one spelling, so that policy, pooling and logs cannot disagree
/// about it:
///
/// - IPv4-mapped IPv6 addresses become IPv4 addresses, and IPv6 addresses print in brackets;
/// - host names become lower case;
/// - ports are 1 to 65535, in decimal without leading zeros.
///
/// Host names consist of RFC 1123 labels in which `_` may also occur: 1 to 63 bytes each, 253 bytes
/// in all, without a trailing dot. A name whose last label is a number (`1.2.3`, `0x7f.1`,
/// `2130706433`) is refused: some resolvers read it as an IPv4 address, and a policy would not.
/// Percent-encoding, user information and zone identifiers are refused too.
///
/// Implements the authority-form of RFC 9110, section 9.3.6 for RFC 9113, section 8.5.
///
/// # Examples
///
/// ```
/// use hbone::{Authority, Host};
///
/// let address: Authority = "[::ffff:10.0.0.7]:8080".parse()?;
/// assert_eq!(address.to_string(), "10.0.0.7:8080");
///
/// let name: Authority = "Echo.Default.svc.cluster.local:80".parse()?;
/// assert_eq!(name.host(), Host::Name("echo.default.svc.cluster.local"));
/// # Ok::<(), hbone::AuthorityError>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Authority {
    host: OwnedHost,
    port: NonZeroU16,
}

impl Authority {
    /// The longest accepted text, in bytes: a host name of 253, a colon and a port of five digits.
    pub const MAX_LEN: usize = MAX_NAME + 1 + 5;

    /// Makes an authority from a host and a port.
    ///
    /// `host` is a host name, or an IP address without brackets.
    ///
    /// # Errors
    ///
    /// [`AuthorityError`] if `host` is neither, or `port` is 0.
    pub fn new(host: &str, port: u16) -> Result<Self, AuthorityError> {
        let port = NonZeroU16::new(port).ok_or(AuthorityError::PortZero)?;
        let host = match host.parse::<IpAddr>() {
            Ok(ip) => OwnedHost::Ip(ip.to_canonical()),
            Err(_) => OwnedHost::Name(parse_name(host)?),
        };
        Ok(Self { host, port })
    }

    /// The host: an IP address or a name.
    #[must_use]
    pub fn host(&self) -> Host<'_> {
        match &self.host {
            OwnedHost::Ip(ip) => Host::Ip(*ip),
            OwnedHost::Name(name) => Host::Name(name),
        }
    }

    /// The port, never 0.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port.get()
    }

    /// The socket address, unless the host is a name.
    #[must_use]
    pub fn socket_addr(&self) -> Option<SocketAddr> {
        match self.host {
            OwnedHost::Ip(ip) => Some(SocketAddr::new(ip, self.port.get())),
            OwnedHost::Name(_) => None,
        }
    }
}

impl FromStr for Authority {
    type Err = AuthorityError;

    fn from_str(text: &str) -> Result<Self, AuthorityError> {
        if text.len() > Self::MAX_LEN {
            return Err(AuthorityError::TooLong { len: text.len() });
        }
        if let Some(byte) = text.bytes().find(|byte| !byte.is_ascii_graphic()) {
            return Err(AuthorityError::Byte { byte });
        }
        if text.contains('@') {
            return Err(AuthorityError::UserInfo);
        }
        match text.strip_prefix('[') {
            Some(rest) => parse_bracketed(rest),
            None => parse_plain(text),
        }
    }
}

/// Takes the address as a peer would print it: without flow information, IPv4-mapped addresses as
/// IPv4.
impl TryFrom<SocketAddr> for Authority {
    type Error = AuthorityError;

    fn try_from(addr: SocketAddr) -> Result<Self, AuthorityError> {
        if matches!(addr, SocketAddr::V6(v6) if v6.scope_id() != 0) {
            return Err(AuthorityError::ZoneId);
        }
        let port = NonZeroU16::new(addr.port()).ok_or(AuthorityError::PortZero)?;
        Ok(Self {
            host: OwnedHost::Ip(addr.ip().to_canonical()),
            port,
        })
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            OwnedHost::Ip(ip) => SocketAddr::new(*ip, self.port.get()).fmt(f),
            OwnedHost::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authority({self})")
    }
}

/// The host of an [`Authority`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host<'a> {
    /// An address; never an IPv4-mapped IPv6 one.
    Ip(IpAddr),
    /// A host name in lower case.
    Name(&'a str),
}

/// Why a text or address cannot be an [`Authority`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum AuthorityError {
    /// The text is longer than [`Authority::MAX_LEN`] bytes.
    #[error("authority of {len} bytes exceeds {} bytes", Authority::MAX_LEN)]
    TooLong {
        /// Length of the text in bytes.
        len: usize,
    },
    /// A space, a control character or a byte outside ASCII.
    #[error("authority contains byte {byte:#04x}")]
    Byte {
        /// The first such byte.
        byte: u8,
    },
    /// There is a `user@` part.
    #[error("authority contains user information")]
    UserInfo,
    /// An IPv6 address carries a zone identifier, which means nothing on another host.
    #[error("authority contains an IPv6 zone identifier")]
    ZoneId,
    /// An opening bracket is not matched, or something other than a port follows the closing one.
    #[error("authority has misplaced brackets")]
    Brackets,
    /// The brackets do not hold an IPv6 address.
    #[error("authority has no valid IPv6 address between its brackets")]
    Ipv6,
    /// There is more than one colon outside brackets.
    #[error("authority has several colons outside brackets")]
    Colons,
    /// There is no port.
    #[error("authority has no port")]
    PortMissing,
    /// The port is not a decimal number of at most 65535 without leading zeros.
    #[error("authority has an invalid port")]
    PortInvalid,
    /// The port is 0.
    #[error("authority has port 0")]
    PortZero,
    /// There is no host before the port.
    #[error("authority has no host")]
    HostMissing,
    /// The host name is longer than 253 bytes.
    #[error("host name of {len} bytes exceeds {MAX_NAME} bytes")]
    NameTooLong {
        /// Length of the host name in bytes.
        len: usize,
    },
    /// A label of the host name is empty, too long, contains a character it must not, or begins or
    /// ends with `-`.
    #[error("host name has an invalid label")]
    Label,
    /// The host name ends in a number, so that some resolvers would read it as an IPv4 address.
    #[error("host name ends in a number but is no IPv4 address")]
    NumericName,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum OwnedHost {
    Ip(IpAddr),
    Name(Arc<str>),
}

fn parse_bracketed(rest: &str) -> Result<Authority, AuthorityError> {
    let (inside, after) = rest.split_once(']').ok_or(AuthorityError::Brackets)?;
    if inside.contains('%') {
        return Err(AuthorityError::ZoneId);
    }
    let ip: Ipv6Addr = inside.parse().map_err(|_| AuthorityError::Ipv6)?;
    if after.is_empty() {
        return Err(AuthorityError::PortMissing);
    }
    let port = after.strip_prefix(':').ok_or(AuthorityError::Brackets)?;
    Ok(Authority {
        host: OwnedHost::Ip(ip.to_canonical()),
        port: parse_port(port)?,
    })
}

fn parse_plain(text: &str) -> Result<Authority, AuthorityError> {
    let (host, port) = text.rsplit_once(':').ok_or(AuthorityError::PortMissing)?;
    if host.contains(':') {
        return Err(AuthorityError::Colons);
    }
    Authority::new(host, parse_port(port)?.get())
}

fn parse_port(text: &str) -> Result<NonZeroU16, AuthorityError> {
    if text.is_empty() {
        return Err(AuthorityError::PortMissing);
    }
    if text == "0" {
        return Err(AuthorityError::PortZero);
    }
    if text.starts_with('0') || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(AuthorityError::PortInvalid);
    }
    text.parse().map_err(|_| AuthorityError::PortInvalid)
}

fn parse_name(host: &str) -> Result<Arc<str>, AuthorityError> {
    if host.is_empty() {
        return Err(AuthorityError::HostMissing);
    }
    if host.len() > MAX_NAME {
        return Err(AuthorityError::NameTooLong { len: host.len() });
    }
    if !host.split('.').all(is_label) {
        return Err(AuthorityError::Label);
    }
    if host.rsplit('.').next().is_some_and(is_number) {
        return Err(AuthorityError::NumericName);
    }
    Ok(host.to_ascii_lowercase().into())
}

fn is_label(label: &str) -> bool {
    (1..=MAX_LABEL).contains(&label.len())
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

/// The forms that `inet_aton` reads: decimal, octal, or hexadecimal after `0x`.
fn is_number(label: &str) -> bool {
    let hex = label.strip_prefix("0x").or_else(|| label.strip_prefix("0X"));
    match hex {
        Some(digits) => digits.bytes().all(|byte| byte.is_ascii_hexdigit()),
        None => label.bytes().all(|byte| byte.is_ascii_digit()),
    }
}

const MAX_NAME: usize = 253;
const MAX_LABEL: usize = 63;
