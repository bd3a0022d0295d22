//! Accepting tunnels.
//!
//! [`handshake`] makes an [`Incoming`], which yields the tunnels that the peer asks for, and a
//! [`Connection`], which does the work and has to be polled. [`serve`] does both for a
//! [`Handler`], with one task for each tunnel.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet};
use tokio::time::timeout;
use tracing::Instrument;

use crate::config::Config;
use crate::conn::Connection;
use crate::conn::driver::Arrival;
use crate::doze::Doze;
pub use crate::handshake::HandshakeError;
use crate::lost::Lost;
use crate::mailbox::Mailbox;
use crate::observe::{Event, Role};
use crate::peer::Peer;
use crate::request::{TunnelRequest, TunnelResponse};
use crate::stream::TunnelStream;
use crate::tunnel::{Tunnel, TunnelError};
use crate::wire::{ErrorCode, Rejection};

/// Time that a handler has to end once its tunnel has failed.
const GRACE: Duration = Duration::from_secs(2);

/// Makes a connection over `io`, which comes from `peer`, and waits for the client's preface.
///
/// # Errors
///
/// If the transport fails, the peer does not speak HTTP/2, or the configured handshake timeout
/// passes.
///
/// # Cancel safety
///
/// Dropping the call drops `io`.
pub async fn handshake<Io>(io: Io, peer: Peer, config: &Config) -> Result<(Incoming, Connection<Io>), HandshakeError>
where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    let made = timeout(config.handshake_timeout(), exchange(io, peer, config)).await;
    let made = made.unwrap_or(Err(HandshakeError::Timeout));
    config.observe(&Event::handshake(Role::Server, made.as_ref().err()));
    made
}

async fn exchange<Io>(io: Io, peer: Peer, config: &Config) -> Result<(Incoming, Connection<Io>), HandshakeError>
where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    let mailbox = Arc::new(Mailbox::default());
    let (arrive, arrivals) = mpsc::channel(config.max_tunnels() as usize);
    let incoming = Incoming {
        arrivals,
        drainer: Drainer {
            mailbox: Arc::clone(&mailbox),
            timeout: config.drain_timeout(),
        },
        peer,
    };
    let connection = Connection::server(io, mailbox, arrive, config.clone()).await?;
    Ok((incoming, connection))
}

/// Makes a connection over `io` and has `handler` answer every tunnel that the peer asks for,
/// until the connection ends.
///
/// When `drain` completes, the peer is told to open no more tunnels; those that are open have
/// the configured drain timeout to end. Each tunnel's handler runs in a task of its own: one that
/// panics ends its tunnel and nothing else, and one whose tunnel is reset before it answered is
/// stopped, so that the dial it may be waiting for is given up. One whose tunnel fails later learns
/// of it when it reads or writes, and is stopped if it has not ended 2 s after. There are never
/// more handlers than tunnels may be open; requests beyond that wait, and are then refused.
///
/// # Errors
///
/// If the handshake fails or the connection is lost.
///
/// # Cancel safety
///
/// Dropping the call stops the handlers and drops the connection; every tunnel is reset.
pub async fn serve<Io, H>(
    io: Io,
    peer: Peer,
    config: &Config,
    handler: Arc<H>,
    drain: impl Future<Output = ()>,
) -> Result<(), ServeError>
where
    Io: AsyncRead + AsyncWrite + Unpin,
    H: Handler,
{
    serve_as(io, peer, config, handler, drain, |connection| connection).await
}

/// As [`serve`], with what else `prepare` has a connection do.
pub(crate) async fn serve_as<Io, H>(
    io: Io,
    peer: Peer,
    config: &Config,
    handler: Arc<H>,
    drain: impl Future<Output = ()>,
    prepare: impl FnOnce(Connection<Io>) -> Connection<Io>,
) -> Result<(), ServeError>
where
    Io: AsyncRead + AsyncWrite + Unpin,
    H: Handler,
{
    let mut drain = pin!(drain);
    let Some((incoming, connection, drained)) = handshake_or_drain(io, peer, config, drain.as_mut()).await? else {
        return Ok(());
    };
    answer(incoming, prepare(connection), config, handler, (drain, drained)).await
}

/// Has `handler` answer every tunnel of a connection until its end.
async fn answer<Io, H>(
    mut incoming: Incoming,
    mut connection: Connection<Io>,
    config: &Config,
    handler: Arc<H>,
    (mut drain, drained): (Pin<&mut impl Future<Output = ()>>, bool),
) -> Result<(), ServeError>
where
    Io: AsyncRead + AsyncWrite + Unpin,
    H: Handler,
{
    let mut draining = drained;
    let mut tasks = JoinSet::new();
    // The connection wakes this task with every message.
    let mut doze = Doze::new();
    loop {
        let event = poll_fn(|cx| match Pin::new(&mut connection).poll(cx) {
            Poll::Ready(ended) => Poll::Ready(Happening::Ended(ended)),
            Poll::Pending => doze.poll(cx, |cx| {
                if tasks.len() < config.max_tunnels() as usize
                    && let Poll::Ready(Some(tunnel)) = incoming.poll_accept(cx)
                {
                    return Poll::Ready(Happening::Asked(tunnel));
                }
                if let Poll::Ready(Some(joined)) = tasks.poll_join_next(cx) {
                    return Poll::Ready(Happening::Handled(joined));
                }
                match draining {
                    true => Poll::Pending,
                    false => drain.as_mut().poll(cx).map(|()| Happening::Drain),
                }
            }),
        });
        match event.await {
            Happening::Ended(ended) => {
                // Handlers learn of the end from their tunnels, and may still have bytes to
                // deliver that arrived before it.
                while let Some(joined) = tasks.join_next().await {
                    report_panic(joined, config);
                }
                return Ok(ended?);
            }
            Happening::Asked(tunnel) => {
                let span = tracing::debug_span!("tunnel", authority = %tunnel.request().authority());
                let run = run(Arc::clone(&handler), tunnel, config.response_timeout());
                // A span that nobody records would still be entered with every poll.
                match span.is_disabled() {
                    true => tasks.spawn(run),
                    false => tasks.spawn(run.instrument(span)),
                };
            }
            Happening::Handled(joined) => report_panic(joined, config),
            Happening::Drain => {
                draining = true;
                incoming.drainer().drain();
            }
        }
    }
}

/// What a served connection's task wakes for.
enum Happening {
    Ended(Result<(), Lost>),
    Asked(IncomingTunnel),
    Handled(Result<(), JoinError>),
    Drain,
}

/// Shakes hands; a drain meanwhile gives the peer, which may have sent requests already, the drain
/// timeout to come so far. Answers also whether it drains.
async fn handshake_or_drain<Io>(
    io: Io,
    peer: Peer,
    config: &Config,
    drain: Pin<&mut impl Future<Output = ()>>,
) -> Result<Option<(Incoming, Connection<Io>, bool)>, HandshakeError>
where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    let mut handshake = pin!(handshake(io, peer, config));
    tokio::select! {
        biased;
        made = &mut handshake => return made.map(|(incoming, connection)| Some((incoming, connection, false))),
        () = drain => {}
    }
    let start = tokio::time::Instant::now();
    let Ok(made) = timeout(config.drain_timeout(), handshake).await else {
        return Ok(None);
    };
    let (incoming, connection) = made?;
    let rest = config.drain_timeout().saturating_sub(start.elapsed());
    incoming.drainer().drain_within(rest);
    Ok(Some((incoming, connection, true)))
}

fn report_panic(joined: Result<(), JoinError>, config: &Config) {
    if joined.is_err_and(|error| error.is_panic()) {
        config.observe(&Event::HandlerPanicked);
    }
}

/// Runs one handler: until it returns, or its tunnel fails, or it takes too long to answer.
async fn run<H: Handler>(handler: Arc<H>, tunnel: IncomingTunnel, limit: Duration) {
    let answered = Arc::clone(&tunnel.answered);
    let shared = Arc::clone(&tunnel.tunnel);
    let mut handling = pin!(handler.handle(tunnel));
    let unanswered = poll_fn(|cx| {
        if handling.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Unanswered::Returned);
        }
        if answered.load(Ordering::Acquire) {
            return Poll::Ready(Unanswered::Answered);
        }
        shared
            .poll_failure(cx, |state| &mut state.answerer)
            .map(Unanswered::Lost)
    });
    match timeout(limit, unanswered).await {
        Ok(Unanswered::Returned) => {}
        Ok(Unanswered::Answered) => {
            let mut doze = Doze::new();
            let failed = async {
                poll_fn(|cx| doze.poll(cx, |cx| shared.poll_failed(cx))).await;
                tokio::time::sleep(GRACE).await;
            };
            tokio::select! {
                biased;
                () = handling => {}
                () = failed => tracing::debug!("handler outlived its tunnel"),
            }
        }
        Ok(Unanswered::Lost(error)) => tracing::debug!(%error, "tunnel gone before it was answered"),
        Err(_) => shared.reject(Rejection::UpstreamTimeout),
    }
}

enum Unanswered {
    Returned,
    Answered,
    Lost(TunnelError),
}

/// Decides what becomes of each tunnel that a peer asks for.
///
/// Implemented for every `Fn(IncomingTunnel) -> impl Future<Output = ()>`.
pub trait Handler: Send + Sync + 'static {
    /// Answers the tunnel and, if it was accepted, uses it until its end.
    fn handle(&self, tunnel: IncomingTunnel) -> impl Future<Output = ()> + Send;
}

impl<F, Fut> Handler for F
where
    F: Fn(IncomingTunnel) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send,
{
    fn handle(&self, tunnel: IncomingTunnel) -> impl Future<Output = ()> + Send {
        self(tunnel)
    }
}

/// The tunnels that a peer asks for on one connection.
///
/// Dropping it refuses what comes later with REFUSED_STREAM; tunnels that were taken go on.
pub struct Incoming {
    arrivals: mpsc::Receiver<Arrival>,
    drainer: Drainer,
    peer: Peer,
}

impl Incoming {
    /// Waits for the next tunnel that the peer asks for; `None` once the connection has ended.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a dropped call has taken nothing.
    pub async fn accept(&mut self) -> Option<IncomingTunnel> {
        poll_fn(|cx| self.poll_accept(cx)).await
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Option<IncomingTunnel>> {
        let arrival = ready!(self.arrivals.poll_recv(cx));
        Poll::Ready(arrival.map(|Arrival { tunnel, request }| IncomingTunnel {
            tunnel,
            request,
            peer: self.peer.clone(),
            answered: Arc::default(),
        }))
    }

    /// Who is at the other end of the connection.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// A handle that can drain the connection.
    #[must_use]
    pub fn drainer(&self) -> Drainer {
        self.drainer.clone()
    }
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming")
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}

/// Drains one server connection.
#[derive(Clone)]
pub struct Drainer {
    mailbox: Arc<Mailbox>,
    timeout: Duration,
}

impl Drainer {
    /// Tells the peer to open no more tunnels (GOAWAY), gives the open ones the configured drain
    /// timeout to end, and then resets them and ends the connection.
    ///
    /// Tunnels that the peer asked for before it saw the GOAWAY are still yielded.
    pub fn drain(&self) {
        self.drain_within(self.timeout);
    }

    /// As [`drain`](Self::drain), with another timeout.
    pub fn drain_within(&self, timeout: Duration) {
        self.mailbox.order(|orders| orders.drain = Some(timeout));
    }
}

impl fmt::Debug for Drainer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Drainer")
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// A tunnel that a peer asks for, to be accepted or rejected.
///
/// Dropping it unanswered resets it with INTERNAL_ERROR.
pub struct IncomingTunnel {
    tunnel: Arc<Tunnel>,
    request: Box<TunnelRequest>,
    peer: Peer,
    answered: Arc<AtomicBool>,
}

impl IncomingTunnel {
    /// What the peer asks for.
    #[must_use]
    pub fn request(&self) -> &TunnelRequest {
        &self.request
    }

    /// Who asks.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Opens the tunnel.
    #[must_use = "dropping the tunnel resets it"]
    pub fn accept(self, response: TunnelResponse) -> TunnelStream {
        self.answered.store(true, Ordering::Release);
        self.tunnel.accept(response.to_head());
        TunnelStream::new(Arc::clone(&self.tunnel), self.peer.clone(), response)
    }

    /// Refuses the tunnel, with the status of `rejection`.
    pub fn reject(self, rejection: Rejection) {
        self.answered.store(true, Ordering::Release);
        self.tunnel.reject(rejection);
    }

    /// Waits until the peer has given the tunnel up.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn lost(&self) -> TunnelError {
        poll_fn(|cx| self.tunnel.poll_failure(cx, |state| &mut state.answerer)).await
    }
}

impl Drop for IncomingTunnel {
    fn drop(&mut self) {
        if !self.answered.load(Ordering::Acquire) {
            self.tunnel.reset(ErrorCode::INTERNAL_ERROR);
        }
    }
}

impl fmt::Debug for IncomingTunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IncomingTunnel")
            .field("request", &self.request)
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}

/// Why [`serve`] ended early.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The connection was not made.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    /// The connection was lost.
    #[error(transparent)]
    Lost(#[from] Lost),
}
