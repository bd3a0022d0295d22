//! Opening tunnels.
//!
//! [`handshake`] makes a [`Client`], which opens tunnels, and a [`Connection`], which does the
//! work and has to be polled.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::config::Config;
use crate::conn::Connection;
pub use crate::handshake::HandshakeError;
use crate::lost::Lost;
use crate::mailbox::{Mailbox, Open};
use crate::observe::{Event, Role};
use crate::peer::Peer;
use crate::request::{ResponseError, TunnelRequest, TunnelResponse};
use crate::slot::Slot;
use crate::status::Status;
use crate::stream::TunnelStream;
use crate::tunnel::{OpenFailure, Tunnel, TunnelError};
use crate::wire::{Blame, ErrorCode, HeadFault, Refusal};

/// Makes a connection over `io`, which is connected to `peer`, and waits for the peer's SETTINGS.
///
/// Waiting costs a round trip once, and buys two things: the peer's limit on tunnels is known
/// before the first is opened, and a peer that refuses this side's certificate is seen here
/// rather than at the first tunnel, since TLS 1.3 judges it only after this side has finished.
///
/// # Errors
///
/// If the transport fails, the peer does not speak HTTP/2, or the configured handshake timeout
/// passes.
///
/// # Cancel safety
///
/// Dropping the call drops `io`.
pub async fn handshake<Io>(io: Io, peer: Peer, config: &Config) -> Result<(Client, Connection<Io>), HandshakeError>
where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    let made = timeout(config.handshake_timeout(), exchange(io, peer, config)).await;
    let made = made.unwrap_or(Err(HandshakeError::Timeout));
    config.observe(&Event::handshake(Role::Client, made.as_ref().err()));
    made
}

async fn exchange<Io>(io: Io, peer: Peer, config: &Config) -> Result<(Client, Connection<Io>), HandshakeError>
where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    let (client, mut connection) = start(io, peer, config).await?;
    let ready = poll_fn(|cx| {
        let ended = pin!(&mut connection).poll(cx);
        match ended {
            Poll::Ready(result) => Poll::Ready(Err(HandshakeError::Lost(
                result.err().unwrap_or(Lost::Io(io::ErrorKind::UnexpectedEof)),
            ))),
            Poll::Pending if connection.is_ready() => Poll::Ready(Ok(())),
            Poll::Pending => Poll::Pending,
        }
    });
    ready.await?;
    Ok((client, connection))
}

async fn start<Io>(io: Io, peer: Peer, config: &Config) -> Result<(Client, Connection<Io>), HandshakeError>
where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    let mailbox = Arc::new(Mailbox::default());
    let (publish, status) = watch::channel(Status::default());
    let shared = Shared {
        mailbox: Arc::clone(&mailbox),
        status,
        config: config.clone(),
        peer,
    };
    let connection = Connection::client(io, mailbox, publish, config.clone()).await?;
    Ok((
        Client {
            shared: Arc::new(shared),
        },
        connection,
    ))
}

/// Opens tunnels on one connection.
///
/// Cheap to clone. When the last clone is dropped the connection takes no more tunnels and ends
/// with the last that is open.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

impl Client {
    /// Opens a tunnel and waits for the peer's answer.
    ///
    /// If the connection carries as many tunnels as it may, waits for one to end.
    ///
    /// # Errors
    ///
    /// See [`OpenError`]; [`OpenError::is_unprocessed`] says whether the same request can be sent
    /// again on another connection without harm.
    ///
    /// # Cancel safety
    ///
    /// Dropping the call gives the request up; if it was sent, its stream is reset with CANCEL.
    pub async fn open(&self, request: TunnelRequest) -> Result<TunnelStream, OpenError> {
        self.request(&request, None).await
    }

    /// As [`open`](Self::open), in a place that is kept on this connection. If there is no room
    /// after all, fails at once, unprocessed.
    pub(crate) async fn open_in(&self, slot: Slot, request: &TunnelRequest) -> Result<TunnelStream, OpenError> {
        self.request(request, Some(slot)).await
    }

    async fn request(&self, request: &TunnelRequest, slot: Option<Slot>) -> Result<TunnelStream, OpenError> {
        let config = &self.shared.config;
        let tunnel = Tunnel::new(
            Arc::clone(self.shared.mailbox.bell()),
            config.send_buffer(),
            config.stream_window(),
        );
        let open = Open {
            tunnel: Arc::clone(&tunnel),
            head: request.to_head(),
            slot,
        };
        if !self.shared.mailbox.open(open) {
            return Err(OpenError::closed());
        }
        let mut opening = Opening(Some(tunnel));
        let answered = timeout(config.response_timeout(), opening.answer()).await;
        let head = answered.map_err(|_| OpenError::Timeout)??;
        let response = TunnelResponse::from_parts(&head).map_err(|error| opening.reject(error))?;
        let tunnel = opening.0.take().ok_or_else(OpenError::closed)?;
        Ok(TunnelStream::new(tunnel, self.shared.peer.clone(), response))
    }

    /// Who is at the other end of the connection.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        &self.shared.peer
    }

    /// How the connection is.
    #[must_use]
    pub fn status(&self) -> Status {
        *self.shared.status.borrow()
    }

    /// Waits until `condition` holds for the connection's status, or its driver is gone.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn wait_for(&self, condition: impl FnMut(&Status) -> bool) -> Status {
        let mut status = self.shared.status.clone();
        match status.wait_for(condition).await {
            Ok(status) => *status,
            Err(_) => self.status(),
        }
    }

    /// Opens no more tunnels, gives the open ones the configured drain timeout to end, and then
    /// resets them and ends the connection.
    pub fn drain(&self) {
        self.drain_within(self.shared.config.drain_timeout());
    }

    /// As [`drain`](Self::drain), with another timeout.
    pub fn drain_within(&self, timeout: Duration) {
        self.shared.mailbox.order(|orders| orders.drain = Some(timeout));
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("peer", &self.shared.peer)
            .field("status", &self.status())
            .finish_non_exhaustive()
    }
}

struct Shared {
    mailbox: Arc<Mailbox>,
    status: watch::Receiver<Status>,
    config: Config,
    peer: Peer,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.mailbox.order(|orders| orders.abandoned = true);
    }
}

/// A tunnel whose answer is awaited; given up if dropped.
struct Opening(Option<Arc<Tunnel>>);

impl Opening {
    async fn answer(&self) -> Result<Box<http::response::Parts>, OpenError> {
        let Some(tunnel) = &self.0 else {
            return Err(OpenError::closed());
        };
        poll_fn(|cx| tunnel.poll_response(cx)).await.map_err(OpenError::from)
    }

    fn reject(&mut self, error: ResponseError) -> OpenError {
        match error {
            ResponseError::Refused(refusal) => {
                self.0 = None;
                OpenError::Refused(refusal)
            }
            ResponseError::Malformed(fault) => {
                if let Some(tunnel) = self.0.take() {
                    tunnel.reset(ErrorCode::PROTOCOL_ERROR);
                }
                OpenError::Malformed(fault)
            }
        }
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        if let Some(tunnel) = &self.0 {
            tunnel.reset(ErrorCode::CANCEL);
        }
    }
}

/// Why a tunnel was not opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The peer answered with a status other than 2xx.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The peer's answer was malformed.
    #[error("malformed response: {0}")]
    Malformed(HeadFault),
    /// The configured response timeout passed.
    #[error("no response in time")]
    Timeout,
    /// The stream or the connection failed before the answer.
    #[error("tunnel failed before it was opened: {error}")]
    Failed {
        /// How it failed.
        error: TunnelError,
        /// Whether the peer provably did not act on the request (RFC 9113 §8.7).
        unprocessed: bool,
    },
}

impl OpenError {
    /// Whether the peer provably did not act on the request, so that it can be sent again on
    /// another connection without harm: it was refused with REFUSED_STREAM, was above the last
    /// stream of a GOAWAY, or was never sent (RFC 9113 §8.7).
    #[must_use]
    pub fn is_unprocessed(&self) -> bool {
        matches!(self, Self::Failed { unprocessed: true, .. })
    }

    /// Who is to blame.
    #[must_use]
    pub fn blame(&self) -> Blame {
        match self {
            Self::Refused(refusal) => refusal.blame(),
            Self::Malformed(_) => Blame::Peer,
            Self::Timeout => Blame::Network,
            Self::Failed { error, .. } => error.blame(),
        }
    }

    fn closed() -> Self {
        Self::Failed {
            error: TunnelError::ConnectionLost(Lost::Dropped),
            unprocessed: true,
        }
    }
}

impl From<OpenFailure> for OpenError {
    fn from(OpenFailure { error, unprocessed }: OpenFailure) -> Self {
        Self::Failed { error, unprocessed }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Weak;

    use tokio::task::JoinSet;

    use super::*;
    use crate::request::TunnelResponse;
    use crate::server;
    use crate::slot::{ConnId, Places};

    struct Uncounted;

    impl Places for Uncounted {
        fn release(&self, _: ConnId) {}
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_that_is_no_longer_there_is_refused_at_once() {
        let mut config = Config::default();
        config.set_max_tunnels(1);
        let (near, far) = tokio::io::duplex(1024);
        let serve = async {
            let (mut incoming, connection) = server::handshake(far, Peer::unknown(), &config).await.unwrap();
            let accept = async move { incoming.accept().await.unwrap().accept(TunnelResponse::new()) };
            tokio::join!(connection, async { accept.await.read_chunk().await })
        };
        let open = async {
            let (client, connection) = handshake(near, Peer::unknown(), &config).await.unwrap();
            let mut driver = JoinSet::new();
            driver.spawn(connection);
            let request = || TunnelRequest::new("10.0.0.1:80".parse().unwrap());
            let _only = client.open(request()).await.unwrap();
            let slot = Slot::new(Weak::<Uncounted>::new(), ConnId { index: 0, serial: 0 });
            let start = tokio::time::Instant::now();
            let error = client.open_in(slot, &request()).await.unwrap_err();
            assert!(error.is_unprocessed(), "{error:?}");
            assert_eq!(start.elapsed(), Duration::ZERO);
        };
        tokio::select! {
            _ = serve => panic!("the server ended first"),
            () = open => {}
        }
    }
}
