//! The nodes that a `forwarded` field names: RFC 7239, section 6.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// A node: an address or a name that hides it, with or without a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Node {
    name: NodeName,
    port: Option<NodePort>,
}

impl Node {
    /// The address, or what stands in its place.
    #[must_use]
    pub fn name(&self) -> &NodeName {
        &self.name
    }

    /// The port, or what stands in its place.
    #[must_use]
    pub fn port(&self) -> Option<&NodePort> {
        self.port.as_ref()
    }
}

/// Takes the address as a peer would print it: IPv4-mapped addresses as IPv4, without a zone.
impl From<SocketAddr> for Node {
    fn from(addr: SocketAddr) -> Self {
        Self {
            name: NodeName::Ip(addr.ip().to_canonical()),
            port: Some(NodePort::Number(addr.port())),
        }
    }
}

impl FromStr for Node {
    type Err = NodeError;

    fn from_str(text: &str) -> Result<Self, NodeError> {
        let (name, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (inside, after) = rest.split_once(']').ok_or(NodeError)?;
                let ip: Ipv6Addr = inside.parse().map_err(|_| NodeError)?;
                let port = match after {
                    "" => None,
                    after => Some(after.strip_prefix(':').ok_or(NodeError)?),
                };
                (NodeName::Ip(ip.to_canonical()), port)
            }
            None => match text.split_once(':') {
                Some((name, port)) => (parse_node_name(name)?, Some(port)),
                None => (parse_node_name(text)?, None),
            },
        };
        let port = port.map(parse_node_port).transpose()?;
        Ok(Self { name, port })
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            NodeName::Ip(IpAddr::V4(ip)) => ip.fmt(f)?,
            NodeName::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]")?,
            NodeName::Unknown => f.write_str("unknown")?,
            NodeName::Obfuscated(name) => f.write_str(name)?,
        }
        match &self.port {
            Some(NodePort::Number(port)) => write!(f, ":{port}"),
            Some(NodePort::Obfuscated(port)) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

/// The address of a [`Node`], or what stands in its place.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum NodeName {
    /// An address; never an IPv4-mapped IPv6 one.
    Ip(IpAddr),
    /// The sender does not know it.
    Unknown,
    /// The sender hides it behind an identifier, which starts with `_`.
    Obfuscated(Box<str>),
}

/// The port of a [`Node`], or what stands in its place.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum NodePort {
    /// A port number.
    Number(u16),
    /// The sender hides it behind an identifier, which starts with `_`.
    Obfuscated(Box<str>),
}

/// Why a text cannot be a [`Node`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[error("forwarded node is not an address, `unknown` or an obfuscated identifier")]
pub struct NodeError;

fn parse_node_name(text: &str) -> Result<NodeName, NodeError> {
    if text.eq_ignore_ascii_case("unknown") {
        return Ok(NodeName::Unknown);
    }
    if is_obfuscated(text) {
        return Ok(NodeName::Obfuscated(text.into()));
    }
    let ip: Ipv4Addr = text.parse().map_err(|_| NodeError)?;
    Ok(NodeName::Ip(IpAddr::V4(ip)))
}

fn parse_node_port(text: &str) -> Result<NodePort, NodeError> {
    if is_obfuscated(text) {
        return Ok(NodePort::Obfuscated(text.into()));
    }
    if text.len() > 5 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(NodeError);
    }
    text.parse().map(NodePort::Number).map_err(|_| NodeError)
}

fn is_obfuscated(text: &str) -> bool {
    text.strip_prefix('_').is_some_and(|rest| {
        !rest.is_empty()
            && rest
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
    })
}
