//! Where connections were going before the kernel brought them here.

use std::io;
use std::net::SocketAddr;

use socket2::SockRef;
use tokio::net::TcpStream;

/// The destination of a connection: the original one where the kernel redirected it, or else the
/// address that it was made to.
pub(super) fn destination(tcp: &TcpStream) -> io::Result<SocketAddr> {
    let local = tcp.local_addr()?;
    let socket = SockRef::from(tcp);
    let original = match local.ip().to_canonical().is_ipv4() {
        true => socket.original_dst_v4(),
        false => socket.original_dst_v6(),
    };
    let original = original.ok().and_then(|original| original.as_socket());
    let destination = original.unwrap_or(local);
    Ok(SocketAddr::new(destination.ip().to_canonical(), destination.port()))
}
