//! The line that says that everything listens.

use std::fmt;
use std::io::{self, Write};
use std::net::SocketAddr;

use serde::Serialize;

use super::proxy::Role;

/// What is ready.
#[derive(Debug, Serialize)]
pub(super) struct Ready {
    /// Always `node_proxy`.
    ready: &'static str,
    node: String,
    inbound: Vec<SocketAddr>,
    plaintext: Vec<SocketAddr>,
    outbound: Vec<SocketAddr>,
    socks5: Vec<SocketAddr>,
    admin: Option<SocketAddr>,
}

impl Ready {
    pub(super) fn new(node: &str, admin: Option<SocketAddr>) -> Self {
        Self {
            ready: "node_proxy",
            node: node.to_owned(),
            inbound: Vec::new(),
            plaintext: Vec::new(),
            outbound: Vec::new(),
            socks5: Vec::new(),
            admin,
        }
    }

    pub(super) fn with(mut self, role: &Role, addr: SocketAddr) -> Self {
        match role {
            Role::Inbound => self.inbound.push(addr),
            Role::Plaintext(_) => self.plaintext.push(addr),
            Role::Outbound => self.outbound.push(addr),
            Role::Socks5(_) => self.socks5.push(addr),
        }
        self
    }

    pub(super) fn print(&self, json: bool) -> io::Result<()> {
        let line = match json {
            true => serde_json::to_string(self)?,
            false => format!("node-proxy: ready: {self}"),
        };
        writeln!(io::stderr(), "{line}")
    }
}

impl fmt::Display for Ready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {}", self.node)?;
        for (name, addrs) in [
            ("tunnels", self.inbound.as_slice()),
            ("plaintext", &self.plaintext),
            ("outbound", &self.outbound),
            ("socks5", &self.socks5),
            ("admin", self.admin.as_slice()),
        ] {
            for addr in addrs {
                write!(f, ", {name} on {addr}")?;
            }
        }
        Ok(())
    }
}
