//! Listening sockets that share an address.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

const BACKLOG: i32 = 1024;

/// Listeners on one address, over which the kernel spreads connections.
pub(crate) struct Sockets {
    pub(crate) addr: SocketAddr,
    pub(crate) listeners: Vec<TcpListener>,
}

/// Binds `count` listeners, at least one, to `addr`. Port 0 takes a free port, the same for all.
pub(crate) fn bind(addr: SocketAddr, count: u16) -> Result<Sockets, BindError> {
    let fail = |error| BindError { addr, error };
    let shared = count > 1;
    let first = listener(addr, shared).map_err(fail)?;
    let bound = first.local_addr().map_err(fail)?;
    let mut listeners = vec![first];
    for _ in 1..count {
        listeners.push(listener(bound, shared).map_err(fail)?);
    }
    Ok(Sockets { addr: bound, listeners })
}

fn listener(addr: SocketAddr, shared: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    // Alone, it leaves the address to nobody else.
    socket.set_reuse_port(shared)?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// An address that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("`{addr}`: {error}")]
pub(crate) struct BindError {
    addr: SocketAddr,
    #[source]
    error: io::Error,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_share_a_free_port() {
        let Sockets { addr, listeners } = bind("127.0.0.1:0".parse().unwrap(), 3).unwrap();
        let addrs: Vec<_> = listeners
            .iter()
            .map(|listener| listener.local_addr().unwrap())
            .collect();
        assert_ne!(addr.port(), 0);
        assert_eq!(addrs, [addr; 3]);
    }

    #[test]
    fn a_lone_listener_shares_its_port_with_nobody() {
        let alone = bind("127.0.0.1:0".parse().unwrap(), 1).unwrap();
        assert!(bind(alone.addr, 1).is_err());
        assert!(bind(alone.addr, 2).is_err());
    }
}
