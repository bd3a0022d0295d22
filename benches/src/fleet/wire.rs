//! The TLS connections between proxies, as the kernel lists them.

use std::collections::HashSet;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use super::world::World;

/// Connections to one port of the workloads' addresses that were seen so far.
#[derive(Debug)]
pub struct Wire {
    port: u16,
    /// The two ends, the client's first.
    seen: HashSet<(SocketAddr, SocketAddr)>,
}

impl Wire {
    /// Has seen no connection to `port`.
    pub fn new(port: u16) -> Self {
        Self {
            port,
            seen: HashSet::new(),
        }
    }

    /// Looks which connections there are; answers how many are open. One that was closed is listed for
    /// a while after, so none is missed between looks that follow each other closely.
    pub fn look(&mut self, world: &World) -> io::Result<usize> {
        let text = std::fs::read_to_string("/proc/net/tcp")?;
        let mut open = 0;
        for socket in text.lines().filter_map(Socket::parse) {
            if !socket.is_connection() {
                continue;
            }
            let is_server = |addr: SocketAddr| addr.port() == self.port && world.has(addr.ip());
            if is_server(socket.local) {
                open += usize::from(socket.is_open());
                self.seen.insert((socket.remote, socket.local));
            } else if is_server(socket.remote) {
                self.seen.insert((socket.local, socket.remote));
            }
        }
        Ok(open)
    }

    /// How many connections there were.
    pub fn seen(&self) -> usize {
        self.seen.len()
    }
}

/// A line of the list.
struct Socket {
    local: SocketAddr,
    remote: SocketAddr,
    state: u8,
}

impl Socket {
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace().skip(1);
        Some(Self {
            local: addr(words.next()?)?,
            remote: addr(words.next()?)?,
            state: u8::from_str_radix(words.next()?, 16).ok()?,
        })
    }

    fn is_open(&self) -> bool {
        self.state == 1
    }

    /// Neither listens (10) nor asks to be connected (2).
    fn is_connection(&self) -> bool {
        !matches!(self.state, 2 | 10)
    }
}

/// An address as the kernel writes it: the bytes of a number in the machine's order, and a port.
fn addr(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let ip = u32::from_str_radix(ip, 16).ok()?.to_ne_bytes();
    Some((Ipv4Addr::from(ip), u16::from_str_radix(port, 16).ok()?).into())
}
