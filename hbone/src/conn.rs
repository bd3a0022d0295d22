//! Drives a connection: moves bytes between its tunnels' queues and the HTTP/2 engine.
//!
//! One task polls a [`Connection`]. Each poll is a turn: what the tunnels have is given to the
//! engine, the engine reads and writes frames, what arrived is moved to the tunnels, and what the
//! engine wrote is flushed at once.

pub(crate) mod driver;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

#[cfg(feature = "tls")]
use mesh_identity::live::{Closing, Guard};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, watch};

use self::driver::{Arrival, Driver, Side};
use crate::config::Config;
#[cfg(feature = "tls")]
use crate::doze::Doze;
use crate::engine::h2::H2Engine;
use crate::engine::tunnel::TunnelEngine;
use crate::engine::{EngineError, EngineKind};
use crate::lost::Lost;
use crate::mailbox::Mailbox;
use crate::status::Status;
use crate::transport::SharedTransport;

/// A connection's work, as a future that ends with the connection.
///
/// Whoever made the connection polls it, most often in a task of its own; dropping it drops the
/// connection, and every tunnel on it fails with [`Lost::Dropped`].
#[must_use = "a connection does nothing unless it is polled"]
pub struct Connection<Io: AsyncRead + AsyncWrite + Unpin> {
    driver: Driven<Io>,
    #[cfg(feature = "tls")]
    distrusted: Option<Distrusted>,
}

/// Completes when the peer is not trusted any more.
#[cfg(feature = "tls")]
struct Distrusted {
    closing: Pin<Box<dyn Future<Output = Closing> + Send>>,
    doze: Doze,
}

#[cfg(feature = "tls")]
impl Distrusted {
    fn poll(&mut self, cx: &Context<'_>) -> Poll<Closing> {
        self.doze.poll(cx, |cx| self.closing.as_mut().poll(cx))
    }
}

/// A driver with the engine that the configuration names.
enum Driven<Io: AsyncRead + AsyncWrite + Unpin> {
    Tunnel(Box<Driver<Io, TunnelEngine<Io>>>),
    H2(Box<Driver<Io, H2Engine<Io>>>),
}

/// Does the same with either driver.
macro_rules! with {
    ($driven:expr, $driver:ident => $act:expr) => {
        match $driven {
            Driven::Tunnel($driver) => $act,
            Driven::H2($driver) => $act,
        }
    };
}

impl<Io: AsyncRead + AsyncWrite + Unpin> Connection<Io> {
    pub(crate) async fn client(
        io: Io,
        mailbox: Arc<Mailbox>,
        status: watch::Sender<Status>,
        config: Config,
    ) -> Result<Self, EngineError> {
        let transport = SharedTransport::client(io);
        let side = Side::Client(status);
        Ok(Self::new(match config.engine() {
            EngineKind::Tunnel => {
                let engine = TunnelEngine::client(transport.clone(), &config);
                Driven::Tunnel(Box::new(Driver::new(side, engine, transport, mailbox, config)))
            }
            EngineKind::H2 => {
                let engine = H2Engine::client(transport.clone(), &config).await?;
                Driven::H2(Box::new(Driver::new(side, engine, transport, mailbox, config)))
            }
        }))
    }

    /// Waits for the client's preface.
    pub(crate) async fn server(
        io: Io,
        mailbox: Arc<Mailbox>,
        arrivals: mpsc::Sender<Arrival>,
        config: Config,
    ) -> Result<Self, EngineError> {
        let transport = SharedTransport::server(io);
        let side = Side::Server(arrivals);
        Ok(Self::new(match config.engine() {
            EngineKind::Tunnel => {
                let engine = TunnelEngine::server(transport.clone(), &config).await?;
                Driven::Tunnel(Box::new(Driver::new(side, engine, transport, mailbox, config)))
            }
            EngineKind::H2 => {
                let engine = H2Engine::server(transport.clone(), &config).await?;
                Driven::H2(Box::new(Driver::new(side, engine, transport, mailbox, config)))
            }
        }))
    }

    fn new(driver: Driven<Io>) -> Self {
        Self {
            driver,
            #[cfg(feature = "tls")]
            distrusted: None,
        }
    }

    /// Closes the connection when `guard` says that its peer is not trusted any more: as by
    /// [`Client::drain`](crate::Client::drain), or at once, when every tunnel fails with
    /// [`Lost::Distrusted`].
    #[cfg(feature = "tls")]
    pub fn hold(self, mut guard: Guard) -> Self {
        Self {
            distrusted: Some(Distrusted {
                closing: Box::pin(async move { guard.closed().await }),
                doze: Doze::new(),
            }),
            ..self
        }
    }

    /// Whether the peer's SETTINGS have arrived.
    pub(crate) fn is_ready(&self) -> bool {
        with!(&self.driver, driver => driver.is_ready())
    }
}

impl<Io: AsyncRead + AsyncWrite + Unpin> Future for Connection<Io> {
    /// Why the connection was lost; `Ok` if it ended in order.
    type Output = Result<(), Lost>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        #[cfg(feature = "tls")]
        if let Some(distrusted) = &mut self.distrusted
            && let Poll::Ready(closing) = distrusted.poll(cx)
        {
            self.distrusted = None;
            with!(&mut self.driver, driver => driver.distrust(closing));
        }
        with!(&mut self.driver, driver => driver.poll(cx))
    }
}

impl<Io: AsyncRead + AsyncWrite + Unpin> fmt::Debug for Connection<Io> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (role, tunnels) = with!(&self.driver, driver => driver.describe());
        f.debug_struct("Connection")
            .field("role", &role)
            .field("tunnels", &tunnels)
            .finish_non_exhaustive()
    }
}
