//! The line that says that everything listens.

use std::fmt;
use std::io::{self, Write};
use std::net::SocketAddr;

use serde::Serialize;

/// What is ready.
#[derive(Debug, Serialize)]
pub(super) struct Ready {
    /// Always `waypoint`.
    ready: &'static str,
    namespace: String,
    name: String,
    inbound: Vec<SocketAddr>,
    admin: Option<SocketAddr>,
}

impl Ready {
    pub(super) fn new(namespace: &str, name: &str, inbound: Vec<SocketAddr>, admin: Option<SocketAddr>) -> Self {
        Self {
            ready: "waypoint",
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            inbound,
            admin,
        }
    }

    pub(super) fn print(&self, json: bool) -> io::Result<()> {
        let line = match json {
            true => serde_json::to_string(self)?,
            false => format!("waypoint: ready: {self}"),
        };
        writeln!(io::stderr(), "{line}")
    }
}

impl fmt::Display for Ready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "waypoint {}/{}", self.namespace, self.name)?;
        for addr in &self.inbound {
            write!(f, ", tunnels on {addr}")?;
        }
        self.admin.iter().try_for_each(|addr| write!(f, ", admin on {addr}"))
    }
}
