//! The PROXY protocol, version 2: where a connection says that it comes from and what it is for.

use std::net::{IpAddr, SocketAddr};

use mesh_testkit::policy::wire::Connection;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};

/// The type of the field with metadata, one of those for private use.
pub const METADATA_TLV: u8 = 0xe0;

/// The type of the field with what a connection is called in the log.
pub const NAME_TLV: u8 = 0xe1;

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// A connection to Envoy that has said where it comes from.
pub async fn connect(envoy: SocketAddr, connection: &Connection, source_port: u16, name: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((connection.source, 0).into()).unwrap();
    let mut stream = socket.connect(envoy).await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream.write_all(&header(connection, source_port, name)).await.unwrap();
    stream
}

fn header(connection: &Connection, source_port: u16, name: &str) -> Vec<u8> {
    let mut body = Vec::new();
    let mut family = 0x11;
    for address in [connection.remote, connection.destination] {
        match address {
            IpAddr::V4(v4) => body.extend(v4.octets()),
            IpAddr::V6(v6) => {
                family = 0x21;
                body.extend(v6.octets());
            }
        }
    }
    body.extend(source_port.to_be_bytes());
    body.extend(connection.port.to_be_bytes());
    let metadata = connection.metadata.map(|text| (METADATA_TLV, text));
    for (kind, text) in metadata.into_iter().chain([(NAME_TLV, name)]) {
        body.push(kind);
        body.extend(u16::try_from(text.len()).unwrap().to_be_bytes());
        body.extend(text.as_bytes());
    }
    let length = u16::try_from(body.len()).unwrap().to_be_bytes();
    [SIGNATURE, &[0x21, family], &length, &body].concat()
}
