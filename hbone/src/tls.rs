//! Mutual TLS under a connection: sockets in, verified streams out.
//!
//! [`connect`] and [`accept`] do the TLS handshake on any byte stream and answer with a stream
//! and the [`Peer`] whose identity was verified. [`dial`] does all of it for a client, from an
//! address to a [`Client`].

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use mesh_identity::tls::{ClientTls, HandshakeError, ServerTls};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::client::{self, Client};
use crate::config::Config;
use crate::conn::Connection;
use crate::peer::Peer;
use crate::read_ahead::ReadAhead;
use crate::wire::Blame;

/// Plaintext that may wait inside the TLS layer: one turn's output of a connection.
const SEND_BUFFER: usize = 512 * 1024;

/// TCP keepalive for what HTTP/2 PING cannot see, such as a peer that vanished during TLS.
const TCP_KEEPALIVE: Duration = Duration::from_secs(180);

/// Dials `addr` and makes a connection to the peer there, whose identity `tls` authorizes.
///
/// # Errors
///
/// See [`DialError`].
///
/// # Cancel safety
///
/// Dropping the call closes the socket.
pub async fn dial(
    addr: SocketAddr,
    tls: &ClientTls,
    config: &Config,
) -> Result<(Client, Connection<TlsStream<TcpStream>>), DialError> {
    let tcp = timeout(config.handshake_timeout(), TcpStream::connect(addr));
    let tcp = tcp.await.map_err(|_| DialError::Timeout)?.map_err(DialError::Tcp)?;
    prepare(&tcp).map_err(DialError::Tcp)?;
    let (stream, peer) = connect(tcp, tls, config).await?;
    handshake(stream, peer.with_addr(addr), config).await
}

/// Makes an HTTP/2 connection on a TLS stream. A peer that refused this side's certificate says
/// so only now, in an alert.
pub(crate) async fn handshake<Io>(
    stream: TlsStream<Io>,
    peer: Peer,
    config: &Config,
) -> Result<(Client, Connection<TlsStream<Io>>), DialError>
where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    let failure = Arc::clone(&stream.failure);
    client::handshake(stream, peer, config)
        .await
        .map_err(|error| match failure.get() {
            Some(failure) => DialError::Tls(TlsError::Handshake(failure.clone())),
            None => DialError::Http2(error),
        })
}

/// Sets what a tunnel's socket needs: no delay for small writes, keepalive for a dead network.
///
/// # Errors
///
/// If the operating system refuses an option.
pub fn prepare(tcp: &TcpStream) -> io::Result<()> {
    tcp.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(TCP_KEEPALIVE)
        .with_interval(TCP_KEEPALIVE);
    SockRef::from(tcp).set_tcp_keepalive(&keepalive)
}

/// Does the client's TLS handshake on `io` and verifies the peer.
///
/// # Errors
///
/// If the handshake fails, the peer is not one that `tls` authorizes, or the configured handshake
/// timeout passes.
///
/// # Cancel safety
///
/// Dropping the call drops `io`.
pub async fn connect<Io>(io: Io, tls: &ClientTls, config: &Config) -> Result<(TlsStream<Io>, Peer), TlsError>
where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    let connector = TlsConnector::from(tls.config());
    let handshake = connector.connect(tls.server_name(), ReadAhead::new(io));
    let mut stream = within(config, handshake).await?;
    let peer = tls.verified_peer(stream.get_ref().1)?;
    stream.get_mut().1.set_buffer_limit(Some(SEND_BUFFER));
    Ok((TlsStream::new(stream.into()), Peer::verified(peer)))
}

/// Does the server's TLS handshake on `io` and verifies the peer.
///
/// # Errors
///
/// If the handshake fails, the peer is not one that `tls` authorizes, or the configured handshake
/// timeout passes.
///
/// # Cancel safety
///
/// Dropping the call drops `io`.
pub async fn accept<Io>(io: Io, tls: &ServerTls, config: &Config) -> Result<(TlsStream<Io>, Peer), TlsError>
where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    let handshake = TlsAcceptor::from(tls.config()).accept(ReadAhead::new(io));
    let mut stream = within(config, handshake).await?;
    let peer = tls.verified_peer(stream.get_ref().1)?;
    stream.get_mut().1.set_buffer_limit(Some(SEND_BUFFER));
    Ok((TlsStream::new(stream.into()), Peer::verified(peer)))
}

async fn within<T>(config: &Config, handshake: impl Future<Output = io::Result<T>>) -> Result<T, TlsError> {
    let done = timeout(config.handshake_timeout(), handshake).await;
    done.map_err(|_| TlsError::Timeout)?
        .map_err(|error| TlsError::Handshake(HandshakeError::from_io(&error)))
}

/// A byte stream under mutual TLS.
pub struct TlsStream<Io> {
    inner: tokio_rustls::TlsStream<ReadAhead<Io>>,
    /// What the peer's TLS said when it ended the stream, if it said so.
    failure: Arc<OnceLock<HandshakeError>>,
}

impl<Io> TlsStream<Io> {
    fn new(inner: tokio_rustls::TlsStream<ReadAhead<Io>>) -> Self {
        Self {
            inner,
            failure: Arc::default(),
        }
    }
}

impl<Io: AsyncRead + AsyncWrite + Unpin> AsyncRead for TlsStream<Io> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = ready!(Pin::new(&mut self.inner).poll_read(cx, buf));
        if let Err(error) = &read
            && error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>())
        {
            self.failure.get_or_init(|| HandshakeError::from_io(error));
        }
        Poll::Ready(read)
    }
}

impl<Io: AsyncRead + AsyncWrite + Unpin> AsyncWrite for TlsStream<Io> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

impl<Io> fmt::Debug for TlsStream<Io> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsStream").finish_non_exhaustive()
    }
}

/// Why a TLS handshake failed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// The configured handshake timeout passed.
    #[error("TLS handshake timed out")]
    Timeout,
    /// The handshake failed, or the peer is not authorized.
    #[error("TLS handshake failed: {0}")]
    Handshake(#[from] HandshakeError),
}

impl TlsError {
    /// Why the handshake failed; `None` if it took too long.
    #[must_use]
    pub fn handshake(&self) -> Option<&HandshakeError> {
        match self {
            Self::Timeout => None,
            Self::Handshake(error) => Some(error),
        }
    }

    /// Who is to blame.
    #[must_use]
    pub fn blame(&self) -> Blame {
        match self {
            Self::Timeout => Blame::Network,
            Self::Handshake(error) => match error.blame() {
                mesh_identity::tls::Blame::Peer => Blame::Peer,
                mesh_identity::tls::Blame::Network => Blame::Network,
                _ => Blame::Local,
            },
        }
    }
}

/// Why a connection could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DialError {
    /// The TCP connection took longer than the configured handshake timeout.
    #[error("TCP connect timed out")]
    Timeout,
    /// The TCP connection failed.
    #[error("TCP connect failed: {0}")]
    Tcp(#[source] io::Error),
    /// TLS failed, or one side refused the other's certificate.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The peer did not begin HTTP/2.
    #[error(transparent)]
    Http2(client::HandshakeError),
}
