//! The line that says that everything listens.

use std::fmt;
use std::io::{self, Write};
use std::net::SocketAddr;

use serde::Serialize;

/// What is ready.
#[derive(Debug, Serialize)]
pub(super) struct Ready {
    /// Always `control_plane`.
    ready: &'static str,
    addr: SocketAddr,
    admin: Option<SocketAddr>,
}

impl Ready {
    pub(super) fn new(addr: SocketAddr, admin: Option<SocketAddr>) -> Self {
        Self {
            ready: "control_plane",
            addr,
            admin,
        }
    }

    pub(super) fn print(&self, json: bool) -> io::Result<()> {
        let line = match json {
            true => serde_json::to_string(self)?,
            false => format!("control-plane: ready: {self}"),
        };
        writeln!(io::stderr(), "{line}")
    }
}

impl fmt::Display for Ready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "discovery and certificates on {}", self.addr)?;
        if let Some(admin) = self.admin {
            write!(f, ", admin on {admin}")?;
        }
        Ok(())
    }
}
