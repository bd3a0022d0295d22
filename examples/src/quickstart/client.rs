//! Connections as workloads make them: captured by their node's proxy, or past all proxies.

use std::io;
use std::net::{IpAddr, SocketAddr};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use super::patience::soon;
use super::undeclared::Undeclared;

/// What a workload says, and hears if it was connected to an echo.
const HELLO: [u8; 6] = *b"hello\n";

/// A connection of a workload, which has an address of its own.
pub(super) struct Connection {
    tcp: TcpStream,
    /// Where it comes from.
    pub(super) local: SocketAddr,
    /// Bytes that went each way.
    pub(super) echoed: u64,
}

impl Connection {
    /// Connects by SOCKS5 (RFC 1928).
    pub(super) async fn by_proxy(
        proxy: SocketAddr,
        from: IpAddr,
        (host, port): (&str, u16),
    ) -> Result<Result<Self, Refusal>, Undeclared> {
        let Self { mut tcp, local, .. } = Origin::at(from)?.connect(proxy).await?;
        let len = u8::try_from(host.len()).map_err(io::Error::other)?;
        let mut request = vec![5, 1, 0, 5, 1, 0, 3, len];
        request.extend(host.as_bytes());
        request.extend(port.to_be_bytes());
        tcp.write_all(&request).await?;
        let mut answer = [0; 12];
        soon("answer by SOCKS5", tcp.read_exact(&mut answer)).await??;
        match answer {
            [5, 0, 5, 0, ..] => Ok(Ok(Self { tcp, local, echoed: 0 })),
            [_, _, _, code, ..] => Ok(Err(Refusal { code, local })),
        }
    }

    /// Says something and hears it from the other end.
    pub(super) async fn echo(&mut self) -> Result<(), Undeclared> {
        self.echo_of(&HELLO).await
    }

    pub(super) async fn echo_of(&mut self, said: &[u8]) -> Result<(), Undeclared> {
        let mut heard = vec![0; said.len()];
        let (mut read, mut write) = self.tcp.split();
        let both = async { tokio::try_join!(write.write_all(said), read.read_exact(&mut heard)) };
        soon("echo", both).await??;
        self.echoed += said.len() as u64;
        match heard == said {
            true => Ok(()),
            false => Err(Undeclared::Other {
                wanted: "an echo is what was said",
                seen: "it was something else".to_owned(),
            }),
        }
    }

    /// Ends it in order, at both ends.
    pub(super) async fn finish(mut self) -> Result<(), Undeclared> {
        self.tcp.shutdown().await?;
        let left = soon("end of a connection", self.tcp.read(&mut [0])).await??;
        match left {
            0 => Ok(()),
            _ => Err(Undeclared::Other {
                wanted: "nothing follows the echo",
                seen: "something did".to_owned(),
            }),
        }
    }

    /// Waits until it is ended from elsewhere.
    pub(super) async fn lost(&mut self) -> Result<(), Undeclared> {
        match soon("end of a tunnel", self.tcp.read(&mut [0])).await? {
            Ok(0) | Err(_) => Ok(()),
            Ok(_) => Err(Undeclared::Other {
                wanted: "the tunnel is closed",
                seen: "it brought something".to_owned(),
            }),
        }
    }

    pub(super) fn into_tcp(self) -> TcpStream {
        self.tcp
    }
}

/// Where a connection is to come from.
pub(super) struct Origin {
    socket: TcpSocket,
    /// Known beforehand: a connection may be reset before it tells.
    pub(super) local: SocketAddr,
}

impl Origin {
    pub(super) fn at(ip: IpAddr) -> io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::new(ip, 0))?;
        socket.set_nodelay(true)?;
        let local = socket.local_addr()?;
        Ok(Self { socket, local })
    }

    pub(super) async fn connect(self, to: SocketAddr) -> Result<Connection, Undeclared> {
        let Self { socket, local } = self;
        let tcp = soon("connection", socket.connect(to)).await??;
        Ok(Connection { tcp, local, echoed: 0 })
    }
}

/// A connection that the proxy does not make.
pub(super) struct Refusal {
    pub(super) code: u8,
    /// Where it was asked for from.
    pub(super) local: SocketAddr,
}

impl Refusal {
    /// What a workload is told, by the words of RFC 1928.
    pub(super) fn text(&self) -> &'static str {
        match self.code {
            2 => "not allowed by ruleset",
            4 => "host unreachable",
            5 => "connection refused",
            _ => "general failure",
        }
    }
}
