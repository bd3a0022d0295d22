use std::net::IpAddr;

use mesh_xds_types::workload::{GatewayAddress, NamespacedHostname, NetworkAddress, Port, gateway_address};

use super::fault::{LocalFault, Located};
use super::node::{Node, Value};

/// The fields of a mapping, taken one by one, so that what is left is unknown.
pub(super) struct Fields<'a> {
    line: usize,
    left: Vec<(&'a str, &'a Node)>,
}

impl<'a> Fields<'a> {
    pub(super) fn new(node: &'a Node, field: &str) -> Located<Self> {
        match &node.value {
            Value::Fields(fields) => Ok(Self {
                line: node.line,
                left: fields.iter().map(|(name, node)| (name.as_str(), node)).collect(),
            }),
            Value::Text(text) if text.is_empty() => Ok(Self {
                line: node.line,
                left: Vec::new(),
            }),
            _ => unsupported(node, field, "a mapping"),
        }
    }

    pub(super) fn take(&mut self, name: &str) -> Option<&'a Node> {
        let place = self.left.iter().position(|(known, _)| *known == name)?;
        Some(self.left.swap_remove(place).1)
    }

    pub(super) fn require(&mut self, name: &'static str) -> Located<&'a Node> {
        self.take(name).ok_or((self.line, LocalFault::Missing(name)))
    }

    /// A text, empty if it is not there.
    pub(super) fn text(&mut self, name: &str) -> Located<String> {
        self.take(name)
            .map_or_else(|| Ok(String::new()), |node| text(node, name))
    }

    /// A truth value, false if it is not there.
    pub(super) fn flag(&mut self, name: &str) -> Located<bool> {
        self.take(name).map_or(Ok(false), |node| flag(node, name))
    }

    /// One of some names, in whichever case of letters; the first one if it is not there.
    pub(super) fn one_of(&mut self, name: &str, names: &[&str], expected: &'static str) -> Located<i32> {
        self.take(name)
            .map_or(Ok(0), |node| one_of(node, name, names, expected))
    }

    /// Texts, none if they are not there.
    pub(super) fn texts(&mut self, name: &str) -> Located<Vec<String>> {
        items(self.take(name), name)?
            .iter()
            .map(|node| text(node, name))
            .collect()
    }

    /// What has not been taken.
    pub(super) fn rest(self) -> impl Iterator<Item = (&'a str, &'a Node)> {
        self.left.into_iter()
    }

    pub(super) fn end(self) -> Located<()> {
        match self.left.iter().min_by_key(|(_, node)| node.line) {
            Some((name, node)) => Err((node.line, LocalFault::Unknown((*name).to_owned()))),
            None => Ok(()),
        }
    }
}

/// The parts of a list, none if it is not there.
pub(super) fn items<'a>(node: Option<&'a Node>, field: &str) -> Located<&'a [Node]> {
    match node {
        None => Ok(&[]),
        Some(node) => match &node.value {
            Value::List(list) => Ok(list),
            Value::Text(text) if text.is_empty() => Ok(&[]),
            _ => unsupported(node, field, "a list"),
        },
    }
}

pub(super) fn text(node: &Node, field: &str) -> Located<String> {
    match &node.value {
        Value::Text(text) => Ok(text.clone()),
        _ => unsupported(node, field, "a text"),
    }
}

pub(super) fn number(node: &Node, field: &str) -> Located<u32> {
    text(node, field)?
        .parse()
        .or_else(|_| unsupported(node, field, "a number"))
}

pub(super) fn flag(node: &Node, field: &str) -> Located<bool> {
    match text(node, field)?.as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => unsupported(node, field, "`true` or `false`"),
    }
}

pub(super) fn one_of(node: &Node, field: &str, names: &[&str], expected: &'static str) -> Located<i32> {
    let text = text(node, field)?;
    match names
        .iter()
        .position(|name| name.eq_ignore_ascii_case(&text))
        .map(i32::try_from)
    {
        Some(Ok(place)) => Ok(place),
        _ => unsupported(node, field, expected),
    }
}

/// An address, as the wire has it.
pub(super) fn ip(node: &Node, field: &str) -> Located<Vec<u8>> {
    ip_bytes(&text(node, field)?).map_or_else(|| unsupported(node, field, "an IP address"), Ok)
}

/// `network/IP`, or `network/IP/LENGTH` for a block.
pub(super) fn network_address(node: &Node, field: &str) -> Located<NetworkAddress> {
    let whole = text(node, field)?;
    let read = || {
        let (network, rest) = whole.split_once('/')?;
        let (address, length) = match rest.split_once('/') {
            None => (rest, None),
            Some((address, length)) => (address, Some(length.parse().ok()?)),
        };
        Some(NetworkAddress {
            network: network.to_owned(),
            address: ip_bytes(address)?,
            length,
        })
    };
    read().map_or_else(|| unsupported(node, field, "`network/IP` or `network/IP/LENGTH`"), Ok)
}

/// Ports of a service with those that they lead to.
pub(super) fn ports(node: &Node, field: &str) -> Located<Vec<Port>> {
    Fields::new(node, field)?
        .rest()
        .map(|(service, target)| {
            Ok(Port {
                service_port: service.parse().or_else(|_| unsupported(target, service, "a port"))?,
                target_port: number(target, service)?,
                app_protocol: 0,
            })
        })
        .collect()
}

/// Where a waypoint or gateway is.
pub(super) fn gateway(node: Option<&Node>, field: &str) -> Located<Option<GatewayAddress>> {
    let Some(node) = node else {
        return Ok(None);
    };
    let mut fields = Fields::new(node, field)?;
    let mut destination = Fields::new(fields.require("destination")?, "destination")?;
    let hbone_mtls_port = fields
        .take("hboneMtlsPort")
        .map_or(Ok(0), |node| number(node, "hboneMtlsPort"))?;
    fields.end()?;
    let place = match destination.take("address") {
        Some(address) => gateway_address::Destination::Address(NetworkAddress {
            network: destination.text("network")?,
            address: ip(address, "address")?,
            length: None,
        }),
        None => gateway_address::Destination::Hostname(NamespacedHostname {
            namespace: destination.text("namespace")?,
            hostname: text(destination.require("hostname")?, "hostname")?,
        }),
    };
    destination.end()?;
    Ok(Some(GatewayAddress {
        destination: Some(place),
        hbone_mtls_port,
    }))
}

/// A value that is none of those that a field may have.
pub(super) fn unsupported<T>(node: &Node, field: &str, expected: &'static str) -> Located<T> {
    let field = field.to_owned();
    Err((node.line, LocalFault::Kind { field, expected }))
}

fn ip_bytes(text: &str) -> Option<Vec<u8>> {
    match text.parse().ok()? {
        IpAddr::V4(address) => Some(address.octets().to_vec()),
        IpAddr::V6(address) => Some(address.octets().to_vec()),
    }
}
