//! Tunnels that are in use while things change, and who is behind an address.

use std::net::SocketAddr;

use hbone::Config;
use mesh_identity::VerifiedPeer;
use mesh_identity::tls::ClientTls;
use mesh_testkit::payload::Payload;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::soon;

/// Who answers at `addr`, to somebody whom it lets in.
pub async fn look(addr: SocketAddr, tls: &ClientTls) -> Option<VerifiedPeer> {
    let (client, _connection) = hbone::tls::dial(addr, tls, &Config::default()).await.ok()?;
    client.peer().identity().cloned()
}

/// A tunnel that is in use: whatever is lost, doubled or changed on it is noticed.
pub struct Tunnel {
    tcp: TcpStream,
    sent: Payload,
    received: Payload,
}

impl Tunnel {
    pub async fn open(addr: SocketAddr) -> Self {
        Self::on(TcpStream::connect(addr).await.unwrap()).await
    }

    /// On a connection that is there already.
    pub async fn on(tcp: TcpStream) -> Self {
        let (sent, received) = (Payload::new(7), Payload::new(7));
        let mut tunnel = Self { tcp, sent, received };
        tunnel.exchange().await;
        tunnel
    }

    pub async fn exchange(&mut self) {
        let chunk = self.sent.take(100_000);
        let mut back = vec![0; chunk.len()];
        let (mut read, mut write) = self.tcp.split();
        let both = async { tokio::join!(write.write_all(&chunk), read.read_exact(&mut back)) };
        let (written, got) = soon("echo", both).await;
        written.unwrap();
        got.unwrap();
        self.received.verify(&back);
    }

    /// The other side does not trust this one any more.
    pub async fn is_reset(&mut self) {
        let error = soon("reset", self.tcp.read(&mut [0])).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }

    pub async fn finish(mut self) {
        self.tcp.shutdown().await.unwrap();
        assert_eq!(soon("end", self.tcp.read(&mut [0])).await.unwrap(), 0);
    }
}
