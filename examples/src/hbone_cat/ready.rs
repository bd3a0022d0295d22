//! The line that says that everything listens.

use std::fmt;
use std::io::{self, Write};
use std::net::SocketAddr;

use serde::Serialize;

/// What is ready.
#[derive(Debug, Serialize)]
#[serde(tag = "ready", rename_all = "snake_case")]
pub(super) enum Ready {
    Serve {
        bind: SocketAddr,
        forward: Option<SocketAddr>,
        identity: String,
    },
    /// `listen` is absent where the tunnel is for stdin and stdout; it is open then.
    Dial {
        listen: Option<SocketAddr>,
        peer: SocketAddr,
        target: String,
        identity: String,
    },
}

impl Ready {
    pub(super) fn print(&self, json: bool) -> io::Result<()> {
        let line = match json {
            true => serde_json::to_string(self)?,
            false => format!("hbone-cat: ready: {self}"),
        };
        writeln!(io::stderr(), "{line}")
    }
}

impl fmt::Display for Ready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Serve {
                bind,
                forward,
                identity,
            } => {
                write!(f, "tunnels on {bind}")?;
                match forward {
                    Some(addr) => write!(f, " go to {addr}")?,
                    None => write!(f, " go to their destinations")?,
                }
                write!(f, ", as {identity}")
            }
            Self::Dial {
                listen,
                peer,
                target,
                identity,
            } => {
                match listen {
                    Some(addr) => write!(f, "connections on {addr} go")?,
                    None => write!(f, "stdin goes")?,
                }
                write!(f, " to {target} through {peer}, as {identity}")
            }
        }
    }
}
