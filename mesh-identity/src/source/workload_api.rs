//! Identities and bundles from a SPIFFE Workload API, such as SPIRE's agent serves on a socket.
//!
//! A [`WorkloadApi`] is a handle, and its [`Driver`] a future that does the work for as long as
//! somebody polls it; nothing is spawned behind their backs. The driver keeps a stream open on
//! which the server says what this process is and whom it may believe, and publishes each message
//! as a [`Snapshot`](super::Snapshot):
//!
//! - A message is taken whole or not at all, and replaces everything before it: a bundle that it
//!   no longer holds is no longer believed.
//! - The identity is the one in the certificate. A message in which the name beside it is another
//!   one is not taken.
//! - The bundle of one's own trust domain is the one that came with the SVID; one that calls itself
//!   federated does not take its place.
//! - Revocation lists come without saying whose they are, and a signature tells. Where two
//!   authorities bear one name and only one has a list, those under the other are refused.
//! - Permission that is denied withdraws all that was given. Whatever else goes wrong is
//!   [reported](super::Follower::problem), what is there stays until it expires, and the stream is
//!   opened again after a pause that grows up to 15 seconds; except when the server calls the
//!   request itself wrong, which asking again does not change. Bundles go with the last SVID then,
//!   and JWT bundles at once.
//!
//! ```no_run
//! use mesh_identity::{
//!     provider,
//!     source::{
//!         Source as _,
//!         workload_api::{Config, Endpoint, WorkloadApi},
//!     },
//! };
//!
//! # async fn example(tasks: &mut tokio::task::JoinSet<()>) -> Result<(), Box<dyn std::error::Error>> {
//! let (api, driver) = WorkloadApi::new(&Endpoint::from_env()?, Config::new(provider::aws_lc_rs()));
//! tasks.spawn(driver);
//! let snapshot = api.follow().ready().await?;
//! if let Some(svid) = snapshot.default_svid() {
//!     println!("this is {}", svid.id());
//! }
//! # Ok(())
//! # }
//! ```

#[cfg(feature = "jwt")]
mod bundles;
#[cfg(feature = "jwt")]
mod calls;
mod channel;
mod codec;
mod endpoint;
mod identities;
#[cfg(feature = "jwt")]
mod jwt;
mod retry;
mod revocations;
mod stream;
mod wire;
mod x509;

use std::{
    convert::Infallible,
    fmt,
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use rustls::{
    crypto::CryptoProvider,
    time_provider::{DefaultTimeProvider, TimeProvider},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{mpsc, watch},
};

#[cfg(feature = "jwt")]
pub use self::{
    bundles::JwtFollower,
    jwt::{IssuedJwt, IssuedJwtFault, JwtBundlesError, JwtFetchError, JwtValidationError},
};
pub use self::{
    channel::RpcError,
    endpoint::{ENDPOINT_VARIABLE, Endpoint, EndpointError},
    revocations::RevocationsError,
    stream::StreamError,
    x509::{MAX_BUNDLES, MAX_HINT_BYTES, MAX_SVIDS, MessageError, SvidFault},
};
use self::{
    channel::{Channel, Tasks},
    identities::Identities,
    stream::{Link, follow},
};
use crate::{
    source::follower::{Follower, Source},
    spiffe_id::SpiffeId,
};

/// How a [`WorkloadApi`] is used.
#[derive(Clone)]
pub struct Config {
    provider: Arc<CryptoProvider>,
    clock: Arc<dyn TimeProvider>,
    #[cfg(feature = "jwt")]
    jwt_bundles: bool,
}

impl Config {
    /// Keys are used by `provider`, which also checks the signatures of revocation lists.
    pub fn new(provider: Arc<CryptoProvider>) -> Self {
        Self {
            provider,
            clock: Arc::new(DefaultTimeProvider),
            #[cfg(feature = "jwt")]
            jwt_bundles: false,
        }
    }

    /// Judges what has expired by this clock. The default is the system's.
    pub fn set_clock(&mut self, clock: Arc<dyn TimeProvider>) -> &mut Self {
        self.clock = clock;
        self
    }

    /// Also keeps the stream of JWT bundles open, for [`WorkloadApi::jwt_bundles`]. By default it is
    /// not opened: most programs validate no tokens.
    #[cfg(feature = "jwt")]
    pub fn follow_jwt_bundles(&mut self) -> &mut Self {
        self.jwt_bundles = true;
        self
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config").finish_non_exhaustive()
    }
}

/// A Workload API in use. Cloning is cheap; when the last clone is dropped, its driver ends.
#[derive(Clone)]
pub struct WorkloadApi {
    identities: Follower,
    hints: watch::Receiver<Vec<(String, SpiffeId)>>,
    #[cfg(feature = "jwt")]
    calls: calls::Calls,
    #[cfg(feature = "jwt")]
    jwt_bundles: Option<JwtFollower>,
    /// Closes when no handle is left.
    _held: mpsc::Sender<Infallible>,
}

impl WorkloadApi {
    /// Uses the Workload API at `endpoint`. Nothing is asked before the driver is polled, and an
    /// endpoint that is not there yet is asked again and again.
    pub fn new(endpoint: &Endpoint, config: Config) -> (Self, Driver) {
        let (channel, tasks) = Channel::to_endpoint(endpoint);
        Self::with(channel, tasks, config)
    }

    /// Uses the Workload API at the other end of streams that `connect` makes: a socket that was
    /// handed over by another process, or a pipe in a test. A new one is asked for whenever the one
    /// before is lost.
    pub fn over<C, F, Io>(connect: C, config: Config) -> (Self, Driver)
    where
        C: Fn() -> F + Send + Sync + 'static,
        F: Future<Output = io::Result<Io>> + Send + 'static,
        Io: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (channel, tasks) = Channel::over(connect);
        Self::with(channel, tasks, config)
    }

    /// Whom the operator means by a hint, such as `internal` or `external` (SPIFFE Workload API
    /// §5.2.1): the SPIFFE ID by which a [snapshot](super::Snapshot::svid) has the SVID.
    pub fn hinted(&self, hint: &str) -> Option<SpiffeId> {
        let hints = self.hints.borrow();
        let named = hints.iter().find(|(known, _)| known == hint);
        named.map(|(_, id)| id.clone())
    }

    /// The JWT bundles, if the configuration says to
    /// [follow](Config::follow_jwt_bundles) them.
    #[cfg(feature = "jwt")]
    pub fn jwt_bundles(&self) -> Option<JwtFollower> {
        self.jwt_bundles.clone()
    }

    /// Has JWT-SVIDs issued that are addressed to all of `audiences`: one for `id`, or one for each
    /// of this process's identities, the default one first (SPIFFE Workload API §6.2.1). Better
    /// one audience than two: each can use the token against the others.
    ///
    /// # Errors
    ///
    /// No audience, a call that fails or takes longer than 15 seconds, or an answer that is not
    /// what was asked for.
    ///
    /// # Cancel safety
    ///
    /// Dropping the call cancels it at the server.
    #[cfg(feature = "jwt")]
    pub async fn fetch_jwt_svids(
        &self,
        audiences: &[&str],
        id: Option<&SpiffeId>,
    ) -> Result<Vec<IssuedJwt>, JwtFetchError> {
        self.calls.fetch(audiences, id).await
    }

    /// Has the server validate a token that is addressed to `audience`, and says whom it identifies
    /// (SPIFFE Workload API §6.2.3). With [`jwt_bundles`](Self::jwt_bundles) and a
    /// [`JwtValidator`](crate::jwt::JwtValidator) the same is done without asking.
    ///
    /// # Errors
    ///
    /// A token that is malformed, a call that fails or takes longer than 15 seconds, or an answer
    /// that contradicts the token.
    ///
    /// # Cancel safety
    ///
    /// Dropping the call cancels it at the server.
    #[cfg(feature = "jwt")]
    pub async fn validate_jwt_svid(&self, audience: &str, token: &str) -> Result<SpiffeId, JwtValidationError> {
        self.calls.validate(audience, token).await
    }

    fn with(channel: Channel, tasks: Tasks, config: Config) -> (Self, Driver) {
        let (held, mut released) = mpsc::channel(1);
        let identities = Identities::new(Arc::clone(&config.provider));
        let link = Link {
            channel,
            provider: config.provider,
            clock: config.clock,
        };
        #[cfg(feature = "jwt")]
        let bundles = config.jwt_bundles.then(bundles::Bundles::default);
        let api = Self {
            identities: identities.publisher().follow(),
            hints: identities.hints(),
            #[cfg(feature = "jwt")]
            calls: calls::Calls::new(link.clone()),
            #[cfg(feature = "jwt")]
            jwt_bundles: bundles.as_ref().map(bundles::Bundles::follow),
            _held: held,
        };
        let work = async move {
            let identities = follow(identities, link.clone());
            #[cfg(feature = "jwt")]
            let bundles = async {
                if let Some(bundles) = bundles {
                    follow(bundles, link).await;
                }
            };
            #[cfg(not(feature = "jwt"))]
            let bundles = std::future::ready(());
            // A stream that ended for good leaves the calls to be served.
            let streams = async {
                tokio::join!(identities, bundles);
                std::future::pending::<()>().await;
            };
            tokio::select! {
                biased;
                _ = released.recv() => {}
                never = tasks.run() => match never {},
                () = streams => {}
            }
        };
        (api, Driver(Box::pin(work)))
    }
}

impl Source for WorkloadApi {
    fn follow(&self) -> Follower {
        self.identities.anew()
    }
}

impl fmt::Debug for WorkloadApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkloadApi")
            .field("snapshot", &self.identities.snapshot())
            .finish_non_exhaustive()
    }
}

/// What a [`WorkloadApi`] does. It ends when all handles are gone; dropping it ends the streams and
/// fails the calls, and followers learn that their source has ended.
#[must_use = "a workload api does nothing unless its driver is polled"]
pub struct Driver(Pin<Box<dyn Future<Output = ()> + Send>>);

impl Future for Driver {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(cx)
    }
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver").finish_non_exhaustive()
    }
}
