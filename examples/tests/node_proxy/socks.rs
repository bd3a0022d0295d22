//! A client of SOCKS5.

use std::net::{IpAddr, SocketAddr};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::world::soon;

/// What a request is answered.
pub const NOT_ALLOWED: u8 = 2;
pub const HOST_UNREACHABLE: u8 = 4;
pub const REFUSED: u8 = 5;

/// Connects from `from` to a name or address by SOCKS5, or answers why not.
pub async fn connect(proxy: SocketAddr, from: IpAddr, (host, port): (&str, u16)) -> Result<TcpStream, u8> {
    let mut tcp = request(proxy, from, (host, port)).await;
    let mut answer = [0; 12];
    soon("answer", tcp.read_exact(&mut answer)).await.unwrap();
    assert_eq!(answer[..3], [5, 0, 5]);
    match answer[3] {
        0 => Ok(tcp),
        reply => Err(reply),
    }
}

/// Connects from `from` and asks, and leaves the answer to be read.
pub async fn request(proxy: SocketAddr, from: IpAddr, (host, port): (&str, u16)) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(from, 0)).unwrap();
    let mut tcp = socket.connect(proxy).await.unwrap();
    let mut request = vec![5, 1, 0, 5, 1, 0];
    match host.parse() {
        Ok(IpAddr::V4(ip)) => {
            request.push(1);
            request.extend(ip.octets());
        }
        Ok(IpAddr::V6(ip)) => {
            request.push(4);
            request.extend(ip.octets());
        }
        Err(_) => {
            request.extend([3, u8::try_from(host.len()).unwrap()]);
            request.extend(host.as_bytes());
        }
    }
    request.extend(port.to_be_bytes());
    tcp.write_all(&request).await.unwrap();
    tcp
}
